/* connects TCP-PORT UDP-PORT COUNT FILE IN-FOLDER: nanoseconds of single calls on loopback, one line "name nanoseconds" each: the
   median of COUNT, but of the first connect alone, and of as many as THREADS threads make together.
   The time is that of the call alone: sockets are made and closed (with a reset, so that no port waits) outside of it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 64, REFUSED = 15 };

static struct sockaddr_in to = {.sin_family = AF_INET};
static int count;

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static int ascending(const void *a, const void *b) { return (*(long *)a > *(long *)b) - (*(long *)a < *(long *)b); }

static void say(const char *name, long *taken, int n) {
    qsort(taken, n, sizeof *taken, ascending);
    printf("%s %ld\n", name, taken[n / 2]);
}

static long connected(const struct sockaddr_in *address, int flags) {
    struct linger reset = {1, 0};
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    long before = now();
    int code = connect(fd, (const struct sockaddr *)address, sizeof *address);
    long took = now() - before;
    if (code && errno != EINPROGRESS && errno != EPERM && errno != EACCES && errno != ECONNREFUSED) exit(3);
    close(fd);
    return took;
}

static void *connect_some(void *unused) {
    for (int i = 0; i < count / THREADS; i++) connected(&to, 0);
    return unused;
}

int main(int arguments, char **argument) {
    if (arguments != 6) return 2;
    count = atoi(argument[3]);
    long *taken = calloc(count, sizeof *taken);
    to.sin_port = htons(atoi(argument[1]));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    printf("first %ld\n", connected(&to, 0));
    for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) {
        for (int i = 0; i < count; i++) taken[i] = connected(&to, flags);
        say(flags ? "nonblocking" : "blocking", taken, count);
    }
    pthread_t threads[THREADS];
    long before = now();
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, connect_some, NULL)) return 5;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    printf("threads %ld\n", (now() - before) / (count / THREADS * THREADS));
    for (int file = 4; file < 6; file++) {
        for (int i = 0; i < count; i++) {
            before = now();
            close(open(argument[file], O_RDONLY | O_CLOEXEC));
            taken[i] = now() - before;
        }
        say(file == 4 ? "open" : "open-in-folder", taken, count);
    }
    struct sockaddr_in other = to;
    for (int i = 0; i < REFUSED; i++) {
        other.sin_port = htons(1 + i); /* each another destination: each has its line */
        taken[i] = connected(&other, 0);
    }
    say("refused", taken, REFUSED);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    to.sin_port = htons(atoi(argument[2]));
    for (int i = 0; i < count; i++) {
        before = now();
        if (sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) != 1) return 4;
        taken[i] = now() - before;
    }
    say("sendto", taken, count);
    return 0;
}
