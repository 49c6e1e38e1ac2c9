/* Reading a policy.bin (its format: sandbox/bundle.py). No system calls, no allocation: fuzz.c compiles this without
 * the rest. Everything that does not fit is an error. */
#ifndef SANDBOX_POLICY_C
#define SANDBOX_POLICY_C

#include "numbers.h"
#include "sha256.c"
#include <stddef.h>
#include <stdint.h>

enum { BLOCK = 64, MOST_INSTRUCTIONS = BPF_MAX_INSTRUCTIONS - BLOCK };

struct list { /* of texts, one behind the other */
    uint32_t count;
    const char *first;
};

struct ports {
    uint32_t count;
    const unsigned char *first;
};

struct literals { /* destinations of LITERAL bytes each */
    uint32_t count;
    const unsigned char *first;
};

struct program {
    uint32_t instructions, head;
    const unsigned char *code;
};

struct calls { /* each as sandbox/bundle.py says */
    uint32_t size;
    const unsigned char *first;
};

struct cursor {
    const unsigned char *at;
    size_t left;
    int broken;
};

static uint32_t take_number(struct cursor *c);
static int take_choice(struct cursor *c, int words);
static const char *take_text(struct cursor *c);
static struct list take_texts(struct cursor *c);
static struct list take_paths(struct cursor *c);
static struct ports take_ports(struct cursor *c);
static struct literals take_literals(struct cursor *c);
static struct list take_hosts(struct cursor *c);

#include "fields.h"

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

/* The text behind `text` in a list. */
static inline const char *next_text(const char *text) { return text + text_length(text) + 1; }

/* A path of the policy: below which of BASES, whether all below it is meant, and the path. */
static inline int base_of(const char *text) { return *text - '0'; }
static inline int is_whole(const char *text) { return text[1] == '*'; }
static inline const char *path_in(const char *text) { return text + 2; }

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

static struct ports take_ports(struct cursor *c) {
    struct ports found;
    found.count = take_number(c);
    found.first = take(c, 2 * (size_t)found.count);
    return found;
}

/* Port number i, counted from 1; `first` stands before them all. */
static inline long port_at(const struct ports *ports, uint32_t i, long first) {
    const unsigned char *at = ports->first + 2 * i;
    return i ? at[-2] | at[-1] << 8 : first;
}

static int take_choice(struct cursor *c, int words) {
    const unsigned char *p = take(c, 1);
    if (p && *p >= words) c->broken = 1;
    return p ? *p : 0;
}

static const char *take_text(struct cursor *c) {
    uint32_t n = take_number(c);
    const unsigned char *text = take(c, n), *nul = take(c, 1);
    if (!nul || *nul || text_length((const char *)text) != n) c->broken = 1;
    return c->broken ? "" : (const char *)text;
}

static struct list take_texts(struct cursor *c) {
    uint32_t count = take_number(c), size = take_number(c), ends = 0;
    const unsigned char *texts = take(c, size);
    for (uint32_t i = 0; texts && i < size; i++) ends += !texts[i];
    if (ends != count || (texts && size && texts[size - 1])) c->broken = 1;
    return c->broken ? (struct list){0, ""} : (struct list){count, (const char *)texts};
}

/* Paths lie below a folder that the launcher knows, and lead out of none. */
static struct list take_paths(struct cursor *c) {
    struct list found = take_texts(c);
    const char *text = found.first;
    for (uint32_t i = 0; i < found.count; i++, text = next_text(text)) {
        size_t base = (size_t)base_of(text);
        if (base >= sizeof BASES / sizeof *BASES || (text[1] != '*' && text[1] != '.')) {
            c->broken = 1;
            break;
        }
        const char *path = path_in(text);
        if (*path != '/' && (*path || !base)) c->broken = 1;
        for (; *path; path++)
            if (same_bytes(path, "/..", 3) && (!path[3] || path[3] == '/')) c->broken = 1;
    }
    return found;
}

static struct literals take_literals(struct cursor *c) {
    struct literals found;
    found.count = take_number(c);
    found.first = take(c, (size_t)LITERAL * found.count);
    const unsigned char *at = found.first;
    for (uint32_t i = 0; i < found.count && !c->broken; i++, at += LITERAL)
        if (at[0] > 1 || (at[1] != 4 && at[1] != 16) || at[2] > 8 * at[1] || at[3] > 1) c->broken = 1;
    if (c->broken) found.count = 0;
    return found;
}

/* A protocol, a port, and a name (KINDS of sandbox/bundle.py). */
static struct list take_hosts(struct cursor *c) {
    struct list found = take_texts(c);
    const char *text = found.first;
    for (uint32_t i = 0; i < found.count && !c->broken; i++, text = next_text(text)) {
        if (text_length(text) < 6 || *text < '0' || *text > '2') {
            c->broken = 1;
            break;
        }
        for (int j = 1; j < 5 && !same_bytes(text + 1, "****", 4); j++)
            if ((text[j] < '0' || text[j] > '9') && (text[j] < 'a' || text[j] > 'f')) c->broken = 1;
    }
    return found;
}

static struct program take_program(struct cursor *c) {
    struct program found;
    found.instructions = take_number(c), found.head = take_number(c);
    if (found.instructions > MOST_INSTRUCTIONS || !found.head || found.head >= found.instructions) c->broken = 1;
    found.code = take(c, 8 * (size_t)found.instructions);
    return found;
}

static uint64_t wide_at(const unsigned char *at) {
    uint64_t found = 0;
    for (int i = 8; i--;) found = found << 8 | at[i];
    return found;
}

static struct calls take_calls(struct cursor *c) {
    struct calls found;
    found.size = take_number(c);
    found.first = take(c, found.size);
    struct cursor in = {found.first, c->broken ? 0 : found.size, 0};
    while (in.left && !in.broken) {
        take_number(&in);
        for (uint32_t conditions = take_number(&in); conditions && !in.broken; conditions--) {
            if (take_number(&in) >= ARGUMENTS) in.broken = 1;
            take(&in, 16);
        }
    }
    c->broken |= in.broken;
    return found;
}

/* Whether a call is one of them, by its number and its registers. */
static inline int is_early(const struct calls *calls, uint32_t nr, const uint64_t *registers) {
    struct cursor in = {calls->first, calls->size, 0};
    while (in.left) {
        int fits = take_number(&in) == nr;
        for (uint32_t conditions = take_number(&in); conditions; conditions--) {
            uint32_t argument = take_number(&in);
            const unsigned char *compared = take(&in, 16);
            fits = fits && (registers[argument] & wide_at(compared)) == wide_at(compared + 8);
        }
        if (fits) return 1;
    }
    return 0;
}

/* Fill `policy` from the bytes of a policy.bin, into which its pointers lead. NULL, or what is wrong with them. */
static const char *policy_read(struct policy *policy, const unsigned char *data, size_t n, const char *arch) {
    unsigned char digest[POLICY_DIGEST];
    uint32_t h[8];
    size_t body = n - POLICY_DIGEST;
    int found = 0;
    if (n < POLICY_MAGIC_LENGTH + 4 + POLICY_DIGEST || !same_bytes(data, POLICY_MAGIC, POLICY_MAGIC_LENGTH))
        return "is not a policy of this version";
    struct cursor c = {data + POLICY_MAGIC_LENGTH, body - POLICY_MAGIC_LENGTH, 0};
    sha_begin(h);
    sha_blocks(h, data, body / 64);
    sha_end(h, data, body, digest);
    if (take_number(&c) != n || !same_bytes(digest, data + body, POLICY_DIGEST))
        return "is not as it was written (its digest differs)";
    sha_blocks(h, data + body / 64 * 64, n / 64 - body / 64);
    sha_end(h, data, n, policy->digest);
    take_fields(&c, policy);
    uint32_t arches = take_number(&c);
    for (uint32_t i = 0; i < arches && !c.broken; i++) {
        const char *name = take_text(&c);
        struct program plain = take_program(&c), supervised = take_program(&c);
        struct calls early = take_calls(&c), paths = take_calls(&c), served = take_calls(&c);
        if (c.broken || !same(name, arch)) continue;
        policy->plain = plain, policy->supervised = supervised, policy->early = early, policy->paths = paths;
        policy->served = served, found = 1;
    }
    take(&c, take_number(&c)); /* the supervisor's */
    if (c.broken || c.left) return "holds what this version does not know";
    return found ? NULL : "has no filter for this architecture";
}

#endif
