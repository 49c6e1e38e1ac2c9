/* Reading a bundle's bytes: SHA-256, and the twin of policy.json (its format: sandbox/policy/twin.py). No system calls,
 * no allocation: the fuzzer compiles this file alone. Everything that does not fit is an error. */
#ifndef SANDBOX_POLICY_H
#define SANDBOX_POLICY_H

#include <stddef.h>
#include <stdint.h>

enum { LARGEST = 1 << 20, BLOCK = 64, MOST_INSTRUCTIONS = 4096 - BLOCK }; /* 4096: linux/bpf_common.h */
enum { FAMILY, RUNTIME_API, NONE };
enum { LIBC, KERNEL, ARCHITECTURE, PYTHON, HANDLER_DIGEST, LOCK_DIGEST, FACTS };

struct list {
    uint32_t count;
    const char *first;
};

struct filter {
    const char *file;
    uint32_t instructions, head;
    const unsigned char *sha256;
};

struct policy {
    const unsigned char *described;
    int granted, any_signal, network, bind, listed, sealed, limited, renames;
    uint32_t audited; /* until this day, counted from 1970-01-01 */
    const char *function;
    struct list read, write, programs, known[FACTS];
    struct filter plain, supervised;
};

static inline size_t text_length(const char *text) {
    size_t n = 0;
    while (text[n]) n++;
    return n;
}

static inline int same_bytes(const void *a, const void *b, size_t n) {
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i]) return 0;
    return 1;
}

static inline int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

/* The text behind `text` in a list of texts, or of places: those have a folder and `whole` before their length. */
enum { OF_TEXTS = 4, OF_PLACES = 6, IN_ROOT = 1, IN_PYTHON, IN_VENV };
static inline const char *next_text(const char *text, int before) { return text + text_length(text) + 1 + before; }
static inline int folder_in(const char *place) { return place[-OF_PLACES]; }
static inline int is_whole(const char *place) { return place[1 - OF_PLACES]; }

static const uint32_t SHA_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t ror(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

static inline uint32_t big32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void sha_block(uint32_t h[8], const unsigned char *p) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) w[i] = big32(p + 4 * i);
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
    for (int i = 0; i < 8; i++) s[i] = h[i];
    for (int i = 0; i < 64; i++) {
        uint32_t a = s[0], e = s[4];
        uint32_t one = s[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + SHA_K[i] + w[i];
        uint32_t two = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        for (int j = 7; j > 0; j--) s[j] = s[j - 1];
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

#if defined(__x86_64__)
typedef uint32_t quad __attribute__((vector_size(16)));
typedef int signed_quad __attribute__((vector_size(16))); /* as the builtins want it */
typedef char bytes_of_quad __attribute__((vector_size(16)));
/* The same by the processor's own instructions (Intel's "SHA Extensions"), ten times as fast. */
static __attribute__((target("sha,sse4.1"))) void sha_block_fast(uint32_t h[8], const unsigned char *p) {
    static const unsigned char ENDS[16] = {3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12};
    quad abef = {h[5], h[4], h[1], h[0]}, cdgh = {h[7], h[6], h[3], h[2]};
    quad now = {0}, k, m0 = now, m1 = now, m2 = now, m3 = now, was_abef = abef, was_cdgh = cdgh;
    bytes_of_quad order;
    __builtin_memcpy(&order, ENDS, 16);
    for (int i = 0; i < 16; i++) {
        if (i < 4) {
            __builtin_memcpy(&now, p + 16 * i, 16);
            now = (quad)__builtin_ia32_pshufb128((bytes_of_quad)now, order);
        } else {
            now = (quad)__builtin_ia32_sha256msg1((signed_quad)m0, (signed_quad)m1);
            now += __builtin_shufflevector(m2, m3, 1, 2, 3, 4);
            now = (quad)__builtin_ia32_sha256msg2((signed_quad)now, (signed_quad)m3);
        }
        m0 = m1, m1 = m2, m2 = m3, m3 = now;
        __builtin_memcpy(&k, SHA_K + 4 * i, 16);
        k += now;
        cdgh = (quad)__builtin_ia32_sha256rnds2((signed_quad)cdgh, (signed_quad)abef, (signed_quad)k);
        k = __builtin_shufflevector(k, k, 2, 3, 2, 3);
        abef = (quad)__builtin_ia32_sha256rnds2((signed_quad)abef, (signed_quad)cdgh, (signed_quad)k);
    }
    abef += was_abef, cdgh += was_cdgh;
    h[0] = abef[3], h[1] = abef[2], h[4] = abef[1], h[5] = abef[0];
    h[2] = cdgh[3], h[3] = cdgh[2], h[6] = cdgh[1], h[7] = cdgh[0];
}

static void sha_blocks(uint32_t h[8], const unsigned char *p, size_t n) {
    static void (*block)(uint32_t h[8], const unsigned char *p);
    if (!block) {
        uint32_t a = 7, b, c = 0, d; /* cpuid: leaf 7, EBX bit 29 is SHA; all that have it have SSE4.1 */
        __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        block = b >> 29 & 1 ? sha_block_fast : sha_block;
    }
    for (size_t i = 0; i < n; i++) block(h, p + 64 * i);
}
#else
static void sha_blocks(uint32_t h[8], const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++) sha_block(h, p + 64 * i);
}
#endif

/* SHA-256 of `n` bytes (FIPS 180-4). */
static void sha256(const unsigned char *data, size_t n, unsigned char out[32]) {
    static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint32_t h[8];
    unsigned char rest[128] = {0};
    size_t left = n % 64, whole = left < 56 ? 64 : 128;
    for (size_t i = 0; i < 8; i++) h[i] = START[i];
    for (size_t i = 0; i < whole; i++)
        rest[i] = i < left        ? data[n - left + i]
                  : i == left     ? 0x80
                  : i < whole - 8 ? 0
                                  : (unsigned char)((uint64_t)n * 8 >> (8 * (whole - 1 - i)));
    sha_blocks(h, data, n / 64);
    sha_blocks(h, rest, whole / 64);
    for (int i = 0; i < 32; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

struct cursor {
    const unsigned char *at;
    size_t left;
    int broken;
};

static const unsigned char *take(struct cursor *c, size_t n) {
    const unsigned char *found = c->at;
    if (n > c->left) c->broken = 1;
    if (c->broken) return NULL;
    c->at += n, c->left -= n;
    return found;
}

static uint32_t take_number(struct cursor *c) {
    const unsigned char *p = take(c, 4);
    return p ? (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0] : 0;
}

static const char *take_text(struct cursor *c) {
    uint32_t n = take_number(c);
    const unsigned char *text = take(c, n), *nul = take(c, 1);
    if (!nul || *nul || text_length((const char *)text) != n) c->broken = 1;
    return c->broken ? "" : (const char *)text;
}

/* A list of texts, or of places: those lie below a folder that the launcher knows, and lead out of none. */
static struct list take_list(struct cursor *c, int before) {
    struct list found = {take_number(c), ""};
    for (uint32_t i = 0; i < found.count && !c->broken; i++) {
        const unsigned char *head = take(c, (size_t)before - 4);
        const char *text = take_text(c);
        if (!i) found.first = text;
        if (before == OF_TEXTS || c->broken) continue;
        if (head[0] > IN_VENV || head[1] > 1 || (text[0] != '/' && (text[0] || !head[0]))) c->broken = 1;
        for (const char *p = text; *p; p++)
            if (same_bytes(p, "/..", 3) && (!p[3] || p[3] == '/')) c->broken = 1;
    }
    return found;
}

static struct filter take_filter(struct cursor *c) {
    struct filter found;
    found.file = take_text(c);
    found.instructions = take_number(c), found.head = take_number(c);
    found.sha256 = take(c, 32);
    for (const char *p = found.file; *p; p++)
        if (*p == '/') c->broken = 1;
    if (!*found.file || same(found.file, ".") || same(found.file, "..")) c->broken = 1;
    if (found.instructions > MOST_INSTRUCTIONS || !found.head || found.head >= found.instructions) c->broken = 1;
    return found;
}

static const char DAMAGED[] = "holds what this launcher does not know";

/* Fill `policy` from a twin; its pointers lead into `data`. NULL, or what is wrong with it. */
static const char *policy_read(struct policy *policy, const unsigned char *data, size_t n, const char *arch) {
    unsigned char digest[32];
    int found = 0;
    if (n < 84 || !same_bytes(data, "sbxtwin\3", 8)) return "is no policy of this launcher's version";
    struct cursor c = {data + 8, n - 8 - 32, 0};
    sha256(data, n - 32, digest);
    if (take_number(&c) != n || !same_bytes(digest, data + n - 32, 32))
        return "is not as it was written (its digest differs)";
    policy->described = take(&c, 32);
    const unsigned char *choices = take(&c, 8);
    for (int i = 0; i < 8 && choices; i++)
        if (choices[i] > (i == 2 ? 2 : 1)) choices = NULL;
    if (!choices) return DAMAGED;
    policy->granted = choices[0], policy->any_signal = choices[1], policy->network = choices[2];
    policy->bind = choices[3], policy->listed = choices[4], policy->sealed = choices[5], policy->limited = choices[6];
    policy->renames = choices[7];
    policy->audited = take_number(&c);
    policy->function = take_text(&c);
    struct list *places[] = {&policy->read, &policy->write, &policy->programs};
    for (int i = 0; i < 3; i++) *places[i] = take_list(&c, OF_PLACES);
    for (int i = 0; i < FACTS; i++) policy->known[i] = take_list(&c, OF_TEXTS);
    uint32_t filters = take_number(&c);
    for (uint32_t i = 0; i < filters && !c.broken; i++) {
        const char *name = take_text(&c);
        struct filter plain = take_filter(&c), supervised = take_filter(&c);
        if (!c.broken && same(name, arch)) policy->plain = plain, policy->supervised = supervised, found = 1;
    }
    if (c.broken || c.left) return DAMAGED;
    return found ? NULL : "has no filter for this architecture";
}

#endif
