/* The line that a refused call leaves (sandbox/violations/schema.json), and what a program that is started inherits. */
#ifndef SANDBOX_REPORT_C
#define SANDBOX_REPORT_C

#include "calls.h"
#include "python.c"

enum { MOST_LINES = 100, LINES_SECONDS = 10, COMM = 16, VARIABLES = 512, POOL = 8 };

static int *(*errno_location)(void); /* of the function's own C library */
static char request[64];             /* id of the invocation, '' where it is not known */
static unsigned sequence, lost, lines_now;
static long lines_since;
static const char *run_name;

static void set_errno(int code) {
    if (errno_location) *errno_location() = code;
}

/* Text number `n` of texts that each end with a NUL. */
static const char *nth(const char *texts, uint32_t n) {
    while (n--) texts = next_text(texts);
    return texts;
}

static const char *name_of_call(uint32_t nr) { return nr < CALL_COUNT ? nth(CALL_NAMES, nr) : ""; }

/* Of sockets with their family's own protocol. */
static const char *class_of_socket(int family, int type, int protocol) {
    const char *first = family == AF_UNIX    ? "AF_UNIX"
                        : family == AF_INET  ? "AF_INET"
                        : family == AF_INET6 ? "AF_INET6"
                                             : "";
    const char *second = type == SOCK_STREAM  ? "SOCK_STREAM"
                         : type == SOCK_DGRAM ? "SOCK_DGRAM"
                         : type == SOCK_RAW   ? "SOCK_RAW"
                                              : "";
    int usual = !protocol || (type == SOCK_STREAM && protocol == TCP) || (type == SOCK_DGRAM && protocol == UDP);
    return *first && *second && usual ? format("% %", first, second) : "";
}

/* A class as profiles write it, of the calls whose classes matter here. */
static const char *class_of(uint32_t nr, const uint64_t *registers) {
    uint64_t flags = registers[2];
    switch (nr) {
    case NR_clone:
        flags = registers[0] & CLONE_KINDS;
        return flags == CLONE_THREAD ? "thread" : flags ? "namespace" : "process";
    case NR_openat:
        return flags & (O_CREAT | 020000000) ? "create" : flags & (O_ACCMODE | O_TRUNC) ? "write" : "read";
    case NR_mprotect:
    case NR_pkey_mprotect:
        return flags & 4 ? flags & 2 ? "exec-write" : "exec" : "data";
    case NR_mmap:
        return !(flags & 4)                   ? "data"
               : flags & 2                    ? "exec-write"
               : registers[3] & MAP_ANONYMOUS ? "exec-anon"
                                              : "exec-file";
    case NR_sendto:
        return registers[4] ? "addressed" : "connected";
    case NR_socket:
    case NR_socketpair:
        return class_of_socket((int)registers[0], (int)registers[1] & 0xF, (int)registers[2]);
    default:
        return "";
    }
}

static const char *technique_of(const char *call, const char *class, const char **risk) {
    const char *whole = *class ? format("% %", call, class) : call, *family = whole;
    if (starts_with(class, "AF_")) {
        const char *end = class;
        while (*end && *end != ' ') end++;
        family = format("% %", call, slice(class, (size_t)(end - class)));
    }
    for (int tries = 0; tries < 3; tries++, whole = tries == 1 ? family : call)
        for (const char *at = TECHNIQUES; *at; at = next_text(next_text(next_text(at))))
            if (same(at, whole)) return *risk = next_text(at), next_text(*risk);
    *risk = "low";
    return "T1106";
}

static const char *name_of_errno(int code) {
    return code == EPERM    ? "EPERM"
           : code == EACCES ? "EACCES"
           : code == ENOSYS ? "ENOSYS"
           : code == ENOENT ? "ENOENT"
                            : "";
}

static const char *phase_name(void) { return phase == RUN ? "run" : phase == INVOKE ? "invoke" : "init"; }

/* `"time": ..., "seq": ..., "supervisor": ...`: what every line begins with. */
static const char *beginning(const char *event) {
    long now[2] = {0, 0};
    SYS2(clock_gettime, 0, now);
    long milliseconds = now[1] / 1000000;
    const char *gap = lost ? format("\"lost\": #, ", (long)lost) : "";
    lost = 0;
    return format("{\"event\": $, \"time\": #.%#, \"seq\": #, \"supervisor\": $, %\"function\": $, ", event, now[0],
                  milliseconds < 10    ? "00"
                  : milliseconds < 100 ? "0"
                                       : "",
                  milliseconds, (long)++sequence, run_name, gap, policy.function);
}

/* Whether one more line may be written now. */
static int may_write(void) {
    long now[2] = {0, 0};
    SYS2(clock_gettime, 1, now);
    if (now[0] - lines_since >= LINES_SECONDS) lines_since = now[0], lines_now = 0;
    if (lines_now++ < MOST_LINES) return 1;
    sequence++, lost++;
    return 0;
}

static const char *thread_name(void) {
    static char text[COMM + 1];
    long fd = SYS4(openat, AT_FDCWD, "/proc/thread-self/comm", O_CLOEXEC, 0), n = SYS3(read, fd, text, COMM);
    SYS1(close, fd);
    if (n > 0 && text[n - 1] == '\n') n--;
    text[n > 0 ? n : 0] = 0;
    return text;
}

/* A text of the function's memory, which may not be there: the kernel looks. NULL where it cannot be read. */
static const char *text_at(uint64_t address) {
    char text[TARGET];
    size_t n = 0;
    while (n < sizeof text - 1) {
        uint64_t page = PAGE - (address + n) % PAGE, left = sizeof text - 1 - n;
        uint64_t from[2] = {address + n, left < page ? left : page}, to[2] = {(uint64_t)(uintptr_t)(text + n), from[1]};
        long got = SYS6(process_vm_readv, SYS1(getpid, 0), to, 1, from, 1, 0);
        if (got <= 0) return NULL;
        for (size_t end = n + (size_t)got; n < end; n++)
            if (!text[n]) return slice(text, n);
    }
    return slice(text, n);
}

static const char *in_base(uint64_t value, unsigned base, const char *before) {
    char digits[32];
    put_number(digits, put_text(digits, 0, sizeof digits, before), sizeof digits, value, base);
    return slice(digits, text_length(digits));
}

/* The arguments for people, as sandbox/violations/decode.py shows them, but for flags, which stay numbers: a list of
 * texts as JSON. */
static const char *shown_arguments(uint32_t nr, const uint64_t *registers, const char *target) {
    const char *shape = nr < CALL_COUNT ? nth(CALL_SHAPES, nr) : "", *all = "", *text;
    if (!registers) return "[]";
    for (int i = 0, classed = *shape == 'c'; shape[i + classed]; i++) {
        uint64_t value = registers[i];
        switch (shape[i + classed]) {
        case 'n':
            text = format("#", (long)(int)value);
            break;
        case 'd':
            text = (int)value == AT_FDCWD ? "AT_FDCWD" : format("#", (long)(int)value);
            break;
        case 'p':
            text = text_at(value);
            text = text ? format("$", text) : in_base(value, 16, "0x");
            break;
        case 's':
            text = in_base(value, 10, "");
            break;
        case 'm':
            text = in_base((uint32_t)value, 8, "0o");
            break;
        case 'a':
            text = starts_with(target, "tcp://") || starts_with(target, "udp://") ? target + 6 : target;
            if (!*text) text = in_base(value, 16, "0x");
            break;
        default:
            text = in_base(value, 16, "0x");
        }
        all = format(*all ? "%, $" : "%$", all, text);
    }
    return format("[%]", all);
}

/* Whether a list of texts, or of keys, holds one. */
static int is_listed(const char *list, const char *text, char end) {
    size_t n = text_length(text);
    for (const char *at = list; at && *at && *at != end; at++)
        if (*at == '"' && starts_with(at + 1, text) && at[n + 1] == '"') return 1;
    return 0;
}

/* A text in a flow collection of YAML (sandbox/behaviour/spelling.py: scalar). */
static const char *scalar(const char *text) {
    const char *scheme = text;
    while ((*scheme | 32) >= 'a' && (*scheme | 32) <= 'z') scheme++;
    int has_scheme = scheme > text && starts_with(scheme, "://"), is_plain = *text == '/' || scheme > text;
    for (const char *at = has_scheme ? scheme + 3 : text; *at; at++) {
        int is_word = (*at >= '0' && *at <= '9') || ((*at | 32) >= 'a' && (*at | 32) <= 'z');
        int is_mark = *at == '_' || *at == '-' || *at == '.' || *at == '/' || *at == '@';
        is_plain &= is_word || is_mark || (has_scheme && *at == ':' && at[1]);
    }
    return is_plain ? text : format("$", text);
}

/* What of a profile would allow it (sandbox/behaviour/spelling.py); '' where nothing can, or its class is not known. */
static const char *allowing(uint32_t nr, const char *call, const char *class, const struct target *target) {
    static const char why[] = "because: <your reason>";
    if (target->section && !*target->section) return "";
    if (target->section) return format("%: [%]", target->section, scalar(target->text));
    const char *whole = *class ? format("% %", call, class) : call;
    int is_classed = nr < CALL_COUNT && *nth(CALL_SHAPES, nr) == 'c';
    if (!*call || is_listed(never_granted, call, ']') || is_listed(never_granted, whole, ']')) return "";
    if (is_listed(hard_denied, call, '}') && !is_classed) return format("grants: [{syscall: %, %}]", call, why);
    if (is_classed && !*class) return "";
    if (!*class) return format("syscalls.%.%: {count: 1, %}", phase_name(), call, why);
    return format("syscalls.%.%: {classes: {%: 1}, %}", phase_name(), call, class, why);
}

/* Write a violation: `syscall`, `class` and so on as in the schema, `shown` the arguments as JSON. */
static void violation(const char *syscall, const char *class, const char *shown, const char *target, int code,
                      const char *reason, const char *allow, const char *by) {
    const char *risk, *technique;
    if (!may_write()) return;
    technique = technique_of(syscall, class, &risk);
    const char *error = is_audit ? "" : name_of_errno(code); /* '' for what goes on */
    char *line = format(
        "%\"phase\": $, \"request\": %, \"pid\": #, \"tid\": #, \"comm\": $, \"syscall\": $, \"class\": $, "
        "\"args\": %, \"target\": $, \"verdict\": $, \"errno\": $, \"reason\": $, \"risk\": $, \"technique\": $, "
        "\"allow\": $, \"tier\": \"detects\"%}\n",
        beginning("violation"), phase_name(), *request ? format("$", request) : "null", SYS1(getpid, 0),
        SYS1(gettid, 0), thread_name(), syscall, class, shown, target, *error ? "denied" : "reported", error,
        format("tripwire: %", reason), risk, technique, allow, by);
    write_line(line);
}

/* Report a call that is refused, or in audit would be; `function` of the C library was called from `caller`. The
 * registers are NULL for a question to a resolver. */
static void report(uint32_t nr, const uint64_t *registers, int code, const struct target *target, const char *function,
                   uint64_t caller) {
    char origin[ORIGIN];
    if (registers && is_quiet(nr, registers)) return;
    who_calls(origin, SYS1(getpid, 0) == start_pid);
    lock(&line_lock);
    const char *mark = alloc(1), *name = name_of_call(nr), *object = object_at(caller);
    const char *class = registers ? class_of(nr, registers) : "";
    const char *by = *origin   ? format(", \"by\": {%%}", origin, *object ? format(", \"object\": $", object) : "")
                     : *object ? format(", \"by\": {\"object\": $}", object)
                               : "";
    violation(*name ? name : format("syscall_#", (long)nr), class, shown_arguments(nr, registers, target->text),
              target->text, code, format("%(3) asked for what the profile does not hold", function),
              allowing(nr, name, class, target), by);
    release(mark);
    unlock(&line_lock);
}

/* Report a program that is started and in which nothing looks. */
static void report_bare(const char *path) {
    lock(&line_lock);
    const char *mark = alloc(1);
    if (may_write())
        write_line(format("%\"reason\": $}\n", beginning("degraded"),
                          format("tier: nothing for %, which no loader of glibc starts", path)));
    release(mark);
    unlock(&line_lock);
}

/* Report an event of Python's: as a call that is made otherwise, `code` 0 where it goes on. */
static void report_event(const char *event, const char *target, int code, const char *reason, const char *origin) {
    lock(&line_lock);
    const char *mark = alloc(1);
    violation("python", event, "[]", target, code, reason, "", *origin ? format(", \"by\": {%}", origin) : "");
    release(mark);
    unlock(&line_lock);
}

/* The environment of a program that is started, with what makes the loader look there, too. It lies in a pool that goes
 * round: the exec copies it. */
static char carried[SETTINGS + 24], *carried_phase;
static const char *carried_audit, *carried_binding, *carried_tunables;

static const char *const *carry_on(const char *const *given) {
    static const char *pool[POOL][VARIABLES];
    static volatile unsigned turn;
    const char **to = pool[__atomic_fetch_add(&turn, 1, __ATOMIC_RELAXED) % POOL];
    int count = 0, has_tunables = 0;
    if (!*carried || !carried_audit) return given;
    for (const char *const *at = given; at && *at; at++) {
        if (starts_with(*at, "LD_AUDIT=") || starts_with(*at, "SANDBOX_TRIPWIRE=")) continue;
        if (count == VARIABLES - 5) return given;
        has_tunables |= starts_with(*at, "GLIBC_TUNABLES=");
        to[count++] = *at;
    }
    if (carried_phase) *carried_phase = phase == INIT ? '0' : '1';
    to[count++] = carried_audit;
    to[count++] = carried;
    if (carried_binding) to[count++] = carried_binding;
    if (carried_tunables && !has_tunables) to[count++] = carried_tunables;
    to[count] = NULL;
    return to;
}

/* Keep what is carried on: our own variables as they came, but for who is the first process. */
static void keep_variables(void) {
    size_t at = put_text(carried, 0, sizeof carried, "SANDBOX_TRIPWIRE=");
    put_text(carried, at, sizeof carried, variable("SANDBOX_TRIPWIRE"));
    for (char *p = carried + at; *p; p++) {
        int begins = p == carried + at || p[-1] == '\n';
        if (begins && starts_with(p, "f ")) p[2] = '0';
        if (begins && starts_with(p, "i ")) carried_phase = p + 2;
    }
    /* What the C library starts itself (system, popen) inherits the variable as it stands: there, too. */
    for (char *p = (char *)(uintptr_t)variable("SANDBOX_TRIPWIRE"); *p; p++) {
        if (starts_with(p, "\nf ")) p[3] = '0';
        if (starts_with(p, "\ni ")) inherited_phase = p + 3;
    }
    for (char **one = environment; *one; one++) {
        if (starts_with(*one, "LD_AUDIT=")) carried_audit = *one;
        if (starts_with(*one, "LD_BIND_NOW=")) carried_binding = *one;
        if (starts_with(*one, "GLIBC_TUNABLES=")) carried_tunables = *one;
    }
}

#endif
