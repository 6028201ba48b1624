package interop;

import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** One line of input: a verb and its arguments, {@code verb key=value key=value}, values percent-encoded. */
final class Command {
    final String verb;
    private final Map<String, String> arguments = new LinkedHashMap<>();

    Command(String line) {
        String[] words = line.trim().split(" ");
        verb = words[0];
        for (int i = 1; i < words.length; i++) {
            int at = words[i].indexOf('=');
            arguments.put(words[i].substring(0, at), URLDecoder.decode(words[i].substring(at + 1), StandardCharsets.UTF_8));
        }
    }

    boolean has(String name) {
        return arguments.containsKey(name);
    }

    String text(String name) {
        String value = arguments.get(name);
        if (value == null) {
            throw new IllegalArgumentException(verb + " needs " + name);
        }
        return value;
    }

    String text(String name, String otherwise) {
        return arguments.getOrDefault(name, otherwise);
    }

    int number(String name, int otherwise) {
        return has(name) ? Integer.parseInt(text(name)) : otherwise;
    }

    long wide(String name) {
        return Long.parseLong(text(name));
    }

    /** The arguments whose names begin with a prefix, without it. */
    Map<String, String> under(String prefix) {
        Map<String, String> found = new LinkedHashMap<>();
        arguments.forEach((name, value) -> {
            if (name.startsWith(prefix)) {
                found.put(name.substring(prefix.length()), value);
            }
        });
        return found;
    }
}
