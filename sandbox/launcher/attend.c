/* The attendant: this process above the function, from its start to its end. It lets calls of the init phase through,
 * makes the Runtime API's connect, passes signals on, ends as the function ends, and sends whatever else comes to the
 * decider below it (decider.c). If that one dies, it answers for it, and lets nothing live on unwatched. No memory is
 * asked for behind the start. */
#ifndef SANDBOX_ATTEND_C
#define SANDBOX_ATTEND_C

#include "forwarder.c"
#include "look.c"

enum { MOST_WATCHED = 16, MOST_WAITING = 1024, HIGHEST_INHERITED = 1 << 16 };
/* Ticks without a call taken: an exec that is followed takes fewer (seized.py: LIMIT), to load may take more. */
enum { STALLED = 10, STALLED_LOADING = 60 };

static struct polled polled[MOST_WATCHED];
static void (*heeds[MOST_WATCHED])(int events);
static int watched, listening_at; /* how many, and which is the listener: never the first */

static int started;   /* the function is past its exec */
static int asked;     /* the decider has been sent something, and is Python or about to be */
static int ready;     /* nothing has to be there before the first call */
static int loaded;    /* the decider is Python and answers */
static int ended;     /* the wait status to end with, -1 for none; no variable has a value of its own at first */
static int lost;      /* the decider died, and the function goes on */
static uint64_t early_signals;
static uint64_t waiting[MOST_WAITING]; /* calls that the decider was sent, and may not have answered */
static uint32_t waiting_count;
static uint32_t silent;       /* ticks since the decider took something */
static int stalled, ticking;  /* it was ended for that; there is something to be taken */
static long ticker;           /* a timerfd, which ticks meanwhile */
static struct message unsent; /* a call for which the link had no room; kind 0: none */
static long unsent_socket;    /* that goes with it; -1 for none */

/* Have a function called whenever a descriptor can be read (or more: its poll(2) events). 0: there is no room. */
static int watch(long fd, void (*heed)(int events)) {
    if (watched == MOST_WATCHED) return 0;
    polled[watched] = (struct polled){(int32_t)fd, POLLIN, 0};
    heeds[watched++] = heed;
    return 1;
}

/* End as the function ended (parent.py: end_like), and with it what it left. */
static _Noreturn void end_like(int status) {
    uint64_t core[2], default_action[4] = {0}, own;
    unsigned number = (unsigned)status & 0x7F;
    if (SYS4(wait4, -1, 0, WNOHANG, 0) >= 0) end_rest();
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

static void answer(uint64_t id, long code, uint32_t flags) {
    struct { /* struct seccomp_notif_resp */
        uint64_t id;
        int64_t value;
        int32_t error;
        uint32_t flags;
    } said = {id, code > 0 ? code : 0, code < 0 ? (int32_t)code : 0, flags};
    SYS3(ioctl, listener, NOTIF_SEND, &said);
}

static long signal_function(long number) {
    return child_process >= 0 ? SYS4(pidfd_send_signal, child_process, number, 0, 0) : SYS2(kill, child, number);
}

/* A line of the format of all others (violations/record.py: Degraded), of which a run has one from here. */
static void write_degraded(const char *reason) {
    long now[2] = {0};
    SYS2(clock_gettime, 0, now);
    const char *part = format("#", 1000 + now[1] / 1000000);
    write_line(format("{\"event\": \"degraded\", \"time\": #.%, \"seq\": 1, \"supervisor\": $, \"function\": $, "
                      "\"reason\": $}\n",
                      now[0], part + 1, hex((const unsigned char *)random_words, 4), policy.function, reason));
}

/* The decider is gone without a word, with a wait status. Nobody else decides: what waits is refused, and the function
 * ended, or goes on without. */
static void lose_decider(int status) {
    const char *how = stalled           ? format("took no call for # seconds", (long)silent)
                      : (status & 0x7F) ? format("was ended by signal #", (long)(status & 0x7F))
                                        : format("exited with status #", (long)(status >> 8 & 0xFF));
    lost = 1;
    if (started && !goes_on && !may_prctl) kill_below(child);
    if (started && !goes_on) signal_function(SIGKILL);
    for (uint32_t i = 0; i < waiting_count; i++) answer(waiting[i], -EPERM, 0);
    if (unsent.head.kind) answer(unsent.call.id, -EPERM, 0);
    if (unsent_socket >= 0) SYS1(close, unsent_socket);
    unsent.head.kind = 0, unsent_socket = -1;
    if (goes_on && started && signal_function(0) == 0) {
        write_degraded(
            format("supervision: the process that decides about the function's calls %: each call that needs "
                   "a decision is refused from here on, without a line; start the function anew",
                   how));
        if (listening_at) polled[listening_at].fd = listener;
        return;
    }
    end_rest();
    past_init = connected;
    end(DECIDER_LOST, format("the process that decides about the function's calls %, so the function was ended", how),
        "look for what ended or stopped it: memory, a limit, a signal; SANDBOX_ON_DECIDER=continue goes on without");
}

static void start_ticking(void) {
    static const long each_second[4] = {1, 0, 1, 0};
    if (ticking) return;
    SYS4(timerfd_settime, ticker, 0, each_second, 0);
    ticking = 1, silent = 0;
}

/* Send the decider something, which wakes it, with a descriptor that is its own from then on, or -1. 0: the link has
 * no room. */
static int tell_with(const void *message, size_t n, long fd) {
    struct { /* struct cmsghdr and what it says */
        uint64_t length;
        int32_t level, kind, fd, padding;
    } handed = {20, SOL_SOCKET, SCM_RIGHTS, (int32_t)fd, 0};
    struct piece whole = {(uint64_t)(uintptr_t)message, n};
    struct message_header header = {.vector = (uint64_t)(uintptr_t)&whole, .vector_length = 1};
    if (fd >= 0) header.control = (uint64_t)(uintptr_t)&handed, header.control_length = sizeof handed;
    asked = 1;
    if (!lost && SYS3(sendmsg, link_here, &header, 0) != (long)n) return 0;
    if (fd >= 0) SYS1(close, fd);
    if (!lost) start_ticking();
    return 1;
}

static int tell(const void *message, size_t n) { return tell_with(message, n, -1); }

/* A second has passed with something for the decider to take, or to end. Seconds are counted one by one, and no clock
 * is compared: what froze all of us (a snapshot, a quota) is no stall of one. */
static void heed_tick(int events) {
    static const long never[4];
    uint64_t expired;
    int untaken = 0;
    if (!events || SYS3(read, ticker, &expired, sizeof expired) < 0) return;
    SYS3(ioctl, link_here, TIOCOUTQ, &untaken);
    if (!untaken && ended < 0) {
        SYS4(timerfd_settime, ticker, 0, never, 0), ticking = 0;
    } else if (++silent >= (loaded ? STALLED : STALLED_LOADING) && decider) {
        stalled = 1;
        SYS2(kill, decider, SIGKILL);
    }
}

static int was_asked(void) { return asked; }

static int is_link_full(void) { return unsent.head.kind != 0; }

static void prepare_decider(void) {
    const struct message message = {.head = {LINK_PREPARE, 0, 0}};
    if (!asked && !lost) tell(&message, sizeof message);
}

/* Send a call, now or when there is room. */
static void send_call(const struct message *message, long socket) {
    if (tell_names() && tell_with(message, sizeof *message, socket)) {
        waiting[waiting_count++] = message->call.id;
    } else {
        unsent = *message, unsent_socket = socket;
        polled[listening_at].fd = -1; /* until there is room; the calls wait in the kernel */
        polled[0].events = POLLIN | POLLOUT;
    }
}

/* The socket that a call is about, if we own it: it goes to the decider with the call, for good. -1 for none. */
static long hand_over(struct message *message) {
    static const int16_t calls[] = {NR_connect, NR_bind, NR_listen, NR_sendto, NR_sendmsg,
                                    NR_sendmmsg, NR_recvfrom, NR_recvmsg, NR_recvmmsg, NR_getpeername};
    const struct notification *call = &message->call;
    int about_one = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) about_one |= call->nr == calls[i];
    if (!owns || !about_one) return -1;
    uint64_t inode = inode_at((long)call->task, (long)(int32_t)call->args[0]);
    struct owned *it = owned_by(inode);
    if (it) return give_away(it);
    if (is_released(inode)) message->head.flags |= LINK_RELEASED, message->head.value = (int64_t)inode;
    return -1;
}

/* Leave a call to the decider. What was sent and still waits is in a table; from a full one goes what does not. */
static void leave_to_decider(const struct notification *call, uint32_t flags) {
    /* A connect to the Runtime API that is on its way belongs to the init phase, which it ends. */
    if (connected && !(flags & LINK_CONNECTING)) flags |= LINK_AFTER_INIT;
    if (lost) {
        answer(call->id, -EPERM, 0);
        return;
    }
    if (waiting_count == MOST_WAITING) {
        uint32_t left = 0;
        for (uint32_t i = 0; i < waiting_count; i++)
            if (SYS3(ioctl, listener, NOTIF_ID_VALID, &waiting[i]) >= 0) waiting[left++] = waiting[i];
        waiting_count = left;
    }
    if (waiting_count == MOST_WAITING) { /* more than the decider ever has at once */
        answer(call->id, -EPERM, 0);
        return;
    }
    struct message message = {{LINK_CALL, flags, 0}, *call};
    long socket = hand_over(&message);
    send_call(&message, socket);
}

static void begin(void);

/* What the decider says. */
static void heed_link(int events) {
    struct head head;
    while (SYS3(read, link_here, &head, sizeof head) == sizeof head) {
        if (head.kind == LINK_STARTED) begin();
        if (head.kind == LINK_READY) {
            if (!ready && listening_at) polled[listening_at].fd = listener;
            ready = loaded = 1;
        }
        if (head.kind == LINK_READY || head.kind == LINK_TAKES) silent = 0;
        if (head.kind == LINK_CONNECTED) connected = 1;
        if (head.kind == LINK_ENDED) ended = (int)head.value, start_ticking(); /* it is to end now */
    }
    if (!(events & POLLOUT) || !unsent.head.kind) return;
    struct message message = unsent;
    long socket = unsent_socket;
    unsent.head.kind = 0, unsent_socket = -1, polled[0].events = POLLIN, polled[listening_at].fd = listener;
    send_call(&message, socket);
}

static void heed_signals(int events) {
    uint32_t heard[32]; /* struct signalfd_siginfo: the number first */
    if (!events || SYS3(read, held_signals, heard, sizeof heard) != sizeof heard) return;
    if (heard[0] != SIGCHLD) {
        if (started)
            signal_function(heard[0]);
        else
            early_signals |= BIT(heard[0]);
        return;
    }
    long found;
    int status, last = 0, gone = 0, of_function = -1;
    for (long pid = decider ? decider : -1, i = 0;
         i < MOST_REAPED && (found = SYS4(wait4, pid, &status, WNOHANG, 0)) >= (i > 0); pid = -1, i++) {
        if (decider && found == decider) decider = 0, last = status, gone = 1;
        if (found == child && started) of_function = status; /* the decider's child until that has died */
    }
    if (decider) return;
    if (*child_report->failed) {
        failure = (enum error)child_report->failure, failed = child_report->failed;
        give_up();
    }
    if (gone) heed_link(0); /* what it said before */
    if (gone && child_report->over) ended = child_report->status;
    if (gone && ended < 0 && !(goes_on && of_function >= 0)) lose_decider(last);
    if (ended < 0) ended = of_function;
    if (ended >= 0) end_like(ended);
}

/* What tables answer, in this order: each says LEFT to what it is not sure of, and `code` is the answer's errno. */
static enum broker let_through(const struct notification *call, long *code) {
    int early = !connected && is_early(&policy.early, (uint32_t)call->nr, call->args);
    if (owns && call->nr == NR_socket) return LEFT; /* it is made */
    enum looked looked = look_at(call, early);
    /* Where nobody is left who could tell, Landlock decides all the same, or nothing goes on. */
    if (looked == DECIDED || (looked == NOT_SURE && !lost) || (looked == NO_PATH && !early)) return LEFT;
    answer(call->id, 0, NOTIF_FLAG_CONTINUE);
    *code = 0;
    return NOBODY_WAITS;
}

/* Python does without the folder for its bytecode, and tries at each start where there is none. */
static enum broker refuse_bytecode(const struct notification *call, long *code) {
    *code = -EPERM;
    return is_refused_bytecode(call) ? ANSWERED : LEFT;
}

static enum broker connect_for_task(const struct notification *call, long *code) {
    enum reach reaches;
    if (call->nr != NR_connect || policy.connects == CONNECTS_NEVER || (connected && policy.connects == CONNECTS_INIT))
        return LEFT;
    enum broker done = broker(listener, call, code, &reaches);
    if (reaches == RUNTIME_API) connected = 1;
    return done == ON_ITS_WAY && reaches != RUNTIME_API ? LEFT : done;
}

static enum broker (*const tables[])(const struct notification *call, long *code) = {let_through, refuse_bytecode,
                                                                                     connect_for_task, serve};

static void take_call(int events) {
    struct notification call = {0};
    enum broker done = LEFT;
    long code = 0;
    if (!(events & POLLIN)) {
        polled[listening_at].fd = -1; /* nobody is left under the filter: the function's end is about to be told */
        if (lost && !may_prctl) leave(*nth(ERRORS, DECIDER_LOST)); /* by nobody: it is not our child */
        return;
    }
    if (SYS3(ioctl, listener, NOTIF_RECV, &call) < 0) return; /* interrupted, or its task is gone */
    if (asked && !connected && policy.connects != CONNECTS_NEVER)
        heed_link(0); /* the decider says that init is over before it answers the call that ends it */
    int was_connected = connected;
    for (size_t i = 0; done == LEFT && i < sizeof tables / sizeof *tables; i++) done = tables[i](&call, &code);
    if (done == ANSWERED)
        answer(call.id, code, 0);
    else if (done != NOBODY_WAITS)
        leave_to_decider(&call, done == ON_ITS_WAY ? LINK_CONNECTING : 0);
    /* The function waits for its first event now, and will need the decider. */
    if (connected && !was_connected && policy.decider == DECIDER_EARLY) prepare_decider();
}

/* Close all but our own and the three that everybody has: a pipe of the platform's ends when the function ends. */
static void close_others(const long *own, int count) {
    for (uint32_t from = 3;;) {
        uint32_t next = ~0U;
        for (int i = 0; i < count; i++)
            if ((uint32_t)own[i] >= from && (uint32_t)own[i] < next) next = (uint32_t)own[i];
        if (next > from && SYS3(close_range, from, next - 1, 0) < 0) /* before Linux 5.9, or refused */
            for (uint32_t fd = from; fd < next && fd < HIGHEST_INHERITED; fd++) SYS1(close, fd);
        if (next == ~0U) return;
        from = next + 1;
    }
}

/* The function is past its exec, which has split the table of descriptors. */
static void begin(void) {
    started = 1, child = child_report->child, child_process = child_report->process;
    listener = child_report->listener;
    const long own[] = {listener,     variables_from, link_here,     link_there,
                        held_signals, ticker,         child_process, rules_from};
    close_others(own, 8);
    child_report->parted = 1;
    for (long number = 1; number < 64; number++)
        if (early_signals & BIT(number)) signal_function(number);
    if (!ready) prepare_decider();
    if (listener < 0) return;                                      /* nothing comes that could be answered */
    SYS3(ioctl, listener, NOTIF_SET_FLAGS, NOTIF_FD_SYNC_WAKE_UP); /* Linux 6.6: answer and wake in one step */
    long waited = open_waits();
    if (waited >= 0) watch(waited, heed_waits);
    listening_at = watched;
    watch(ready ? listener : -1, take_call);
    int waits = policy.connects != CONNECTS_NEVER && api_network_port;
    if (policy.decider == DECIDER_EARLY && !waits) prepare_decider();
}

/* Attend the function that the decider, just made, starts. */
static _Noreturn void attend(void) {
    ready = !at_once, ended = -1, unsent_socket = -1, hurried = 1;
    watch(link_here, heed_link);
    watch(held_signals, heed_signals);
    ticker = SYS2(timerfd_create, CLOCK_MONOTONIC, O_CLOEXEC | O_NONBLOCK);
    watch(ticker, heed_tick);
    raise_limit();
    forget_environment();
    for (;;) {
        if (SYS5(ppoll, polled, watched, 0, 0, SIGSET) < 0) continue;
        for (int i = 0; i < watched; i++)
            if (polled[i].found && polled[i].fd >= 0) heeds[i](polled[i].found); /* one before it may have stopped it */
    }
}

#endif
