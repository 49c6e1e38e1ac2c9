/* Receives on sockets that were led to the forwarder: the caller sees the resolver that it asked instead. Receiving
 * decides nothing, so that whatever is odd goes on as it is (sandbox/egress/answers.py). Of the calls that say who sent
 * only recvfrom(2) is served; a policy with others has its resolvers led by the decider. */
#ifndef SANDBOX_RECEIVES_C
#define SANDBOX_RECEIVES_C

#include "sends.c"

enum { LARGEST_DATAGRAM = 65535, MSG_CMSG_COMPAT_BIT = 31 };

static int was_asked(void);

/* Whom a socket asked, with the question of this id (-1: any); NULL for one that asked none through us. */
static const struct led *resolver_of(long fd, int id) {
    uint64_t cookie = 0;
    uint32_t size = sizeof cookie;
    const struct led *found = NULL;
    if (SYS5(getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0 || !cookie) return NULL;
    for (unsigned i = 0; i < led_count && i < MOST_LED; i++) {
        const struct led *one = &led[(led_count - 1 - i) % MOST_LED];
        if (one->cookie != cookie) continue;
        if (id >= 0 && one->id == id) return one;
        if (one->id < 0 && !found) found = one;
    }
    return found;
}

static int is_forwarder(const struct address *from) {
    static const uint8_t loopback[16] = {[15] = 1};
    int mapped = from->family == AF_INET6 && is_mapped(from->host6);
    const uint8_t *four = from->family == AF_INET ? from->host : from->host6 + 12;
    if (from->family == AF_INET6 && !mapped)
        return from->port == forwarder_ports[1] && same_bytes(from->host6, loopback, 16);
    return from->port == forwarder_ports[0] && four[0] == 127 && !four[1] && !four[2] && four[3] == 1;
}

/* Receive what is there for a task: what its call returns, -EAGAIN where nothing is. */
static long receive_for_task(const struct notification *call, long fd) {
    static uint8_t data[LARGEST_DATAGRAM];
    struct address from = {0};
    uint32_t length = sizeof from, room = 0;
    size_t n = call->args[2] < sizeof data ? (size_t)call->args[2] : sizeof data;
    uint32_t flags = (uint32_t)call->args[3] & ~(1U << MSG_CMSG_COMPAT_BIT);
    long value = SYS6(recvfrom, fd, data, n, flags | MSG_DONTWAIT, &from, &length);
    if (value < 0) return value;
    if ((size_t)value < n) n = (size_t)value;
    const struct led *asked_whom = is_forwarder(&from) ? resolver_of(fd, n < 2 ? -1 : wide16(data)) : NULL;
    const void *name = asked_whom ? (const void *)asked_whom->resolver : &from;
    if (asked_whom) length = asked_whom->length;
    if (!read_task(call->task, call->args[5], &room, sizeof room)) return -EFAULT;
    if (room > length) room = length;
    if ((n && !write_task(call->task, call->args[1], data, n)) ||
        (room && !write_task(call->task, call->args[4], name, room)) ||
        !write_task(call->task, call->args[5], &length, sizeof length))
        return -EFAULT;
    return value;
}

/* recvfrom(2) with a place for who sent. */
static enum broker receive_from(const struct notification *call, long *code) {
    uint32_t room = 0, flags = (uint32_t)call->args[3];
    long fd = (led_count || owns) && !(flags & MSG_ERRQUEUE) ? duplicate((long)call->task, (long)(int32_t)call->args[0]) : -1;
    int known = fd >= 0 && resolver_of(fd, -1) && option(fd, SO_TYPE) == SOCK_DGRAM;
    /* Whether the answer can be written is tried before anything is received. */
    if (known && read_task(call->task, call->args[5], &room, sizeof room) && room <= INT32_MAX &&
        write_task(call->task, call->args[5], &room, sizeof room) && is_valid(call)) {
        *code = receive_for_task(call, fd);
        int sleeping = *code == -EAGAIN && blocks(fd, flags);
        if (sleeping && await(call, 0, fd, &(struct address){0}, 0, -EAGAIN, 1)) return NOBODY_WAITS;
        SYS1(close, fd);
        if (!sleeping) return ANSWERED;
    } else {
        if (fd >= 0) SYS1(close, fd);
        if (!known && was_asked() && !(owns && fd >= 0)) return LEFT; /* it may be the decider that led it */
    }
    answer(call->id, 0, NOTIF_FLAG_CONTINUE);
    return NOBODY_WAITS;
}

static int connected; /* the init phase is over (attend.c) */

/* Whether the policy's table of served calls has this one, in this phase. */
static int is_served(const struct notification *call) {
    uint32_t nr = (uint32_t)call->nr;
    return is_early(&policy.served, nr, call->args) ||
           (!connected && is_early(&policy.served, nr | SERVED_IN_INIT, call->args));
}

static enum broker serve(const struct notification *call, long *code) {
    if (!is_served(call)) return LEFT;
    if (call->nr == NR_socket) return make_socket(call, code);
    if (call->nr == NR_recvfrom) return receive_from(call, code);
    if (call->nr == NR_bind) return bind_anywhere(call, code);
    return call->nr == NR_sendto ? send_addressed(call, code) : send_connected(call, code);
}

#endif
