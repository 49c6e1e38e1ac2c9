/* Connects made in a task's place: to the Runtime API, to destinations that the policy surely allows, and to a
 * resolver, in whose place the forwarder is. The address is copied once, decided on, and used. What is not certain is
 * answered by nobody here (sandbox/egress/broker.py answers it, and tells why each step is as it is). Where the answer
 * does not come at once, the connect waits in a table, and its task with it. */
#ifndef SANDBOX_CONNECT_C
#define SANDBOX_CONNECT_C

#include "owned.c"

struct notification { /* struct seccomp_notif */
    uint64_t id;
    uint32_t task, flags;
    int32_t nr;
    uint32_t arch;
    uint64_t ip, args[6];
};

struct address { /* struct sockaddr_in, _in6, and what else a task may say */
    uint16_t family, port;
    uint8_t host[4], host6[16], rest[LONGEST_ADDRESS - 24];
};

enum broker { LEFT, ANSWERED, NOBODY_WAITS, ON_ITS_WAY };
enum reach { UNSURE, NOTHING, DISSOLVED, RUNTIME_API, ALLOWED, MUTE, RESOLVER };
enum {
    MOST_CONNECTING = 512,
    MOST_LED = 512,
    SHORTEST_PAUSE = 1,
    LONGEST_PAUSE = 20,
    ERESTARTSYS = 512,
    IPV4_LENGTH = 16,
    IPV6_LENGTH = 24
};

struct connecting {           /* a connect that its task sleeps in; times in milliseconds */
    struct notification call; /* id 0: none */
    uint32_t flags;           /* for the decider */
    long fd, first;
    int receives; /* it is a receive (receives.c), and waits for a datagram */
    struct address to;
    uint32_t length;
    int64_t deadline, next, pause; /* deadline: 0 for none */
};

struct led { /* a socket that was led to the forwarder: whom it asked, as the socket reports him */
    uint64_t cookie;
    int id;
    uint32_t length;
    uint8_t resolver[28];
};

static long child, child_process; /* the function's first process: its number, and its pidfd */
static uint16_t api_network_port; /* 0: its address is not known to be a number */
static uint8_t api_host[4];
static uint16_t forwarder_ports[2]; /* on loopback by IPv4 and IPv6, as in an address; 0: none */
static struct led led[MOST_LED];    /* a ring: the newest is number led_count - 1 */
static unsigned led_count;
static struct connecting connecting[MOST_CONNECTING];
static int connecting_count, most_connecting;

/* Take the address of the Runtime API; a name, IPv6 and what is led elsewhere stay with the supervisor. */
static void read_api(const char *api) {
    const char *colon = last_char(api, ':');
    if (!colon || api_port <= 0 || api_port == DNS_PORT || !parse_host(slice(api, (size_t)(colon - api)), api_host))
        return;
    if (api_host[0] | api_host[1] | api_host[2] | api_host[3])
        api_network_port = (uint16_t)(api_port << 8 | api_port >> 8);
}

/* What /proc says of a thread, in memory that the next call overwrites. */
static const char *task_status(long task) {
    static char text[4096];
    const char *path = format("/proc/#/status", task);
    long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, text, sizeof text - 1);
    release(path);
    SYS1(close, fd);
    text[n > 0 ? n : 0] = 0;
    return text;
}

/* A number of it: `name` is the whole beginning of its line. */
static uint64_t number_in(const char *status, const char *name, unsigned base) {
    const char *at = status;
    uint64_t found = 0;
    while (*at && !starts_with(at, name)) at++;
    if (!*at) return 0;
    for (at += text_length(name); *at; at++) {
        unsigned digit = *at >= '0' && *at <= '9' ? (unsigned)(*at - '0')
                         : *at >= 'a'             ? (unsigned)(*at - 'a' + 10)
                                                  : 99;
        if (digit >= base) break;
        found = found * base + digit;
    }
    return found;
}

/* A descriptor of our own for a task's, negative where there is none (task.py: Task.duplicate). */
static long duplicate(long task, long number) {
    if (owns) return borrow(task, number);
    if (task == child && child_process >= 0) return SYS3(pidfd_getfd, child_process, number, 0);
    long process = SYS2(pidfd_open, task, 0);
    if (process == -EINVAL || process == -ENOENT) process = SYS2(pidfd_open, task, PIDFD_THREAD);
    if (process == -EINVAL || process == -ENOENT)
        process = SYS2(pidfd_open, number_in(task_status(task), "\nTgid:\t", 10), 0);
    if (process < 0) return process;
    long found = SYS3(pidfd_getfd, process, number, 0);
    SYS1(close, process);
    return found;
}

static int option(long fd, long name) { /* -1: none */
    int value = -1;
    uint32_t size = sizeof value;
    return SYS5(getsockopt, fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

static int sleeps(long code) { return code == -EINPROGRESS || code == -EALREADY || code == -EAGAIN; }

/* As far as it goes without sleeping; `would` says how the call would sleep, 0 where it has its result. */
static long connect_at_once(long fd, const struct address *to, uint32_t length, long *would) {
    long flags = SYS3(fcntl, fd, F_GETFL, 0);
    *would = 0;
    if (flags & O_NONBLOCK) return SYS3(connect, fd, to, length);
    SYS3(fcntl, fd, F_SETFL, flags | O_NONBLOCK);
    long code = SYS3(connect, fd, to, length);
    if (code == -EINPROGRESS) { /* on loopback the answer is there by now */
        long again = SYS3(connect, fd, to, length);
        if (again == -EISCONN) again = 0; /* another thread asked, too */
        if (!sleeps(again)) code = again;
    }
    SYS3(fcntl, fd, F_SETFL, flags);
    if (sleeps(code)) *would = code;
    return code;
}

/* connect(2) as far as it goes at once (sockets.py: connect_without_sleep). Another thread can take O_NONBLOCK away
 * meanwhile; so that this process does not sleep with all its signals blocked, a connect may then wait for 1 ms. */
static long connect_without_sleep(long fd, const struct address *to, uint32_t length, long *would) {
    long before[2] = {0}, soon[2] = {0, 1000};
    uint32_t size = sizeof before;
    int limited = SYS5(getsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, before, &size) == 0 &&
                  SYS5(setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, soon, sizeof soon) == 0;
    long code = connect_at_once(fd, to, length, would);
    if (limited) SYS5(setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, before, sizeof before);
    return code;
}

/* connect(2) of a datagram socket that sends nothing from then on (sockets.py: connect_mute). */
static long connect_mute(long fd, const struct address *to, uint32_t length) {
    static const uint8_t unspecified[16] = {0};
    SYS2(shutdown, fd, SHUT_WR);
    long code = SYS3(connect, fd, to, length);
    if (code == 0 && SYS2(shutdown, fd, SHUT_WR) < 0) {
        SYS3(connect, fd, unspecified, sizeof unspecified);
        return -EPERM;
    }
    return code;
}

/* The address that a connect ends at, and its length: the IPv4 one of an IPv4-mapped one; 0 for what is not certain. */
static unsigned reached(const struct address *to, uint32_t length, int domain, const uint8_t **host) {
    static const uint8_t nowhere[16] = {0};
    unsigned n = 0;
    if (to->family == AF_INET && domain == AF_INET && length >= IPV4_LENGTH) *host = to->host, n = 4;
    if (to->family == AF_INET6 && domain == AF_INET6 && length >= IPV6_LENGTH) {
        int mapped = is_mapped(to->host6);
        *host = to->host6 + (mapped ? 12 : 0), n = mapped ? 4 : 16;
    }
    /* What the kernel puts for the unspecified address depends on the socket (sockets.py: specified). */
    return n && same_bytes(*host, nowhere, n) ? 0 : n;
}

/* Whether who asks a resolver and sees who answers is served here, too. */
static int serves_receives(void) {
    const struct list *calls = &policy.names_receives;
    return !calls->count || (calls->count == 1 && same(calls->first, "recvfrom"));
}

/* Where a connect leads to, and whether it may. */
static enum reach reach_of(const struct address *to, uint32_t length, int domain, int type) {
    const char *names[MOST_NAMES];
    const uint8_t *host = NULL;
    unsigned n = reached(to, length, domain, &host), port = (unsigned)(to->port >> 8 | (to->port & 255) << 8);
    if (type != SOCK_STREAM && type != SOCK_DGRAM) return UNSURE;
    if (!to->family && (domain == AF_INET || domain == AF_INET6)) return DISSOLVED; /* AF_UNSPEC */
    if (!n) return UNSURE;
    if (type == SOCK_STREAM && api_port > 0 && port == (unsigned)api_port) {
        if (!api_network_port) return UNSURE;
        if (n == 4 && same_bytes(host, api_host, 4)) return RUNTIME_API;
    }
    /* The function's own listeners are known to the decider; who answers a resolver's receives must know whom it asked.
     */
    if (policy.own && (n == 4 ? *host == 127 : needs_own_entry(host, n))) return UNSURE;
    if (port == DNS_PORT && policy.hosts.count)
        return type == SOCK_DGRAM && forwarder_ports[0] && serves_receives() ? RESOLVER : UNSURE;
    if (policy.judged) return UNSURE; /* whose call it is decides, too */
    unsigned count = policy.hosts.count ? names_of(host, n, names) : 0;
    if (is_allowed(&policy, type == SOCK_STREAM ? TCP : UDP, host, n, port, names, count)) return ALLOWED;
    /* getaddrinfo(3) so sorts the addresses that it was given for a name (targets.py: Targets.decide). */
    return type == SOCK_DGRAM && count ? MUTE : UNSURE;
}

/* Remember that a socket, with its question of this id (-1: each), was led to the forwarder in a resolver's place. */
static void note_resolver(long fd, const struct address *to, int id) {
    struct led *made = &led[led_count++ % MOST_LED];
    uint32_t size = sizeof made->cookie;
    if (SYS5(getsockopt, fd, SOL_SOCKET, SO_COOKIE, &made->cookie, &size) < 0) made->cookie = 0;
    made->id = id, made->length = to->family == AF_INET ? 16 : 28;
    memset(made->resolver, 0, sizeof made->resolver);
    memcpy(made->resolver, to, to->family == AF_INET ? 8 : 24);
    if (to->family != AF_INET) memset(made->resolver + 4, 0, 4);
    if (to->family != AF_INET && to->host6[4] == 0xFE && (to->host6[5] & 0xC0) == 0x80)
        memcpy(made->resolver + 24, to->rest, 4); /* the scope of a link */
}

/* The forwarder, at an address of the family that the call names (forwarder.py: Forwarder.address). */
static void put_forwarder(struct address *to) {
    int mapped = to->family == AF_INET6 && (is_mapped(to->host6) || !forwarder_ports[1]);
    uint8_t *host = to->family == AF_INET ? to->host : to->host6 + 12;
    to->port = forwarder_ports[to->family == AF_INET6 && !mapped];
    for (int i = 0; i < 16; i++) to->host6[i] = 0;
    if (to->family == AF_INET6) memset(to->host, 0, 4);
    if (mapped) to->host6[10] = to->host6[11] = 0xFF;
    for (size_t i = 0; i < sizeof to->rest; i++) to->rest[i] = 0;
    host[0] = to->family == AF_INET || mapped ? 127 : 0, host[1] = host[2] = 0, host[3] = 1;
}

static int64_t milliseconds(void) {
    long time[2] = {0, 0};
    SYS2(clock_gettime, 1, time); /* CLOCK_MONOTONIC */
    return time[0] * 1000 + time[1] / 1000000;
}

static int watch_connect(int slot); /* in forwarder.c */

/* Have a connect wait for its answer in the table. 0: it has no room. */
static int await(const struct notification *call, uint32_t flags, long fd, const struct address *to, uint32_t length,
                 long first, int receives) {
    long limit[2] = {0};
    uint32_t size = sizeof limit;
    int slot = 0;
    while (slot < most_connecting && connecting[slot].call.id) slot++;
    if (slot == most_connecting) return 0;
    int64_t time = milliseconds();
    SYS5(getsockopt, fd, SOL_SOCKET, receives ? SO_RCVTIMEO : SO_SNDTIMEO, limit, &size);
    int limited = limit[0] || limit[1];
    connecting[slot] = (struct connecting){.call = *call,
                                           .flags = flags,
                                           .fd = fd,
                                           .first = first,
                                           .receives = receives,
                                           .to = *to,
                                           .length = length,
                                           .deadline = limited ? time + limit[0] * 1000 + limit[1] / 1000 : 0,
                                           .next = time + SHORTEST_PAUSE,
                                           .pause = SHORTEST_PAUSE};
    connecting_count++;
    if (watch_connect(slot)) return 1;
    connecting[slot].call.id = 0, connecting_count--;
    return 0;
}

/* What a signal that waits for a task makes of its connect (sockets.py: interruption): 1 where that is not certain. */
static long interruption(long task) {
    const char *status = task_status(task);
    uint64_t heard = ~(number_in(status, "\nSigBlk:\t", 16) | number_in(status, "\nSigIgn:\t", 16));
    if (number_in(status, "\nSigPnd:\t", 16) & heard) return -ERESTARTSYS;
    if (!(number_in(status, "\nShdPnd:\t", 16) & heard)) return 0;
    return number_in(status, "\nThreads:\t", 10) == 1 ? -ERESTARTSYS : 1;
}

/* Whether an address is the path of a unix socket that the policy names, and nothing is there. */
static int is_absent(const struct address *to, uint32_t length) {
    const char *path = (const char *)to + 2, *known = policy.socket_paths.first;
    uint32_t n = 0;
    while (n < length - 2 && path[n]) n++;
    if (policy.looks != LOOKS_ATTENDANT || to->family != AF_UNIX || n == length - 2 || n >= SUN_PATH) return 0;
    for (uint32_t i = 0; i < policy.socket_paths.count; i++, known = next_text(known))
        if (same(known, path)) return SYS3(faccessat, AT_FDCWD, path, 0) == -ENOENT;
    return 0;
}

/* Make a connect that is certain; `code` is its result where it is ANSWERED, and `reaches` whom it is to. */
static enum broker broker(int from, const struct notification *call, long *code, enum reach *reaches) {
    struct address to = {0};
    uint32_t length = (uint32_t)call->args[2];
    int type = 0;
    *reaches = UNSURE;
    if (length < IPV4_LENGTH || length > sizeof to) return LEFT;
    long fd = duplicate((long)call->task, (long)(int32_t)call->args[0]), would = 0;
    if (fd < 0) return SYS3(ioctl, from, NOTIF_ID_VALID, &call->id) < 0 ? NOBODY_WAITS : LEFT;
    struct {
        uint64_t at, length;
    } here = {(uint64_t)(uintptr_t)&to, length}, there = {call->args[1], length};
    long read = SYS6(process_vm_readv, call->task, &here, 1, &there, 1, 0);
    enum broker done = ANSWERED;
    if (SYS3(ioctl, from, NOTIF_ID_VALID, &call->id) < 0) /* whatever was looked at was not the caller's */
        done = NOBODY_WAITS;
    else if (read == (long)length && is_absent(&to, length) && option(fd, SO_DOMAIN) == AF_UNIX)
        *code = -ENOENT, *reaches = NOTHING;
    else if (read == (long)length)
        *reaches = reach_of(&to, length, option(fd, SO_DOMAIN), type = option(fd, SO_TYPE));
    if (*reaches == UNSURE && done == ANSWERED) done = LEFT;
    if (*reaches == RUNTIME_API || (*reaches == ALLOWED && type == SOCK_STREAM)) {
        *code = connect_without_sleep(fd, &to, length, &would);
        if (would && await(call, *reaches == RUNTIME_API ? LINK_CONNECTING : 0, fd, &to, length, would, 0))
            return NOBODY_WAITS; /* its descriptor stays with it */
        if (would) done = ON_ITS_WAY;
    } else if (*reaches == MUTE) {
        *code = connect_mute(fd, &to, length);
    } else if (*reaches > NOTHING) {
        if (*reaches == RESOLVER) {
            note_resolver(fd, &to, -1);
            put_forwarder(&to);
        }
        *code = SYS3(connect, fd, &to, length);
    }
    give_back(fd); /* before the answer: a socket that the task closes at once is closed then */
    return done;
}

#endif
