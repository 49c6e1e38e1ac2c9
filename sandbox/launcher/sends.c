/* What resolvers send and make besides their connect, in a task's place: the C library's questions to the kernel for
 * routes and addresses, on a netlink socket that can change nothing, and datagrams that go where their socket is
 * connected to. What is read of the task's memory is copied once, looked at, and sent. Everything else is left to the
 * decider (sandbox/egress/netlink.py and sending.py say why each step is as it is). */
#ifndef SANDBOX_SENDS_C
#define SANDBOX_SENDS_C

#include "connect.c"

enum { MOST_MESSAGES = 8, MOST_PARTS = 4, LARGEST_SENT = 4096, NETLINK_ADDRESS = 12, NETLINK_HEADER = 16 };
enum { SOCK_TYPE = 15, ADDFD = 0x40182103, ADDFD_SEND = 2 }; /* linux/net.h, linux/seccomp.h */

struct message_header { /* struct user_msghdr, and what struct mmsghdr has behind it */
    uint64_t name;
    uint32_t name_length, padding;
    uint64_t vector, vector_length, control, control_length;
    uint32_t flags, more_padding;
    uint32_t sent, last_padding;
};

struct piece {
    uint64_t at, length;
};

static void answer(uint64_t id, long code, uint32_t flags);

static uint8_t sent_data[MOST_MESSAGES][LARGEST_SENT];
static size_t sent_length[MOST_MESSAGES];

static int read_task(uint32_t task, uint64_t from, void *to, size_t n) {
    struct piece here = {(uint64_t)(uintptr_t)to, n}, there = {from, n};
    return SYS6(process_vm_readv, task, &here, 1, &there, 1, 0) == (long)n;
}

static int write_task(uint32_t task, uint64_t to, const void *from, size_t n) {
    struct piece here = {(uint64_t)(uintptr_t)from, n}, there = {to, n};
    return SYS6(process_vm_writev, task, &here, 1, &there, 1, 0) == (long)n;
}

static int is_valid(const struct notification *call) { return SYS3(ioctl, listener, NOTIF_ID_VALID, &call->id) >= 0; }

/* A netlink socket that was opened without CAP_NET_ADMIN (netlink.py: make). */
static long netlink_socket(long kind, long protocol) {
    uint32_t header[2] = {CAPABILITY_VERSION, 0}, had[6] = {0}, less[6]; /* effective, permitted, inheritable; twice */
    SYS2(capget, header, had);
    memcpy(less, had, sizeof less);
    less[0] &= ~(uint32_t)CAP_NET_ADMIN;
    if (less[0] != had[0] && SYS2(capset, header, less) < 0) return -EPERM;
    long fd = SYS3(socket, AF_NETLINK, kind | SOCK_CLOEXEC, protocol);
    if (less[0] != had[0]) SYS2(capset, header, had);
    return fd;
}

/* Put a copy of a descriptor into a task, as what its call returns: the number there, or negative. */
static long put_into_task(const struct notification *call, long fd, uint32_t cloexec) {
    static int in_two_steps; /* before Linux 5.14; a signal between them costs the task a descriptor */
    struct {                 /* struct seccomp_notif_addfd */
        uint64_t id;
        uint32_t flags, from, to, to_flags;
    } added = {call->id, in_two_steps ? 0 : ADDFD_SEND, (uint32_t)fd, 0, cloexec};
    long number = SYS3(ioctl, listener, ADDFD, &added);
    if (number == -EINVAL && !in_two_steps) {
        in_two_steps = 1;
        return put_into_task(call, fd, cloexec);
    }
    if (number >= 0 && in_two_steps) answer(call->id, number, 0);
    return number;
}

/* Whether a task is of our user: else it has other rights to sockets (owned.py: _differs). */
static int is_of_our_user(long task) {
    uint64_t buffer[24];
    uint32_t user;
    const char *path = format("/proc/#", task);
    long code = SYS4(newfstatat, AT_FDCWD, path, buffer, 0);
    release(path);
    memcpy(&user, (char *)buffer + STAT_USER, 4);
    return code == 0 && user == (uint32_t)SYS1(geteuid, 0);
}

/* socket(2): for netlink, with which nothing can be changed, and where we own the sockets the usual ones. */
static enum broker make_socket(const struct notification *call, long *code) {
    long domain = (long)(uint32_t)call->args[0], flags = (long)(uint32_t)call->args[1], kind = flags & SOCK_TYPE;
    int is_netlink = domain == AF_NETLINK, is_unix = domain == AF_UNIX;
    if (!is_netlink) {
        int usual = kind == SOCK_STREAM || kind == SOCK_DGRAM || (is_unix && kind == SOCK_SEQPACKET);
        if (!owns || !usual || !(is_unix || domain == AF_INET || domain == AF_INET6)) return LEFT;
        if (!is_of_our_user((long)call->task)) return LEFT;
    }
    if (owns && !has_room()) return LEFT;
    long fd = is_netlink ? netlink_socket(flags, (long)(uint32_t)call->args[2])
                         : SYS3(socket, domain, flags | SOCK_CLOEXEC, (uint32_t)call->args[2]);
    if (fd == -EMFILE || fd == -ENFILE) return LEFT;
    *code = fd < 0 ? fd : put_into_task(call, fd, (uint32_t)(flags & SOCK_CLOEXEC));
    if (owns && *code >= 0)
        own(fd, (long)call->task, *code, kind == SOCK_STREAM || (is_unix && kind != SOCK_DGRAM));
    else
        SYS1(close, fd);
    return fd >= 0 && (*code >= 0 || *code == -ENOENT) ? NOBODY_WAITS : ANSWERED;
}

/* Whether all messages of a send ask for links, addresses, routes or neighbours (netlink.py: is_question). */
static int are_questions(const uint8_t *data, size_t n) {
    static const uint16_t questions[] = NETLINK_QUESTIONS;
    size_t at = 0;
    for (uint32_t length; at < n; at += (length + 3) & ~3U) {
        uint16_t kind, flags;
        int known = 0;
        if (n - at < NETLINK_HEADER) return 0;
        memcpy(&length, data + at, 4), memcpy(&kind, data + at + 4, 2), memcpy(&flags, data + at + 6, 2);
        for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) known |= kind == questions[i];
        if (!known || !(flags & 1) || length < NETLINK_HEADER || length > n - at) return 0; /* NLM_F_REQUEST */
    }
    return n > 0;
}

/* Flags with which the copy may be sent at once and forgotten: MSG_ZEROCOPY would go on reading it. */
static int are_plain(uint64_t flags) { return !(flags & ~(uint64_t)(MSG_DONTWAIT | MSG_NOSIGNAL)); }

static int blocks(long fd, uint64_t flags) {
    return !(flags & MSG_DONTWAIT) && !(SYS3(fcntl, fd, F_GETFL, 0) & O_NONBLOCK);
}

/* Whether a datagram to an address goes there; a resolver is replaced by the forwarder. */
static int may_send(long fd, struct address *to, uint32_t length, size_t n) {
    static const uint8_t kernel[NETLINK_ADDRESS] = {AF_NETLINK};
    int domain = option(fd, SO_DOMAIN);
    if (domain == AF_NETLINK)
        return length == NETLINK_ADDRESS && option(fd, SO_PROTOCOL) == 0 && same_bytes(to, kernel, 2) &&
               same_bytes(to->host, kernel + 4, 8) && are_questions(sent_data[0], n);
    if (option(fd, SO_TYPE) != SOCK_DGRAM) return 0;
    enum reach reaches = reach_of(to, length, domain, SOCK_DGRAM);
    if (reaches == RESOLVER) {
        note_resolver(fd, to, -1);
        if (n >= 2) note_resolver(fd, to, wide16(sent_data[0]));
        put_forwarder(to);
    }
    return reaches == RESOLVER || reaches == ALLOWED;
}

/* sendto(2) with an address: a datagram, or a question to the kernel. */
static enum broker send_addressed(const struct notification *call, long *code) {
    struct address to = {0};
    uint32_t length = (uint32_t)call->args[5];
    size_t n = (size_t)call->args[2];
    uint64_t flags = (uint32_t)call->args[3];
    if (!call->args[4] || length < NETLINK_ADDRESS || length > sizeof to || n > sizeof sent_data || !are_plain(flags))
        return LEFT;
    long fd = duplicate((long)call->task, (long)(int32_t)call->args[0]);
    enum broker done = LEFT;
    if (fd < 0) return LEFT;
    if (read_task(call->task, call->args[4], &to, length) && read_task(call->task, call->args[1], sent_data[0], n) &&
        may_send(fd, &to, length, n) && is_valid(call)) {
        *code = SYS6(sendto, fd, sent_data[0], n, flags | MSG_DONTWAIT | MSG_NOSIGNAL, &to, length);
        if (*code != -EAGAIN || !blocks(fd, flags)) done = ANSWERED;
    }
    SYS1(close, fd);
    return done;
}

/* bind(2) of a netlink socket, which listens nowhere, and to a port that the kernel chooses, as clients do. */
static enum broker bind_anywhere(const struct notification *call, long *code) {
    struct address to = {0};
    uint32_t length = (uint32_t)call->args[2];
    if (length < NETLINK_ADDRESS || length > sizeof to) return LEFT;
    long fd = duplicate((long)call->task, (long)(int32_t)call->args[0]);
    enum broker done = LEFT;
    if (fd < 0) return LEFT;
    int domain = option(fd, SO_DOMAIN), inet = domain == AF_INET || domain == AF_INET6;
    if ((domain == AF_NETLINK || (inet && !policy.own)) && read_task(call->task, call->args[1], &to, length) &&
        to.family == domain && (!inet || (length >= IPV4_LENGTH && !to.port)) && is_valid(call))
        *code = SYS3(bind, fd, &to, length), done = ANSWERED;
    SYS1(close, fd);
    return done;
}

/* Copy what messages hold; 0 for those that name an address, hand something over, or are large. */
static int read_messages(const struct notification *call, unsigned count, size_t size) {
    static struct message_header headers[MOST_MESSAGES];
    for (unsigned i = 0; i < count; i++) {
        struct message_header *header = &headers[i];
        struct piece pieces[MOST_PARTS];
        if (!read_task(call->task, call->args[1] + size * i, header, offsetof(struct message_header, sent))) return 0;
        if ((header->name && header->name_length) || header->control_length || header->vector_length > MOST_PARTS)
            return 0;
        size_t parts = (size_t)header->vector_length, used = 0;
        if (parts && !read_task(call->task, header->vector, pieces, parts * sizeof *pieces)) return 0;
        for (size_t j = 0; j < parts; j++) {
            size_t n = (size_t)pieces[j].length;
            if (n > LARGEST_SENT - used) return 0;
            if (n && !read_task(call->task, pieces[j].at, sent_data[i] + used, n)) return 0;
            used += n;
        }
        sent_length[i] = used;
    }
    return 1;
}

/* sendmsg(2) and sendmmsg(2) on a datagram socket, to where it is connected. */
static enum broker send_connected(const struct notification *call, long *code) {
    int several = call->nr == NR_sendmmsg;
    unsigned count = several ? (uint32_t)call->args[2] : 1;
    uint64_t flags = (uint32_t)call->args[several ? 3 : 2];
    if (count < 1 || count > MOST_MESSAGES || !are_plain(flags)) return LEFT;
    long fd = duplicate((long)call->task, (long)(int32_t)call->args[0]);
    if (fd < 0) return LEFT;
    int domain = option(fd, SO_DOMAIN);
    enum broker done = LEFT;
    if ((domain == AF_INET || domain == AF_INET6) && option(fd, SO_TYPE) == SOCK_DGRAM &&
        read_messages(call, count, sizeof(struct message_header)) && is_valid(call)) {
        unsigned sent = 0;
        long result = 0;
        while (sent < count) {
            result = SYS6(sendto, fd, sent_data[sent], sent_length[sent], flags | MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
            uint32_t length = (uint32_t)result;
            uint64_t to = call->args[1] + sizeof(struct message_header) * sent + offsetof(struct message_header, sent);
            if (several && result >= 0 && !write_task(call->task, to, &length, sizeof length)) result = -EFAULT;
            if (result < 0) break;
            sent++;
        }
        *code = several && sent ? (long)sent : result;
        if (sent || result != -EAGAIN || !blocks(fd, flags)) done = ANSWERED;
    }
    SYS1(close, fd);
    return done;
}

#endif
