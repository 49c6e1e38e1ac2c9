/* The filter and the single-use exec (sandbox/confine/single_exec.py tells why). */
#ifndef SANDBOX_SECCOMP_C
#define SANDBOX_SECCOMP_C

#include "landlock.c"

#define ANY_CALL (~0U)
enum { CONDITION = 20 }; /* bytes: an argument, a mask and a value */

static size_t size_of(const char *const *texts) {
    size_t size = 8;
    for (; *texts; texts++) size += 8 + text_length(*texts) + 1;
    return size;
}

static void lay_out(uint64_t to, const char *const *texts) {
    size_t count = 0;
    while (texts[count]) count++;
    char **table = (char **)(uintptr_t)to, *at = (char *)(table + count + 1);
    for (; *texts; texts++) {
        size_t n = text_length(*texts) + 1;
        memcpy(*table++ = at, *texts, n);
        at += n;
    }
    *table = NULL; /* memory that was used before holds anything */
}

/* Path, arguments and environment of the one exec, each at one of 2^6 places behind the other; the first of them lies
 * somewhere in the arena, and that somewhere in memory. On few pages, since each one that is touched costs. */
static void place_exec_arguments(void) {
    const size_t sizes[3] = {text_length(command_path) + 1, size_of(command_argv), size_of(handler_env)};
    for (int i = 0; i < 3; i++)
        exec_addresses[i] = (uint64_t)(uintptr_t)alloc(0x400 + sizes[i]) + (random_words[i] & 0x3F0);
    memcpy((void *)(uintptr_t)exec_addresses[0], command_path, sizes[0]);
    lay_out(exec_addresses[1], command_argv);
    lay_out(exec_addresses[2], handler_env);
}

static long attendant; /* the process above the decider, whose child the function is */
static struct instruction *filter;
static uint32_t filter_length;
static void emit(int code, int jt, int jf, uint32_t k) {
    filter[filter_length++] = (struct instruction){(uint16_t)code, (uint8_t)jt, (uint8_t)jf, k};
}

static const char *owns; /* why a supervisor cannot duplicate the function's sockets, which it makes then; else NULL */
static int looks, cannot_look; /* whether path calls are notified, for a look at what Landlock refuses of them */

/* What goes before a program, so that calls of a table of the policy are notified (install.py: _paths, _own_sockets):
 * all of them, or of one number alone. */
static void emit_notified(const struct calls *calls, uint32_t alone) {
    struct cursor c = {calls->first, calls->size, 0};
    emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_ARCH);
    uint32_t start = filter_length, skip = 0, last = ~0U;
    emit(BPF_JEQ_K, 1, 0, AUDIT_ARCH);
    emit(BPF_JA, 0, 0, 0);
    while (c.left) {
        uint32_t nr = take_number(&c), conditions = take_number(&c);
        if (alone != ANY_CALL && nr != alone) {
            take(&c, CONDITION * (size_t)conditions);
            continue;
        }
        if (nr != last) {
            if (skip) filter[skip].k = filter_length - skip - 1;
            emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_NR);
            emit(BPF_JEQ_K, 1, 0, last = nr);
            skip = filter_length;
            emit(BPF_JA, 0, 0, 0);
        }
        uint32_t first = filter_length;
        while (conditions--) {
            uint32_t at = BPF_OFFSET_ARGS + 8 * take_number(&c);
            const unsigned char *compared = take(&c, 16);
            for (int high = 1; high >= 0; high--) {
                uint32_t mask = (uint32_t)(wide_at(compared) >> 32 * high);
                if (!mask) continue;
                emit(BPF_LD_ABS, 0, 0, at + 4 * (uint32_t)high);
                emit(BPF_AND_K, 0, 0, mask);
                emit(BPF_JEQ_K, 0, 0, (uint32_t)(wide_at(compared + 8) >> 32 * high));
            }
        }
        /* What differs jumps behind this alternative, which ends with its RET. */
        for (uint32_t i = first; i < filter_length; i++)
            if (filter[i].code == BPF_JEQ_K) filter[i].jf = (uint8_t)(filter_length - i);
        emit(BPF_RET_K, 0, 0, BPF_USER_NOTIF);
    }
    if (skip) filter[skip].k = filter_length - skip - 1;
    filter[start + 1].k = filter_length - start - 2;
}

/* The program with what only we know behind its head: the one exec passes, signals stay in the process
 * (single_exec.py: block). */
enum { GUARDED = 4 };
static void build_filter(int supervised) {
    static const uint32_t signalling[] = SIGNALLING;
    const struct program *program = supervised ? &policy.supervised : &policy.plain;
    uint32_t otherwise = supervised ? BPF_USER_NOTIF : BPF_ERRNO | EPERM, own = (uint32_t)SYS1(getpid, 0);
    const uint32_t guarded[GUARDED] = {(uint32_t)attendant, (uint32_t)SYS1(getppid, 0), (uint32_t)-1,
                                       (uint32_t)-SYS1(getpgid, 0)};
    /* Where the kernel does not keep signals in the domain, the supervisor looks at each that leaves the process. */
    int inside = policy.signals == SIGNALS_SELF || (supervised && landlock_abi < LANDLOCK_SCOPES);
    /* Of a path call's row in the policy each 4 bytes are less than an instruction, but for four of each number. */
    filter = alloc(8 * (BLOCK + (size_t)program->instructions) + (supervised && looks ? 10 * policy.paths.size : 0) +
                   (supervised && owns ? 10 * policy.served.size : 0));
    filter_length = 0;
    if (supervised && looks) emit_notified(&policy.paths, ANY_CALL);
    if (supervised && owns) emit_notified(&policy.served, NR_socket);
    memcpy(filter + filter_length, program->code, 8 * (size_t)program->head);
    filter_length += program->head;
    if (supervised || policy.exec != EXEC_GRANTED) {
        struct instruction *first = filter + filter_length;
        emit(BPF_JEQ_K, 0, 0, NR_execve);
        for (uint32_t half = 0; half < 6; half++) { /* all of them, whatever is wrong */
            emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_ARGS + 4 * half);
            emit(BPF_XOR_K, 0, 0, (uint32_t)(half & 1 ? exec_addresses[half / 2] >> 32 : exec_addresses[half / 2]));
            if (half) emit(BPF_OR_X, 0, 0, 0);
            emit(BPF_TAX, 0, 0, 0);
        }
        emit(BPF_JEQ_K, 0, 1, 0);
        emit(BPF_RET_K, 0, 0, BPF_ALLOW);
        if (supervised)
            emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_NR);
        else
            emit(BPF_RET_K, 0, 0, otherwise);
        first->jf = (uint8_t)(filter + filter_length - first - 1);
    }
    if (inside || supervised) {
        for (int i = 0; i < 4; i++) emit(BPF_JEQ_K, 3 - i, i < 3 ? 0 : inside ? 4 : 3 + GUARDED, signalling[i]);
        emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_ARGS);
        if (inside) emit(BPF_JEQ_K, 1, 0, own);
        for (int i = 0; !inside && i < GUARDED; i++) emit(BPF_JEQ_K, GUARDED - 1 - i, i == GUARDED - 1, guarded[i]);
        emit(BPF_RET_K, 0, 0, otherwise);
        emit(BPF_LD_ABS, 0, 0, BPF_OFFSET_NR);
    }
    memcpy(filter + filter_length, program->code + 8 * (size_t)program->head,
           8 * (size_t)(program->instructions - program->head));
    filter_length += program->instructions - program->head;
}

static long seccomp_filter(long flags) {
    struct filter_program wanted = {(uint16_t)filter_length, filter};
    return SYS3(seccomp, SECCOMP_SET_MODE_FILTER, flags, &wanted);
}

static int refused(long code) {
    if (code == -ENOSYS)
        return refuse(KERNEL_UNSUPPORTED,
                      format("seccomp(2): this kernel has no seccomp filters (Linux %)", todays_kernel), NULL);
    if (code == -EBUSY)
        return refuse(LISTENER_BUSY, "seccomp(2): a notification listener stands above this process", NULL);
    if (code == -EACCES)
        return refuse(INSTALL_REFUSED, "seccomp(2): NoNewPrivs is not set",
                      format("start the function with it, or %", WARN));
    if (code == -EPERM)
        return refuse(INSTALL_REFUSED, "seccomp(2): a filter above this process refuses seccomp(2)", NULL);
    return refuse(INSTALL_REFUSED, format("seccomp(2): the kernel refused it: %", error_text(code)),
                  format("compile again, or %", WARN));
}

#endif
