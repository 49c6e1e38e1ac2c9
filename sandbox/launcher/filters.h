/* The filter and the single-use exec (sandbox/confine/single_exec.py tells why). */
#ifndef SANDBOX_FILTERS_H
#define SANDBOX_FILTERS_H

#include "places.h"

static size_t size_of(const char *const *texts) {
    size_t size = 8;
    for (; *texts; texts++) size += 8 + text_length(*texts) + 1;
    return size;
}

static void lay(uint64_t to, const char *const *texts) {
    size_t count = 0;
    while (texts[count]) count++;
    char **table = (char **)(uintptr_t)to, *at = (char *)(table + count + 1);
    for (; *texts; texts++) {
        size_t n = text_length(*texts) + 1;
        memcpy(*table++ = at, *texts, n);
        at += n;
    }
}

/* Path, arguments and environment of the one exec, each at one of 2^6 places behind the other; the first of them lies
 * somewhere in the arena, and that somewhere in memory. On few pages, since each one that is touched costs. */
static void place_ticket(void) {
    const size_t sizes[3] = {text_length(command_path) + 1, size_of(command_argv), size_of(kept)};
    for (int i = 0; i < 3; i++) ticket[i] = (uint64_t)(uintptr_t)room(0x400 + sizes[i]) + (chance[i] & 0x3F0);
    memcpy((void *)(uintptr_t)ticket[0], command_path, sizes[0]);
    lay(ticket[1], command_argv);
    lay(ticket[2], kept);
}

static struct instruction *built;
static uint32_t length;
static void emit(int code, int jt, int jf, uint32_t k) {
    built[length++] = (struct instruction){(uint16_t)code, (uint8_t)jt, (uint8_t)jf, k};
}

/* The program with what only we know behind its head: the one exec passes, signals stay in the process
 * (single_exec.py: block). */
static void build_filter(int supervised) {
    static const uint32_t signalling[] = SIGNALLING;
    const struct program *program = supervised ? &policy.supervised : &policy.plain;
    uint32_t otherwise = supervised ? BPF_USER_NOTIF : BPF_ERRNO | EPERM, own = (uint32_t)SYS1(getpid, 0);
    const uint32_t guarded[3] = {(uint32_t)SYS1(getppid, 0), (uint32_t)-1, (uint32_t)-SYS1(getpgid, 0)};
    /* Where the kernel does not keep signals in the domain, the supervisor looks at each that leaves the process. */
    int inside = policy.signals == SIGNALS_SELF || (supervised && !scoped);
    built = room(8 * (BLOCK + (size_t)program->instructions));
    length = program->head;
    memcpy(built, program->code, 8 * (size_t)length);
    if (supervised || policy.exec != EXEC_GRANTED) {
        struct instruction *first = built + length;
        emit(BPF_JEQ_K, 0, 0, NR_execve);
        for (uint32_t half = 0; half < 6; half++) { /* all of them, whatever is wrong */
            emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_ARGS + 4 * half);
            emit(BPF_XOR_K, 0, 0, (uint32_t)(half & 1 ? ticket[half / 2] >> 32 : ticket[half / 2]));
            if (half) emit(BPF_OR_X, 0, 0, 0);
            emit(BPF_TAX, 0, 0, 0);
        }
        emit(BPF_JEQ_K, 0, 1, 0);
        emit(BPF_RET_K, 0, 0, BPF_ALLOW);
        if (supervised)
            emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_NR);
        else
            emit(BPF_RET_K, 0, 0, otherwise);
        first->jf = (uint8_t)(built + length - first - 1);
    }
    if (inside || supervised) {
        for (int i = 0; i < 4; i++) emit(BPF_JEQ_K, 3 - i, i < 3 ? 0 : inside ? 4 : 6, signalling[i]);
        emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_ARGS);
        if (inside) emit(BPF_JEQ_K, 1, 0, own);
        for (int i = 0; !inside && i < 3; i++) emit(BPF_JEQ_K, 2 - i, i == 2, guarded[i]);
        emit(BPF_RET_K, 0, 0, otherwise);
        emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_NR);
    }
    memcpy(built + length, program->code + 8 * (size_t)program->head,
           8 * (size_t)(program->instructions - program->head));
    length += program->instructions - program->head;
}

static long seccomp_filter(long flags) {
    struct filter_program wanted = {(uint16_t)length, built};
    return SYS3(seccomp, SECCOMP_SET_MODE_FILTER, flags, &wanted);
}

static int refused(long code) {
    if (code == -ENOSYS)
        return refuse(KERNEL_UNSUPPORTED, form("seccomp(2): this kernel has no seccomp filters (Linux %)", todays_kernel),
                      NULL);
    if (code == -EBUSY) return refuse(LISTENER_BUSY, "seccomp(2): a notification listener stands above this process", NULL);
    if (code == -EACCES)
        return refuse(INSTALL_REFUSED, "seccomp(2): NoNewPrivs is not set", form("start the function with it, or %", WARN));
    if (code == -EPERM) return refuse(INSTALL_REFUSED, "seccomp(2): a filter above this process refuses seccomp(2)", NULL);
    return refuse(INSTALL_REFUSED, form("seccomp(2): the kernel refused it: %", problem(code)),
                  form("compile again, or %", WARN));
}

#endif
