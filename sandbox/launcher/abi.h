/* The kernel as the launcher calls it: raw system calls, the first instruction, and the few numbers of linux/ headers
 * that it needs (no compiler has to bring them). x86_64 and aarch64, both little endian. */
#ifndef SANDBOX_ABI_H
#define SANDBOX_ABI_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

enum { EPERM = 1, EACCES = 13, EBUSY = 16, EINVAL = 22, ENOSYS = 38 };
enum { AT_FDCWD = -100, O_NONBLOCK = 04000, O_CLOEXEC = 02000000, O_PATH = 010000000 };
enum { S_IFMT = 0170000, S_IFDIR = 0040000, S_IFREG = 0100000, S_ISVTX = 01000, AT_EMPTY_PATH = 0x1000 };
enum { X_OK = 1, W_OK = 2, F_SETFD = 2 };
enum { SIG_BLOCK = 0, SIG_SETMASK = 2, SIGSET = 8 };
enum { CLONE_FILES = 0x400, CLONE_VFORK = 0x4000 };
enum { PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4, PR_SET_CHILD_SUBREAPER = 36, PR_SET_NO_NEW_PRIVS = 38 };
enum { SECCOMP_FILTER = 1, NEW_LISTENER = 1 << 3, WAIT_KILLABLE_RECV = 1 << 5 };
enum { PROT_READ_WRITE = 3, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20 };
enum { MAP_FIXED_NOREPLACE = 0x100000 };
enum { AF_INET = 2, SOCK_STREAM = 1, SOCK_CLOEXEC = 02000000, MSG_NOSIGNAL = 0x4000, SOL_SOCKET = 1 };
enum { SO_RCVTIMEO = 20, SO_SNDTIMEO = 21, AT_EXECFN = 31 };

/* linux/filter.h and linux/seccomp.h; sandbox/kernel/bpf.py says more. */
enum { LD_ABS = 0x20, OR_X = 0x4C, XOR_K = 0xA4, TAX = 0x07, JEQ_K = 0x15, RET_K = 0x06 };
#define RET_ALLOW 0x7FFF0000U
#define RET_ERRNO 0x00050000U
#define RET_USER_NOTIF 0x7FC00000U
#define OFFSET_NR 0U
#define OFFSET_ARCH 4U
#define OFFSET_ARGS 16U

/* asm/signal.h; macros, as everywhere, since cppcheck knows some of them. */
#define SIGHUP 1
#define SIGINT 2
#define SIGQUIT 3
#define SIGKILL 9
#define SIGUSR1 10
#define SIGUSR2 12
#define SIGTERM 15
#define SIGCHLD 17
#define SIGCONT 18
#define BIT(signal) (1ULL << ((signal)-1))

struct instruction {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
};

struct program {
    uint16_t length;
    const struct instruction *filter;
};

#if defined(__x86_64__)
#define ARCH "x86_64"
#define AUDIT_ARCH 0xC000003EU
#define STAT_MODE 24
enum { NR_chdir = 80, NR_clock_gettime = 228, NR_clone = 56, NR_close = 3, NR_connect = 42, NR_execve = 59 };
enum { NR_exit_group = 231, NR_faccessat = 269, NR_fcntl = 72, NR_getcwd = 79, NR_geteuid = 107 };
enum { NR_getpgid = 121, NR_getpid = 39, NR_getppid = 110, NR_getrandom = 318, NR_kill = 62 };
enum { NR_landlock_add_rule = 445, NR_landlock_create_ruleset = 444, NR_landlock_restrict_self = 446 };
enum { NR_mmap = 9, NR_munmap = 11, NR_newfstatat = 262, NR_openat = 257, NR_pidfd_getfd = 438, NR_pidfd_open = 434 };
enum { NR_pipe2 = 293, NR_prctl = 157, NR_pread64 = 17, NR_read = 0, NR_readlinkat = 267, NR_recvfrom = 45 };
enum {
    NR_rt_sigaction = 13,
    NR_rt_sigprocmask = 14,
    NR_rt_sigqueueinfo = 129,
    NR_rt_tgsigqueueinfo = 297,
    NR_seccomp = 317
};
enum { NR_sendto = 44, NR_setsockopt = 54, NR_socket = 41, NR_tgkill = 234, NR_uname = 63, NR_wait4 = 61 };
enum { NR_write = 1 };
static inline long call2(long nr, long a, long b) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return result;
}
static inline long call3(long nr, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
/* No initialiser stands behind a register's name here and below: cppcheck 2.17 does not parse one. */
static inline long call4(long nr, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10");
    r10 = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}
static inline long call6(long nr, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10");
    register long r8 __asm__("r8");
    register long r9 __asm__("r9");
    r10 = d, r8 = e, r9 = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall launch\n\tud2\n");
#elif defined(__aarch64__)
#define ARCH "aarch64"
#define AUDIT_ARCH 0xC00000B7U
#define STAT_MODE 16
enum { NR_chdir = 49, NR_clock_gettime = 113, NR_clone = 220, NR_close = 57, NR_connect = 203, NR_execve = 221 };
enum { NR_exit_group = 94, NR_faccessat = 48, NR_fcntl = 25, NR_getcwd = 17, NR_geteuid = 175 };
enum { NR_getpgid = 155, NR_getpid = 172, NR_getppid = 173, NR_getrandom = 278, NR_kill = 129 };
enum { NR_landlock_add_rule = 445, NR_landlock_create_ruleset = 444, NR_landlock_restrict_self = 446 };
enum { NR_mmap = 222, NR_munmap = 215, NR_newfstatat = 79, NR_openat = 56, NR_pidfd_getfd = 438 };
enum { NR_pidfd_open = 434, NR_pipe2 = 59, NR_prctl = 167, NR_pread64 = 67, NR_read = 63, NR_readlinkat = 78 };
enum {
    NR_recvfrom = 207,
    NR_rt_sigaction = 134,
    NR_rt_sigprocmask = 135,
    NR_rt_sigqueueinfo = 138,
    NR_rt_tgsigqueueinfo = 240
};
enum { NR_seccomp = 277, NR_sendto = 206, NR_setsockopt = 208, NR_socket = 198, NR_tgkill = 131, NR_uname = 160 };
enum { NR_wait4 = 260, NR_write = 64 };
static inline long call2(long nr, long a, long b) {
    register long x8 __asm__("x8");
    register long x0 __asm__("x0");
    register long x1 __asm__("x1");
    x8 = nr, x0 = a, x1 = b;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
    return x0;
}
static inline long call4(long nr, long a, long b, long c, long d) {
    register long x8 __asm__("x8");
    register long x0 __asm__("x0");
    register long x1 __asm__("x1");
    register long x2 __asm__("x2");
    register long x3 __asm__("x3");
    x8 = nr, x0 = a, x1 = b, x2 = c, x3 = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
static inline long call6(long nr, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8");
    register long x0 __asm__("x0");
    register long x1 __asm__("x1");
    register long x2 __asm__("x2");
    register long x3 __asm__("x3");
    register long x4 __asm__("x4");
    register long x5 __asm__("x5");
    x8 = nr, x0 = a, x1 = b, x2 = c, x3 = d, x4 = e, x5 = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
static inline long call3(long nr, long a, long b, long c) {
    register long x8 __asm__("x8");
    register long x0 __asm__("x0");
    register long x1 __asm__("x1");
    register long x2 __asm__("x2");
    x8 = nr, x0 = a, x1 = b, x2 = c;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tbl launch\n\tbrk #1\n");
#else
#error "the launcher knows x86_64 and aarch64"
#endif

/* Arguments are addresses as often as numbers. The result is negative errno on failure. */
#define SYS1(n, a) call2(NR_##n, (long)(a), 0)
#define SYS2(n, a, b) call2(NR_##n, (long)(a), (long)(b))
#define SYS3(n, a, b, c) call3(NR_##n, (long)(a), (long)(b), (long)(c))
#define SYS4(n, a, b, c, d) call4(NR_##n, (long)(a), (long)(b), (long)(c), (long)(d))
#define SYS5(n, a, b, c, d, e) call6(NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS6(n, a, b, c, d, e, f) call6(NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#endif
