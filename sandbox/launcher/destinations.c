/* Which destinations the policy surely allows, by its literals and its hosts; without a system call. A no of this file
 * is no no: the Python supervisor decides then (sandbox/egress/destinations.py). */
#ifndef SANDBOX_DESTINATIONS_C
#define SANDBOX_DESTINATIONS_C

#include "policy.c"

enum { TCP, UDP }; /* PROTOCOLS of sandbox/bundle.py */

/* Whether packed bytes are this host, its link or an address that hands out credentials: whoever answers for a name
 * could make it mean one of these (sandbox/behaviour/destination.py: needs_own_entry). */
static int needs_own_entry(const uint8_t *host, unsigned length) {
    static const uint8_t metadata[][16] = METADATA_IPV6, loopback[16] = {[15] = 1};
    if (length == 16 && same_bytes(host, NAT64, 12)) host += 12, length = 4;
    if (length == 4) return host[0] == 127 || (host[0] == 169 && host[1] == 254);
    for (size_t i = 0; i < sizeof metadata / sizeof *metadata; i++)
        if (same_bytes(host, metadata[i], 16)) return 1;
    return (host[0] == 0xFE && (host[1] & 0xC0) == 0x80) || same_bytes(host, loopback, 16);
}

/* Whether an entry with this address, or with a network that it is in, allows it. */
static int address_opens(const struct policy *policy, int protocol, const uint8_t *host, unsigned length,
                         unsigned port) {
    const unsigned char *at = policy->literals.first;
    for (uint32_t i = 0; i < policy->literals.count; i++, at += LITERAL) {
        unsigned bits = at[2], whole = bits / 8, rest = bits % 8;
        if (at[0] != protocol || at[1] != length || (!at[3] && (at[4] | (unsigned)at[5] << 8) != port)) continue;
        if (!same_bytes(host, at + 6, whole) || (rest && (host[whole] ^ at[6 + whole]) >> (8 - rest))) continue;
        if (bits == 8 * length || !needs_own_entry(host, length)) return 1;
    }
    return 0;
}

static inline const char *name_of_host(const char *text) { return text + 5; }

/* Whether a name is one, or under one, of an entry: `.example.com` is what names under it end with. */
static int is_under(const char *name, const char *entry) {
    size_t n = text_length(name), end = text_length(entry);
    if (*entry != '.') return same(name, entry);
    return n > end && same(name + n - end, entry);
}

static unsigned hexadecimal(const char *digits) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 4 | (unsigned)(digits[i] <= '9' ? digits[i] - '0' : digits[i] - 'a' + 10);
    return value;
}

/* Whether some entry allows this port of the hosts of a name. */
static int name_opens(const struct policy *policy, int protocol, const char *name, unsigned port) {
    const char *text = policy->hosts.first;
    for (uint32_t i = 0; i < policy->hosts.count; i++, text = next_text(text))
        if (*text - '0' == protocol && (text[1] == '*' || hexadecimal(text + 1) == port) &&
            is_under(name, name_of_host(text)))
            return 1;
    return 0;
}

/* Whether a name, in small letters, may be asked for. */
static int may_look_up(const struct policy *policy, const char *name) {
    const char *text = policy->hosts.first;
    for (uint32_t i = 0; i < policy->hosts.count; i++, text = next_text(text))
        if (is_under(name, name_of_host(text))) return 1;
    return 0;
}

/* Whether a packed address of 4 or 16 bytes is surely allowed; `names` are those for which it stands now. An
 * IPv4-mapped address is given as the IPv4 one. */
static int is_allowed(const struct policy *policy, int protocol, const uint8_t *host, unsigned length, unsigned port,
                      const char *const *names, unsigned count) {
    if (address_opens(policy, protocol, host, length, port)) return 1;
    if (needs_own_entry(host, length)) return 0;
    for (unsigned i = 0; i < count; i++)
        if (name_opens(policy, protocol, names[i], port)) return 1;
    return 0;
}

#endif
