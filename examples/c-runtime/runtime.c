/* A custom Lambda runtime on plain sockets: upper-cases the event's "text" over one kept-alive connection. */
#define _GNU_SOURCE
#include <ctype.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADERS = 16384, LARGEST = 8 << 20 }; /* the Runtime API's own limit is 6 MB */

static char host[256], *port;
static int line = -1; /* the connection; -1 while there is none */
static char input[HEADERS];
static size_t filled, taken; /* input[taken..filled) has been received but not yet read */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void dial(void) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *a;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error) {
        fprintf(stderr, "%s: %s\n", host, gai_strerror(error));
        exit(1);
    }
    for (a = found; a && line < 0; a = a->ai_next) {
        line = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (line >= 0 && connect(line, a->ai_addr, a->ai_addrlen) < 0) {
            close(line);
            line = -1;
        }
    }
    freeaddrinfo(found);
    if (line < 0) die("connect to the Runtime API");
    filled = taken = 0;
}

static void hang_up(void) {
    if (line >= 0) close(line);
    line = -1;
}

static int send_all(const char *data, size_t length, int flags) {
    while (length) {
        ssize_t n = send(line, data, length, flags | MSG_NOSIGNAL);
        if (n <= 0) return -1;
        data += n, length -= (size_t)n;
    }
    return 0;
}

static int next_byte(void) { /* -1: the server has closed the connection */
    if (taken == filled) {
        ssize_t n = recv(line, input, sizeof input, 0);
        if (n <= 0) return -1;
        filled = (size_t)n, taken = 0;
    }
    return (unsigned char)input[taken++];
}

static int read_line(char *text, size_t room) { /* without its CR LF; -1 at the end of the connection */
    size_t n = 0;
    for (int c; (c = next_byte()) != '\n';) {
        if (c < 0) return -1;
        if (c != '\r' && n + 1 < room) text[n++] = (char)c;
    }
    text[n] = 0;
    return (int)n;
}

static int read_bytes(char *body, size_t *have, size_t more) {
    if (more > LARGEST - *have) return -1;
    for (; more; more--) {
        int c = next_byte();
        if (c < 0) return -1;
        body[(*have)++] = (char)c;
    }
    return 0;
}

/* One request and its answer: the status, -1 where the connection broke. `id` receives the request id, if any. */
static int exchange(const char *head, const char *out, size_t out_length, char *id, char *body, size_t *length) {
    char text[2048];
    int status = 0, chunked = 0, last = 0;
    size_t expected = 0;
    *length = 0;
    if (send_all(head, strlen(head), out_length ? MSG_MORE : 0) || send_all(out, out_length, 0)) return -1;
    if (read_line(text, sizeof text) < 0 || sscanf(text, "HTTP/1.%*d %d", &status) != 1) return -1;
    for (int n; (n = read_line(text, sizeof text)) != 0;) {
        if (n < 0) return -1;
        char *value = strchr(text, ':');
        if (!value) continue;
        *value++ = 0;
        value += strspn(value, " ");
        if (!strcasecmp(text, "content-length")) expected = strtoul(value, NULL, 10);
        if (!strcasecmp(text, "transfer-encoding")) chunked = !strcasecmp(value, "chunked");
        if (!strcasecmp(text, "connection")) last = !strcasecmp(value, "close");
        if (!strcasecmp(text, "lambda-runtime-aws-request-id")) snprintf(id, 128, "%s", value);
    }
    if (!chunked && read_bytes(body, length, expected)) return -1;
    while (chunked) {
        if (read_line(text, sizeof text) < 0) return -1;
        size_t size = strtoul(text, NULL, 16);
        if (read_bytes(body, length, size) || read_line(text, sizeof text) < 0) return -1;
        if (!size) break;
    }
    if (last) hang_up();
    return status;
}

/* A kept-alive connection may have been closed since: then, and only once, ask again over a new one. */
static int request(const char *head, const char *out, size_t out_length, char *id, char *body, size_t *length) {
    for (int attempt = 0; attempt < 2; attempt++) {
        if (line < 0) dial();
        int status = exchange(head, out, out_length, id, body, length);
        if (status > 0) return status;
        hang_up();
    }
    fprintf(stderr, "the Runtime API closed the connection twice\n");
    exit(1);
}

#ifndef HANDLER /* -DHANDLER='"file.c"' puts another begin() and answer() in the place of these */
#define HANDLER "handler.c"
#endif
#include HANDLER

static const char FAILED[] = "Lambda-Runtime-Function-Error-Type: Function.Failed\r\n";
static const char ERROR[] = "{\"errorMessage\": \"%s\", \"errorType\": \"Function.Failed\", \"stackTrace\": []}";

/* Sends a body to a call of the API: the status. */
static int post(const char *api, const char *call, const char *more, const char *out, size_t size, char *ignored) {
    char head[2048], id[128];
    size_t length;
    snprintf(head, sizeof head,
             "POST /2018-06-01/runtime/%s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n", call, api, more, size);
    return request(head, out, size, id, ignored, &length);
}

int main(void) {
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    char *event = malloc(LARGEST), *out = malloc(LARGEST + 64), head[1024], id[128], text[512];
    snprintf(host, sizeof host, "%s", api ? api : "");
    port = strrchr(host, ':');
    if (!port || !event || !out) return fprintf(stderr, "AWS_LAMBDA_RUNTIME_API must be host:port\n"), 2;
    *port++ = 0;
    if (begin()) {
        int size = snprintf(text, sizeof text, ERROR, "begin() failed");
        post(api, "init/error", "Lambda-Runtime-Function-Error-Type: Runtime.BeginFailed\r\n", text, (size_t)size, event);
        return 1;
    }
    for (size_t length;;) {
        snprintf(head, sizeof head, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n", api);
        *id = 0;
        if (request(head, "", 0, id, event, &length) != 200 || !*id)
            return fprintf(stderr, "the Runtime API gave no event\n"), 1;
        ssize_t size = answer(event, length, out);
        const char *body = size < 0 ? text : out, *more = size < 0 ? FAILED : "";
        if (size < 0) size = snprintf(text, sizeof text, ERROR, out);
        snprintf(head, sizeof head, "invocation/%s/%s", id, body == text ? "error" : "response");
        if (post(api, head, more, body, (size_t)size, event) != 202)
            return fprintf(stderr, "the Runtime API refused the answer\n"), 1;
    }
}
