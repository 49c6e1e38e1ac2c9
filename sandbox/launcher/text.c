/* Memory that only grows, texts in it, the environment, and what all parts know of this start. */
#ifndef SANDBOX_TEXT_C
#define SANDBOX_TEXT_C

#include "abi.h"
#include "destinations.c"

enum { FEW = 48, ARENA = 16 << 20, STATUS = 1 << 20 };
struct notes {
    int count;
    struct item {
        const char *text;
        struct item *next;
    } *first, *last;
};

static char *arena; /* where nobody can know it: the one exec starts from here */
static size_t arena_used;
static uint64_t random_words[4];
static char **environment;       /* as the kernel handed it over */
static const char **handler_env; /* what the handler gets of it */
static const char **args;        /* our arguments behind the name */
static const char *own_path, *command_path, *start_folder;
static const char **command_argv;
static struct policy policy;
static struct notes requested, enforced, reported, degraded, stale, unchecked;
static long filters_now, api_port;
static const char *policy_folder, *policy_digest, *todays_kernel, *package, *interpreter, *checkout;
static int warn_only, listener;
static uint64_t exec_addresses[3], signals_before;

#ifdef HOSTED /* with a C library, which has them */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
#else
#include "memory.c"
#endif

static _Noreturn void leave(int code) {
    for (;;) SYS1(exit_group, code);
}

static int hurried; /* beside a function, which may have filled the log: it gets a second to take each line */

static void write_line(const char *line) {
    struct {
        int32_t fd;
        int16_t events, found;
    } room = {2, POLLOUT, 0};
    for (size_t n = text_length(line); n;) {
        long second[2] = {1, 0};
        if (hurried && SYS5(ppoll, &room, 1, second, 0, SIGSET) == 0) return;
        long done = SYS3(write, 2, line, n);
        if (done <= 0) return;
        line += done, n -= (size_t)done;
    }
}

/* The arena, at one of 2^35 places, used from one of 2^12 places on. */
static char *map_at_random(void) {
    for (int i = 0; i < TRIES && SYS3(getrandom, random_words, sizeof random_words, 0) == sizeof random_words; i++) {
        uint64_t space = (1ULL << (i < TRIES / 2 ? 47 : 39)) - (1ULL << 32) - ARENA;
        uint64_t at = (random_words[3] % space + (1ULL << 31)) & ~4095ULL;
        long code = SYS6(mmap, at, ARENA, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        arena_used = random_words[0] >> 16 & 0xFFF0;
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

static void *alloc(size_t n) {
    if (!arena) arena = map_at_random();
    size_t from = (arena_used + 15) & ~(size_t)15;
    if (!arena || n > ARENA - from) no_memory();
    arena_used = from + n;
    return arena + from;
}

/* Descriptors close at the exec, which is sooner; but a table of them that grows while two processes share it takes
 * ages (fs/file.c: expand_fdtable). */
static void close_high(long fd) {
    if (fd > FEW) SYS1(close, fd);
}

/* The memory from `end` on was not needed: every page that is touched first costs microseconds. */
static void release(const void *end) { arena_used = (size_t)((const char *)end - arena); }

static char *slice(const char *text, size_t n) {
    char *found = alloc(n + 1);
    memcpy(found, text, n);
    found[n] = 0;
    return found;
}

static char *append(char *at, const char *text, size_t n) {
    if (n >= (size_t)(arena + ARENA - at)) no_memory();
    memcpy(at, text, n);
    return at + n;
}

/* The character at a place of a text, and its bytes (RFC 3629); -1 for a byte that is not UTF-8. */
static long character(const unsigned char *p, unsigned *bytes) {
    unsigned more = *p < 0x80 ? 0 : *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1;
    unsigned low = *p == 0xE0 ? 0xA0 : *p == 0xF0 ? 0x90 : 0x80;
    unsigned high = *p == 0xED ? 0x9F : *p == 0xF4 ? 0x8F : 0xBF;
    long found = more ? *p & (0x3F >> more) : *p;
    *bytes = 1;
    if (more && (*p < 0xC2 || *p > 0xF4)) return -1;
    for (unsigned i = 1; i <= more; i++, low = 0x80, high = 0xBF) {
        if (p[i] < low || p[i] > high) return -1;
        found = found << 6 | (p[i] & 0x3F);
    }
    *bytes = more + 1;
    return found;
}

/* `\\`, a letter and so many digits. */
static char *append_escape(char *at, char letter, unsigned long value, int digits) {
    char escape[10] = {'\\', letter};
    for (int i = digits; i; i--, value >>= 4) escape[1 + i] = "0123456789abcdef"[value & 15];
    return append(at, escape, 2 + (size_t)digits);
}

/* Text as JSON in printable ASCII; a byte that is not UTF-8 as the lone surrogate that Python reads it as. */
static char *append_json(char *at, const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    at = append(at, "\"", 1);
    for (unsigned bytes; *p; p += bytes) {
        long found = character(p, &bytes);
        if (found >= 0x10000) {
            at = append_escape(at, 'u', 0xD800UL + (unsigned long)((found - 0x10000) >> 10), 4);
            at = append_escape(at, 'u', 0xDC00UL + ((unsigned long)found & 0x3FF), 4);
        } else if (found < 32 || found > 126) {
            at = append_escape(at, 'u', found < 0 ? 0xDC00UL + *p : (unsigned long)found, 4);
        } else {
            if (found == '"' || found == '\\') at = append(at, "\\", 1);
            at = append(at, (const char *)p, 1);
        }
    }
    return append(at, "\"", 1);
}

/* Text that no terminal obeys: what does not show as itself as \xNN or \uNNNN (sandbox/errors.py: printable). */
static const char *printable(const char *text) {
    static const long hidden[][2] = {{0, 9},           {11, 31},         {127, 160},       {0xAD, 0xAD},
                                     {0x61C, 0x61C},   {0x200B, 0x200F}, {0x2028, 0x202F}, {0x205F, 0x206F},
                                     {0xE000, 0xF8FF}, {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB}, {0xE0000, 0x10FFFF}};
    char *found = alloc(1), *at = found;
    const unsigned char *p = (const unsigned char *)text;
    for (unsigned bytes; *p; p += bytes) {
        long one = character(p, &bytes), shows = one >= 0;
        for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) shows &= one < hidden[i][0] || one > hidden[i][1];
        if (shows)
            at = append(at, (const char *)p, bytes);
        else if (one < 256)
            at = append_escape(at, 'x', one < 0 ? *p : (unsigned long)one, 2);
        else
            at = append_escape(at, one > 0xFFFF ? 'U' : 'u', (unsigned long)one, one > 0xFFFF ? 8 : 4);
    }
    *at = 0;
    release(at + 1);
    return found;
}

/* A text with texts (%), numbers (#), texts as JSON ($) and lists of texts as JSON (@) put in. */
static char *format(const char *with, ...) {
    char digits[24], *found = alloc(1), *at = found;
    va_list values;
    va_start(values, with);
    for (; *with; with++) {
        if (*with == '%') {
            const char *text = va_arg(values, const char *);
            at = append(at, text, text_length(text));
        } else if (*with == '#') {
            long value = va_arg(values, long);
            unsigned long left = value < 0 ? 0UL - (unsigned long)value : (unsigned long)value;
            char *digit = digits + sizeof digits;
            do *--digit = (char)('0' + left % 10);
            while (left /= 10);
            if (value < 0) *--digit = '-';
            at = append(at, digit, (size_t)(digits + sizeof digits - digit));
        } else if (*with == '$') {
            at = append_json(at, va_arg(values, const char *));
        } else if (*with == '@') {
            const struct notes *list = va_arg(values, const struct notes *);
            at = append(at, "[", 1);
            for (const struct item *item = list->first; item; item = item->next) {
                if (item != list->first) at = append(at, ", ", 2);
                at = append_json(at, item->text);
            }
            at = append(at, "]", 1);
        } else {
            at = append(at, with, 1);
        }
    }
    va_end(values);
    *at = 0;
    release(at + 1);
    return found;
}

static long parse_number(const char *text) { /* -1: none */
    long value = 0;
    if (!*text) return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > 1L << 40) return -1;
        value = 10 * value + (*text - '0');
    }
    return value;
}

static int starts_with(const char *text, const char *with) {
    while (*with && *text == *with) text++, with++;
    return !*with;
}

static const char *last_char(const char *text, char wanted) { /* NULL: none */
    const char *found = NULL;
    for (; *text; text++)
        if (*text == wanted) found = text;
    return found;
}

static const char *error_text(long code) {
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
    return format("Unknown error #", -code);
}

static void note(struct notes *list, const char *text) {
    struct item *item = alloc(sizeof *item);
    item->text = text, item->next = NULL;
    *(list->count++ ? &list->last->next : &list->first) = item;
    list->last = item;
}

static const char *find_variable(const char *name) { /* NULL: not set */
    size_t n = text_length(name);
    for (char **at = environment; *at; at++)
        if (starts_with(*at, name) && (*at)[n] == '=') return *at + n + 1;
    return NULL;
}

static const char *variable(const char *name) {
    const char *value = find_variable(name);
    return value ? value : "";
}

#endif
