package interop;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;

/** Writes JSON objects to what was standard output, one a line, from any thread. */
final class Out {
    private static final PrintStream STREAM = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, StandardCharsets.UTF_8);

    private Out() {
    }

    static void line(Map<String, Object> fields) {
        StringBuilder text = new StringBuilder();
        value(text, fields);
        synchronized (STREAM) {
            STREAM.print(text.append('\n'));
            STREAM.flush();
        }
    }

    static void event(String name, String handle, Map<String, Object> fields) {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("event", name);
        all.put("on", handle);
        all.put("at", System.currentTimeMillis());
        all.putAll(fields);
        line(all);
    }

    private static void value(StringBuilder to, Object value) {
        if (value == null) {
            to.append("null");
        } else if (value instanceof Number || value instanceof Boolean) {
            to.append(value);
        } else if (value instanceof Map) {
            char before = '{';
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                to.append(before);
                string(to, String.valueOf(entry.getKey()));
                to.append(':');
                value(to, entry.getValue());
                before = ',';
            }
            to.append(before == '{' ? "{}" : "}");
        } else if (value instanceof Collection) {
            char before = '[';
            for (Object item : (Collection<?>) value) {
                to.append(before);
                value(to, item);
                before = ',';
            }
            to.append(before == '[' ? "[]" : "]");
        } else {
            string(to, value.toString());
        }
    }

    private static void string(StringBuilder to, String text) {
        to.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                to.append('\\').append(c);
            } else if (c < ' ') {
                to.append(String.format("\\u%04x", (int) c));
            } else {
                to.append(c);
            }
        }
        to.append('"');
    }
}
