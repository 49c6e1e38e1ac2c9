/* The attendant: this process beside the function, for as long as tables are enough to answer. It lets calls of the
 * init phase through, makes the Runtime API's connect, passes signals on, and ends as the function ends. For whatever
 * else comes it becomes the Python supervisor, by one exec that takes listener and unanswered call along: no call is
 * lost, and nobody speaks a protocol. */
#ifndef SANDBOX_ATTEND_C
#define SANDBOX_ATTEND_C

#include "connect.c"

/* What the supervisor is told (sandbox/supervise/opening.py: handed). */
static struct {
    int32_t ended;
    uint32_t flags;
    struct notification call;
} handed;
static int variables_from, handed_to[2]; /* pipes */
static const char *supervisor[10];
#define PLATFORM_LIBRARIES "/lib\0" "/lib64\0" "/usr/lib\0" "/usr/lib64\0" "/opt/lib\0" "/var/lang\0" "/var/runtime\0"

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
 * supervisor is outside of its walls. */
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

/* Kill what the function left behind, whose parent this process has become, and what that leaves; nothing where the
 * kernel lists no children (CONFIG_PROC_CHILDREN). What may not be killed, another user's by now, is not waited for. */
static void end_rest(void) {
    char text[4096];
    const char *path = format("/proc/self/task/#/children", SYS1(getpid, 0));
    for (int round = 0; round < 10000; round++) {
        long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, text, sizeof text - 1), number = 0, killed = 0;
        SYS1(close, fd);
        for (long i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                number = 10 * number + (text[i] - '0');
            } else { /* behind each number is a space, but not where the text was cut */
                if (number && SYS2(kill, number, SIGKILL) == 0) killed = 1;
                number = 0;
            }
        }
        if (SYS4(wait4, -1, 0, killed ? 0 : WNOHANG, 0) <= 0) return;
    }
}

static void prepare_supervisor(void) {
    distrust_environment();
    const char *numbers = format("#,#,#,#", child, (long)listener, (long)variables_from, (long)handed_to[0]);
    const char *const words[] = {interpreter, "-I",          "-S",          package,      "attend",
                                 numbers,     policy_folder, policy_digest, command_path, NULL};
    memcpy(supervisor, words, sizeof words);
}

static _Noreturn void hand_over(const struct notification *call) {
    const int inherited[] = {listener, variables_from, handed_to[0]};
    if (call) handed.call = *call, handed.flags |= HANDED_CALL;
    SYS3(write, handed_to[1], &handed, sizeof handed);
    for (int i = 0; i < 3; i++) SYS3(fcntl, inherited[i], F_SETFD, 0);
    const char *what =
        format("%: cannot be executed: %", interpreter, error_text(SYS3(execve, interpreter, supervisor, handler_env)));
    if (handed.ended < 0) {
        SYS2(kill, child, SIGKILL);
        SYS4(wait4, child, 0, 0, 0);
    }
    end_rest();
    end(INSTALL_REFUSED, what, "correct it, or set SANDBOX_SUPERVISE=0");
}

/* End as the function ended (parent.py: end_like). */
static _Noreturn void end_like(int status) {
    uint64_t core[2], default_action[4] = {0}, own;
    unsigned number = (unsigned)status & 0x7F;
    if (number < 1) leave(status >> 8 & 0xFF);
    /* No core of ours: the function has written its own. */
    SYS4(prlimit64, 0, RLIMIT_CORE, 0, core);
    core[0] = 0, own = BIT(number);
    SYS4(prlimit64, 0, RLIMIT_CORE, core, 0);
    SYS4(rt_sigaction, number, default_action, 0, SIGSET);
    SYS2(kill, SYS1(getpid, 0), number);
    SYS4(rt_sigprocmask, SIG_UNBLOCK, &own, 0, SIGSET);
    leave(128 + (int)number); /* as pid 1, whom no signal of its own ends */
}

/* Something has ended: with the function this process does, unless there is something left to be ended. */
static void reap(void) {
    int status;
    long found;
    while ((found = SYS4(wait4, -1, &status, WNOHANG, 0)) > 0)
        if (found == child) handed.ended = status;
    if (handed.ended < 0) return;
    if (found == 0) hand_over(NULL);
    end_like(handed.ended);
}

static void heed_signal(long signals) {
    uint32_t found[32]; /* struct signalfd_siginfo: the number first */
    if (SYS3(read, signals, found, sizeof found) != sizeof found) return;
    if (found[0] == SIGCHLD)
        reap();
    else
        SYS2(kill, child, found[0]);
}

static void answer(uint64_t id, long code, uint32_t flags) {
    struct { /* struct seccomp_notif_resp */
        uint64_t id;
        int64_t value;
        int32_t error;
        uint32_t flags;
    } said = {id, 0, (int32_t)code, flags};
    SYS3(ioctl, listener, NOTIF_SEND, &said);
}

static void take_call(void) {
    struct notification call = {0};
    long code = 0;
    uint32_t connected = handed.flags & HANDED_CONNECTED;
    if (SYS3(ioctl, listener, NOTIF_RECV, &call) < 0) return; /* interrupted, or its task is gone */
    if (!connected && is_early(&policy.early, (uint32_t)call.nr, call.args)) {
        answer(call.id, 0, NOTIF_FLAG_CONTINUE);
        return;
    }
    if (call.nr != NR_connect || policy.connects == CONNECTS_NEVER || (connected && policy.connects == CONNECTS_INIT))
        hand_over(&call);
    switch (broker(listener, &call, &code)) {
    case NOBODY_WAITS:
        return;
    case ON_ITS_WAY:
        handed.flags |= HANDED_CONNECTING;
        hand_over(&call);
    case LEFT:
        hand_over(&call);
    case ANSWERED:
        handed.flags |= HANDED_CONNECTED;
        answer(call.id, code, 0);
    }
    /* The function waits for its first event now, and will need the supervisor. */
    if (policy.decider == DECIDER_EARLY) hand_over(NULL);
}

/* Close all but our own and the three that everybody has: a pipe of the platform's ends when the function ends. 0 where
 * the kernel does not (before 5.9, or refused). */
static int close_others(const int *own, int count) {
    for (uint32_t from = 3;;) {
        uint32_t next = ~0U;
        for (int i = 0; i < count; i++)
            if ((uint32_t)own[i] >= from && (uint32_t)own[i] < next) next = (uint32_t)own[i];
        if (next > from && SYS3(close_range, from, next - 1, 0) < 0) return 0;
        if (next == ~0U) return 1;
        from = next + 1;
    }
}

/* Take the function's variables out of what /proc shows of this process (supervise/start.py: forget_environ). */
static void forget_environment(void) {
    for (const char **at = handler_env; *at; at++) *at = slice(*at, text_length(*at));
    for (char **at = environment; *at; at++) memset(*at, 0, text_length(*at));
    environment = (char **)handler_env;
}

/* Attend the child, whose exec is behind it, with the held signals blocked. `at_once`: the supervisor has to be there
 * before the first call. */
static _Noreturn void attend(int at_once) {
    static const uint64_t HELD = HELD_SIGNALS;
    prepare_supervisor();
    handed.ended = -1;
    /* Without a listener nothing comes that Python could answer. */
    int waits = listener < 0 || (policy.connects != CONNECTS_NEVER && api_network_port);
    long signals = SYS4(signalfd4, -1, &HELD, SIGSET, O_CLOEXEC | O_NONBLOCK);
    child_process = SYS2(pidfd_open, child, 0);
    const int own[] = {listener, variables_from, handed_to[0], handed_to[1], (int)signals, (int)child_process};
    if (at_once || (policy.decider == DECIDER_EARLY && !waits) || signals < 0 || !close_others(own, 6))
        hand_over(NULL);
    forget_environment();
    SYS3(ioctl, listener, NOTIF_SET_FLAGS, NOTIF_FD_SYNC_WAKE_UP); /* Linux 6.6: answer and wake in one step */
    struct {
        int32_t fd;
        int16_t events, found;
    } polled[2] = {{(int32_t)signals, POLLIN, 0}, {listener, POLLIN, 0}};
    for (;;) {
        if (SYS5(ppoll, polled, 2, 0, 0, SIGSET) < 0) continue;
        if (polled[0].found) heed_signal(signals);
        if (polled[1].found & POLLIN)
            take_call();
        else if (polled[1].found)
            polled[1].fd = -1; /* nobody is left under the filter: the child's end is about to be told */
    }
}

#endif
