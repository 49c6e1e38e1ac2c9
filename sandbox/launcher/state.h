/* What the launcher knows of its start, texts in a memory that only grows, and errors: to the log, to the Runtime
 * API, and as the exit code. */
#ifndef SANDBOX_STATE_H
#define SANDBOX_STATE_H

#include "abi.h"
#include "policy.h"

enum kind { USAGE, INVALID, NOT_FOUND, REFUSED, UNSUPPORTED, BUSY, PASSED, HANDLER, STALE, PACKAGE, WRITABLE };
static const struct {
    int code;
    const char *type;
} KINDS[] = {{64, "Runtime.SandboxUsage"},
             {66, "Runtime.SandboxPolicyInvalid"},
             {67, "Runtime.SandboxPolicyNotFound"},
             {69, "Runtime.SandboxInstallRefused"},
             {70, "Runtime.SandboxKernelUnsupported"},
             {71, "Runtime.SandboxListenerBusy"},
             {72, "Runtime.SandboxCanaryPassed"},
             {73, "Runtime.SandboxHandlerNotFound"},
             {78, "Runtime.SandboxPolicyStale"},
             {79, "Runtime.SandboxPackageInvalid"},
             {80, "Runtime.SandboxPolicyWritable"}};

static const char REBUILD[] = "compile the profile again: `sandbox compile PROFILE --output DIR`";
static const char MAKE[] = "make one with `sandbox learn` and `sandbox compile`, or name one in SANDBOX_POLICY";
static const char WARN[] = "set SANDBOX_ON_UNAVAILABLE=warn to run without the protection that is missing, knowing so";
static const char DISTRUST[] = "do not trust this host with it; report this with the kernel's version";
static const char FORMAT_TODO[] = "check its interpreter line, its architecture and its dynamic loader";

enum { MOST_SAID = 64, MOST_RULES = 512, MOST_VARIABLES = 16384, CHAIN = 5, SHOWN = 4, PART = 64 << 10, TRIES = 64 };
struct said {
    int count;
    const char *text[MOST_SAID];
};

static char arena[8 << 20] __attribute__((aligned(16)));
static size_t arena_used;
static char **environment;         /* as the kernel handed it over */
static char *kept[MOST_VARIABLES]; /* what the handler gets of it */
static const char *own_path, *command_path;
static char **command_argv;
static char *default_argv[5];
static struct policy policy;
static const unsigned char *program_bytes[2];
static struct said requested, enforced, degraded, stale, unchecked;
static long filters_now;
static const char *policy_folder, *policy_digest, *todays_kernel, *package, *interpreter;
static long api_port;
static struct {
    enum kind kind;
    const char *text;
    int set;
} failure;
static volatile int in_child;
static volatile uint32_t child_tid;
static volatile int listener;
static int warn_only;
static uint64_t ticket[3];
static uint64_t signals_before;

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);

void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int value, size_t n) {
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((const unsigned char *)a)[i] != ((const unsigned char *)b)[i])
            return ((const unsigned char *)a)[i] < ((const unsigned char *)b)[i] ? -1 : 1;
    return 0;
}

static _Noreturn void leave(int code) {
    for (;;) SYS1(exit_group, code);
}

static void *room(size_t n) {
    size_t from = (arena_used + 15) & ~(size_t)15;
    if (n > sizeof arena - from) {
        static const char text[] = "sandbox: Runtime.SandboxInstallRefused: the launcher's memory is full\n";
        SYS3(write, 2, text, sizeof text - 1);
        leave(KINDS[REFUSED].code);
    }
    arena_used = from + n;
    return arena + from;
}

/* The memory from `end` on was not needed: a page that nobody touches costs nothing. */
static void give_back(const void *end) { arena_used = (size_t)((const char *)end - arena); }

/* A text with its texts (%) and numbers (#) put in. */
static char *form(const char *with, ...) {
    char *found = NULL, digits[24];
    size_t n = 0;
    for (int pass = 0; pass < 2; pass++) { /* first only to measure */
        va_list values;
        va_start(values, with);
        if (pass) found = room(n + 1);
        n = 0;
        for (const char *at = with; *at; at++) {
            const char *text = digits + sizeof digits - 1;
            if (*at != '%' && *at != '#') {
                if (found) found[n] = *at;
                n++;
                continue;
            }
            if (*at == '%') {
                text = va_arg(values, const char *);
            } else {
                long value = va_arg(values, long);
                unsigned long left = value < 0 ? 0UL - (unsigned long)value : (unsigned long)value;
                char *digit = digits + sizeof digits - 1;
                *digit = 0;
                do *--digit = (char)('0' + left % 10);
                while (left /= 10);
                if (value < 0) *--digit = '-';
                text = digit;
            }
            for (; *text; text++, n++)
                if (found) found[n] = *text;
        }
        va_end(values);
    }
    found[n] = 0;
    return found;
}

static char *slice(const char *text, size_t n) {
    char *found = room(n + 1);
    memcpy(found, text, n);
    found[n] = 0;
    return found;
}

static long number(const char *text) { /* -1: none */
    long value = 0;
    if (!*text) return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > 1L << 40) return -1;
        value = 10 * value + (*text - '0');
    }
    return value;
}

static int starts(const char *text, const char *with) {
    while (*with && *text == *with) text++, with++;
    return !*with;
}

static const char *last(const char *text, char wanted) { /* NULL: none */
    const char *found = NULL;
    for (; *text; text++)
        if (*text == wanted) found = text;
    return found;
}

static const char *problem(long code) {
    static const char known[] = /* the number, and what glibc says of it */
        "\001Operation not permitted\0"
        "\002No such file or directory\0"
        "\005Input/output error\0"
        "\007Argument list too long\0"
        "\010Exec format error\0"
        "\013Resource temporarily unavailable\0"
        "\014Cannot allocate memory\0"
        "\015Permission denied\0"
        "\016Bad address\0"
        "\020Device or resource busy\0"
        "\024Not a directory\0"
        "\025Is a directory\0"
        "\026Invalid argument\0"
        "\027Too many open files in system\0"
        "\030Too many open files\0"
        "\032Text file busy\0"
        "\044File name too long\0"
        "\046Function not implemented\0"
        "\050Too many levels of symbolic links\0"
        "\120Accessing a corrupted shared library\0";
    for (const char *at = known; *at; at += text_length(at) + 1)
        if (*at == -code) return at + 1;
    return form("Unknown error #", (long)-code);
}

static void say(struct said *list, const char *text) {
    if (list->count < MOST_SAID) list->text[list->count++] = text;
}

/* Text as Python writes it: a byte that is no UTF-8 as the lone surrogate it is read as; for JSON in quotes and ASCII.
 */
static char *written_out(const char *text, int quoted) {
    char *found = room(6 * text_length(text) + 3), *at = found;
    const unsigned char *p = (const unsigned char *)text;
    if (quoted) *at++ = '"';
    while (*p) {
        uint32_t rune = *p;
        unsigned more = rune < 0x80 ? 0 : rune >= 0xF0 && rune < 0xF5 ? 3 : rune >= 0xE0 ? 2 : 1, good = rune < 0x80;
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (rune >= 0xC2 && rune < 0xF5) {
            uint32_t wide = rune & (0x3FU >> more);
            unsigned i = 1;
            for (; i <= more && (p[i] & 0xC0) == 0x80; i++) wide = wide << 6 | (p[i] & 0x3FU);
            if (i > more && wide >= least[more] && wide < 0x110000 && (wide < 0xD800 || wide > 0xDFFF))
                rune = wide, good = 1;
        }
        if (good && !quoted) {
            for (unsigned i = 0; i <= more; i++) *at++ = (char)*p++;
            continue;
        }
        p += good ? more + 1 : 1;
        if (!good) rune = 0xDC00 + rune;
        const char *plain = rune == '"'    ? "\\\""
                            : rune == '\\' ? "\\\\"
                            : rune == '\n' ? "\\n"
                            : rune == '\r' ? "\\r"
                            : rune == '\t' ? "\\t"
                            : rune == '\b' ? "\\b"
                            : rune == '\f' ? "\\f"
                                           : NULL;
        if (plain) {
            *at++ = plain[0], *at++ = plain[1];
        } else if (rune >= 32 && rune < 127) {
            *at++ = (char)rune;
        } else {
            uint32_t units[2] = {rune, 0};
            if (rune > 0xFFFF) units[0] = 0xD7C0 + (rune >> 10), units[1] = 0xDC00 + (rune & 0x3FF);
            for (int u = 0; u < 2 && units[u]; u++) {
                *at++ = '\\', *at++ = 'u';
                for (int shift = 12; shift >= 0; shift -= 4) *at++ = "0123456789abcdef"[units[u] >> shift & 15];
            }
        }
    }
    if (quoted) *at++ = '"';
    *at = 0;
    return found;
}

static char *json(const char *text) { return written_out(text, 1); }

static char *json_list(const struct said *list) {
    const char *found = "[";
    for (int i = 0; i < list->count; i++) found = form("%%%", found, i ? ", " : "", json(list->text[i]));
    return form("%]", found);
}

static const char *get(const char *name) {
    size_t n = text_length(name);
    for (char **at = environment; *at; at++)
        if (starts(*at, name) && (*at)[n] == '=') return *at + n + 1;
    return "";
}

static void write_line(const char *line) {
    for (size_t n = text_length(line); n;) {
        long done = SYS3(write, 2, line, n);
        if (done <= 0) return;
        line += done, n -= (size_t)done;
    }
}

/* Tell the Runtime API (sandbox/enforce/init_error.py); its host is a number, as the platform gives it. 0: not told. */
static int post(const char *type, const char *message) {
    const char *api = get("AWS_LAMBDA_RUNTIME_API"), *colon = last(api, ':');
    struct {
        uint16_t family, port;
        uint8_t host[4], zero[8];
    } to = {AF_INET, 0, {127, 0, 0, 1}, {0}};
    int told = 0;
    if (!colon) return 0;
    char *host = slice(api, (size_t)(colon - api));
    long port = number(colon + 1);
    if (port <= 0 || port > 65535) return 0;
    for (int i = 0; i < 4 && !same(host, "localhost"); i++) {
        char *part = host;
        while (*host && *host != '.') host++;
        if (*host) *host++ = 0;
        long value = number(part);
        if (value < 0 || value > 255) return 0;
        to.host[i] = (uint8_t)value;
    }
    to.port = (uint16_t)(port << 8 | port >> 8);
    long wait[2] = {2, 0}, fd = SYS3(socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    SYS5(setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, wait, sizeof wait);
    SYS5(setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, wait, sizeof wait);
    char *body = form("{\"errorMessage\": %, \"errorType\": %, \"stackTrace\": []}", json(message), json(type));
    char *request = form(
        "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: %\r\nContent-Type: "
        "application/json\r\nLambda-Runtime-Function-Error-Type: %\r\nContent-Length: #\r\nConnection: close\r\n\r\n%",
        api, type, (long)text_length(body), body);
    if (SYS3(connect, fd, &to, sizeof to) == 0) {
        SYS6(sendto, fd, request, text_length(request), MSG_NOSIGNAL, 0, 0);
        told = SYS6(recvfrom, fd, body, 64, 0, 0, 0) > 9 && starts(body, "HTTP/1.") && body[8] == ' ' && body[9] == '2';
    }
    SYS1(close, fd);
    return told;
}

/* Note an error; 0, so that a step can return it. */
static int refuse(enum kind kind, const char *where, const char *what, const char *todo) {
    failure.kind = kind;
    failure.text = form("%%%%%", where, *where ? ": " : "", what, *todo ? "\n  what to do: " : "", todo);
    failure.set = 1;
    return 0;
}

/* End with the noted error. A supervised child leaves the telling to its parent: its own filter may ask for answers. */
static _Noreturn void give_up(void) {
    if (!in_child) {
        write_line(written_out(form("sandbox: %: %\n", KINDS[failure.kind].type, failure.text), 0));
        if (*get("AWS_LAMBDA_RUNTIME_API") && !post(KINDS[failure.kind].type, failure.text))
            write_line("sandbox: the Runtime API was not told: it could not be reached, or did not take the report\n");
    }
    leave(KINDS[failure.kind].code);
}

static _Noreturn void fail(enum kind kind, const char *where, const char *what, const char *todo) {
    refuse(kind, where, what, todo);
    give_up();
}

#endif
