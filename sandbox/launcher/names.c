/* Which addresses stand for which names: by answers, for a time, and by the hosts file; and what else the files of the
 * C library's resolver say (man 5 resolv.conf, man 5 hosts). It says what sandbox/names/addresses.py does. The files
 * are read before the function runs. */
#ifndef SANDBOX_NAMES_C
#define SANDBOX_NAMES_C

#include "dns.c"
#include "seccomp.c"

enum { MOST_STANDING = 2048, MOST_SEARCHES = 16, FILE_LARGEST = 1 << 20, NAME_ROOM = 256 };
enum { SIOCGIFINDEX = 0x8933 }; /* linux/sockios.h */
#define FOR_GOOD (1LL << 62)

struct standing {                          /* until when an address stands for a name, in seconds of CLOCK_MONOTONIC */
    uint8_t host[16], length, told, fixed; /* told: to the decider; fixed: by the hosts file */
    int64_t until;
    uint64_t heard;
    char name[NAME_ROOM];
};

struct server { /* struct sockaddr_in6, or _in with its four bytes of an address */
    uint16_t family, port;
    uint8_t host4[4], host6[16];
    uint32_t scope;
};

static struct standing *standing;             /* made before the start; aarch64 reaches 1 MiB of variables */
static uint32_t standing_keys[MOST_STANDING]; /* of the address: what is looked through */
static unsigned standing_count, standing_untold;
static uint64_t standing_heard;
static struct server servers[MOST_SERVERS];
static unsigned server_count;
static char searches[MOST_SEARCHES][NAME_ROOM];
static unsigned search_count;

static int64_t now(void) {
    long time[2] = {0, 0};
    SYS2(clock_gettime, 1, time); /* CLOCK_MONOTONIC */
    return time[0];
}

static uint32_t key_of(const uint8_t *host, unsigned length) {
    uint32_t key = length;
    for (unsigned i = 0; i < length; i++) key = key * 31 + host[i];
    return key;
}

static int stands(unsigned i, uint32_t key, const uint8_t *host, unsigned length) {
    return standing_keys[i] == key && standing[i].length == length && same_bytes(standing[i].host, host, length);
}

static void forget(unsigned i) {
    standing_untold -= !standing[i].told;
    standing[i] = standing[--standing_count], standing_keys[i] = standing_keys[standing_count];
}

/* The address stands for the name until then, and for no shorter time than it did. */
static void stand_until(const char *name, const uint8_t *host, unsigned length, int64_t until, int fixed) {
    uint32_t key = key_of(host, length);
    unsigned oldest = 0, names = 0, first = MOST_STANDING, at = MOST_STANDING;
    for (unsigned i = 0; i < standing_count; i++) {
        /* Of the hosts file is no more than half of a full table. */
        if (standing[oldest].fixed || (!standing[i].fixed && standing[i].heard < standing[oldest].heard)) oldest = i;
        if (!stands(i, key, host, length)) continue;
        if (same(standing[i].name, name)) at = i;
        if (first == MOST_STANDING || standing[i].heard < standing[first].heard) first = i;
        names++;
    }
    if (at == MOST_STANDING) {
        if (names == MOST_NAMES) {
            forget(first);
        } else if (standing_count == MOST_STANDING) {
            forget(oldest);
        }
        at = standing_count++, standing_untold++;
        struct standing *made = &standing[at];
        standing_keys[at] = key, made->length = (uint8_t)length, made->until = 0, made->told = made->fixed = 0;
        memcpy(made->host, host, length);
        memcpy(made->name, name, text_length(name) + 1);
    }
    if (until > standing[at].until) {
        standing[at].until = until;
        standing_untold += standing[at].told, standing[at].told = 0; /* for that long the decider is to know it, too */
    }
    if (fixed) standing[at].fixed = 1;
    standing[at].heard = ++standing_heard;
}

static void remember(const char *name, const uint8_t *host, unsigned length, uint32_t ttl) {
    int64_t seconds = ttl < LONGEST_STANDING ? ttl : LONGEST_STANDING;
    stand_until(name, host, length, policy.names_keep ? now() + seconds + policy.names_keep : FOR_GOOD, 0);
}

/* Whether a table of connections has one to an address, whose ends are given in the table's hexadecimal. */
static int connects_to(const char *table, const char *end, unsigned digits) {
    static char part[1 << 14];
    char line[160];
    unsigned used = 0, found = 0;
    long fd = open_read(table), n;
    while (!found && (n = fd < 0 ? 0 : SYS3(read, fd, part, sizeof part)) > 0)
        for (long i = 0; i < n && !found; i++) {
            if (part[i] != '\n') {
                if (used < sizeof line - 1) line[used++] = part[i];
                continue;
            }
            line[used] = 0, used = 0;
            /* `  sl  local_address rem_address   st`: TCP_ESTABLISHED, also of datagram sockets, or TCP_CLOSE_WAIT */
            const char *at = line;
            for (int word = 0; word < 2; word++) {
                while (*at == ' ') at++;
                while (*at && *at != ' ') at++;
            }
            while (*at == ' ') at++;
            if (text_length(at) < digits + 8 || !same_bytes(at, end, digits) || at[digits] != ':') continue;
            at += digits + 6;
            found = same_bytes(at, "01", 2) || same_bytes(at, "08", 2);
        }
    SYS1(close, fd);
    return (int)found;
}

static int is_connected(const uint8_t *host, unsigned length) {
    static const char digit[] = "0123456789ABCDEF";
    static const char *const places[] = {"/proc/net/tcp6", "/proc/net/udp6", "/proc/net/tcp", "/proc/net/udp"};
    uint8_t whole[16] = {[10] = 0xFF, [11] = 0xFF};
    char end[33];
    memcpy(whole + 16 - length, host, length);
    for (int word = 0; word < 16; word += 4) /* each as the number that it is on a little-endian machine */
        for (int i = 0; i < 4; i++) {
            end[2 * (word + i)] = digit[whole[word + 3 - i] >> 4];
            end[2 * (word + i) + 1] = digit[whole[word + 3 - i] & 15];
        }
    for (int i = 0; i < (length == 4 ? 4 : 2); i++)
        if (connects_to(places[i], i < 2 ? end : end + 24, i < 2 ? 32 : 8)) return 1;
    return 0;
}

/* The names for which an address stands now, into `names`, at most MOST_NAMES and those of the hosts file. What its
 * time has passed stays while a connection to the address is open. */
static unsigned names_of(const uint8_t *host, unsigned length, const char **names) {
    uint32_t key = key_of(host, length);
    int64_t time = 0;
    unsigned count = 0;
    int open = -1;
    for (unsigned i = 0; i < standing_count;) {
        if (!stands(i, key, host, length)) {
            i++;
            continue;
        }
        if (!time) time = now();
        if (standing[i].until <= time && open < 0) open = is_connected(host, length);
        if (standing[i].until <= time && !open) {
            forget(i);
            continue;
        }
        standing[i].heard = ++standing_heard;
        if (count < MOST_NAMES) names[count++] = standing[i].name;
        i++;
    }
    return count;
}

/* A host name in small letters without its last dot, into `to` (NAME_ROOM bytes); 0: it is none. */
static int canonical_name(const char *text, size_t n, char *to) {
    size_t label = 0, digits = 0;
    if (n && text[n - 1] == '.') n--;
    if (!n || n > 253) return 0;
    for (size_t i = 0; i <= n; i++) {
        char c = i < n ? (char)small((uint8_t)text[i]) : '.';
        if (c == '.') {
            if (!label || label > 63 || (i == n && digits == label)) return 0;
            label = digits = 0;
        } else {
            int decimal = c >= '0' && c <= '9';
            if (!decimal && (c < 'a' || c > 'z') && c != '-' && c != '_') return 0;
            label++, digits += (size_t)decimal;
        }
        to[i] = i < n ? c : 0;
    }
    return 1;
}

/* An IPv4 or IPv6 address as inet_pton(3) takes it; its length in bytes, 0 for none. */
static unsigned parse_address(const char *text, size_t n, uint8_t *to) {
    uint8_t found[16] = {0};
    unsigned at = 0, gap = 16;
    size_t i = 0;
    int colons = 0;
    for (size_t j = 0; j < n; j++) colons += text[j] == ':';
    if (!colons) return n < 16 && parse_host(slice(text, n), to) ? 4 : 0;
    if (n > 1 && text[0] == ':' && text[1] == ':')
        i = 1;
    else if (text[0] == ':')
        return 0;
    while (i < n) {
        unsigned value = 0, digits = 0;
        size_t begin = i;
        if (text[i] == ':') { /* the second of two */
            if (gap < 16) return 0;
            gap = at, i++;
            continue;
        }
        for (; i < n && digits < 5; i++, digits++) {
            char c = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] + 32) : text[i];
            if (c >= '0' && c <= '9')
                value = value << 4 | (unsigned)(c - '0');
            else if (c >= 'a' && c <= 'f')
                value = value << 4 | (unsigned)(c - 'a' + 10);
            else
                break;
        }
        if (i < n && text[i] == '.') {
            if (at > 12 || n - begin > 15 || !parse_host(slice(text + begin, n - begin), found + at)) return 0;
            at += 4, i = n;
            break;
        }
        if (!digits || digits > 4 || at > 14) return 0;
        put16(found + at, value), at += 2;
        if (i < n && text[i++] != ':') return 0;
        if (i == n && text[n - 1] == ':') return 0;
    }
    if (gap == 16 ? at != 16 : at > 14) return 0;
    for (unsigned j = 0; j < 16; j++) {
        unsigned shift = 16 - at;
        to[j] = gap == 16 || j < gap ? found[j] : j < gap + shift ? 0 : found[j - shift];
    }
    return 16;
}

static int is_mapped(const uint8_t *host) {
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    return same_bytes(host, mapped, 12);
}

/* The number of a network interface, by a scope's text. */
static uint32_t scope_of(const char *text) {
    struct { /* struct ifreq */
        char name[16];
        int32_t index;
        uint8_t rest[20];
    } request = {{0}, 0, {0}};
    long number = parse_number(text), fd;
    if (number >= 0 || text_length(text) > 15) return number < 0 ? 0 : (uint32_t)number;
    memcpy(request.name, text, text_length(text));
    fd = SYS3(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (SYS3(ioctl, fd, SIOCGIFINDEX, &request) < 0) request.index = 0;
    SYS1(close, fd);
    return (uint32_t)request.index;
}

static void add_server(const char *word) {
    uint8_t host[16];
    size_t n = 0;
    while (word[n] && word[n] != '%') n++;
    unsigned length = parse_address(word, n, host);
    if (!length || server_count == MOST_SERVERS) return;
    struct server *server = &servers[server_count++];
    *server = (struct server){length == 4 ? AF_INET : AF_INET6, DNS_PORT << 8, {0}, {0}, 0};
    memcpy(length == 4 ? server->host4 : server->host6, host, length);
    if (word[n]) server->scope = scope_of(word + n + 1);
}

/* Call `heed` with the words of each line of a file, comments left out; they last until it returns. */
static void each_line(const char *path, void (*heed)(char **words, int count)) {
    char *text = alloc(FILE_LARGEST + 1), *words[64];
    long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, text, FILE_LARGEST);
    SYS1(close, fd);
    text[n > 0 ? n : 0] = 0;
    const char *end = text + (n > 0 ? n : 0);
    for (char *at = text; at < end;) {
        int count = 0, comment = 0, inside = 0;
        for (; at < end && *at != '\n' && *at != '\r'; at++) {
            comment |= *at == '#';
            int space = comment || (*at >= 0 && *at <= ' ');
            if (!space && !inside && count < 64) words[count++] = at;
            if (space) *at = 0;
            inside = !space;
        }
        *at++ = 0;
        if (count) heed(words, count);
    }
    release(text);
}

static void take_resolver_line(char **words, int count) {
    int searched = same(words[0], "search"), domain = same(words[0], "domain");
    if (same(words[0], "nameserver") && count > 1) add_server(words[1]);
    if (!searched && !domain) return;
    search_count = 0;
    for (int i = 1; i < (domain && count > 2 ? 2 : count) && search_count < MOST_SEARCHES; i++)
        search_count += (unsigned)canonical_name(words[i], text_length(words[i]), searches[search_count]);
}

static void take_hosts_line(char **words, int count) {
    static const uint8_t nowhere[16] = {0}; /* a connect there ends at loopback */
    uint8_t host[16], *reached = host;
    char name[NAME_ROOM];
    size_t n = 0;
    while (words[0][n] && words[0][n] != '%') n++;
    unsigned length = parse_address(words[0], n, host);
    if (!length) return;
    if (length == 16 && is_mapped(host)) reached = host + 12, length = 4;
    if (same_bytes(reached, nowhere, length)) reached[0] = length == 4 ? 127 : 0, reached[length - 1] = 1;
    for (int i = 1; i < count && standing_count < MOST_STANDING / 2; i++)
        if (canonical_name(words[i], text_length(words[i]), name) && may_look_up(&policy, name))
            stand_until(name, reached, length, FOR_GOOD, 1);
}

/* LOCALDOMAIN, whose domains stand in the place of those of resolv.conf; '' changes nothing. */
static void take_local_domains(const char *local) {
    if (*local) search_count = 0;
    while (*local && search_count < MOST_SEARCHES) {
        size_t n = 0;
        while (*local == ' ' || *local == '\t') local++;
        while (local[n] && local[n] != ' ' && local[n] != '\t') n++;
        search_count += (unsigned)canonical_name(local, n, searches[search_count]);
        local += n;
    }
}

static void make_table(void) { standing = alloc(MOST_STANDING * sizeof *standing); }

/* Read the resolver's files, for a policy with names; `local` is the function's LOCALDOMAIN. */
static void read_resolver_files(const char *local) {
    make_table();
    each_line("/etc/resolv.conf", take_resolver_line);
    take_local_domains(local);
    if (!server_count) add_server("127.0.0.1");
    each_line("/etc/hosts", take_hosts_line);
}

#endif
