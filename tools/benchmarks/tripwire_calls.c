/* What a call of the C library takes, in seconds of the processor: `calls KIND FOLDER ROUNDS`. Kinds that no policy of the
 * benchmark refuses. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    char path[4096], byte;
    long rounds = atol(argv[3]);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int zero = open("/dev/zero", O_RDONLY), out = open("/dev/null", O_WRONLY), ends[2];
    if (page == MAP_FAILED || zero < 0 || out < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 1;
    snprintf(path, sizeof path, "%s/written", argv[2]);
    double begun = now();
    for (long i = 0; i < rounds; i++)
        if (!strcmp(argv[1], "mprotect")) {
            if (mprotect(page, 4096, PROT_READ | PROT_WRITE)) return 1;
        } else if (!strcmp(argv[1], "mmap")) {
            munmap(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
        } else if (!strcmp(argv[1], "read")) {
            if (read(zero, &byte, 1) != 1) return 1;
        } else if (!strcmp(argv[1], "open to read")) {
            close(open("/dev/null", O_RDONLY));
        } else if (!strcmp(argv[1], "open to write")) {
            close(open(path, O_WRONLY | O_CREAT, 0600));
        } else if (!strcmp(argv[1], "open others to write")) {
            snprintf(path, sizeof path, "%s/written-%ld", argv[2], i % 64);
            close(open(path, O_WRONLY | O_CREAT, 0600));
        } else if (send(ends[0], "x", 1, 0) != 1 || recv(ends[1], &byte, 1, 0) != 1) {
            return 1;
        }
    printf("%.12f\n", (now() - begun) / (double)rounds);
    return 0;
}
