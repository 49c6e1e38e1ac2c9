/* Upper-cases the event's "text" and tells the event's size. */
static int begin(void) { return 0; }

/* The length of the answer in `out`, which holds at least length + 64 bytes; -1: `out` is an error's message. */
static ssize_t answer(const char *event, size_t length, char *out) {
    char *to = out + sprintf(out, "{\"bytes\": %zu", length);
    const char *from = memmem(event, length, "\"text\"", 6), *end = event + length;
    if (from) from = memchr(from + 6, '"', (size_t)(end - from - 6));
    if (from) {
        to += sprintf(to, ", \"text\": \"");
        for (from++; from < end && *from != '"'; from++) {
            if (*from == '\\' && from + 1 < end) { /* the letter of an escape keeps its case */
                *to++ = *from++;
                *to++ = *from;
            } else
                *to++ = (char)toupper((unsigned char)*from);
        }
        *to++ = '"';
    }
    *to++ = '}';
    return to - out;
}

