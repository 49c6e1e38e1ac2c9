/* The policy as this process sees it: the compiled filter, run here instead of in the kernel, and the phase. */
#ifndef SANDBOX_FILTER_C
#define SANDBOX_FILTER_C

#define HOSTED /* no program of its own: without a first instruction */
#include "../launcher/memory.c"
#include "../launcher/text.c"

enum { CALLS = 512, FLAGS = 61, DEPENDS = 1, SETTINGS = 4096, FOLDERS = 8 };
enum { /* linux/sched.h, and what glibc makes threads with */
       CLONE_VM = 0x100,
       CLONE_THREAD = 0x10000,
       CLONE_CHILD_CLEARTID = 0x200000,
       CLONE_CHILD_SETTID = 0x1000000,
       CLONE_OF_THREADS = 0x3D0F00
};
enum phase { INIT, INVOKE, RUN };

static const struct instruction *plain, *supervised; /* the two programs of the policy */
static const struct instruction
    *entries[CALLS];               /* of the plain one: where the answer about a number begins to depend on arguments */
static uint8_t is_in_early[CALLS]; /* whether a call of this number may be one of the init phase alone */
static volatile enum phase phase;
static char *inherited_phase; /* where the variable that programs inherit says it */
static int in_force, is_audit, is_first, has_one_phase, counts_names;
static long start_pid;
static uint64_t own_program[2]; /* device and inode */

/* What the starter says of this start (sandbox/start/wire.py), taken apart in its place. */
static char settings[SETTINGS];
static const char *api_text, *folders[FOLDERS];
static int folder_bases[FOLDERS], folder_count;
static const char *destinations, *listens, *hard_denied, *never_granted; /* lists of JSON's texts, in the policy */

/* Where a program stops: at its answer, at what it may not hold, and where `registers` is NULL at the first load of an
 * argument. `keeps` is set where it wrote a scratch word or X before. */
static const struct instruction *stops_at(const struct instruction *from, uint32_t nr, const uint64_t *registers,
                                          int *keeps) {
    uint32_t memory[16] = {0}, a = 0, x = 0;
    for (const struct instruction *at = from;; at++) {
        switch (at->code) {
        case BPF_LD_ABS:
            if (at->k == BPF_OFFSET_NR)
                a = nr;
            else if (at->k == BPF_OFFSET_ARCH)
                a = AUDIT_ARCH;
            else if (at->k < BPF_OFFSET_ARGS)
                a = 0;
            else if (!registers)
                return at;
            else
                a = (uint32_t)(registers[(at->k - BPF_OFFSET_ARGS) / 8] >> (at->k & 4 ? 32 : 0));
            break;
        case BPF_JEQ_K:
            at += a == at->k ? at->jt : at->jf;
            break;
        case BPF_JGE_K:
            at += a >= at->k ? at->jt : at->jf;
            break;
        case BPF_JGT_K:
            at += a > at->k ? at->jt : at->jf;
            break;
        case BPF_JSET_K:
            at += a & at->k ? at->jt : at->jf;
            break;
        case BPF_JA:
            at += at->k;
            break;
        case BPF_AND_K:
            a &= at->k;
            break;
        case BPF_OR_K:
            a |= at->k;
            break;
        case BPF_RSH_K:
            a >>= at->k & 31;
            break;
        case BPF_LSH_K:
            a <<= at->k & 31;
            break;
        case BPF_ST:
            memory[at->k & 15] = a, *keeps = 1;
            break;
        case BPF_LD_MEM:
            a = memory[at->k & 15];
            break;
        case BPF_LDX_MEM:
            x = memory[at->k & 15], *keeps = 1;
            break;
        case BPF_LD_IMM:
            a = at->k;
            break;
        case BPF_TAX:
            x = a, *keeps = 1;
            break;
        case BPF_TXA:
            a = x;
            break;
        case BPF_JEQ_X:
            at += a == x ? at->jt : at->jf;
            break;
        default:
            return at;
        }
    }
}

/* What a program answers; where `registers` is NULL, DEPENDS if the answer depends on them. */
static uint32_t answer(const struct instruction *from, uint32_t nr, const uint64_t *registers) {
    int keeps = 0;
    const struct instruction *at = stops_at(from, nr, registers, &keeps);
    if (at->code == BPF_RET_K) return at->k;
    return at->code == BPF_LD_ABS ? DEPENDS : BPF_ERRNO | EPERM; /* policy.bin holds no other */
}

/* Where the plain program loads the first argument of a call, or answers; where a scratch word or X is written before,
 * at its beginning. */
static const struct instruction *entry_of(uint32_t nr) {
    int keeps = 0;
    const struct instruction *at = stops_at(plain, nr, NULL, &keeps);
    return keeps ? plain : at;
}

/* Whether calls of this number pass in every phase, whatever their arguments. */
static int always_passes(uint32_t nr) { return nr < CALLS && answer(plain, nr, NULL) == BPF_ALLOW && !is_in_early[nr]; }

static int is_signal(uint32_t nr) {
    static const uint32_t signals[] = SIGNALLING;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (signals[i] == nr) return 1;
    return 0;
}

/* The errno that the filter gives a call, 0 for none. An exec is the caller's to decide. */
static int filtered(uint32_t nr, const uint64_t *registers) {
    /* Of openat(2) the flags decide (arguments.json), and programs use few of them. */
    static volatile uint64_t opened[FLAGS];
    uint64_t known = registers[2] | (uint64_t)(phase + 1) << 40;
    if (nr == NR_openat && opened[registers[2] % FLAGS] == known) return 0;
    uint32_t action = answer(nr < CALLS ? entries[nr] : plain, nr, registers);
    if (action != BPF_ALLOW) return (action & 0xFFFF0000U) == BPF_ERRNO ? (int)(action & 0xFFFF) : EPERM;
    if (policy.signals == SIGNALS_SELF && is_signal(nr) && (long)(int)registers[0] != SYS1(getpid, 0)) return EPERM;
    if (phase == INVOKE && !has_one_phase && nr < CALLS && is_in_early[nr] && is_early(&policy.early, nr, registers))
        return EPERM;
    if (nr == NR_openat && !(registers[2] >> 40)) opened[registers[2] % FLAGS] = known;
    return 0;
}

/* Whether a refusal has no line under a supervisor either: the kernel makes it there, unasked
 * (sandbox/policy/rules.py). */
static int is_quiet(uint32_t nr, const uint64_t *registers) {
    return (answer(supervised, nr, registers) & 0xFFFF0000U) == BPF_ERRNO;
}

/* The value of a key in the JSON object at the policy's end (sandbox/supervised.py), NULL for none. */
static const char *told(const char *from, const char *key) {
    for (; *from; from++)
        if (starts_with(from, key)) return from + text_length(key);
    return NULL;
}

/* `name value` lines; the text is changed in its place. */
static void take_settings(const char *text) {
    size_t n = text_length(text);
    if (n >= SETTINGS) return;
    memcpy(settings, text, n + 1);
    for (char *at = settings; *at;) {
        char *line = at;
        while (*at && *at != '\n') at++;
        if (*at) *at++ = 0;
        const char *value = line + 2;
        switch (*line) {
        case 'p':
            policy_folder = value;
            break;
        case 'a':
            api_text = value;
            break;
        case 'm':
            is_audit = *value == 'a';
            break;
        case 'f':
            is_first = *value == '1';
            break;
        case 'i':
            phase = *value == '1' ? INVOKE : INIT;
            break;
        case 'o':
            own_path = value;
            break;
        default:
            if (*line < '1' || *line > '3' || folder_count == FOLDERS) break;
            folder_bases[folder_count] = *line - '0', folders[folder_count++] = value;
        }
    }
}

static size_t read_whole(const char *path, unsigned char **into, size_t most) {
    long fd = SYS4(openat, AT_FDCWD, path, O_CLOEXEC, 0), got = 0, n = 0;
    if (fd < 0) return 0;
    long at = SYS6(mmap, 0, most + 1, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *into = (unsigned char *)at;
    if (at > 0)
        while ((n = SYS3(read, fd, at + got, (long)most - got)) > 0) got += n;
    SYS1(close, fd);
    return at > 0 && n == 0 ? (size_t)got : 0;
}

static const struct instruction *aligned(const struct program *program) {
    struct instruction *copy = alloc(8 * (size_t)program->instructions);
    memcpy(copy, program->code, 8 * (size_t)program->instructions);
    return copy;
}

/* Read the policy. NULL, or what is wrong. */
static const char *read_policy(void) {
    unsigned char *data = NULL;
    char path[4096];
    size_t length = policy_folder ? text_length(policy_folder) : 0;
    if (!length || length > sizeof path - 12) return "SANDBOX_TRIPWIRE names no policy";
    memcpy(path, policy_folder, length);
    memcpy(path + length, "/policy.bin", 12);
    size_t n = read_whole(path, &data, POLICY_LARGEST);
    if (!n) return "the policy cannot be read";
    const char *wrong = policy_read(&policy, data, n, ARCH);
    if (wrong) return wrong;
    plain = aligned(&policy.plain), supervised = aligned(&policy.supervised);
    for (uint32_t nr = 0; nr < CALLS; nr++) entries[nr] = entry_of(nr);
    struct cursor in = {policy.early.first, policy.early.size, 0};
    while (in.left) {
        uint32_t nr = take_number(&in);
        if (nr < CALLS) is_in_early[nr] = 1;
        for (uint32_t conditions = take_number(&in); conditions; conditions--) take(&in, 20);
    }
    /* The last field is the JSON object: its braces are the last ones before the digest, which is cut off. */
    data[n - POLICY_DIGEST] = 0;
    const unsigned char *at = data + n - POLICY_DIGEST;
    static const char first[] = "{\"runtime-api\":";
    while (at > data && !same_bytes(at, first, sizeof first - 1)) at--;
    const char *json = at > data ? (const char *)at : "";
    if (!starts_with(json + sizeof first - 1, "true")) phase = RUN;
    destinations = told(json, "\"destinations\":["), listens = told(json, "\"listen\":[");
    hard_denied = told(json, "\"denied\":{"), never_granted = told(json, "\"never-granted\":[");
    has_one_phase = *variable("AWS_LAMBDA_MAX_CONCURRENCY") != 0;
    counts_names = policy.hosts.count > 0;
    return NULL;
}

#endif
