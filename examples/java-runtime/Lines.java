import java.util.function.UnaryOperator;

/** Answers with the size of the event and the number of its lines. */
public final class Lines implements UnaryOperator<String> {
    @Override
    public String apply(String event) {
        if (event.isBlank()) throw new IllegalArgumentException("the event is empty");
        return "{\"characters\": " + event.length() + ", \"lines\": " + event.lines().count() + "}";
    }
}
