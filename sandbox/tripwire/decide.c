/* What is decided when one of the functions is called, and the way there: a few instructions for each of them, which
 * keep the caller's registers and its stack as they are, so that a call that passes goes on as if nobody had looked. */
#ifndef SANDBOX_DECIDE_C
#define SANDBOX_DECIDE_C

#include "report.c"

enum {
    FORKS = 16,
    VFORKS,
    THREADS,
    SPAWNS,
    FOLDER,
    NONE,
    EMPTY,
    IS_EMPTY,
    CREATES,
    REPLACES,
    BY_MODE,
    REMOVES_FOLDER,
    MAKES_FIFO,
    NOFOLLOW,
    TEMPORARY
};
enum { MINUS_ONE, ERRNO, THREAD_ERROR, SHELL_STATUS, NOTHING_AT_ALL, WORDS_ERROR };
enum {
    STARTS_FIRST = 1,
    SEARCHES = 2,
    SHELL = 4,
    WORDS = 8,
    RAW = 16,
    ENVIRONMENT_THIRD = 32,
    ENVIRONMENT_FOURTH = 64,
    ENVIRONMENT_FIFTH = 128,
    QUESTION = 256,
    NEVER = 512, /* what nobody needs, and whose own calls nobody sees */
    ENVIRONMENTS = ENVIRONMENT_THIRD | ENVIRONMENT_FOURTH | ENVIRONMENT_FIFTH
};
enum { MMAP_LIBRARY_PROT = 5, MMAP_LIBRARY_FLAGS = 0x802, WRDE_NOSPACE = 1, THRD_ERROR = 2, AT_REMOVEDIR = 0x200 };

struct function {
    char name[24];
    uint16_t nr, special;
    uint8_t operands[6], refusal;
};

#define F(name, nr, a, b, c, d, e, f, refusal, special) {name, nr, special, {a, b, c, d, e, f}, refusal},
static const struct function functions[] = {
#include "functions.h"
};
#undef F
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static uintptr_t originals[FUNCTIONS];                    /* 0: this C library has none */
static uint8_t is_bound[FUNCTIONS], is_direct[FUNCTIONS]; /* direct: the call's arguments are the function's own */

struct call { /* as the way in leaves it on the stack; `stack` begins with the seventh argument */
    uint64_t registers[6], result, function, caller, stack[2];
};
#if defined(__x86_64__)
#define RESULT result
#else
#define RESULT registers[0]
#endif
#define MOST_FUNCTIONS 160
_Static_assert(sizeof functions / sizeof *functions <= MOST_FUNCTIONS, "each has a way in");

/* What fopen(3) opens with for a mode. */
static uint64_t flags_of(const char *mode) {
    if (!mode) return 0;
    uint64_t flags = *mode == 'r' ? 0 : O_WRONLY | O_CREAT;
    for (const char *at = mode; *at && *at != ','; at++)
        if (*at == '+') flags = (flags & ~(uint64_t)O_ACCMODE) | O_RDWR;
    return flags;
}

static uint64_t operand(uint8_t which, const uint64_t *registers) {
    switch (which) {
    case FORKS:
        return CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
    case VFORKS:
    case SPAWNS:
        return CLONE_VM | CLONE_VFORK | SIGCHLD;
    case THREADS:
        return CLONE_OF_THREADS;
    case FOLDER:
        return (uint64_t)AT_FDCWD;
    case EMPTY:
        return (uint64_t)(uintptr_t) "";
    case IS_EMPTY:
        return AT_EMPTY_PATH;
    case CREATES:
        return O_RDWR | O_CREAT | O_EXCL;
    case REPLACES:
        return O_WRONLY | O_CREAT | O_TRUNC;
    case BY_MODE:
        return flags_of((const char *)registers[1]);
    case REMOVES_FOLDER:
        return AT_REMOVEDIR;
    case MAKES_FIFO:
        return S_IFIFO;
    case TEMPORARY:
        return (uint64_t)(uintptr_t) "/tmp/x";
    case NOFOLLOW:
        return AT_SYMLINK_NOFOLLOW;
    case NONE:
        return 0;
    default:
        return registers[which];
    }
}

/* Where a call names what it writes to: pairs of arguments (folder, path), and whether the last part is not followed.
 */
static int written_by(uint32_t nr, const uint64_t *registers, struct target *to) {
    const char *first = (const char *)registers[1], *second = (const char *)registers[3];
    switch (nr) {
    case NR_openat: {
        uint64_t flags = registers[2];
        if (!(flags & (O_ACCMODE | O_CREAT | O_TRUNC)) || flags & O_PATH) return 0;
        return writes((int)registers[0], first, (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL), to);
    }
    case NR_unlinkat:
        forget_paths(registers[2] & AT_REMOVEDIR ? 1 : 0);
        return writes((int)registers[0], first, 1, to);
    case NR_mkdirat:
    case NR_mknodat:
        return writes((int)registers[0], first, 1, to);
    case NR_symlinkat: /* where a folder was asked for that was not there, too */
        forget_paths(1);
        return writes((int)registers[1], (const char *)registers[2], 1, to);
    case NR_linkat:
        forget_paths(1);
        return writes((int)registers[2], second, 1, to);
    case NR_renameat:
    case NR_renameat2: {
        forget_paths(1);
        int refused = writes((int)registers[0], first, 1, to);
        return refused ? refused : writes((int)registers[2], second, 1, to);
    }
    case NR_fchmodat:
    case NR_fchownat:
    case NR_utimensat: {
        uint64_t flags = nr == NR_fchownat ? registers[4] : nr == NR_utimensat ? registers[3] : 0;
        if (!first || !*first) return 0; /* of an open file */
        return writes((int)registers[0], first, (flags & AT_SYMLINK_NOFOLLOW) != 0, to);
    }
    case NR_truncate:
    case NR_setxattr:
    case NR_removexattr:
        return writes(AT_FDCWD, (const char *)registers[0], 0, to);
    case NR_lsetxattr:
    case NR_lremovexattr:
        return writes(AT_FDCWD, (const char *)registers[0], 1, to);
    default:
        return 0;
    }
}

#if defined(__x86_64__)
/* Calls that other architectures lack, as those that take their place there. */
static uint32_t modern(uint32_t nr, uint64_t *a) {
    uint64_t folder = (uint64_t)AT_FDCWD;
    switch (nr) {
    case NR_open:
        a[3] = a[2], a[2] = a[1], a[1] = a[0], a[0] = folder;
        return NR_openat;
    case NR_creat:
        a[2] = O_WRONLY | O_CREAT | O_TRUNC, a[1] = a[0], a[0] = folder;
        return NR_openat;
    case NR_mkdir:
        a[1] = a[0], a[0] = folder;
        return NR_mkdirat;
    case NR_mknod:
        a[1] = a[0], a[0] = folder;
        return NR_mknodat;
    case NR_unlink:
    case NR_rmdir:
        a[1] = a[0], a[0] = folder, a[2] = nr == NR_rmdir ? AT_REMOVEDIR : 0;
        return NR_unlinkat;
    case NR_symlink:
        a[2] = a[1], a[1] = folder;
        return NR_symlinkat;
    case NR_chmod:
        a[2] = a[1], a[1] = a[0], a[0] = folder;
        return NR_fchmodat;
    case NR_chown:
    case NR_lchown:
        a[4] = nr == NR_lchown ? AT_SYMLINK_NOFOLLOW : 0, a[3] = a[2], a[2] = a[1], a[1] = a[0], a[0] = folder;
        return NR_fchownat;
    case NR_utime:
    case NR_utimes:
        a[3] = 0, a[2] = a[1], a[1] = a[0], a[0] = folder;
        return NR_utimensat;
    case NR_link:
    case NR_rename:
        a[3] = a[1], a[2] = folder, a[1] = a[0], a[0] = folder;
        return nr == NR_link ? NR_linkat : NR_renameat;
    default:
        return nr;
    }
}
#else
static uint32_t modern(uint32_t nr, uint64_t *registers) { return (void)registers, nr; }
#endif

static uint8_t names_paths[CALLS]; /* the numbers of written_by and modern */

static void fill_names_paths(void) {
    static const uint16_t numbers[] = {
        NR_openat,
        NR_mkdirat,
        NR_mknodat,
        NR_unlinkat,
        NR_symlinkat,
        NR_linkat,
        NR_renameat,
        NR_renameat2,
        NR_truncate,
        NR_fchmodat,
        NR_fchownat,
        NR_utimensat,
        NR_setxattr,
        NR_lsetxattr,
        NR_removexattr,
        NR_lremovexattr,
#if defined(__x86_64__)
        NR_open,
        NR_creat,
        NR_mkdir,
        NR_mknod,
        NR_unlink,
        NR_rmdir,
        NR_symlink,
        NR_link,
        NR_rename,
        NR_chmod,
        NR_chown,
        NR_lchown,
        NR_utime,
        NR_utimes,
#endif
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) names_paths[numbers[i]] = 1;
}

struct parts { /* struct msghdr, and struct iovec */
    const uint8_t *name;
    uint32_t length, unused;
    const struct part {
        const uint8_t *data;
        size_t length;
    } * parts;
    size_t count;
};

static int message_reaches(long fd, const struct parts *message, struct target *to) {
    if (!message) return 0;
    int to_resolver = asks(fd);
    if (message->name) {
        int refused = reaches(fd, message->name, message->length, 1, to);
        if (refused) return refused;
        to_resolver |= message->length >= 4 && message->name[2] == 0 && message->name[3] == DNS_PORT;
    }
    if (to_resolver && counts_names && message->count && message->parts)
        return may_send_question(message->parts->data, message->parts->length, to);
    return 0;
}

/* The errno with which a system call is refused, 0 for none; for an exec `search` as in `starts`. */
static int refuses(uint32_t nr, const uint64_t *registers, int search, struct target *to) {
    uint64_t now[6];
    *to->text = 0, to->section = NULL;
    if (nr == NR_execve || nr == NR_execveat) {
        const char *path = (const char *)registers[nr == NR_execveat];
        int by_descriptor = nr == NR_execveat && path && !*path;
        if (by_descriptor) {
            put_text(to->text, 0, TARGET, "a file without a path");
            return EPERM;
        }
        return starts(nr == NR_execveat ? (int)registers[0] : AT_FDCWD, path, search, to);
    }
    int refused = filtered(nr, registers);
    if (refused) {
        memcpy(now, registers, sizeof now);
        if (nr == NR_connect || (nr == NR_sendto && registers[4])) {
            int at = nr == NR_connect ? 1 : 4;
            reaches((int)registers[0], (const uint8_t *)registers[at], registers[at + 1], nr != NR_connect, to);
            to->section = NULL; /* the call itself is missing */
        } else if (modern(nr, now) == NR_openat && now[1]) {
            put_text(to->text, 0, TARGET, (const char *)now[1]);
        }
        return refused;
    }
    switch (nr) {
    case NR_connect:
        return reaches((int)registers[0], (const uint8_t *)registers[1], registers[2], 0, to);
    case NR_sendto:
        if (registers[4]) refused = reaches((int)registers[0], (const uint8_t *)registers[4], registers[5], 1, to);
        if (!refused && counts_names &&
            (asks((int)registers[0]) ||
             (registers[4] && registers[5] >= 4 && same_bytes((void *)(registers[4] + 2), "\0\65", 2))))
            refused = may_send_question((const uint8_t *)registers[1], registers[2], to);
        return refused;
    case NR_write:
        return counts_names && asks((int)registers[0])
                   ? may_send_question((const uint8_t *)registers[1], registers[2], to)
                   : 0;
    case NR_sendmsg:
        return message_reaches((int)registers[0], (const struct parts *)registers[1], to);
    case NR_sendmmsg: {
        const char *at = (const char *)registers[1];
        for (uint32_t i = 0; at && i < (uint32_t)registers[2] && !refused; i++, at += 64) /* struct mmsghdr */
            refused = message_reaches((int)registers[0], (const void *)at, to);
        return refused;
    }
    case NR_bind:
        return binds((int)registers[0], (const uint8_t *)registers[1], registers[2], to);
    default:
        if (nr == NR_openat) return written_by(nr, registers, to);
        if (nr >= CALLS || !names_paths[nr]) return 0;
        memcpy(now, registers, sizeof now);
        return written_by(modern(nr, now), now, to);
    }
}

/* Of wordexp(3) only what it substitutes starts a shell; so may what begins like arithmetic. */
static int substitutes(const char *words) {
    for (; words && *words; words++)
        if (*words == '`' || (*words == '$' && words[1] == '(')) return 1;
    return 0;
}

static uint64_t refusal_of(const struct function *function, int code) {
    set_errno(code);
    switch (function->refusal) {
    case ERRNO:
        return (uint64_t)code;
    case THREAD_ERROR:
        return THRD_ERROR;
    case SHELL_STATUS:
        return 127 << 8; /* as where the shell cannot be started */
    case NOTHING_AT_ALL:
        return 0;
    case WORDS_ERROR:
        return WRDE_NOSPACE;
    default:
        return (uint64_t)-1;
    }
}

/* Where a call goes on; 0 for a refusal, whose result stands in the call then. */
__attribute__((used, visibility("hidden"))) uintptr_t decide(struct call *call);
__attribute__((used, visibility("hidden"))) uintptr_t decide(struct call *call) {
    const struct function *function = &functions[call->function];
    uintptr_t original = originals[call->function];
    struct target target;
    uint64_t built[6];
    const uint64_t *registers = built;
    uint32_t nr = function->nr;
    if (!in_force) return original;
    if (function->special & RAW) {
        nr = (uint32_t)call->registers[0];
        for (int i = 0; i < 5; i++) built[i] = call->registers[i + 1];
        built[5] = call->stack[0];
    } else if (is_direct[call->function]) {
        registers = call->registers;
    } else {
        for (int i = 0; i < 6; i++) built[i] = operand(function->operands[i], call->registers);
    }
    int code = 0;
    *target.text = 0, target.section = NULL;
    if (function->special & NEVER) {
        if (nr == NR_mmap && call->registers[0] == LM_ID_BASE) return original; /* dlmopen(3) as dlopen(3) */
        code = EPERM, target.section = "", registers = NULL;
    } else if (!(function->special & WORDS) || substitutes((const char *)call->registers[0]))
        code = function->special & QUESTION ? may_send_question((const uint8_t *)registers[1], registers[2], &target)
                                            : refuses(nr, registers, function->special & SEARCHES, &target);
    if (!code && function->special & (STARTS_FIRST | SHELL)) {
        const char *path = function->special & SHELL ? "/bin/sh" : (const char *)call->registers[1];
        if (function->special & WORDS && !substitutes((const char *)call->registers[0])) return original;
        if (function->special & SHELL && nr == NR_clone && !call->registers[0]) return original; /* system(NULL) asks */
        code = starts(AT_FDCWD, path, function->special & SEARCHES, &target);
        if (code) {
            nr = NR_execve, registers = built;
            built[0] = (uint64_t)(uintptr_t)path, built[2] = 0;
            built[1] = function->special & STARTS_FIRST ? call->registers[4] : 0;
        }
    } else if (code && nr == NR_clone && function->special & (STARTS_FIRST | SHELL)) {
        put_text(target.text, 0, TARGET, function->special & SHELL ? "/bin/sh" : (const char *)call->registers[1]);
    }
    if (!code) {
        if (function->special & ENVIRONMENTS) {
            int at = function->special & ENVIRONMENT_THIRD ? 2 : function->special & ENVIRONMENT_FOURTH ? 3 : 5;
            call->registers[at] = (uint64_t)(uintptr_t)carry_on((const char *const *)call->registers[at]);
        }
        if (function->special & RAW && (nr == NR_execve || nr == NR_execveat)) {
            uint64_t *given = &call->registers[nr == NR_execve ? 3 : 4]; /* behind the number */
            *given = (uint64_t)(uintptr_t)carry_on((const char *const *)*given);
        }
        if (original) return original;
        code = ENOSYS;
    } else {
        report(nr, registers, code, &target, function->name, call->caller);
        if (is_audit && original) return original;
    }
    call->RESULT = refusal_of(function, code);
    return 0;
}

/* The way in: `way_in + WAY_IN * i` stands for function i. */
enum { WAY_IN = 16 };
void way_in(void);
#define STRING(x) #x
#define TEXT(x) STRING(x)
#if defined(__x86_64__)
__asm__(".text\n.p2align 4\n.globl way_in\n.hidden way_in\n.type way_in, @function\nway_in:\n"
        ".set number, 0\n.rept " TEXT(
            MOST_FUNCTIONS) "\n"
                            ".p2align 4\n\tendbr64\n\tpush $number\n\tjmp 1f\n.set number, number + 1\n.endr\n"
                            ".p2align 4\n1:\n"
                            "\tpush %rax\n\tpush %r9\n\tpush %r8\n\tpush %rcx\n\tpush %rdx\n\tpush %rsi\n\tpush %rdi\n"
                            "\tmov %rsp, %rdi\n\tsub $8, %rsp\n\tcall decide\n\tmov %rax, %r11\n\tadd $8, %rsp\n"
                            "\tpop %rdi\n\tpop %rsi\n\tpop %rdx\n\tpop %rcx\n\tpop %r8\n\tpop %r9\n\tpop %rax\n\tadd "
                            "$8, %rsp\n"
                            "\ttest %r11, %r11\n\tje 2f\n\tjmp *%r11\n2:\tret\n");
#else
__asm__(".text\n.p2align 4\n.globl way_in\n.hidden way_in\n.type way_in, %function\nway_in:\n"
        ".set number, 0\n.rept " TEXT(
            MOST_FUNCTIONS) "\n"
                            ".p2align 4\n\thint #34\n\tmov x16, #number\n\tb 1f\n.set number, number + 1\n.endr\n"
                            ".p2align 4\n1:\n"
                            "\tstp x29, x30, [sp, #-112]!\n\tstp x0, x1, [sp, #16]\n\tstp x2, x3, [sp, #32]\n\tstp x4, "
                            "x5, [sp, #48]\n"
                            "\tstp x8, x16, [sp, #64]\n\tstr x30, [sp, #80]\n\tstp x6, x7, [sp, #88]\n"
                            "\tadd x0, sp, #16\n\tbl decide\n\tmov x17, x0\n"
                            "\tldp x0, x1, [sp, #16]\n\tldp x2, x3, [sp, #32]\n\tldp x4, x5, [sp, #48]\n\tldr x8, [sp, "
                            "#64]\n"
                            "\tldp x6, x7, [sp, #88]\n\tldp x29, x30, [sp], #112\n\tcbz x17, 2f\n\tbr x17\n2:\tret\n");
#endif

#endif
