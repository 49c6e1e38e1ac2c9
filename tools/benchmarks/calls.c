/* Times single system calls: calls COUNT prints one line "NAME NANOSECONDS" for each kind of call, per call. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

#define TIME(name, call)                                        \
    do {                                                        \
        for (long i = 0; i < count / 10; i++)                   \
            call;                                               \
        double begun = now();                                   \
        for (long i = 0; i < count; i++)                        \
            call;                                               \
        printf("%s %.2f\n", name, (now() - begun) / count);     \
    } while (0)

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1000;
    int zero = open("/dev/zero", O_RDONLY);
    char byte;

    if (zero < 0 || count < 10)
        return 1;
    TIME("getppid", syscall(SYS_getppid));
    TIME("read", syscall(SYS_read, zero, &byte, 1));
    TIME("fcntl", syscall(SYS_fcntl, zero, F_GETFL, 0));
    TIME("openat", close(syscall(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY, 0)));
    TIME("unshare", syscall(SYS_unshare, 0));
    return 0;
}
