/* The filters and the single-use exec (sandbox/enforce/single_exec.py tells why). */
#ifndef SANDBOX_FILTERS_H
#define SANDBOX_FILTERS_H

#include "places.h"

/* The single-use exec (sandbox/enforce/single_exec.py). */
static uint64_t place(size_t size) {
    long code = 0;
    for (int i = 0; i < TRIES; i++) {
        uint64_t value = 0, space = (1ULL << (i < TRIES / 2 ? 47 : 39)) - (1ULL << 32) - size;
        if (SYS3(getrandom, &value, 8, 0) != 8) fail(REFUSED, "getrandom", "no random numbers", "use a newer kernel");
        uint64_t address = (value % space + (1ULL << 31)) & ~15ULL, start = address & ~4095ULL;
        uint64_t length = (address + size - start + 4095) & ~4095ULL;
        code = SYS6(mmap, start, length, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (code == (long)start) return address;
        if (code >= 0) SYS2(munmap, code, length), code = -17;
    }
    fail(REFUSED, "mmap", form("no random address was free in 64 tries: %", problem(code)),
         "raise the memory limit (RLIMIT_AS)");
}

static uint64_t place_texts(char *const *texts) {
    size_t count = 0, size = 8;
    for (; texts[count]; count++) size += 8 + text_length(texts[count]) + 1;
    uint64_t address = place(size);
    char **table = (char **)(uintptr_t)address, *at = (char *)(table + count + 1);
    for (size_t i = 0; i < count; i++) {
        size_t n = text_length(texts[i]) + 1;
        table[i] = at;
        memcpy(at, texts[i], n);
        at += n;
    }
    table[count] = NULL;
    return address;
}

static struct instruction built[128 + MOST_INSTRUCTIONS];
static uint16_t length;
static void emit(int code, int jt, int jf, uint32_t k) {
    built[length++] = (struct instruction){(uint16_t)code, (uint8_t)jt, (uint8_t)jf, k};
}

/* Falls into the next instruction when all three pointers are right, else jumps over it; equally long either way. */
static void emit_compare(void) {
    emit(LD_IMM, 0, 0, 0);
    emit(ST, 0, 0, 0);
    for (uint32_t half = 0; half < 6; half++) {
        emit(LD_ABS, 0, 0, OFFSET_ARGS + 4 * half);
        emit(XOR_K, 0, 0, (uint32_t)(half & 1 ? ticket[half / 2] >> 32 : ticket[half / 2]));
        emit(LDX_MEM, 0, 0, 0);
        emit(OR_X, 0, 0, 0);
        emit(ST, 0, 0, 0);
    }
    emit(JEQ_K, 0, 1, 0);
}

/* Syscalls whose first argument is the process that they signal. */
static const uint32_t SIGNALS[] = {NR_kill, NR_tgkill, NR_rt_sigqueueinfo, NR_rt_tgsigqueueinfo};

static void build_launch_filter(void) {
    uint16_t at;
    length = 0;
    emit(LD_ABS, 0, 0, OFFSET_NR);
    if (!policy.granted) {
        at = length;
        emit(JEQ_K, 0, 0, NR_execve);
        emit_compare();
        emit(RET_K, 0, 0, RET_ALLOW);
        emit(RET_K, 0, 0, RET_ERRNO | EPERM);
        built[at].jf = (uint8_t)(length - at - 1);
    }
    for (size_t i = 0; !policy.any_signal && i < 4; i++) {
        emit(JEQ_K, 0, 4, SIGNALS[i]);
        emit(LD_ABS, 0, 0, OFFSET_ARGS);
        emit(JEQ_K, 0, 1, (uint32_t)SYS1(getpid, 0));
        emit(RET_K, 0, 0, RET_ALLOW);
        emit(RET_K, 0, 0, RET_ERRNO | EPERM);
    }
    emit(RET_K, 0, 0, RET_ALLOW);
}

static void build_supervised_filter(void) {
    uint32_t guarded[3] = {(uint32_t)SYS1(getppid, 0), (uint32_t)-1, (uint32_t)-SYS1(getpgid, 0)};
    /* Where the kernel does not keep signals in the domain, the supervisor looks at each that leaves the process. */
    int own = !policy.any_signal || !scoped;
    length = 0;
    emit(LD_ABS, 0, 0, OFFSET_ARCH);
    emit(JEQ_K, 0, 0, AUDIT_ARCH);
    emit(LD_ABS, 0, 0, OFFSET_NR);
    uint16_t at = length;
    emit(JEQ_K, 0, 0, NR_execve);
    emit_compare();
    emit(RET_K, 0, 0, RET_ALLOW);
    built[at].jf = (uint8_t)(length - at - 1);
    for (size_t i = 0; i < 4; i++) {
        emit(LD_ABS, 0, 0, OFFSET_NR);
        emit(JEQ_K, 0, !own ? 5 : 3, SIGNALS[i]);
        emit(LD_ABS, 0, 0, OFFSET_ARGS);
        if (own) emit(JEQ_K, 1, 0, (uint32_t)SYS1(getpid, 0));
        for (int j = 0; !own && j < 3; j++) emit(JEQ_K, 2 - j, j < 2 ? 0 : 1, guarded[j]);
        emit(RET_K, 0, 0, RET_USER_NOTIF);
    }
    built[1].jf = (uint8_t)(length - 2);
    memcpy(built + length, program_bytes[1], 8 * (size_t)policy.supervised.instructions);
    length = (uint16_t)(length + policy.supervised.instructions);
}

static long seccomp_filter(const struct instruction *filter, uint32_t count, long flags) {
    struct program wanted = {(uint16_t)count, filter};
    return SYS3(seccomp, SECCOMP_FILTER, flags, &wanted);
}

static int refused(long code, const char *what) {
    const char *where = form("seccomp(2), %", what);
    if (code == -ENOSYS)
        return refuse(UNSUPPORTED, where, form("this kernel has no seccomp filters (Linux %)", todays_kernel), WARN);
    if (code == -EBUSY) return refuse(BUSY, where, "a notification listener stands above this process", WARN);
    if (code == -EACCES)
        return refuse(REFUSED, where, "NoNewPrivs is not set", form("start the function with it, or %", WARN));
    if (code == -EPERM) return refuse(REFUSED, where, "a filter above this process refuses seccomp(2)", WARN);
    return refuse(REFUSED, where, form("the kernel refused it: %", problem(code)), form("compile again, or %", WARN));
}

#endif
