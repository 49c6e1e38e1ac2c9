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

static void prepare_supervisor(void) {
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
    int known = policy.connects != CONNECTS_NEVER && api_network_port;
    long signals = SYS4(signalfd4, -1, &HELD, SIGSET, O_CLOEXEC | O_NONBLOCK);
    child_process = SYS2(pidfd_open, child, 0);
    const int own[] = {listener, variables_from, handed_to[0], handed_to[1], (int)signals, (int)child_process};
    if (at_once || (policy.decider == DECIDER_EARLY && !known) || signals < 0 || !close_others(own, 6))
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
