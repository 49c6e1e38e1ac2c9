/* The kernel as the launcher calls it: raw system calls, the first instruction, and the few numbers of linux/ headers
 * that it needs (no compiler has to bring them). x86_64 and aarch64, both little endian. */
#ifndef SANDBOX_ABI_H
#define SANDBOX_ABI_H

#include "numbers.h"
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* What Python's modules and ours do not have; the rest is in numbers.h. */
enum { AT_FDCWD = -100, AT_EMPTY_PATH = 0x1000, AT_EXECFN = 31 };
enum { AT_SYMLINK_NOFOLLOW = 0x100, AT_SYMLINK_FOLLOW = 0x400, RESOLVE_NO_SYMLINKS = 4, MFD_CLOEXEC = 1 };
enum { SIGSET = 8, CLONE_VFORK = 0x4000, SUN_PATH = 108 };
#define BIT(signal) (1ULL << ((signal)-1))

struct instruction {
    uint16_t code;
    uint8_t jt, jf;
    uint32_t k;
};

struct filter_program {
    uint16_t length;
    const struct instruction *filter;
};

#if defined(__x86_64__)
#define STAT_MODE 24
#define STAT_USER 28
enum { OPEN_DIRECTORY = 0200000, OPEN_NOFOLLOW = 0400000, OPEN_TMPFILE = 020200000 };
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
#ifndef HOSTED
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall launch\n\tud2\n");
#endif
#elif defined(__aarch64__)
#define STAT_MODE 16
#define STAT_USER 24
enum { OPEN_DIRECTORY = 040000, OPEN_NOFOLLOW = 0100000, OPEN_TMPFILE = 020040000 };
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
#ifndef HOSTED
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tbl launch\n\tbrk #1\n");
#endif
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
