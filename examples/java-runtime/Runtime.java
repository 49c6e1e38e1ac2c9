import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Arrays;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;

/** A custom Lambda runtime on java.net.http: the first argument names a class that maps an event to its answer, as text. */
public final class Runtime {
    private static final String API = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/";
    private static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    private static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return CLIENT.send(request.build(), BodyHandlers.ofString());
    }

    private static HttpRequest.Builder to(String call) {
        return HttpRequest.newBuilder(URI.create(API + call));
    }

    private static void post(String call, String body) throws Exception {
        send(to(call).header("Content-Type", "application/json").POST(BodyPublishers.ofString(body)));
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < ' ') out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    private static void report(String call, Throwable error, String category) throws Exception {
        String trace = Arrays.stream(error.getStackTrace()).map(frame -> quoted(frame.toString()))
                .collect(Collectors.joining(", ", "[", "]"));
        String body = "{\"errorMessage\": " + quoted(String.valueOf(error.getMessage())) + ", \"errorType\": "
                + quoted(error.getClass().getSimpleName()) + ", \"stackTrace\": " + trace + "}";
        send(to(call).header("Lambda-Runtime-Function-Error-Type", category).POST(BodyPublishers.ofString(body)));
    }

    @SuppressWarnings("unchecked")
    private static UnaryOperator<String> load(String name) throws Throwable {
        try {
            return (UnaryOperator<String>) Class.forName(name).getDeclaredConstructor().newInstance();
        } catch (ExceptionInInitializerError | java.lang.reflect.InvocationTargetException error) {
            throw error.getCause(); // what the handler's own class threw
        }
    }

    public static void main(String[] arguments) throws Exception {
        UnaryOperator<String> handler = null;
        try {
            handler = load(arguments[0]);
        } catch (Throwable error) {
            report("init/error", error, "Runtime.HandlerNotLoaded");
            System.exit(1);
        }
        while (true) {
            HttpResponse<String> event = send(to("invocation/next"));
            if (event.statusCode() != 200) System.exit(1);
            String id = event.headers().firstValue("Lambda-Runtime-Aws-Request-Id").orElseThrow();
            try {
                post("invocation/" + id + "/response", handler.apply(event.body()));
            } catch (RuntimeException error) {
                report("invocation/" + id + "/error", error, "Function.HandlerFailed");
            }
        }
    }
}
