/* The DNS forwarder: answers the function's questions for the names of its policy, and what else the attendant waits
 * for at its side: connects that are on their way. One epoll(7) descriptor stands for all of it. The sockets are
 * datagram ones; a resolver that asks by TCP is left to the decider. sandbox/names/forwarder.py says why it answers as
 * it does. */
#ifndef SANDBOX_FORWARDER_C
#define SANDBOX_FORWARDER_C

#include "decider.c"

enum { MOST_INQUIRIES = 256, FEWEST_INQUIRIES = 8, BATCH = 32, LARGEST_MESSAGE = 65535, MOST_EVENTS = 64 };
enum { EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL, EPOLL_CTL_MOD }; /* linux/eventpoll.h */
enum { ANSWER_TIME = 2500 }; /* milliseconds that a server has before the next one is asked */
enum source { OF_TIMER, OF_FORWARDER, OF_INQUIRY, OF_CONNECT, OF_OWNED };

struct event { /* struct epoll_event */
    uint32_t events;
#if defined(__aarch64__)
    uint32_t nothing; /* on x86_64 it is packed */
#endif
    uint32_t source, index;
};

struct client { /* who asked: a struct sockaddr_in or _in6 */
    uint8_t name[28];
    uint32_t length;
    long fd;
};

struct inquiry { /* a question at the servers, one after the other, each time with a socket and an id of its own */
    int used;
    long fd;
    unsigned id, attempts, failure;
    int64_t deadline;
    struct client client;
    struct question question;
};

struct told_name { /* of link.py */
    struct head head;
    uint8_t host[16];
    char name[NAME_ROOM];
};

struct told_question {
    struct head head;
    uint8_t packet[DNS_MADE];
};

static struct inquiry inquiries[MOST_INQUIRIES];
static unsigned inquiry_count, most_inquiries;
static long wait_set, wait_timer, forwarder_fds[2]; /* an epoll(7) and a timerfd(2) */

static void answer(uint64_t id, long code, uint32_t flags);
static void leave_to_decider(const struct notification *call, uint32_t flags);
static int tell(const void *message, size_t n);
static int is_link_full(void);

static int wait_for(long fd, uint32_t events, enum source source, int index) {
    struct event event = {.events = events, .source = source, .index = (uint32_t)index};
    return SYS4(epoll_ctl, wait_set, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* A duplicate stays in the table of epoll(7) for as long as the function has the socket: so it goes before it closes.
 */
static void stop_waiting(long fd) { SYS4(epoll_ctl, wait_set, EPOLL_CTL_DEL, fd, 0); }

static uint32_t awaited(int slot) { return (connecting[slot].receives ? EPOLLIN : EPOLLOUT) | (uint32_t)EPOLLONESHOT; }

static void unwatch_connect(int slot) {
    stop_waiting(connecting[slot].fd);
    give_back(connecting[slot].fd);
    connecting[slot].call.id = 0;
    connecting_count--;
}

/* Have the timer ring at the next moment at which something is to be looked at. */
static void set_timer(void) {
    long setting[4] = {0};
    int64_t next = owned_due, time = milliseconds();
    for (int i = 0, left = connecting_count; left && i < MOST_CONNECTING; i++) {
        if (!connecting[i].call.id) continue;
        if (!next || connecting[i].next < next) next = connecting[i].next;
        left--;
    }
    unsigned left = inquiry_count;
    for (int i = 0; left && i < MOST_INQUIRIES; i++) {
        if (!inquiries[i].used) continue;
        if (!next || inquiries[i].deadline < next) next = inquiries[i].deadline;
        left--;
    }
    if (next) {
        int64_t delay = next > time ? next - time : 1;
        setting[2] = delay / 1000, setting[3] = delay % 1000 * 1000000;
    }
    SYS4(timerfd_settime, wait_timer, 0, setting, 0);
}

static int await_owned(int slot) { return wait_for(owned[slot].fd, EPOLLOUT | EPOLLONESHOT, OF_OWNED, slot); }

static int watch_connect(int slot) {
    int done = wait_for(connecting[slot].fd, awaited(slot), OF_CONNECT, slot);
    set_timer();
    return done;
}

/* Tell the decider all names that it was not told of. 0: the link has no room for now. */
static int tell_names(void) {
    int64_t time = standing_untold ? now() : 0;
    for (unsigned i = 0; standing_untold && i < standing_count; i++) {
        if (standing[i].told) continue;
        struct told_name message = {
            {LINK_NAME, standing[i].length | (standing[i].fixed ? LINK_FIXED : 0U), standing[i].until - time},
            {0},
            {0}};
        memcpy(message.host, standing[i].host, standing[i].length);
        memcpy(message.name, standing[i].name, text_length(standing[i].name));
        if (!tell(&message, sizeof message)) return 0;
        standing[i].told = 1, standing_untold--;
    }
    return 1;
}

static void answer_client(const struct client *client, const uint8_t *packet, size_t n) {
    SYS6(sendto, client->fd, packet, n, MSG_DONTWAIT | MSG_NOSIGNAL, client->name, client->length);
}

static void answer_without_records(const struct client *client, const struct question *question, unsigned code) {
    uint8_t packet[DNS_MADE];
    answer_client(client, packet, reply_without_records(question, code, packet));
}

static void end_inquiry(struct inquiry *inquiry) {
    if (inquiry->fd >= 0) SYS1(close, inquiry->fd); /* nobody else has it */
    inquiry->fd = -1;
}

static int begin_inquiry(struct inquiry *inquiry, const struct server *server) {
    uint8_t packet[DNS_MADE];
    uint16_t id = 0;
    SYS3(getrandom, &id, sizeof id, 0);
    inquiry->id = id;
    size_t n = question_to_ask(&inquiry->question, id, packet);
    inquiry->fd = SYS3(socket, server->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (inquiry->fd >= 0 && SYS3(connect, inquiry->fd, server, server->family == AF_INET ? 16 : 28) == 0 &&
        SYS6(sendto, inquiry->fd, packet, n, MSG_NOSIGNAL, 0, 0) == (long)n &&
        wait_for(inquiry->fd, EPOLLIN, OF_INQUIRY, (int)(inquiry - inquiries)))
        return 1;
    end_inquiry(inquiry);
    return 0;
}

/* Ask the next server; behind the last one answer with what there is. */
static void ask_next(struct inquiry *inquiry) {
    unsigned most = server_count > 2 ? server_count : 2;
    end_inquiry(inquiry);
    while (inquiry->attempts < most)
        if (begin_inquiry(inquiry, &servers[inquiry->attempts++ % server_count])) {
            inquiry->deadline = milliseconds() + ANSWER_TIME;
            return;
        }
    inquiry->used = 0, inquiry_count--;
    answer_without_records(&inquiry->client, &inquiry->question,
                           inquiry->failure ? inquiry->failure : DNS_SERVER_FAILURE);
}

static int is_failure(unsigned code) {
    return code == DNS_SERVER_FAILURE || code == DNS_NOT_IMPLEMENTED || code == DNS_REFUSED;
}

/* A server has sent something; what does not belong to the question is forged or late. */
static void heed_inquiry(struct inquiry *inquiry) {
    static uint8_t packet[LARGEST_MESSAGE];
    static struct dns_answer said;
    char name[DNS_NAME];
    for (int i = 0; i < BATCH; i++) {
        long n = SYS6(recvfrom, inquiry->fd, packet, sizeof packet, MSG_DONTWAIT, 0, 0);
        if (n == -EAGAIN) return;
        if (n < 0) {
            ask_next(inquiry);
            return;
        }
        if (!read_answer(packet, (size_t)n, inquiry->id, &inquiry->question, &said)) continue;
        if (is_failure(said.code) && inquiry->attempts < server_count) {
            inquiry->failure = said.code;
            ask_next(inquiry);
            return;
        }
        int is_text = name_text(&inquiry->question.name, name);
        for (unsigned j = 0; j < said.count && is_text; j++) {
            static const uint8_t nowhere[16] = {0}; /* how filtering resolvers say no: no name of loopback */
            const struct given *given = &said.given[j];
            int mapped = given->length == 16 && is_mapped(given->host);
            const uint8_t *host = given->host + (mapped ? 12 : 0);
            unsigned length = mapped ? 4 : given->length;
            if (!same_bytes(host, nowhere, length)) remember(name, host, length, given->ttl);
        }
        end_inquiry(inquiry);
        inquiry->used = 0, inquiry_count--;
        answer_client(&inquiry->client, packet, answer_to_client(&inquiry->question, packet, (size_t)n, 0));
        return;
    }
}

/* Whether a name is one of the policy with a search domain behind it, or a short one with another: resolvers try these,
 * too, and no harm is meant. */
static int is_searched(const char *name) {
    char tried[2 * NAME_ROOM];
    size_t n = text_length(name);
    for (unsigned i = 0; i < search_count; i++) {
        size_t end = text_length(searches[i]);
        if (n <= end + 1 || name[n - end - 1] != '.' || !same(name + n - end, searches[i])) continue;
        size_t stem = n - end - 1;
        memcpy(tried, name, stem), tried[stem] = 0;
        if (may_look_up(&policy, tried)) return 1;
        tried[stem] = '.';
        for (unsigned j = 0; j < search_count; j++) {
            memcpy(tried + stem + 1, searches[j], text_length(searches[j]) + 1);
            if (may_look_up(&policy, tried)) return 1;
        }
    }
    return 0;
}

enum asking { ASKED, NOT_ASKED, REPORTED, NOT_REPORTED };

/* Whether a question goes to the servers; one that does not is reported, unless resolvers ask it on their own. */
static enum asking may_ask(const struct question *question) {
    char name[DNS_NAME];
    const char *names[MOST_NAMES];
    uint8_t host[16];
    if (name_text(&question->name, name)) {
        unsigned length = question->type == DNS_TYPE_PTR ? reversed_address(name, host) : 0;
        if (length && names_of(host, length, names)) return ASKED;
        size_t n = text_length(name);
        if (may_look_up(&policy, name)) return ASKED;
        if (same(name, "localhost") || (n > 10 && same(name + n - 10, ".localhost")) || is_searched(name))
            return NOT_ASKED;
    }
    struct told_question message = {{LINK_QUESTION, 0, 0}, {0}};
    size_t n = question_to_ask(question, question->id, message.packet);
    return tell(&message, sizeof message.head + n) ? REPORTED : NOT_REPORTED;
}

static int same_client(const struct client *a, const struct client *b) {
    return a->fd == b->fd && a->length == b->length && same_bytes(a->name, b->name, a->length);
}

/* Whether a client has asked this already, and asks again out of impatience. */
static int is_repeated(const struct question *question, const struct client *client) {
    unsigned left = inquiry_count;
    for (int i = 0; left && i < MOST_INQUIRIES; i++) {
        const struct question *known = &inquiries[i].question;
        if (!inquiries[i].used) continue;
        left--;
        if (known->id == question->id && known->wire_length == question->wire_length && known->edns == question->edns &&
            same_bytes(known->wire, question->wire, known->wire_length) && same_client(&inquiries[i].client, client))
            return 1;
    }
    return 0;
}

static void take_question(const struct question *question, const struct client *client) {
    static const uint16_t types[] = DNS_TYPES;
    int known = 0, slot = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) known |= question->type == types[i];
    if (!question->plain) {
        answer_without_records(client, question, DNS_REFUSED);
        return;
    }
    switch (may_ask(question)) {
    case NOT_REPORTED: /* the decider has no room for it: the client asks again */
        return;
    case NOT_ASKED:
    case REPORTED:
        answer_without_records(client, question, DNS_NAME_ERROR);
        return;
    case ASKED:
        break;
    }
    if (!known) {
        answer_without_records(client, question, 0);
        return;
    }
    if (inquiry_count >= most_inquiries || is_repeated(question, client)) return;
    while (inquiries[slot].used) slot++;
    struct inquiry *made = &inquiries[slot];
    made->used = 1, made->fd = -1, made->attempts = made->failure = 0;
    made->client = *client, made->question = *question;
    inquiry_count++;
    ask_next(made);
}

static void heed_questions(int which) {
    static uint8_t packet[DNS_LARGEST_QUESTION + 1];
    static struct question question;
    for (int i = 0; i < BATCH; i++) {
        struct client client = {{0}, sizeof client.name, forwarder_fds[which]};
        long n = SYS6(recvfrom, client.fd, packet, sizeof packet, MSG_DONTWAIT, client.name, &client.length);
        if (n < 0) return; /* nothing more, or an error of an answer sent before, which is not this client's */
        if (read_question(packet, (size_t)n, &question)) take_question(&question, &client);
    }
}

/* Look at a connect that is on its way, or a receive (sockets.py: wait_connected, wait_received). */
static void look_at_connect(int slot, int ready_now) {
    struct connecting *it = &connecting[slot];
    long code = 0, would = it->first;
    if (SYS3(ioctl, listener, NOTIF_ID_VALID, &it->call.id) < 0) { /* nobody waits; the connect goes on without us */
        unwatch_connect(slot);
        return;
    }
    if (ready_now) {
        struct event again = {.events = awaited(slot), .source = OF_CONNECT, .index = (uint32_t)slot};
        code = it->receives ? receive_for_task(&it->call, it->fd)
                            : connect_without_sleep(it->fd, &it->to, it->length, &would);
        if (it->receives) would = code == -EAGAIN ? code : 0;
        if (would) SYS4(epoll_ctl, wait_set, EPOLL_CTL_MOD, it->fd, &again);
        if (code == -EISCONN) code = 0;
    }
    int64_t time = milliseconds();
    struct notification call = it->call;
    if (would) {
        code = interruption((long)call.task);
        if (code < 0 && it->deadline) code = -EINTR; /* net/sock.h, sock_intr_errno */
        if (!code && it->deadline && time >= it->deadline) code = it->first;
        if (!code || (code > 0 && is_link_full())) {
            /* Each look costs tens of microseconds: many look less often (sockets.py: Asleep.longest). */
            int64_t longest = LONGEST_PAUSE * (connecting_count < FEW_ASLEEP ? 1 : connecting_count / FEW_ASLEEP);
            it->pause = 2 * it->pause > longest ? longest : 2 * it->pause;
            it->next = time + it->pause;
            if (it->deadline && it->next > it->deadline) it->next = it->deadline;
            return;
        }
    }
    unsigned flags = it->flags;
    int receives = it->receives;
    unwatch_connect(slot);
    if (receives && would && code != it->first) /* the kernel knows what the signal makes of it */
        answer(call.id, 0, NOTIF_FLAG_CONTINUE);
    else if (!receives && code > 0) /* whom the signal is for only the decider finds out */
        leave_to_decider(&call, flags);
    else
        answer(call.id, code, 0);
}

static void tick(void) {
    int64_t time = milliseconds();
    uint64_t rung;
    SYS3(read, wait_timer, &rung, sizeof rung);
    look_at_connections(time);
    for (int i = 0; connecting_count && i < MOST_CONNECTING; i++)
        if (connecting[i].call.id && connecting[i].next <= time) look_at_connect(i, 0);
    for (int i = 0; inquiry_count && i < MOST_INQUIRIES; i++)
        if (inquiries[i].used && inquiries[i].deadline <= time) ask_next(&inquiries[i]);
}

static void heed_waits(int events) {
    static struct event found[MOST_EVENTS];
    long n = events ? SYS6(epoll_pwait, wait_set, found, MOST_EVENTS, 0, 0, SIGSET) : 0;
    for (long i = 0; i < n; i++) {
        unsigned at = found[i].index;
        if (found[i].source == OF_TIMER) tick();
        if (found[i].source == OF_FORWARDER) heed_questions((int)at);
        if (found[i].source == OF_INQUIRY && inquiries[at].used && inquiries[at].fd >= 0) heed_inquiry(&inquiries[at]);
        if (found[i].source == OF_CONNECT && connecting[at].call.id) look_at_connect((int)at, 1);
        if (found[i].source == OF_OWNED) heed_owned((int)at);
    }
    set_timer();
}

/* As many as a quarter of our descriptors, within bounds. */
static unsigned share_of_descriptors(unsigned fewest, unsigned most) {
    uint64_t limit[2] = {4 * most, 0};
    SYS4(prlimit64, 0, RLIMIT_NOFILE, 0, limit);
    return limit[0] / 4 > most ? most : limit[0] / 4 < fewest ? fewest : (unsigned)(limit[0] / 4);
}

/* Bind the forwarder's sockets to loopback; without one of IPv4 there is none. */
static void bind_forwarder(void) {
    struct server own[2] = {{AF_INET, 0, {127, 0, 0, 1}, {0}, 0}, {AF_INET6, 0, {0}, {[15] = 1}, 0}};
    most_inquiries = share_of_descriptors(FEWEST_INQUIRIES, MOST_INQUIRIES);
    for (int i = 0; i < 2 && (!i || forwarder_ports[0]); i++) {
        uint32_t length = sizeof own[i];
        long fd = SYS3(socket, own[i].family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0 && SYS3(bind, fd, &own[i], i ? 28 : 16) == 0 && SYS3(getsockname, fd, &own[i], &length) == 0 &&
            wait_for(fd, EPOLLIN, OF_FORWARDER, i))
            forwarder_fds[i] = fd, forwarder_ports[i] = own[i].port;
        else
            SYS1(close, fd);
    }
}

/* Make what is waited at; the descriptor to be watched, negative where there is none. */
static long open_waits(void) {
    wait_set = SYS1(epoll_create1, EPOLL_CLOEXEC);
    wait_timer = SYS2(timerfd_create, 1, O_NONBLOCK | O_CLOEXEC); /* CLOCK_MONOTONIC */
    if (wait_set < 0 || wait_timer < 0 || !wait_for(wait_timer, EPOLLIN, OF_TIMER, 0)) return -1;
    most_connecting = (int)share_of_descriptors(FEWEST_INQUIRIES, MOST_CONNECTING);
    most_owned = (int)share_of_descriptors(FEWEST_OWNED, MOST_OWNED);
    if (policy.hosts.count) bind_forwarder();
    return wait_set;
}

#endif
