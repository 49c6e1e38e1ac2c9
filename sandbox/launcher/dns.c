/* DNS messages as the forwarder needs them (RFC 1035): a question of the function, the question that goes upstream, and
 * what of an answer counts. No system calls, no allocation, every length checked: fuzz_dns.c compiles this without the
 * rest. It takes and refuses what sandbox/names/questions.py does, and its tests compare the two. */
#ifndef SANDBOX_DNS_C
#define SANDBOX_DNS_C

#include "numbers.h"
#include <stddef.h>
#include <stdint.h>

enum { DNS_HEADER = 12, DNS_NAME = 255, DNS_WIRE = DNS_NAME + 4, OPT_LENGTH = 11, MOST_JUMPS = 128 };
/* The longest message that is made here. */
enum { DNS_MADE = DNS_HEADER + DNS_WIRE + OPT_LENGTH };

struct dns_name { /* labels with their lengths and the last, empty one; letters are small */
    unsigned length;
    uint8_t bytes[DNS_NAME];
};

struct question {
    uint16_t id, type, class, offer; /* offer: the longest datagram that its client takes */
    uint8_t recursion, plain, edns;  /* plain: we take it at all */
    unsigned wire_length;
    uint8_t wire[DNS_WIRE]; /* what stands behind the header, as the client wrote it */
    struct dns_name name;
};

struct given { /* an address of an answer, and its seconds to live */
    uint8_t host[16], length;
    uint32_t ttl;
};

struct dns_answer {
    unsigned code, records, count;
    struct given given[DNS_MOST_RECORDS];
};

struct dns_message {
    const uint8_t *bytes;
    size_t length, at;
    int broken;
};

struct record {
    struct dns_name owner;
    uint16_t type, class;
    uint32_t ttl;
    size_t data, end;
};

static inline uint16_t wide16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline void put16(uint8_t *at, unsigned value) { at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value; }

static inline uint8_t small(uint8_t byte) { return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte; }

static unsigned get16(struct dns_message *in) {
    if (in->broken || in->length - in->at < 2) {
        in->broken = 1;
        return 0;
    }
    in->at += 2;
    return wide16(in->bytes + in->at - 2);
}

static uint32_t get32(struct dns_message *in) {
    uint32_t high = get16(in);
    return high << 16 | get16(in);
}

/* Whether bytes are UTF-8 (RFC 3629). */
static int is_utf8(const uint8_t *at, size_t n) {
    for (size_t i = 0; i < n;) {
        uint8_t first = at[i++];
        if (first < 0x80) continue;
        if (first < 0xC2 || first > 0xF4) return 0;
        uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        for (int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1; more; more--, low = 0x80, high = 0xBF) {
            if (i == n || at[i] < low || at[i] > high) return 0;
            i++;
        }
    }
    return 1;
}

/* The name that begins here. A pointer leads back, so that only a name that grows could go round in circles. */
static void get_name(struct dns_message *in, struct dns_name *to) {
    size_t at = in->at, end = 0;
    to->length = 0;
    for (int jumps = 0; !in->broken;) {
        unsigned length = at < in->length ? in->bytes[at] : DNS_NAME;
        if (length >= 0xC0 && at + 1 < in->length) {
            size_t target = (size_t)(length & 0x3F) << 8 | in->bytes[at + 1];
            if (!end) end = at + 2;
            if (target > at + 1 || ++jumps > MOST_JUMPS) in->broken = 1;
            at = target;
            continue;
        }
        if (length > 63 || in->length - at <= length || to->length + length + (length ? 2 : 1) > DNS_NAME ||
            !is_utf8(in->bytes + at + 1, length)) {
            in->broken = 1;
            break;
        }
        for (unsigned i = 0; i <= length; i++) to->bytes[to->length++] = small(in->bytes[at++]);
        if (!length) break;
    }
    if (!in->broken) in->at = end ? end : at;
}

static int same_name(const struct dns_name *a, const struct dns_name *b) {
    if (a->length != b->length) return 0;
    for (unsigned i = 0; i < a->length; i++)
        if (a->bytes[i] != b->bytes[i]) return 0;
    return 1;
}

static void get_record(struct dns_message *in, struct record *to) {
    get_name(in, &to->owner);
    to->type = (uint16_t)get16(in), to->class = (uint16_t)get16(in), to->ttl = get32(in);
    if (to->ttl >> 31) to->ttl = 0; /* RFC 2181, 8 */
    unsigned length = get16(in);
    if (in->broken || in->length - in->at < length) {
        in->broken = 1;
        return;
    }
    to->data = in->at, to->end = in->at + length;
    in->at = to->end;
}

/* A name as text, without the last dot; 0 for one that no profile can hold. `text` has room for DNS_NAME bytes. */
static int name_text(const struct dns_name *name, char *text) {
    unsigned left = 0, n = 0;
    for (unsigned i = 0; i + 1 < name->length; i++) {
        uint8_t byte = name->bytes[i];
        if (!left) {
            left = byte;
            if (n) text[n++] = '.';
            continue;
        }
        left--;
        if ((byte < 'a' || byte > 'z') && (byte < '0' || byte > '9') && byte != '-' && byte != '_') return 0;
        text[n++] = (char)byte;
    }
    text[n] = 0;
    return 1;
}

/* The question in a packet from a client; 0 for what gets no answer. */
static int read_question(const uint8_t *packet, size_t n, struct question *to) {
    struct dns_message in = {packet, n, DNS_HEADER, 0};
    if (n > DNS_LARGEST_QUESTION || n < DNS_HEADER || packet[2] & 0x80) return 0;
    to->id = wide16(packet), to->recursion = packet[2] & 1, to->plain = 0, to->edns = 0, to->wire_length = 0;
    to->type = to->class = 0, to->offer = DNS_SMALLEST_OFFER, to->name.length = 0;
    unsigned more = wide16(packet + 10);
    if (packet[2] >> 3 & 15 || wide16(packet + 4) != 1 || wide16(packet + 6) || wide16(packet + 8) || more > 1)
        return 1;
    get_name(&in, &to->name);
    /* The first name of a message has nothing that it could point back to. */
    if (in.broken || in.at != DNS_HEADER + to->name.length) return 0;
    to->type = (uint16_t)get16(&in), to->class = (uint16_t)get16(&in);
    if (in.broken) return 0;
    to->wire_length = (unsigned)(in.at - DNS_HEADER);
    for (unsigned i = 0; i < to->wire_length; i++) to->wire[i] = packet[DNS_HEADER + i];
    if (more) {
        struct record record = {0};
        get_record(&in, &record);
        to->edns = record.type == DNS_TYPE_OPT && record.owner.length == 1;
        if (record.class > DNS_SMALLEST_OFFER) to->offer = record.class;
    }
    if (in.broken || in.at != n) return 0;
    int transfer = to->type == DNS_TYPE_IXFR || to->type == DNS_TYPE_AXFR;
    to->plain = to->class == DNS_INTERNET && !transfer && to->edns == more;
    return 1;
}

static size_t put_opt(uint8_t *to) {
    for (size_t i = 0; i < OPT_LENGTH; i++) to[i] = 0;
    put16(to + 1, DNS_TYPE_OPT), put16(to + 3, DNS_OFFERED_SIZE);
    return OPT_LENGTH;
}

static size_t put_message(const struct question *question, unsigned id, unsigned flags, uint8_t *to) {
    size_t n = DNS_HEADER;
    put16(to, id), put16(to + 2, flags), put16(to + 4, question->wire_length > 0);
    put16(to + 6, 0), put16(to + 8, 0), put16(to + 10, question->edns);
    for (unsigned i = 0; i < question->wire_length; i++) to[n++] = question->wire[i];
    return question->edns ? n + put_opt(to + n) : n;
}

/* What is sent for a question, and how long it is: the question, and nothing else that a client chose. */
static size_t question_to_ask(const struct question *question, unsigned id, uint8_t *to) {
    size_t n = put_message(question, id, DNS_RECURSION, to);
    for (unsigned i = 0; i < question->name.length; i++) to[DNS_HEADER + i] = question->name.bytes[i];
    return n;
}

/* An answer without records: refused, no such name, or none of this type; and how long it is. */
static size_t reply_without_records(const struct question *question, unsigned code, uint8_t *to) {
    return put_message(question, question->id, 0x8080U | (question->recursion ? DNS_RECURSION : 0U) | code, to);
}

/* Make of an upstream's answer the client's, in its place: under its id, with its spelling of the name, and cut to what
 * a datagram to it may hold. */
static size_t answer_to_client(const struct question *question, uint8_t *packet, size_t n, int stream) {
    unsigned wire = question->wire_length, whole = n >= DNS_HEADER + wire;
    for (unsigned i = 0; i < wire && whole; i++) whole = small(packet[DNS_HEADER + i]) == small(question->wire[i]);
    put16(packet, question->id);
    int cut = !stream && n > question->offer;
    for (unsigned i = 0; i < wire && (whole || cut); i++) packet[DNS_HEADER + i] = question->wire[i];
    if (!cut) return n;
    put16(packet + 2, wide16(packet + 2) | DNS_TRUNCATED);
    put16(packet + 4, 1);
    for (int i = 6; i < DNS_HEADER; i++) packet[i] = 0;
    return DNS_HEADER + wire;
}

/* Whether the records of an answer are sound, one by one. */
static int are_records(const struct dns_message *from, unsigned count) {
    struct dns_message in = *from;
    for (; count && !in.broken; count--) {
        struct record record = {0};
        get_record(&in, &record);
        if (in.broken || record.class != DNS_INTERNET) continue;
        size_t length = record.end - record.data;
        if (record.type == DNS_TYPE_CNAME) {
            struct dns_name alias;
            in.at = record.data;
            get_name(&in, &alias);
            if (in.at != record.end) in.broken = 1;
        } else if ((record.type == DNS_TYPE_A && length != 4) || (record.type == DNS_TYPE_AAAA && length != 16)) {
            in.broken = 1;
        }
    }
    return !in.broken;
}

/* Collect the addresses of a name; where it has none, 1 with the name that its first alias stands for. */
static int follow(const struct dns_message *from, unsigned count, struct dns_name *name, uint32_t *longest,
                  struct dns_answer *to) {
    struct dns_message in = *from;
    struct dns_name alias = {0};
    uint32_t ttl = 0;
    for (; count; count--) {
        struct record record = {0};
        get_record(&in, &record);
        if (record.class != DNS_INTERNET || !same_name(&record.owner, name)) continue;
        if (record.type == DNS_TYPE_A || record.type == DNS_TYPE_AAAA) {
            struct given *given = &to->given[to->count++];
            given->length = record.type == DNS_TYPE_A ? 4 : 16;
            given->ttl = record.ttl < *longest ? record.ttl : *longest;
            for (int i = 0; i < given->length; i++) given->host[i] = in.bytes[record.data + (size_t)i];
        } else if (record.type == DNS_TYPE_CNAME && !alias.length) {
            struct dns_message there = {in.bytes, in.length, record.data, 0};
            get_name(&there, &alias);
            ttl = record.ttl;
        }
    }
    if (to->count || !alias.length) return 0;
    *name = alias;
    if (ttl < *longest) *longest = ttl;
    return 1;
}

/* The answer to a question that was sent under an id; 0 for anything else, malformed or somebody else's. An address
 * lives as long as every link on the way to it. */
static int read_answer(const uint8_t *packet, size_t n, unsigned id, const struct question *question,
                       struct dns_answer *to) {
    struct dns_message in = {packet, n, DNS_HEADER, 0};
    struct dns_name name;
    if (n < DNS_HEADER || wide16(packet) != id || !(packet[2] & 0x80) || packet[2] >> 3 & 15) return 0;
    to->code = packet[3] & 15, to->records = to->count = 0;
    if (!wide16(packet + 4) && to->code && n == DNS_HEADER) return 1; /* some say no more than that they would not */
    if (wide16(packet + 4) != 1) return 0;
    get_name(&in, &name);
    unsigned type = get16(&in), class = get16(&in);
    if (in.broken || type != question->type || class != question->class || !same_name(&name, &question->name)) return 0;
    to->records = wide16(packet + 6);
    unsigned count = to->records < DNS_MOST_RECORDS ? to->records : DNS_MOST_RECORDS;
    if (!are_records(&in, count)) return 0;
    uint32_t longest = ~0U >> 1;
    for (int i = 0; i <= DNS_MOST_ALIASES; i++)
        if (!follow(&in, count, &name, &longest, to)) break;
    return 1;
}

/* The packed address that a name under in-addr.arpa or ip6.arpa stands for, and its length; 0: none. */
static unsigned reversed_address(const char *name, uint8_t *host) {
    unsigned parts = 0, nibbles = 0;
    const char *at = name;
    for (int i = 0; i < 16; i++) host[i] = 0;
    while (parts < 4 && *at >= '0' && *at <= '9') {
        unsigned value = 0, digits = 0;
        for (; *at >= '0' && *at <= '9' && digits < 4; at++, digits++) value = 10 * value + (unsigned)(*at - '0');
        if (digits > 3 || value > 255 || *at++ != '.') break;
        host[3 - parts++] = (uint8_t)value;
    }
    if (parts == 4) {
        static const char tail[] = "in-addr.arpa";
        unsigned i = 0;
        while (i < sizeof tail && at[i] == tail[i]) i++;
        if (i == sizeof tail) return 4;
    }
    for (int i = 0; i < 16; i++) host[i] = 0;
    for (at = name; nibbles < 32; nibbles++, at += 2) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : -1;
        if (digit < 0 || at[1] != '.') return 0;
        host[15 - nibbles / 2] |= (uint8_t)(nibbles % 2 ? digit << 4 : digit);
    }
    static const char tail[] = "ip6.arpa";
    unsigned i = 0;
    while (i < sizeof tail && at[i] == tail[i]) i++;
    return i == sizeof tail ? 16 : 0;
}

#endif
