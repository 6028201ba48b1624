package interop;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs the commands of mqadmin one after the other in one process, as starting a JVM for each is most of what a
 * call costs. A line is {@code mqadmin id=N args=...}; the answer carries what the command printed.
 */
public final class Admin {
    private Admin() {
    }

    public static void main(String[] args) throws Exception {
        PrintStream quiet = System.err;
        Map<String, Object> hello = new LinkedHashMap<>();
        hello.put("event", "ready");
        hello.put("on", "mqadmin");
        Out.line(hello);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            Command c = new Command(line);
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            ByteArrayOutputStream complained = new ByteArrayOutputStream();
            System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(complained, true, StandardCharsets.UTF_8));
            long before = System.currentTimeMillis();
            Map<String, Object> result = new LinkedHashMap<>();
            result.put("id", c.number("id", 0));
            try {
                MQAdminStartup.main0(c.text("args").split(" "), null);
            } catch (Throwable e) {
                result.put("error", e.toString());
            }
            result.put("took", System.currentTimeMillis() - before);
            result.put("printed", printed.toString(StandardCharsets.UTF_8));
            result.put("complained", complained.toString(StandardCharsets.UTF_8));
            System.setErr(quiet);
            Out.line(result);
        }
        Runtime.getRuntime().halt(0);
    }
}
