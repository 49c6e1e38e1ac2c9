import java.io.IOException;
import java.net.Socket;
import java.util.function.UnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A Java handler for every case of tests/e2e/test_runtimes.py, attacks included. */
public final class Cases implements UnaryOperator<String> {
    private int events;

    public Cases() {
        if (System.getenv("BREAK_INIT") != null) throw new IllegalStateException("this handler cannot begin");
        java.lang.Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("the handler saw SIGTERM")));
    }

    private static String field(String event, String name) {
        Matcher found = Pattern.compile('"' + name + "\": \"?([^\",}]*)").matcher(event);
        return found.find() ? found.group(1) : null;
    }

    private static String spawned(String marker) {
        try {
            return "spawned: status " + new ProcessBuilder("/usr/bin/touch", marker).start().waitFor();
        } catch (IOException | InterruptedException error) {
            return error.getMessage();
        }
    }

    private static String connected(int port) {
        try (Socket socket = new Socket("127.0.0.1", port)) {
            return "connected";
        } catch (IOException error) {
            return error.getMessage();
        }
    }

    @Override
    public String apply(String event) {
        events++;
        String attack = "";
        if (field(event, "raise") != null) throw new IndexOutOfBoundsException(field(event, "raise"));
        if (field(event, "exit") != null) java.lang.Runtime.getRuntime().halt(Integer.parseInt(field(event, "exit")));
        if (field(event, "spawn") != null) attack = spawned(field(event, "spawn"));
        if (field(event, "connect") != null) attack = connected(Integer.parseInt(field(event, "connect")));
        try {
            if (field(event, "sleep") != null) Thread.sleep((long) (Double.parseDouble(field(event, "sleep")) * 1000));
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
        ProcessHandle self = ProcessHandle.current();
        return "{\"pid\": " + self.pid() + ", \"parent\": " + self.parent().map(ProcessHandle::pid).orElse(0L)
                + ", \"events\": " + events + ", \"attack\": \"" + attack.replace('"', '\'') + "\"}";
    }
}
