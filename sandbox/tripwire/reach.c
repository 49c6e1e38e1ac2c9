/* What a call reaches on the network: the destination of a connect or a message, and the names that stand for
 * addresses. A refusal is an errno; the text of what was asked for goes into `target`. */
#ifndef SANDBOX_REACH_C
#define SANDBOX_REACH_C

#include "../launcher/dns.c"
#include "filter.c"

enum { TARGET = 1024, STANDING = 512, NAME = 256 };
enum { RANDOM_PART = '*', MOST_FEW = 8 };

struct target {
    char text[TARGET];
    const char *section; /* of a profile, whose entry would be the text; NULL where no list decided */
};

struct standing { /* an address that stands for a name */
    uint8_t host[16];
    uint32_t length;
    char name[NAME];
};

struct endpoint {
    uint8_t host[16];
    unsigned size, port;
};

static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF}, nowhere[16] = {0};
static struct standing standing[STANDING]; /* a ring */
static volatile uint32_t standing_count;
static uint8_t api_host[4];
static volatile int asked_itself; /* whether any socket was connected to a resolver */
static unsigned api_length;
static volatile int api_descriptor = -1;
static volatile int standing_lock, line_lock; /* line_lock: of the arena, too */

/* A lock that a signal handler or a child of vfork may meet: after a while it is passed by. Who has it gets to run
 * meanwhile, also on one processor. */
static void lock(volatile int *word) {
    for (int i = 0; __atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE) && i < 1 << 16; i++) SYS1(sched_yield, 0);
}
static void unlock(volatile int *word) { __atomic_store_n(word, 0, __ATOMIC_RELEASE); }

static size_t put_text(char *to, size_t at, size_t room, const char *text) {
    while (*text && at + 1 < room) to[at++] = *text++;
    to[at] = 0;
    return at;
}

static size_t put_number(char *to, size_t at, size_t room, unsigned long value, unsigned base) {
    char digits[24], *digit = digits + sizeof digits - 1;
    *digit = 0;
    do *--digit = "0123456789abcdef"[value % base];
    while (value /= base);
    return put_text(to, at, room, digit);
}

static unsigned parse_four(const char *text, size_t n, uint8_t *host) { /* dotted decimal; 4, or 0 for none */
    unsigned part = 0, value = 0, digits = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i < n && text[i] >= '0' && text[i] <= '9' && digits < 3) {
            value = 10 * value + (unsigned)(text[i] - '0'), digits++;
        } else {
            if (!digits || value > 255 || part == 4 || (i < n && (text[i] != '.' || part == 3))) return 0;
            host[part++] = (uint8_t)value, value = digits = 0;
        }
    }
    return part == 4 ? 4 : 0;
}

static void read_api_address(void) {
    const char *colon = api_text ? last_char(api_text, ':') : NULL;
    api_port = colon ? parse_number(colon + 1) : 0;
    if (api_port <= 0) return;
    api_length = parse_four(api_text, (size_t)(colon - api_text), api_host);
    if (!api_length && starts_with(api_text, "localhost:")) api_host[0] = 127, api_host[3] = 1, api_length = 4;
}

/* `address` stands for `name` from now on. */
static void stand(const char *name, const uint8_t *host, unsigned length) {
    if (text_length(name) >= NAME) return;
    lock(&standing_lock);
    struct standing *at = NULL;
    uint32_t known = standing_count < STANDING ? standing_count : STANDING;
    for (uint32_t i = 0; i < known && !at; i++)
        if (standing[i].length == length && same_bytes(standing[i].host, host, length) && same(standing[i].name, name))
            at = &standing[i];
    if (!at) {
        at = &standing[standing_count % STANDING];
        memcpy(at->host, host, length);
        memcpy(at->name, name, text_length(name) + 1);
        at->length = length;
        standing_count++;
    }
    unlock(&standing_lock);
}

/* Names for which an address stands, into `names`. */
static unsigned names_of(const uint8_t *host, unsigned length, const char **names, unsigned most) {
    unsigned found = 0;
    uint32_t known = standing_count < STANDING ? standing_count : STANDING;
    for (uint32_t i = 0; i < known && found < most; i++)
        if (standing[i].length == length && same_bytes(standing[i].host, host, length))
            names[found++] = standing[i].name;
    return found;
}

/* In small letters, without the last dot; 0 where it is too long. */
static int small_name(const char *name, char *to) {
    size_t n = 0;
    for (; name[n] && n < NAME - 1; n++) to[n] = (char)small((uint8_t)name[n]);
    if (name[n]) return 0;
    if (n && to[n - 1] == '.') n--;
    to[n] = 0;
    return n > 0;
}

/* Whether a text is an address of IPv6, with IPv4 in its end or without, and maybe with a scope: no name that could
 * leave the host looks like that. */
static int is_six(const char *text) {
    int colons = 0, dots = 0, has_letter = 0;
    for (; *text && *text != '%'; text++) {
        int is_digit = *text >= '0' && *text <= '9', is_letter = (*text | 32) >= 'a' && (*text | 32) <= 'f';
        if (*text == ':') {
            colons++, has_letter = 0;
            if (dots) return 0;
        } else if (*text == '.') {
            dots++;
        } else if (!is_digit && !is_letter) {
            return 0;
        }
        has_letter |= is_letter;
        if (dots && has_letter) return 0;
    }
    for (const char *at = text; *at; at++)
        if (*at == '.') return 0;
    return colons > 1;
}

/* Whether a name, as a function gives it to the resolver, may be asked for. An address is not a question. */
static int may_ask(const char *name) {
    static char host[NAME];
    char found[NAME];
    uint8_t address[4];
    if (!name || !*name || parse_four(name, text_length(name), address) || is_six(name)) return 1;
    if (!small_name(name, found) || same(found, "localhost") || may_look_up(&policy, found)) return 1;
    static char names[6][65]; /* struct utsname */
    if (!*host && SYS1(uname, names) == 0 && !small_name(names[1], host)) *host = 0;
    return same(found, host);
}

/* A `*` of an entry stands for what is in one part of a path. */
static int is_like(const char *pattern, const char *text) {
    for (; *pattern; pattern++, text++) {
        if (*pattern == RANDOM_PART) {
            int last = !pattern[1];
            for (;; text++) {
                if (!last && is_like(pattern + 1, text)) return 1;
                if (!*text) return last;
                if (!last && *text == '/') return 0;
            }
        }
        if (*pattern != *text) return 0;
    }
    return !*text;
}

/* Whether an entry of a list with this beginning is like a text; NULL: whether there is one. */
static int has_entry(const char *list, const char *begins, const char *text) {
    char entry[TARGET];
    for (const char *at = list; at && *at == '"';) {
        size_t n = 0;
        for (at++; *at && *at != '"'; at++) {
            if (*at == '\\' && at[1]) at++;
            if (n < sizeof entry - 1) entry[n++] = *at;
        }
        entry[n] = 0;
        if (starts_with(entry, begins) && (!text || is_like(entry + text_length(begins), text))) return 1;
        at += *at == '"';
        at += *at == ',';
    }
    return 0;
}

static int has_destination(const char *begins, const char *text) { return has_entry(destinations, begins, text); }

/* Whether /etc/resolv.conf names this server. */
static int is_resolver(const uint8_t *host, unsigned length) {
    static char text[4096];
    static volatile int known;
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    if (!known) {
        long fd = SYS4(openat, AT_FDCWD, "/etc/resolv.conf", O_CLOEXEC, 0), n = SYS3(read, fd, text, sizeof text - 1);
        SYS1(close, fd);
        text[n > 0 ? n : 0] = 0;
        known = 1;
    }
    int any = 0;
    for (const char *at = text; *at;) {
        if (starts_with(at, "nameserver")) {
            uint8_t server[4];
            size_t n = 0;
            for (at += 10; *at == ' ' || *at == '\t';) at++;
            while (at[n] && at[n] != '\n' && at[n] != ' ') n++;
            any = 1;
            if (length == 16 && !parse_four(at, n, server)) return 1; /* one of them is of IPv6 */
            if (length == 4 && parse_four(at, n, server) && same_bytes(server, host, 4)) return 1;
        }
        while (*at && *at++ != '\n') continue;
    }
    return !any && length == 4 && same_bytes(host, loopback, 4);
}

static void describe(struct target *to, int protocol, const uint8_t *host, unsigned length, const char *name,
                     unsigned port) {
    char *text = to->text;
    to->section = "network";
    size_t at = put_text(text, 0, TARGET, name && protocol == TCP ? "" : protocol == TCP ? "tcp://" : "udp://");
    if (name) {
        at = put_text(text, at, TARGET, name);
    } else if (length == 4) {
        for (unsigned i = 0; i < 4; i++) {
            if (i) at = put_text(text, at, TARGET, ".");
            at = put_number(text, at, TARGET, host[i], 10);
        }
    } else {
        at = put_text(text, at, TARGET, "[");
        for (unsigned i = 0; i < 16; i += 2) {
            if (i) at = put_text(text, at, TARGET, ":");
            at = put_number(text, at, TARGET, (unsigned long)(host[i] << 8 | host[i + 1]), 16);
        }
        at = put_text(text, at, TARGET, "]");
    }
    at = put_text(text, at, TARGET, ":");
    put_number(text, at, TARGET, port, 10);
}

static int is_stream(long fd) {
    int value = 0;
    uint32_t size = sizeof value;
    return SYS5(getsockopt, fd, SOL_SOCKET, SO_TYPE, &value, &size) < 0 || value == SOCK_STREAM;
}

/* An address of IPv4 or IPv6; mapped IPv4 is IPv4, and the unspecified address is loopback, as to the kernel. 0 for
 * another family. */
static int read_endpoint(const uint8_t *address, uint64_t length, struct endpoint *to) {
    uint16_t family;
    memcpy(&family, address, 2);
    if ((family != AF_INET || length < 8) && (family != AF_INET6 || length < 24)) return 0;
    to->port = (unsigned)(address[2] << 8 | address[3]), to->size = family == AF_INET ? 4 : 16;
    memcpy(to->host, address + (family == AF_INET ? 4 : 8), to->size);
    if (to->size == 16 && same_bytes(to->host, mapped, 12)) {
        memcpy(to->host, to->host + 12, 4);
        to->size = 4;
    }
    if (same_bytes(to->host, nowhere, to->size)) to->host[0] = to->size == 4 ? 127 : 0, to->host[to->size - 1] = 1;
    return 1;
}

/* Whether a socket is connected to a resolver. The kernel is asked: it knows that of each duplicate, too. */
static int asks(long fd) {
    uint8_t address[LONGEST_ADDRESS];
    uint32_t length = sizeof address;
    struct endpoint peer;
    return asked_itself && SYS3(getpeername, fd, address, &length) == 0 && length >= 2 &&
           read_endpoint(address, length, &peer) && peer.port == DNS_PORT && is_resolver(peer.host, peer.size);
}

static int reaches_unix(const uint8_t *address, uint64_t length, struct target *to) {
    const char *path = (const char *)address + 2;
    size_t n = length > 2 ? (size_t)length - 2 : 0;
    if (n > SUN_PATH) n = SUN_PATH;
    if (!n) return 0; /* without a name it leads nowhere */
    char text[SUN_PATH + 2];
    size_t at = 0;
    for (size_t i = 0; i < n && (path[i] || !i); i++) text[at++] = !i && !*path ? '@' : path[i];
    text[at] = 0;
    put_text(to->text, put_text(to->text, 0, TARGET, "unix:"), TARGET, text);
    to->section = "network";
    if (*text != '@' && SYS3(faccessat, AT_FDCWD, text, 0) < 0) return 0; /* the kernel says so */
    return has_destination("unix:", text) || (policy.own && *text == '@') ? 0 : EPERM;
}

/* Whether an address may be connected or sent to; `sends` for a message. */
static int reaches(long fd, const uint8_t *address, uint64_t length, int sends, struct target *to) {
    const char *names[MOST_FEW];
    struct endpoint peer;
    uint16_t family;
    if (!address || length < 2) return 0; /* the kernel says EFAULT or EINVAL */
    memcpy(&family, address, 2);
    if (family == AF_UNIX) return reaches_unix(address, length, to);
    if (!read_endpoint(address, length, &peer)) return 0;
    const uint8_t *host = peer.host;
    unsigned port = peer.port, size = peer.size;
    int protocol = !sends && is_stream(fd) ? TCP : UDP;
    if (protocol == TCP && (long)port == api_port && phase != RUN &&
        (!api_length || (size == api_length && same_bytes(host, api_host, size)))) {
        phase = INVOKE;
        if (inherited_phase) *inherited_phase = '1';
        api_descriptor = (int)fd;
        return 0;
    }
    if (protocol == TCP && api_descriptor == (int)fd) api_descriptor = -1;
    if (port == DNS_PORT && counts_names && is_resolver(host, size)) {
        if (!sends) asked_itself = 1;
        return 0;
    }
    unsigned count = names_of(host, size, names, MOST_FEW);
    if (is_allowed(&policy, protocol, host, size, port, names, count)) return 0;
    int loopback = size == 4 ? host[0] == 127 : same_bytes(host, nowhere, 15) && host[15] == 1;
    if (policy.own && loopback) return 0;
    if (!sends && protocol == UDP && has_destination("routes", NULL)) return 0;
    if (policy.network == NETWORK_FAMILY && !has_destination("", NULL)) return 0; /* none is listed at all */
    describe(to, protocol, host, size, count ? names[0] : NULL, port);
    return EPERM;
}

/* Whether a socket may be bound to an address: of TCP Landlock would know the port; of UDP the kernel may choose it. */
static int binds(long fd, const uint8_t *address, uint64_t length, struct target *to) {
    char wanted[16];
    uint16_t family;
    if (!address || length < 4 || policy.bind == BIND_ANY) return 0;
    memcpy(&family, address, 2);
    if ((family != AF_INET || length < 8) && (family != AF_INET6 || length < 24)) return 0;
    long port = address[2] << 8 | address[3];
    int protocol = is_stream(fd) ? TCP : UDP;
    put_number(wanted, put_text(wanted, 0, sizeof wanted, "*:"), sizeof wanted, (unsigned long)port, 10);
    if (protocol == UDP && (!port || has_entry(listens, "udp://", wanted) || has_entry(listens, "udp://", "*:*")))
        return 0;
    for (uint32_t i = 1; protocol == TCP && policy.bind == BIND_PORTS && i <= policy.bind_ports.count; i++)
        if (port_at(&policy.bind_ports, i, 0) == port) return 0;
    describe(to, protocol, address + (family == AF_INET ? 4 : 8), family == AF_INET ? 4 : 16, NULL, (unsigned)port);
    to->section = "listen";
    return EACCES;
}

/* The addresses in a message of a resolver, for the name that it answers about. */
static void hear(const uint8_t *packet, size_t n) {
    struct question question = {0};
    struct dns_answer found;
    struct dns_message in = {packet, n, DNS_HEADER, 0};
    char name[DNS_NAME + 1];
    if (n < DNS_HEADER || !(packet[2] & 0x80) || wide16(packet + 4) != 1) return;
    get_name(&in, &question.name);
    question.type = (uint16_t)get16(&in), question.class = (uint16_t)get16(&in);
    if (in.broken || !name_text(&question.name, name) || !may_look_up(&policy, name)) return;
    if (!read_answer(packet, n, wide16(packet), &question, &found)) return;
    for (unsigned i = 0; i < found.count; i++) stand(name, found.given[i].host, found.given[i].length);
}

/* Whether a question that goes to a resolver asks for a name of the profile. */
static int may_send_question(const uint8_t *packet, size_t n, struct target *to) {
    struct dns_message in = {packet, n, DNS_HEADER, 0};
    struct dns_name name;
    char text[DNS_NAME + 1];
    if (n < DNS_HEADER + 5 || packet[2] & 0x80) return 0;
    get_name(&in, &name);
    if (in.broken) return EPERM;
    if (!name_text(&name, text)) return EPERM;
    if (!*text || may_ask(text)) return 0;
    put_text(to->text, put_text(to->text, 0, TARGET, "dns://"), TARGET, text);
    to->section = "network";
    return EPERM;
}

#endif
