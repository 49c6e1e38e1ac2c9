/* The decider, until it is needed: a process between the attendant and the function, whose parent it is, that sleeps
 * until the attendant sends it something or the function ends. At the first message it becomes the Python supervisor,
 * which finds that message where it lies. An ancestor must be it, so that it may look into the function (man 2 ptrace,
 * "Ptrace access mode checking"; Yama). Both are subreapers, so that an orphan stays below both. */
#ifndef SANDBOX_DECIDER_C
#define SANDBOX_DECIDER_C

#include "receives.c"

struct message { /* of link.py: whole to the decider, from it the head alone */
    struct head {
        uint32_t kind, flags;
        int64_t value;
    } head;
    struct notification call;
};

static long link_here, link_there; /* the attendant's end, and the decider's */
static long variables_from;        /* a pipe */
static long held_signals;          /* a signalfd, of whoever reads it */
static int goes_on;                /* the function does when the decider has died */
static int at_once;                /* the decider has to be there before the first call */
static int may_prctl;              /* else no signal tells of a parent's end, and orphans escape */
enum { MOST_REAPED = 256 };        /* at a time */
static const char *decider_words[10];
#define PLATFORM_LIBRARIES                                                                                             \
    "/lib\0"                                                                                                           \
    "/lib64\0"                                                                                                         \
    "/usr/lib\0"                                                                                                       \
    "/usr/lib64\0"                                                                                                     \
    "/opt/lib\0"                                                                                                       \
    "/var/lang\0"                                                                                                      \
    "/var/runtime\0"

static _Noreturn void confine(int supervised);
static _Noreturn void no_process(long code);

/* Whether a path, up to `end`, lies in a folder of libraries that platforms have and functions do not write to. */
static int is_platforms(const char *path, const char *end) {
    for (const char *at = path; at < end; at++)
        if (starts_with(at, "/..")) return 0;
    for (const char *folder = PLATFORM_LIBRARIES; *folder; folder = next_text(folder)) {
        const char *behind = path + text_length(folder);
        if (starts_with(path, folder) && (behind == end || *behind == '/')) return 1;
    }
    return 0;
}

/* LD_LIBRARY_PATH with these folders alone; its separators are two (man 8 ld.so). */
static const char *platform_libraries(const char *entry) {
    char *copy = alloc(text_length(entry) + 1), *end = append(copy, entry, 16);
    for (const char *at = entry + 16, *next; *at; at = *next ? next + 1 : next) {
        for (next = at; *next && *next != ':' && *next != ';';) next++;
        if (is_platforms(at, next)) end = append(append(end, at, (size_t)(next - at)), ":", 1);
    }
    if (end[-1] == ':') end--;
    *end = 0;
    return copy;
}

/* Leave out what says where code is loaded from: the function runs by now, may have put something there, and the
 * decider is outside of its walls. */
static void distrust_environment(void) {
    static const char *const distrusted[] = {"LD_", "GLIBC_TUNABLES=", "GCONV_PATH=", "LOCPATH=", "OPENSSL_", "PYTHON"};
    const char **to = handler_env;
    for (const char **at = handler_env; *at; at++) {
        int left_out = 0;
        for (int i = 0; i < 6; i++) left_out |= starts_with(*at, distrusted[i]);
        if (starts_with(*at, "LD_LIBRARY_PATH="))
            *to++ = platform_libraries(*at);
        else if (!left_out)
            *to++ = *at;
    }
    *to = NULL;
}

/* Take the function's variables out of what /proc shows of this process (supervise/start.py: forget_environ). */
static void forget_environment(void) {
    for (const char **at = handler_env; *at; at++) *at = slice(*at, text_length(*at));
    for (char **at = environment; *at; at++) memset(*at, 0, text_length(*at));
    environment = (char **)handler_env;
}

/* The parent of a process, 0 where nobody tells (man 5 proc_pid_stat). */
static long parent_of(const char *number) {
    char text[512];
    const char *path = format("/proc/%/stat", number), *at;
    long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, text, sizeof text - 1), found = 0;
    SYS1(close, fd);
    release(path);
    text[n > 0 ? n : 0] = 0;
    if (!(at = last_char(text, ')')) || !starts_with(at + 1, " ") || !at[2] || at[3] != ' ') return 0;
    for (at += 4; *at >= '0' && *at <= '9' && found < 1L << 30; at++) found = 10 * found + (*at - '0');
    return found;
}

static int kill_found(void) {
    static char entries[4096]; /* struct linux_dirent64: inode, offset, the length of it at 16, a type, the name */
    long own = SYS1(getpid, 0), fd = SYS4(openat, AT_FDCWD, "/proc", O_CLOEXEC, 0), n;
    int killed = 0;
    while ((n = SYS3(getdents64, fd, entries, sizeof entries)) > 0) {
        for (long at = 0; at < n;) {
            const char *name = entries + at + 19;
            if (*name > '0' && *name <= '9' && parent_of(name) == own)
                killed += SYS2(kill, parse_number(name), SIGKILL) == 0;
            at += (uint8_t)entries[at + 16] | (uint8_t)entries[at + 17] << 8;
        }
    }
    SYS1(close, fd);
    return killed;
}

/* As many descriptors as we may have: the function opens sockets that both of us duplicate. */
static void raise_limit(void) {
    uint64_t limit[2];
    if (SYS4(prlimit64, 0, RLIMIT_NOFILE, 0, limit) < 0) return;
    limit[0] = limit[1];
    SYS4(prlimit64, 0, RLIMIT_NOFILE, limit, 0);
}

static void say(int kind, long value) {
    struct head head = {(uint32_t)kind, 0, value};
    SYS3(write, link_there, &head, sizeof head);
}

/* Kill the children of this process, which are those of a kernel's list, or where it has none (CONFIG_PROC_CHILDREN)
 * those whose parent it is. How many there were; what may not be killed, another user's by now, does not count. */
static int kill_children(void) {
    static char text[4096];
    const char *path = format("/proc/self/task/#/children", SYS1(getpid, 0));
    int killed = 0;
    long fd = open_read(path), n, number = 0;
    release(path);
    if (fd < 0) return kill_found();
    while ((n = SYS3(read, fd, text, sizeof text)) > 0) {
        for (long i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                number = 10 * number + (text[i] - '0');
            } else { /* behind each number is a space */
                killed += SYS2(kill, number, SIGKILL) == 0;
                number = 0;
            }
        }
    }
    SYS1(close, fd);
    return killed;
}

/* Kill what the function left behind, whose parent this process has become, and what that leaves. A process that was
 * killed makes no other: all of them are killed before any is waited for, so that no chain of forks runs away. */
static void end_rest(void) {
    if (!may_prctl) kill_below(SYS1(getpid, 0)); /* no orphan comes to us: those are looked for that are below us now */
    for (int round = 0; round < 10000; round++) {
        int killed = kill_children();
        if (SYS4(wait4, -1, 0, killed ? 0 : WNOHANG, 0) <= 0) return;
        while (SYS4(wait4, -1, 0, WNOHANG, 0) > 0) continue;
    }
}

/* Become the Python supervisor; `status` is the wait status of a function that was reaped, -1 for none. */
static _Noreturn void decide(long status) {
    const long inherited[] = {listener, variables_from, link_there, rules_from};
    const char *numbers = format("#,#,#,#,#,#", child, (long)listener, variables_from, link_there, status, rules_from);
    const char *const words[] = {interpreter, "-I",          "-S",          package,      "decide",
                                 numbers,     policy_folder, policy_digest, command_path, NULL};
    const long pause[2] = {0, 1000000};
    memcpy(decider_words, words, sizeof words);
    while (!child_report->parted) SYS5(ppoll, 0, 0, pause, 0, SIGSET); /* the function may have ended very soon */
    for (int i = 0; i < 4; i++) SYS3(fcntl, inherited[i], F_SETFD, 0);
    long code = SYS3(execve, interpreter, decider_words, handler_env);
    refuse(INSTALL_REFUSED, format("%: cannot be executed: %", interpreter, error_text(code)),
           "correct it, or set SANDBOX_SUPERVISE=0");
    end_rest();
    say(LINK_ENDED, (long)*nth(ERRORS, INSTALL_REFUSED) << 8); /* then the attendant ends what has come to it */
    give_up();
}

/* Whether the attendant has sent more than word to load: a question that is to be reported. */
static int is_asked(void) {
    struct head head = {0};
    while (SYS6(recvfrom, link_there, &head, sizeof head, MSG_PEEK | MSG_DONTWAIT, 0, 0) == sizeof head) {
        if (head.kind != LINK_PREPARE) return 1;
        SYS6(recvfrom, link_there, &head, sizeof head, MSG_DONTWAIT, 0, 0);
    }
    return 0;
}

static void end_without_attendant(void) {
    if (SYS1(getppid, 0) == attendant) return;
    end_rest();
    leave(0);
}

/* What the function left behind while nothing was to be decided: its end, and that of orphans before it. */
static void reap_or_end(void) {
    uint32_t heard[32]; /* struct signalfd_siginfo: the number first */
    int status, last = -1;
    long found;
    if (SYS3(read, held_signals, heard, sizeof heard) != sizeof heard) return;
    end_without_attendant();
    if (heard[0] != SIGCHLD) return;
    /* The function first: what a chain of forks leaves to be reaped has no end. */
    for (long pid = child, i = 0; i < MOST_REAPED && (found = SYS4(wait4, pid, &status, WNOHANG, 0)) >= (i > 0);
         pid = -1, i++)
        if (found == child) last = status;
    if (last < 0) return;
    found = SYS4(wait4, -1, 0, WNOHANG, 0);
    /* Something is left to be answered, reported or ended; or there is a beginning and an end to be said. */
    if (found >= 0 || at_once || is_asked()) decide(last);
    child_report->over = 1, child_report->status = last; /* our own end says it: one wake-up and not two */
    leave(0);
}

/* Start the function, say so, and sleep. The child shares our descriptors until its exec, but not our memory: where the
 * handler is root's, it may see what we are (kernel/fork.c: may_access_mm). Only behind the child's exec is the
 * listener made to survive ours. */
static _Noreturn void stand_by(const uint64_t *inherited_action) {
    static const long second[2] = {1, 0};
    if (may_prctl) {
        SYS5(prctl, PR_SET_PDEATHSIG, SIGHUP, 0, 0, 0); /* of those that are blocked: it wakes, and ends what is below */
        SYS5(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    if (SYS1(getppid, 0) != attendant) leave(0);
    in_child = 1;
    child = SYS5(clone, CLONE_VFORK | CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (!child) {
        if (!goes_on && may_prctl) SYS5(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        SYS4(rt_sigaction, SIGCHLD, inherited_action, 0, SIGSET);
        SYS4(rt_sigprocmask, SIG_SETMASK, &signals_before, 0, SIGSET);
        arena = NULL; /* a new one, that our parent does not know */
        place_exec_arguments();
        confine(1);
    }
    if (child < 0) no_process(child);
    if (*child_report->failed) leave(0); /* the attendant says it */
    in_child = 0;
    child_report->child = (int)child;
    child_report->process = owns ? -1 : (int)SYS2(pidfd_open, child, 0); /* only we reap it */
    listener = child_report->listener;
    say(LINK_STARTED, 0);
    raise_limit();
    distrust_environment();
    forget_environment();
    struct polled slept_on[2] = {{(int32_t)held_signals, POLLIN, 0}, {(int32_t)link_there, POLLIN, 0}};
    for (;;) {
        /* Where nothing wakes us at the end of the process above, it is looked for. */
        long woken = SYS5(ppoll, slept_on, 2, may_prctl ? 0 : second, 0, SIGSET);
        if (!woken) end_without_attendant();
        if (woken <= 0) continue;
        if (slept_on[0].found) reap_or_end();
        if (slept_on[1].found) decide(-1);
    }
}

#endif
