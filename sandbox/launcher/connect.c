/* The Runtime API's connect, made in a task's place: the address is copied once, compared, and used. What is not
 * certain is answered by nobody here (sandbox/egress/broker.py answers it, and tells why each step is as it is). */
#ifndef SANDBOX_CONNECT_C
#define SANDBOX_CONNECT_C

#include "seccomp.c"

struct notification { /* struct seccomp_notif */
    uint64_t id;
    uint32_t task, flags;
    int32_t nr;
    uint32_t arch;
    uint64_t ip, args[6];
};

struct address { /* struct sockaddr_in, and what else a task may say */
    uint16_t family, port;
    uint8_t host[4], rest[LONGEST_ADDRESS - 8];
};

enum broker { LEFT, ANSWERED, NOBODY_WAITS, ON_ITS_WAY };

static long child, child_process; /* the function's first process: its number, and its pidfd */
static uint16_t api_network_port; /* 0: its address is not known to be a number */
static uint8_t api_host[4];

/* Take the address of the Runtime API; a name, IPv6 and what is led elsewhere stay with the supervisor. */
static void read_api(const char *api) {
    const char *colon = last_char(api, ':');
    if (!colon || api_port <= 0 || api_port == DNS_PORT || !parse_host(slice(api, (size_t)(colon - api)), api_host))
        return;
    if (api_host[0] | api_host[1] | api_host[2] | api_host[3])
        api_network_port = (uint16_t)(api_port << 8 | api_port >> 8);
}

/* The number of a thread's process, 0 where nobody tells. */
static long process_of(long task) {
    char text[256];
    const char *path = format("/proc/#/status", task);
    long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, text, sizeof text - 1);
    release(path);
    SYS1(close, fd);
    text[n > 0 ? n : 0] = 0;
    const char *at = text;
    while (*at && !starts_with(at, "\nTgid:\t")) at++;
    long found = 0;
    if (*at)
        for (at += 7; *at >= '0' && *at <= '9' && found < 1L << 30; at++) found = 10 * found + (*at - '0');
    return *at == '\n' ? found : 0;
}

/* A duplicate of a task's descriptor, negative where there is none (task.py: Task.duplicate). */
static long duplicate(long task, long number) {
    if (task == child && child_process >= 0) return SYS3(pidfd_getfd, child_process, number, 0);
    long process = SYS2(pidfd_open, task, 0);
    if (process == -EINVAL || process == -ENOENT) process = SYS2(pidfd_open, task, PIDFD_THREAD);
    if (process == -EINVAL || process == -ENOENT) process = SYS2(pidfd_open, process_of(task), 0);
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

static long connect_at_once(long fd, const struct address *to, uint32_t length) {
    long flags = SYS3(fcntl, fd, F_GETFL, 0);
    if (flags & O_NONBLOCK) return SYS3(connect, fd, to, length);
    SYS3(fcntl, fd, F_SETFL, flags | O_NONBLOCK);
    long code = SYS3(connect, fd, to, length);
    if (code == -EINPROGRESS) { /* on loopback the answer is there by now */
        long again = SYS3(connect, fd, to, length);
        if (again == -EISCONN) again = 0; /* another thread asked, too */
        if (!sleeps(again)) code = again;
    }
    SYS3(fcntl, fd, F_SETFL, flags);
    return sleeps(code) ? 1 : code;
}

/* connect(2) as far as it goes at once (sockets.py: connect_without_sleep). Another thread can take O_NONBLOCK away
 * meanwhile; so that this process does not sleep with all its signals blocked, a connect may then wait for 1 ms. */
static long connect_without_sleep(long fd, const struct address *to, uint32_t length) {
    long before[2] = {0}, soon[2] = {0, 1000};
    uint32_t size = sizeof before;
    int limited = SYS5(getsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, before, &size) == 0 &&
                  SYS5(setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, soon, sizeof soon) == 0;
    long code = connect_at_once(fd, to, length);
    if (limited) SYS5(setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, before, sizeof before);
    return code;
}

/* Make a connect, if it is one to the Runtime API by TCP; `code` is its result where it is ANSWERED. */
static enum broker broker(int from, const struct notification *call, long *code) {
    struct address to = {0};
    uint32_t length = (uint32_t)call->args[2];
    if (!api_network_port || length < 16 || length > sizeof to) return LEFT;
    long fd = duplicate((long)call->task, (long)(int32_t)call->args[0]);
    if (fd < 0) return SYS3(ioctl, from, NOTIF_ID_VALID, &call->id) < 0 ? NOBODY_WAITS : LEFT;
    struct {
        uint64_t at, length;
    } here = {(uint64_t)(uintptr_t)&to, length}, there = {call->args[1], length};
    long read = SYS6(process_vm_readv, call->task, &here, 1, &there, 1, 0);
    enum broker done = LEFT;
    if (SYS3(ioctl, from, NOTIF_ID_VALID, &call->id) < 0) { /* whatever was looked at was not the caller's */
        done = NOBODY_WAITS;
    } else if (read == (long)length && to.family == AF_INET && to.port == api_network_port &&
               same_bytes(to.host, api_host, 4) && option(fd, SO_DOMAIN) == AF_INET &&
               option(fd, SO_TYPE) == SOCK_STREAM) {
        *code = connect_without_sleep(fd, &to, length);
        done = *code > 0 ? ON_ITS_WAY : ANSWERED;
    }
    SYS1(close, fd); /* before the answer: a socket that the task closes at once is closed then */
    return done;
}

#endif
