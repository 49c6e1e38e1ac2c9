/* The sockets that were made for the function, where the kernel gives no duplicates of those that it has: a Lambda-like
 * host. Each is known by its inode, which the link of the task's number in /proc names. One that the decider has to act
 * on goes to it for good, so that it has one owner besides the function; then the attendant knows it no more
 * (sandbox/egress/owned.py says why each step is as it is). */
#ifndef SANDBOX_OWNED_C
#define SANDBOX_OWNED_C

#include "names.c"

struct polled { /* struct pollfd */
    int32_t fd;
    int16_t events, found;
};

enum { MOST_OWNED = 1024, FEWEST_OWNED = 8, MOST_RELEASED = 1024, LOOKED_AT = 8 };
enum { MOST_BELOW = 1024, MOST_LINKS_READ = 1 << 14, SOONEST = 5, LATEST = 1000 }; /* the last two in milliseconds */

struct owned {
    uint64_t inode; /* 0: none */
    long fd, task, number;
    int for_one, connected; /* it goes to one destination only; it is there, and kept for what sendmsg may name */
    int awaited;            /* its connect is on its way, without its task */
    int away;               /* of a look: it is not where it was put, and nowhere else so far */
};

static int keeps_connected, most_owned, owned_count, owned_top; /* the slots behind the top were never used */
static struct owned owned[MOST_OWNED];
static uint64_t released[MOST_RELEASED]; /* a ring of inodes: connected, and the function's alone since */
static unsigned released_count;
static int owned_cursor; /* where the next look begins */
static int64_t owned_due, owned_pause;
static long decider; /* 0: it was reaped */
static long below_us[MOST_BELOW];
static int below_count, below_budget; /* links that a look may still read; negative: it is not told all */

static int64_t milliseconds(void); /* in connect.c */
static void set_timer(void);       /* in forwarder.c, as the next two */
static int await_owned(int slot);
static void stop_waiting(long fd);

static uint64_t inode_of(long fd) { /* 0: none */
    uint64_t buffer[24] = {0};
    SYS4(newfstatat, fd, "", buffer, AT_EMPTY_PATH);
    return buffer[1];
}

/* The inode of the socket that a descriptor below a folder of /proc stands for; 0 for what is none. */
static uint64_t socket_inode(const char *path) {
    char link[40];
    uint64_t found = 0;
    long n = SYS4(readlinkat, AT_FDCWD, path, link, sizeof link - 1);
    link[n > 0 ? n : 0] = 0;
    if (!starts_with(link, "socket:[")) return 0;
    for (const char *at = link + 8; *at >= '0' && *at <= '9'; at++) found = 10 * found + (uint64_t)(*at - '0');
    return found;
}

static uint64_t inode_at(long task, long number) {
    const char *path = format("/proc/#/fd/#", task, number);
    uint64_t found = socket_inode(path);
    release(path);
    return found;
}

static struct owned *owned_by(uint64_t inode) { /* NULL: it is not ours */
    for (int i = 0, left = owned_count; inode && left && i < owned_top; i++) {
        if (owned[i].inode == inode) return &owned[i];
        left -= owned[i].inode != 0;
    }
    return NULL;
}

static int is_released(uint64_t inode) {
    for (unsigned i = 0; inode && i < released_count && i < MOST_RELEASED; i++)
        if (released[i] == inode) return 1;
    return 0;
}

static void stop_awaiting(struct owned *it) {
    if (it->awaited) stop_waiting(it->fd);
    it->awaited = 0;
}

/* Forget a socket; who is handed its descriptor owns it. */
static long give_away(struct owned *it) {
    long fd = it->fd;
    stop_awaiting(it);
    it->inode = 0, owned_count--;
    return fd;
}

static void let_go(struct owned *it) { SYS1(close, give_away(it)); }

/* What a call, or the time since, has made of a socket that goes to one destination only (owned.py: _update). */
static void settle(struct owned *it) {
    static const long no_time[2];
    struct polled state = {(int32_t)it->fd, POLLOUT, 0};
    SYS5(ppoll, &state, 1, no_time, 0, SIGSET);
    if (state.found & POLLHUP) {
        stop_awaiting(it); /* not connected, or no more */
    } else if (!(state.found & POLLOUT)) {
        if (!it->awaited) it->awaited = await_owned((int)(it - owned));
    } else if (keeps_connected) {
        stop_awaiting(it);
        it->connected = 1, owned_pause = SOONEST, owned_due = milliseconds() + SOONEST;
        set_timer();
    } else {
        released[released_count++ % MOST_RELEASED] = it->inode;
        let_go(it); /* before the task hears of it: when the function closes it, it is closed */
    }
}

/* A connect that went on without its task has come to an end. */
static void heed_owned(int slot) {
    struct owned *it = &owned[slot];
    if (!it->inode || !it->awaited) return;
    stop_awaiting(it);
    settle(it);
}

/* A descriptor of our own for a number of the task, negative where it is no socket of ours. */
static long borrow(long task, long number) {
    const struct owned *it = owned_by(inode_at(task, number));
    return it ? SYS3(fcntl, it->fd, F_DUPFD_CLOEXEC, 3) : -EBADF;
}

/* Close a descriptor of a task's socket: a call with it is made, and the task has no answer yet. */
static void give_back(long fd) {
    struct owned *it = owns ? owned_by(inode_of(fd)) : NULL;
    SYS1(close, fd);
    if (it && it->for_one && !it->connected) settle(it);
}

/* What stands in a folder of /proc, number by number. */
static void each_number(const char *path, void (*heed)(long number, long of), long of) {
    char entries[1024]; /* struct linux_dirent64: inode, offset, the length of it at 16, a type, the name */
    long fd = SYS4(openat, AT_FDCWD, path, O_CLOEXEC, 0), n;
    if (fd < 0) return;
    while ((n = SYS3(getdents64, fd, entries, sizeof entries)) > 0) {
        for (long at = 0; at < n;) {
            long number = parse_number(entries + at + 19);
            if (number >= 0) heed(number, of);
            at += (uint8_t)entries[at + 16] | (uint8_t)entries[at + 17] << 8;
        }
    }
    SYS1(close, fd);
}

/* Note the children of a thread of a process. */
static void note_children(long thread, long process) {
    char text[1024];
    const char *path = format("/proc/#/task/#/children", process, thread);
    long fd = open_read(path), n, number = 0;
    release(path);
    while (fd >= 0 && (n = SYS3(read, fd, text, sizeof text)) > 0) {
        for (long i = 0; i < n; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                number = 10 * number + (text[i] - '0');
            } else { /* behind each number is a space */
                if (below_count == MOST_BELOW)
                    below_budget = -1;
                else
                    below_us[below_count++] = number;
                number = 0;
            }
        }
    }
    if (fd >= 0) SYS1(close, fd);
}

static void look_at_descriptor(long number, long process) {
    if (below_budget <= 0) {
        below_budget = -1;
        return;
    }
    below_budget--;
    struct owned *it = owned_by(inode_at(process, number));
    if (it) it->away = 0;
}

/* The descriptors of a process of the function; ours and the decider's are not the function's. */
static void look_at_process(long process, long us) {
    if (process == us || process == decider) return;
    const char *path = format("/proc/#/fd", process);
    each_number(path, look_at_descriptor, process);
    release(path);
}

/* List the processes below one, as far as the kernel lists children (CONFIG_PROC_CHILDREN). */
static void list_below(long process) {
    below_count = 0;
    for (int i = -1; i < below_count; i++) {
        if (i >= 0) process = below_us[i];
        const char *path = format("/proc/#/task", process);
        each_number(path, note_children, process);
        release(path);
    }
}

static void kill_below(long process) {
    list_below(process);
    for (int i = 0; i < below_count; i++) SYS2(kill, below_us[i], SIGKILL);
}

/* Look into all processes below us for what is away, or into all that there are, where the kernel lists no children. */
static void look_below(void) {
    long us = SYS1(getpid, 0);
    if (!exists("/proc/thread-self/children")) each_number("/proc", look_at_process, us);
    list_below(us);
    for (int i = 0; i < below_count; i++) look_at_process(below_us[i], us);
}

/* Let go of those of `count` sockets, from a slot on, that the function has closed; of connections only if so said. */
static void close_orphans(int from, int count, int connections) {
    int away = 0;
    for (int i = 0; i < owned_top; i++) owned[i].away = 0;
    for (int i = from; count && i < from + owned_top; i++) {
        struct owned *it = &owned[i % owned_top];
        owned_cursor = i % owned_top;
        if (!it->inode || (connections && !it->connected)) continue;
        it->away = inode_at(it->task, it->number) != it->inode, away += it->away, count--;
    }
    below_budget = MOST_LINKS_READ;
    for (int i = 0; i < 2 && away; i++) look_below(); /* twice: others may move one meanwhile */
    for (int i = 0; i < owned_top && away && below_budget >= 0; i++)
        if (owned[i].inode && owned[i].away) let_go(&owned[i]);
}

/* Let connections go that the function has closed: their peers wait to hear of it. */
static void look_at_connections(int64_t time) {
    int left = 0;
    if (!owned_due || owned_due > time) return;
    close_orphans(0, MOST_OWNED, 1);
    for (int i = 0; i < owned_top; i++) left |= owned[i].inode && owned[i].connected;
    owned_pause = 2 * owned_pause > LATEST ? LATEST : 2 * owned_pause;
    owned_due = left ? milliseconds() + owned_pause : 0;
}

/* Whether one more can be made: room in the table, after a look whether some are closed. What has none is made by the
 * decider. */
static int has_room(void) {
    close_orphans(owned_cursor + 1, LOOKED_AT, 0);
    return owned_count < most_owned;
}

/* Keep a socket that was put into a task under this number. */
static void own(long fd, long task, long number, int for_one) {
    int slot = 0;
    while (owned[slot].inode) slot++;
    if (slot == owned_top) owned_top++;
    owned[slot] =
        (struct owned){.inode = inode_of(fd), .fd = fd, .task = task, .number = number, .for_one = for_one};
    owned_count++;
}

#endif
