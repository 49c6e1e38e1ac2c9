/* What the launcher knows of its start, texts in a memory that only grows, and errors: to the log, to the Runtime
 * API, and as the exit code. */
#ifndef SANDBOX_STATE_H
#define SANDBOX_STATE_H

#include "abi.h"
#include "policy.h"

/* What to do about each error where nothing better is known; else WARN. */
static const char *const TODO[] = {
    [USAGE] = "correct or unset it",
    [POLICY_INVALID] = REBUILD,
    [POLICY_NOT_FOUND] = "name a compiled one in SANDBOX_POLICY",
    [CANARY_PASSED] = "do not trust this host; report this with the kernel's version",
    [HANDLER_NOT_FOUND] = "check its interpreter line, its architecture and its dynamic loader",
    [PACKAGE_INVALID] = "package it again: `sandbox package`",
    [POLICY_WRITABLE] = "chmod -R a-w it",
};

enum { FEW = 48, ARENA = 16 << 20, STATUS = 1 << 20 };
struct said {
    int count;
    struct item {
        const char *text;
        struct item *next;
    } * first, *last;
};

static char *arena; /* where nobody can know it: the one exec starts from here */
static size_t arena_used;
static uint64_t chance[4];
static char **environment; /* as the kernel handed it over */
static const char **kept;  /* what the handler gets of it */
static const char **given; /* our arguments behind the name */
static const char *own_path, *command_path, *start_folder;
static const char **command_argv;
static struct policy policy;
static struct said requested, enforced, degraded, stale, unchecked;
static long filters_now, api_port;
static const char *policy_folder, *policy_digest, *todays_kernel, *package, *interpreter;
static enum error failure;
static const char *failed; /* what went wrong, once something did */
static int warn_only, listener;
/* What a supervised child tells its parent, whose memory it does not share: NULL where there is none. */
static struct handed {
    int listener, failure;
    char failed[4000];
} * handed;
static int in_child;
static uint64_t ticket[3], signals_before;

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);

void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = ((const char *)from)[i];
    // cppcheck-suppress uninitvar // the address is returned, not what lies there
    return to;
}

void *memset(void *to, int value, size_t n) {
    for (size_t i = 0; i < n; i++) ((char *)to)[i] = (char)value;
    return to;
}

static _Noreturn void leave(int code) {
    for (;;) SYS1(exit_group, code);
}

static void write_line(const char *line) {
    for (size_t n = text_length(line); n;) {
        long done = SYS3(write, 2, line, n);
        if (done <= 0) return;
        line += done, n -= (size_t)done;
    }
}

/* The arena, at one of 2^35 places, used from one of 2^12 places on. */
static char *somewhere(void) {
    for (int i = 0; i < TRIES && SYS3(getrandom, chance, sizeof chance, 0) == sizeof chance; i++) {
        uint64_t space = (1ULL << (i < TRIES / 2 ? 47 : 39)) - (1ULL << 32) - ARENA;
        uint64_t at = (chance[3] % space + (1ULL << 31)) & ~4095ULL;
        long code = SYS6(mmap, at, ARENA, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        arena_used = chance[0] >> 16 & 0xFFF0;
        if (code == (long)at) return (char *)code;
        if (code >= 0) SYS2(munmap, code, ARENA); /* a kernel without the flag (before 4.17) */
    }
    return NULL;
}

static _Noreturn void no_memory(void) {
    write_line("sandbox: Runtime.SandboxInstallRefused: the launcher found no memory\n"
               "  what to do: raise the memory limit (RLIMIT_AS)\n");
    leave(69);
}

static void *room(size_t n) {
    if (!arena) arena = somewhere();
    size_t from = (arena_used + 15) & ~(size_t)15;
    if (!arena || n > ARENA - from) no_memory();
    arena_used = from + n;
    return arena + from;
}

/* Descriptors close at the exec, which is sooner; but a table of them that grows while two processes share it takes
 * ages (fs/file.c: expand_fdtable). */
static void let_go(long fd) {
    if (fd > FEW) SYS1(close, fd);
}

/* The memory from `end` on was not needed: every page that is touched first costs microseconds. */
static void give_back(const void *end) { arena_used = (size_t)((const char *)end - arena); }

static char *slice(const char *text, size_t n) {
    char *found = room(n + 1);
    memcpy(found, text, n);
    found[n] = 0;
    return found;
}

static char *put(char *at, const char *text, size_t n) {
    if (n >= (size_t)(arena + ARENA - at)) no_memory();
    memcpy(at, text, n);
    return at + n;
}

/* Text as JSON; a byte that is no UTF-8 (RFC 3629) as the lone surrogate that Python reads it as. */
static char *put_json(char *at, const char *text) {
    static const char digit[] = "0123456789abcdef";
    const unsigned char *p = (const unsigned char *)text;
    at = put(at, "\"", 1);
    while (*p) {
        unsigned more = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1, good = *p >= 0xC2 && *p < 0xF5, i = 1;
        unsigned low = *p == 0xE0 ? 0xA0 : *p == 0xF0 ? 0x90 : 0x80;
        unsigned high = *p == 0xED ? 0x9F : *p == 0xF4 ? 0x8F : 0xBF;
        for (; good && i <= more; i++, low = 0x80, high = 0xBF) good = p[i] >= low && p[i] <= high;
        if (*p >= 0x80 && good) {
            at = put(at, (const char *)p, more + 1);
            p += more + 1;
        } else if (*p >= 32 && *p < 127) {
            if (*p == '"' || *p == '\\') at = put(at, "\\", 1);
            at = put(at, (const char *)p++, 1);
        } else {
            const char escaped[6] = {'\\',           'u',           *p < 0x80 ? '0' : 'd', *p < 0x80 ? '0' : 'c',
                                     digit[*p >> 4], digit[*p & 15]};
            at = put(at, escaped, 6);
            p++;
        }
    }
    return put(at, "\"", 1);
}

/* A text with texts (%), numbers (#), texts as JSON ($) and lists of texts as JSON (@) put in. */
static char *form(const char *with, ...) {
    char digits[24], *found = room(1), *at = found;
    va_list values;
    va_start(values, with);
    for (; *with; with++) {
        if (*with == '%') {
            const char *text = va_arg(values, const char *);
            at = put(at, text, text_length(text));
        } else if (*with == '#') {
            long value = va_arg(values, long);
            unsigned long left = value < 0 ? 0UL - (unsigned long)value : (unsigned long)value;
            char *digit = digits + sizeof digits;
            do *--digit = (char)('0' + left % 10);
            while (left /= 10);
            if (value < 0) *--digit = '-';
            at = put(at, digit, (size_t)(digits + sizeof digits - digit));
        } else if (*with == '$') {
            at = put_json(at, va_arg(values, const char *));
        } else if (*with == '@') {
            const struct said *list = va_arg(values, const struct said *);
            at = put(at, "[", 1);
            for (const struct item *item = list->first; item; item = item->next) {
                if (item != list->first) at = put(at, ", ", 2);
                at = put_json(at, item->text);
            }
            at = put(at, "]", 1);
        } else {
            at = put(at, with, 1);
        }
    }
    va_end(values);
    *at = 0;
    give_back(at + 1);
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
        "\007Argument list too long\0"
        "\010Exec format error\0"
        "\013Resource temporarily unavailable\0"
        "\014Cannot allocate memory\0"
        "\015Permission denied\0"
        "\024Not a directory\0"
        "\026Invalid argument\0"
        "\032Text file busy\0"
        "\046Function not implemented\0";
    for (const char *at = known; *at; at += text_length(at) + 1)
        if (*at == -code) return at + 1;
    return form("Unknown error #", -code);
}

static void say(struct said *list, const char *text) {
    struct item *item = room(sizeof *item);
    item->text = text, item->next = NULL;
    *(list->count++ ? &list->last->next : &list->first) = item;
    list->last = item;
}

static const char *find(const char *name) { /* NULL: not set */
    size_t n = text_length(name);
    for (char **at = environment; *at; at++)
        if (starts(*at, name) && (*at)[n] == '=') return *at + n + 1;
    return NULL;
}

static const char *get(const char *name) {
    const char *value = find(name);
    return value ? value : "";
}

static long port_of(const char *api) { /* -1: none */
    const char *colon = last(api, ':'), *digits = colon ? colon + 1 : api;
    long port = number(digits);
    return port > 0 && port <= 65535 && text_length(digits) <= 5 ? port : -1;
}

/* Tell the Runtime API (sandbox/start/init_error.py); its host is a number, as the platform gives it. 0: not told. */
static int post(const char *type, const char *message) {
    const char *api = get("AWS_LAMBDA_RUNTIME_API"), *colon = last(api, ':');
    struct {
        uint16_t family, port;
        uint8_t host[4], zero[8];
    } to = {AF_INET, 0, {127, 0, 0, 1}, {0}};
    int told = 0;
    long port = port_of(api);
    if (!colon || port < 0) return 0;
    char *host = slice(api, (size_t)(colon - api));
    for (int i = 0; i < 4 && !same(host, "localhost"); i++) {
        const char *part = host;
        while (*host && (*host != '.' || i == 3)) host++;
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
    char *body = form("{\"errorMessage\": $, \"errorType\": $, \"stackTrace\": []}", message, type);
    char *request = form("POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: %\r\n"
                         "Lambda-Runtime-Function-Error-Type: %\r\nContent-Length: #\r\nConnection: close\r\n\r\n%",
                         api, type, (long)text_length(body), body);
    if (SYS3(connect, fd, &to, sizeof to) == 0) {
        SYS6(sendto, fd, request, text_length(request), MSG_NOSIGNAL, 0, 0);
        told = SYS6(recvfrom, fd, body, 64, 0, 0, 0) > 9 && starts(body, "HTTP/1.") && body[8] == ' ' && body[9] == '2';
    }
    SYS1(close, fd);
    return told;
}

/* One text of several behind each other. */
static const char *nth(const char *texts, int n) {
    while (n--) texts += text_length(texts) + 1;
    return texts;
}

/* Note an error, with what to do if that is not the usual; 0, so that a step can return it. */
static int refuse(enum error error, const char *what, const char *todo) {
    failure = error;
    if (!todo) todo = TODO[error] ? TODO[error] : WARN;
    failed = form("%\n  what to do: %", what, todo);
    return 0;
}

/* End with the noted error. A supervised child leaves the telling to its parent: its own filter may ask for answers. */
static _Noreturn void give_up(void) {
    const char *kind = nth(ERRORS, (int)failure), *type = form("Runtime.Sandbox%", kind + 1);
    if (in_child) {
        size_t n = text_length(failed), most = sizeof handed->failed - 1;
        memcpy(handed->failed, failed, n < most ? n : most);
        handed->failure = (int)failure;
    } else {
        write_line(form("sandbox: %: %\n", type, failed));
        if (*get("AWS_LAMBDA_RUNTIME_API") && !post(type, failed))
            write_line("sandbox: the Runtime API was not told: it could not be reached, or did not take the report\n");
    }
    leave(*kind);
}

static _Noreturn void end(enum error error, const char *what, const char *todo) {
    refuse(error, what, todo);
    give_up();
}

static void hand_over(void);

/* An error before anything is installed: where there is the Python bootstrap, it starts the function, or says more. */
static _Noreturn void fail(enum error error, const char *what) {
    hand_over();
    end(error, what, NULL);
}

#endif
