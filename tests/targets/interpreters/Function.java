import java.net.Socket;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.IntStream;

/** The function of tests/clients/test_interpreters.py for the JVM, under examples/java-runtime. */
public final class Function implements UnaryOperator<String> {
    private interface Attempt {
        void run() throws Exception;
    }

    private static String field(String event, String name) {
        Matcher found = Pattern.compile('"' + name + "\": \"?([^\",}]*)").matcher(event);
        return found.find() ? found.group(1) : null;
    }

    private static String told(Attempt attempt) {
        try {
            attempt.run();
            return "ok";
        } catch (AccessDeniedException error) { // its message is the path
            return "Permission denied";
        } catch (Exception error) {
            return String.valueOf(error.getMessage()).replace('"', '\'');
        }
    }

    private static void work(int rounds) {
        List<byte[]> kept = new ArrayList<>();
        for (int i = 0; i < rounds * 20; i++) {
            kept.add(new byte[1 << 20]);
            if (kept.size() > 8) kept.clear();
        }
        System.gc();
        if (IntStream.range(0, rounds * 200_000).parallel().mapToLong(n -> Long.bitCount(n)).sum() < 0) kept.clear();
    }

    @Override
    public String apply(String event) {
        List<String> answers = new ArrayList<>();
        String rounds = field(event, "work"), file = field(event, "file"), program = field(event, "program");
        String host = field(event, "host");
        if (rounds != null) answers.add("\"work\": \"" + told(() -> work(Integer.parseInt(rounds))) + '"');
        if (file != null) answers.add("\"file\": \"" + told(() -> Files.writeString(Path.of(file), "text")) + '"');
        if (program != null) {
            answers.add("\"program\": \"" + told(() -> new ProcessBuilder(program).start().waitFor()) + '"');
        }
        if (host != null) {
            answers.add("\"connect\": \"" + told(() -> {
                try (Socket socket = new Socket(host, Integer.parseInt(field(event, "port")))) {
                    socket.getInputStream().readNBytes(5);
                }
            }) + '"');
        }
        return '{' + String.join(", ", answers) + '}';
    }
}
