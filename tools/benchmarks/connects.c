/* connects TCP-PORT UDP-PORT COUNT: median nanoseconds of single calls on loopback, one line "name nanoseconds" each.
   The time is that of the call alone: sockets are made and closed (with a reset, so that no port waits) outside of it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int ascending(const void *a, const void *b) { return (*(long *)a > *(long *)b) - (*(long *)a < *(long *)b); }

static void say(const char *name, long *taken, int count) {
    qsort(taken, count, sizeof *taken, ascending);
    printf("%s %ld\n", name, taken[count / 2]);
}

int main(int arguments, char **argument) {
    if (arguments != 4) return 2;
    int count = atoi(argument[3]);
    long *taken = calloc(count, sizeof *taken);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argument[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) {
        for (int i = 0; i < count; i++) {
            struct linger reset = {1, 0};
            int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            long before = now();
            if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) return 3;
            taken[i] = now() - before;
            close(fd);
        }
        say(flags ? "nonblocking" : "blocking", taken, count);
    }
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    to.sin_port = htons(atoi(argument[2]));
    for (int i = 0; i < count; i++) {
        long before = now();
        if (sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) != 1) return 4;
        taken[i] = now() - before;
    }
    say("sendto", taken, count);
    return 0;
}
