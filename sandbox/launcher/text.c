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
static struct notes requested, enforced, degraded, stale, unchecked;
static long filters_now, api_port;
static const char *policy_folder, *policy_digest, *todays_kernel, *package, *interpreter;
static int warn_only, listener;
static uint64_t exec_addresses[3], signals_before;

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

/* Text as JSON; a byte that is no UTF-8 (RFC 3629) as the lone surrogate that Python reads it as. */
static char *append_json(char *at, const char *text) {
    static const char digit[] = "0123456789abcdef";
    const unsigned char *p = (const unsigned char *)text;
    at = append(at, "\"", 1);
    while (*p) {
        unsigned more = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1, good = *p >= 0xC2 && *p < 0xF5, i = 1;
        unsigned low = *p == 0xE0 ? 0xA0 : *p == 0xF0 ? 0x90 : 0x80;
        unsigned high = *p == 0xED ? 0x9F : *p == 0xF4 ? 0x8F : 0xBF;
        for (; good && i <= more; i++, low = 0x80, high = 0xBF) good = p[i] >= low && p[i] <= high;
        if (*p >= 0x80 && good) {
            at = append(at, (const char *)p, more + 1);
            p += more + 1;
        } else if (*p >= 32 && *p < 127) {
            if (*p == '"' || *p == '\\') at = append(at, "\\", 1);
            at = append(at, (const char *)p++, 1);
        } else {
            const char escaped[6] = {'\\',           'u',           *p < 0x80 ? '0' : 'd', *p < 0x80 ? '0' : 'c',
                                     digit[*p >> 4], digit[*p & 15]};
            at = append(at, escaped, 6);
            p++;
        }
    }
    return append(at, "\"", 1);
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
