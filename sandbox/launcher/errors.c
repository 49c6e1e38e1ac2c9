/* Errors: to the log, to the Runtime API, and as the exit code. */
#ifndef SANDBOX_ERRORS_C
#define SANDBOX_ERRORS_C

#include "text.c"

/* What to do about each error where nothing better is known; else WARN. */
static const char *const WHAT_TO_DO[ERROR_COUNT] = {
    [USAGE] = "correct or unset it",
    [POLICY_INVALID] = REBUILD,
    [POLICY_NOT_FOUND] = "name a compiled one in SANDBOX_POLICY",
    [CANARY_PASSED] = "do not trust this host; report this with the kernel's version",
    [HANDLER_NOT_FOUND] = "check its interpreter line, its architecture and its dynamic loader",
    [PACKAGE_INVALID] = "package it again: `sandbox package`",
    [POLICY_WRITABLE] = "chmod -R a-w it",
};

static enum error failure;
static const char *failed; /* what went wrong, once something did */
/* What the decider and the function below it tell the attendant, whose memory they do not share. */
static struct child_report {
    int listener, failure, child, process;
    volatile int parted; /* said by the attendant: it has closed what is the function's alone */
    int over, status;    /* the function has ended, and how, while nothing was to be decided */
    char failed[4000];
} *child_report;
static int in_child, past_init; /* the Runtime API hears of errors of the init phase alone */

static long port_of(const char *api) { /* -1: none */
    const char *colon = last_char(api, ':'), *digits = colon ? colon + 1 : api;
    long port = parse_number(digits);
    return port > 0 && port <= 65535 && text_length(digits) <= 5 ? port : -1;
}

/* Four decimal numbers with dots between, as inet_pton(3) takes them; 0: it is something else. */
static int parse_host(char *text, uint8_t host[4]) {
    for (int i = 0; i < 4; i++) {
        const char *part = text;
        while (*text && (*text != '.' || i == 3)) text++;
        if (*text) *text++ = 0;
        long value = parse_number(part);
        if (value < 0 || value > 255 || (*part == '0' && part[1])) return 0;
        host[i] = (uint8_t)value;
    }
    return 1;
}

/* Tell the Runtime API (sandbox/start/init_error.py); its host is a number, as the platform gives it. 0: not told. */
static int post(const char *type, const char *message) {
    const char *api = variable("AWS_LAMBDA_RUNTIME_API"), *colon = last_char(api, ':');
    struct {
        uint16_t family, port;
        uint8_t host[4], zero[8];
    } to = {AF_INET, 0, {127, 0, 0, 1}, {0}};
    int delivered = 0;
    long port = port_of(api);
    if (!colon || port < 0) return 0;
    char *host = slice(api, (size_t)(colon - api));
    if (!same(host, "localhost") && !parse_host(host, to.host)) return 0;
    to.port = (uint16_t)(port << 8 | port >> 8);
    long wait[2] = {2, 0}, fd = SYS3(socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    SYS5(setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, wait, sizeof wait);
    SYS5(setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, wait, sizeof wait);
    char *body = format("{\"errorMessage\": $, \"errorType\": $, \"stackTrace\": []}", message, type);
    char *request = format("POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: %\r\n"
                           "Lambda-Runtime-Function-Error-Type: %\r\nContent-Length: #\r\nConnection: close\r\n\r\n%",
                           api, type, (long)text_length(body), body);
    if (SYS3(connect, fd, &to, sizeof to) == 0) {
        SYS6(sendto, fd, request, text_length(request), MSG_NOSIGNAL, 0, 0);
        delivered = SYS6(recvfrom, fd, body, 64, 0, 0, 0) > 9 && starts_with(body, "HTTP/1.") && body[8] == ' ' &&
                    body[9] == '2';
    }
    SYS1(close, fd);
    return delivered;
}

/* One text of several behind each other. */
static const char *nth(const char *texts, int n) {
    while (n--) texts += text_length(texts) + 1;
    return texts;
}

/* Note an error, with what to do if that is not the usual; 0, so that a step can return it. */
static int refuse(enum error error, const char *what, const char *todo) {
    failure = error;
    if (!todo) todo = WHAT_TO_DO[error] ? WHAT_TO_DO[error] : WARN;
    failed = format("%\n  what to do: %", what, todo);
    return 0;
}

/* End with the noted error. A supervised child leaves the telling to its parent: its own filter may ask for answers. */
static _Noreturn void give_up(void) {
    const char *kind = nth(ERRORS, (int)failure), *type = format("Runtime.Sandbox%", kind + 1);
    if (in_child) {
        size_t n = text_length(failed), most = sizeof child_report->failed - 1;
        memcpy(child_report->failed, failed, n < most ? n : most);
        child_report->failure = (int)failure;
    } else {
        write_line(printable(format("sandbox: %: %\n", type, failed)));
        if (!past_init && *variable("AWS_LAMBDA_RUNTIME_API") && !post(type, failed))
            write_line("sandbox: the Runtime API was not told: it could not be reached, or did not take the report\n");
    }
    leave(*kind);
}

static _Noreturn void end(enum error error, const char *what, const char *todo) {
    refuse(error, what, todo);
    give_up();
}

static void start_python(void);

/* An error before anything is installed: where there is the Python bootstrap, it starts the function, or says more. */
static _Noreturn void fail(enum error error, const char *what) {
    start_python();
    end(error, what, NULL);
}

#endif
