/* What a call reaches: the destination of a connect or a message, the names that stand for addresses, paths and
 * programs. A refusal is an errno; the text of what was asked for goes into `target`. */
#ifndef SANDBOX_REACH_C
#define SANDBOX_REACH_C

#include "../launcher/dns.c"
#include "filter.c"

enum { TARGET = 1024, STANDING = 512, NAME = 256, LONGEST = 4096 };
enum { RANDOM_PART = '*', MOST_FEW = 8 };

struct target {
    char text[TARGET];
    const char *section; /* of a profile, whose entry would be the text; NULL where no list decided */
};

struct place { /* what a rule on files means here, without links */
    const char *path;
    uint32_t length, whole;
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
static const struct place *writable, *startable;
static uint32_t writable_count, startable_count;
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

/* Where a path leads, without links, into `to`; 0 where nobody can tell. `last` is not followed where `names` it. */
static int leads_to(long folder, const char *path, int names, char *to, size_t room) {
    char link[40], above[LONGEST], pointed[LONGEST];
    const char *rest = "";
    long fd = names ? -ENOENT : SYS4(openat, folder, path, O_PATH | O_CLOEXEC, 0), n = fd == -ENOENT, from = folder;
    for (int links = 0; n > 0 && links <= MOST_LINKS; links++) { /* what a link leads to is made, if it is not there */
        size_t cut = text_length(path);
        while (cut && path[cut - 1] == '/') cut--;
        while (cut && path[cut - 1] != '/') cut--;
        if (cut >= sizeof above) return 0;
        memcpy(above, cut ? path : ".", cut ? cut : 1);
        above[cut ? cut : 1] = 0;
        rest = path + cut;
        fd = SYS4(openat, from, above, O_PATH | O_CLOEXEC, 0);
        if (from != folder) SYS1(close, from);
        n = fd < 0 || names ? 0 : SYS4(readlinkat, fd, rest, pointed, sizeof pointed - 1);
        if (n > 0) pointed[n] = 0, path = pointed, from = fd;
    }
    if (fd < 0) return 0;
    put_number(link, put_text(link, 0, sizeof link, "/proc/self/fd/"), sizeof link, (unsigned long)fd, 10);
    long got = SYS4(readlinkat, AT_FDCWD, link, to, (long)room - 1);
    SYS1(close, fd);
    if (got <= 0) return 0;
    to[got] = 0;
    size_t at = (size_t)got;
    if (*rest && to[at - 1] != '/') at = put_text(to, at, room, "/");
    put_text(to, at, room, rest);
    for (at = text_length(to); at > 1 && to[at - 1] == '/'; at--) to[at - 1] = 0;
    return 1;
}

static int is_in(const struct place *places, uint32_t count, const char *path) {
    size_t n = text_length(path);
    for (uint32_t i = 0; i < count; i++) {
        size_t length = places[i].length;
        if (n < length || !same_bytes(path, places[i].path, length)) continue;
        if (!path[length] || (places[i].whole && (path[length] == '/' || length == 1))) return 1;
    }
    return 0;
}

/* Paths that a program wrote to: folders (with a slash behind) below which everything may be written, and files there
 * that are no links. Where a path leads is asked of the kernel by three calls, and programs write to few. Whatever
 * could put a link there forgets them; only another process does so unseen. */
enum { SEEN_PATHS = 8, SEEN_PATH = 256 };
static struct seen_path {
    uint32_t length;
    char text[SEEN_PATH];
} seen_folders[SEEN_PATHS], seen_files[SEEN_PATHS];
static volatile uint32_t seen_folder_count, seen_file_count, seen_version; /* odd: they are being written */
static volatile int seen_lock;

/* By eight bytes at a time, at addresses that no page ends within. */
static size_t quick_length(const char *text) {
    const char *at = text;
    uint64_t word;
    for (; (uintptr_t)at % 8; at++)
        if (!*at) return (size_t)(at - text);
    for (;; at += 8) {
        __builtin_memcpy(&word, __builtin_assume_aligned(at, 8), 8);
        if ((word - 0x0101010101010101U) & ~word & 0x8080808080808080U) break;
    }
    while (*at) at++;
    return (size_t)(at - text);
}

/* The length of the folder's part of a path, with its slash; 0 where its last part is none. */
static size_t folder_part(const char *path, size_t n) {
    while (n && path[n - 1] != '/') n--;
    const char *last = path + n;
    return !*last || same(last, ".") || same(last, "..") ? 0 : n;
}

static int is_seen(const struct seen_path *seen, volatile uint32_t *count, const char *path, size_t n) {
    int found = 0;
    uint32_t version = __atomic_load_n(&seen_version, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < SEEN_PATHS && i < *count && !found; i++) {
        size_t at = 0;
        uint64_t one = 0, other = 0;
        if (seen[i].length != n) continue;
        for (; at + 8 <= n && one == other; at += 8)
            __builtin_memcpy(&one, seen[i].text + at, 8), __builtin_memcpy(&other, path + at, 8);
        found = one == other && same_bytes(seen[i].text + at, path + at, n - at);
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return found && !(version & 1) && version == seen_version;
}

static void begin_seen(void) {
    lock(&seen_lock);
    __atomic_store_n(&seen_version, seen_version | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void end_seen(void) {
    __atomic_store_n(&seen_version, (seen_version | 1) + 1, __ATOMIC_RELEASE);
    unlock(&seen_lock);
}

static void note_seen(struct seen_path *seen, volatile uint32_t *count, const char *path, size_t n) {
    begin_seen();
    uint32_t i = *count % SEEN_PATHS;
    memcpy(seen[i].text, path, n);
    seen[i].length = (uint32_t)n;
    *count = *count + 1 < 2 * SEEN_PATHS ? *count + 1 : SEEN_PATHS;
    end_seen();
}

/* Something is moved, linked or removed. */
static void forget_paths(int with_folders) {
    begin_seen();
    seen_file_count = 0;
    if (with_folders) seen_folder_count = 0;
    end_seen();
}

static int exists_at(const char *path) { return SYS3(faccessat, AT_FDCWD, path, 0) == 0; }

static uint32_t expand(const struct list *rules, const struct place **to, int whole) {
    struct place *into = alloc(rules->count * (size_t)(folder_count + 1) * sizeof *into);
    const char *rule = rules->first;
    char path[TARGET], real[4096];
    uint32_t count = 0;
    for (uint32_t i = 0; i < rules->count; i++, rule = next_text(rule))
        for (int j = -1; j < folder_count; j++) {
            if (base_of(rule) ? j < 0 || folder_bases[j] != base_of(rule) : j >= 0) continue;
            put_text(path, put_text(path, 0, TARGET, j < 0 ? "" : folders[j]), TARGET, path_in(rule));
            if (!*path || !leads_to(AT_FDCWD, path, 0, real, sizeof real) || *real != '/') continue;
            if (!exists_at(path)) continue; /* nothing above it is opened in its place */
            size_t n = text_length(real);
            into[count++] = (struct place){slice(real, n), (uint32_t)n, whole || is_whole(rule)};
        }
    *to = into;
    return count;
}

static void expand_places(void) {
    writable_count = expand(&policy.files.write, &writable, 1);
    startable_count = expand(&policy.files.programs, &startable, 0);
}

/* Whether a path may be written to, made or removed; the last part's link is not followed where the call `names` it. */
static int writes(long folder, const char *path, int names, struct target *to) {
    char real[4096], above[SEEN_PATH], link[1];
    if (!policy.files.listed || !path) return 0;
    size_t whole = *path == '/' ? quick_length(path) : SEEN_PATH;
    if (whole < SEEN_PATH && !names && is_seen(seen_files, &seen_file_count, path, whole)) return 0;
    size_t n = whole < SEEN_PATH ? folder_part(path, whole) : 0;
    long code = 0;
    if (n) code = names ? -ENOENT : SYS4(readlinkat, AT_FDCWD, path, link, sizeof link);
    if (code == -EINVAL || code == -ENOENT) { /* no link, or nothing: its folder says where it lies */
        int is_open = is_seen(seen_folders, &seen_folder_count, path, n);
        if (!is_open) {
            memcpy(above, path, n);
            above[n] = 0;
            is_open = leads_to(AT_FDCWD, above, 0, real, sizeof real) && is_in(writable, writable_count, real);
            if (is_open) note_seen(seen_folders, &seen_folder_count, path, n);
        }
        if (is_open && !names) note_seen(seen_files, &seen_file_count, path, whole);
        if (is_open) return 0;
    }
    if (!leads_to(folder, path, names, real, sizeof real) || *real != '/') return 0;
    if (is_in(writable, writable_count, real)) return 0;
    put_text(to->text, 0, TARGET, real);
    to->section = "files.write";
    return EACCES;
}

static int is_program(const char *path, uint64_t *file) {
    uint64_t found[24]; /* struct stat */
    uint32_t mode;
    if (SYS4(newfstatat, AT_FDCWD, path, found, 0) < 0) return 0;
    memcpy(&mode, (char *)found + STAT_MODE, 4);
    if (file) file[0] = found[0], file[1] = found[1];
    return (mode & S_IFMT) == S_IFREG && SYS3(faccessat, AT_FDCWD, path, X_OK) == 0;
}

static void report_bare(const char *path); /* report.c */

/* Say it where a program is started that no loader puts this library into. */
static void look_for_loader(const char *path) {
    unsigned char head[4096];
    long fd = SYS4(openat, AT_FDCWD, path, O_CLOEXEC, 0), n = SYS3(read, fd, head, sizeof head);
    uint64_t at, offset, size;
    SYS1(close, fd);
    if (n < 64 || !same_bytes(head, "\177ELF", 4)) return; /* of a script its interpreter is asked for by the kernel */
    uint32_t count = head[4] == 2 ? head[56] | (uint32_t)head[57] << 8 : 0;
    memcpy(&at, head + 32, 8);
    for (; count && at <= (uint64_t)n - 56; count--, at += 56) {
        if (!same_bytes(head + at, "\3\0\0", 4)) continue; /* PT_INTERP */
        memcpy(&offset, head + at + 8, 8);
        memcpy(&size, head + at + 32, 8);
        size_t length = sizeof "/" LOADER;
        if (size >= length && offset + size <= (uint64_t)n &&
            same_bytes(head + offset + size - length, "/" LOADER, length))
            return;
    }
    report_bare(path);
}

/* Whether a program may be started; a `name` without a slash is searched for as execvp(3) does. */
static int starts(long folder, const char *path, int search, struct target *to) {
    char tried[TARGET], real[4096];
    uint64_t file[2];
    if (!path) return 0;
    put_text(to->text, 0, TARGET, path);
    if (policy.exec == EXEC_SINGLE_USE) return EPERM;
    if (search && *path && !last_char(path, '/')) {
        const char *at = variable("PATH"), *name = path;
        for (path = NULL; !path;) {
            size_t n = 0;
            while (at[n] && at[n] != ':') n++;
            if (n && n < sizeof tried - 1) {
                memcpy(tried, at, n);
                tried[n] = 0;
                put_text(tried, put_text(tried, n, sizeof tried, "/"), sizeof tried, name);
                if (is_program(tried, NULL)) path = tried;
            }
            if (!path && !at[n]) return 0; /* there is none */
            at += n + (at[n] == ':');
        }
    }
    if (!leads_to(folder, path, 0, real, sizeof real) || *real != '/') return 0;
    put_text(to->text, 0, TARGET, real);
    if (!policy.files.limited || is_in(startable, startable_count, real)) {
        look_for_loader(real);
        return 0;
    }
    if (is_program(real, file) && file[0] == own_program[0] && file[1] == own_program[1]) return 0;
    to->section = "processes";
    return EACCES;
}

#endif
