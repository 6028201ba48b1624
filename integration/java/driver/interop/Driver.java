package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Runs one version of Apache's Java client for the tests, as a separate process: commands come on standard
 * input, one a line, are done side by side, and are answered on standard output as JSON lines with the id of the
 * command; what listeners see is told in between as events.
 */
public final class Driver {
    private Driver() {
    }

    public static void main(String[] args) throws Exception {
        System.setOut(System.err);
        Producers producers = new Producers();
        Consumers consumers = new Consumers();
        Pulls pulls = new Pulls();
        ExecutorService threads = Executors.newCachedThreadPool();
        Map<String, Object> hello = new LinkedHashMap<>();
        hello.put("event", "ready");
        hello.put("on", Edition.NAME);
        Out.line(hello);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            Command c = new Command(line);
            threads.execute(() -> answer(c, producers, consumers, pulls));
        }
        // The end of the input is the end of the test: nothing is worth a farewell.
        Runtime.getRuntime().halt(0);
    }

    private static void answer(Command c, Producers producers, Consumers consumers, Pulls pulls) {
        Map<String, Object> result = new LinkedHashMap<>();
        result.put("id", c.number("id", 0));
        try {
            Map<String, Object> fields = run(c, producers, consumers, pulls);
            if (fields != null) {
                result.putAll(fields);
            }
        } catch (Throwable e) {
            result.put("error", text(e));
            result.put("class", e.getClass().getSimpleName());
            result.put("code", Edition.code(e));
        }
        Out.line(result);
    }

    private static Map<String, Object> run(Command c, Producers producers, Consumers consumers, Pulls pulls) throws Exception {
        switch (c.verb) {
            case "producer": return producers.open(c);
            case "send": return producers.send(c);
            case "bulk": return producers.bulk(c);
            case "push": return consumers.open(c);
            case "suspend": return consumers.suspend(c, true);
            case "resume": return consumers.suspend(c, false);
            case "lite": return pulls.lite(c);
            case "poll": return pulls.poll(c);
            case "commit": return pulls.commit(c);
            case "committed": return pulls.committed(c);
            case "seek": return pulls.seek(c);
            case "puller": return pulls.puller(c);
            case "pull": return pulls.pull(c);
            case "offsets": return pulls.offsets(c);
            case "close":
                if (!producers.close(c) && !consumers.close(c) && !pulls.close(c)) {
                    throw new IllegalArgumentException("nothing is open as " + c.text("h"));
                }
                return null;
            default: throw new IllegalArgumentException("unknown verb " + c.verb);
        }
    }

    private static String text(Throwable e) {
        StringBuilder s = new StringBuilder();
        for (int depth = 0; e != null && depth < 4; e = e.getCause(), depth++) {
            s.append(depth == 0 ? "" : " <- ").append(e.getClass().getSimpleName()).append(": ").append(e.getMessage());
        }
        return s.toString();
    }
}
