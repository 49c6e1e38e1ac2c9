/* hostile MODE ...: what no interpreter does fast or exactly enough. umask(2) stands for a call that was not learned.
   Build: cc -O1 -pthread -o hostile hostile.c. Prints numbers; the tests say what they must be.

   flood THREADS COUNT              calls that were refused with EPERM
   timer COUNT FLAGS                the same under a signal each 300 us; FLAGS are SA_*: refused, interrupted, signals
   leave                            threads that are in a call while the process exits with 7
   exec PROGRAM                     the same while another thread execs
   forks COUNT                      children that each make one call: how many were refused
   phases PORT                      errno before and after the first connection to the Runtime API
   flip GOOD BAD COUNT SECONDS      connects while a thread changes the port: tries, connected, refused
   flipsend GOOD BAD COUNT SECONDS  the same with sendto
   swap PORT COUNT SECONDS          connects while a thread changes the descriptor between a UDP and a TCP socket
   many PORT THREADS                connects at once: how many succeeded
   alarm PORT                       errno of a blocking connect under SO_SNDTIMEO of 0.3 s, milliseconds
   signals PORT RESTART WHO LIMIT   errno of a blocking connect (SO_SNDTIMEO of LIMIT ms, 0: none) while SIGALRM comes
                                    each 0.2 s, the first time with SA_RESTART or not; how many were handled, ms. WHO:
                                    1 the connecting thread, 2 another thread, 3 the connecting one by its number */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int alarms;

static void on_alarm(int number) {
    struct sigaction once = {.sa_handler = on_alarm};
    alarms++;
    sigaction(number, &once, 0);
}

static void *disturb(void *thread) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(thread ? SIG_BLOCK : SIG_UNBLOCK, &set, 0);
    for (;;) {
        usleep(200000);
        if (thread) pthread_kill(*(pthread_t *)thread, SIGALRM);
    }
    return 0;
}

static long call(void) { return syscall(SYS_umask, 077) < 0 ? errno : 0; }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in place(int port) {
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(port)};
    found.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return found;
}

static long count, refused, connected;

static void *flood(void *unused) {
    long found = 0;
    for (long i = 0; i < count; i++) found += call() == EPERM;
    __atomic_add_fetch(&refused, found, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *endless(void *unused) {
    for (;;) call();
}

static void run(int threads, void *(*work)(void *), void *argument) {
    pthread_t *ids = calloc(threads, sizeof *ids);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], &attributes, work, argument)) exit(90);
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
}

static void start(void *(*work)(void *), void *argument) {
    pthread_t id;
    if (pthread_create(&id, NULL, work, argument)) exit(90);
}

static volatile long signals;
static void on_signal(int number) { signals++; }

static struct sockaddr_in flipped;
static int good, bad, shared = -1;

static void *flip(void *unused) {
    for (;;) {
        __atomic_store_n(&flipped.sin_port, htons(bad), __ATOMIC_RELAXED);
        for (volatile int i = 0; i < 40; i++) {}
        __atomic_store_n(&flipped.sin_port, htons(good), __ATOMIC_RELAXED);
        for (volatile int i = 0; i < 40; i++) {}
    }
}

static void *swap(void *unused) {
    for (;;) {
        int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0);
        for (int i = 0; i < 50; i++) {
            dup2(udp, shared);
            dup2(tcp, shared);
        }
        close(udp);
        close(tcp);
    }
}

static void *one_connect(void *argument) {
    struct sockaddr_in to = place(*(int *)argument);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) __atomic_add_fetch(&connected, 1, __ATOMIC_SEQ_CST);
    close(fd);
    return NULL;
}

int main(int arguments, char **argument) {
    const char *mode = arguments > 1 ? argument[1] : "";
    long number[6] = {0};
    for (int i = 2; i < arguments && i < 8; i++) number[i - 2] = atol(argument[i]);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(mode, "flood")) {
        count = number[1];
        run(number[0], flood, NULL);
        printf("%ld\n", refused);
    } else if (!strcmp(mode, "timer")) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = number[1]};
        struct itimerval each = {{0, 300}, {0, 300}}, none = {{0, 0}, {0, 0}};
        long interrupted = 0;
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &each, NULL);
        for (long i = 0; i < number[0]; i++) {
            long found = call();
            refused += found == EPERM;
            interrupted += found == EINTR;
        }
        setitimer(ITIMER_REAL, &none, NULL);
        printf("%ld %ld %ld\n", refused, interrupted, signals);
    } else if (!strcmp(mode, "leave")) {
        call();
        for (int i = 0; i < 8; i++) start(endless, NULL);
        usleep(50000);
        _exit(7);
    } else if (!strcmp(mode, "exec")) {
        for (int i = 0; i < 8; i++) start(endless, NULL);
        usleep(50000);
        execl(argument[2], argument[2], NULL);
        printf("%d\n", errno);
        _exit(0);
    } else if (!strcmp(mode, "forks")) {
        for (long i = 0; i < number[0]; i++) {
            int status;
            pid_t child = fork();
            if (child == 0) _exit(call());
            if (child > 0 && waitpid(child, &status, 0) == child) refused += WEXITSTATUS(status) == EPERM;
        }
        printf("%ld\n", refused);
    } else if (!strcmp(mode, "phases")) {
        struct sockaddr_in to = place(number[0]);
        printf("%ld ", call());
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        printf("%d ", connect(fd, (struct sockaddr *)&to, sizeof to) ? errno : 0);
        printf("%ld\n", call());
    } else if (!strcmp(mode, "flip") || !strcmp(mode, "flipsend")) {
        int sending = mode[4] != 0;
        long tries = 0;
        double end = now() + number[3];
        good = number[0], bad = number[1], flipped = place(good);
        start(flip, NULL);
        int fd = sending ? socket(AF_INET, SOCK_DGRAM, 0) : -1;
        for (; tries < number[2] && (tries % 64 || now() < end); tries++) {
            struct linger reset = {1, 0};
            long found;
            if (sending)
                found = sendto(fd, "x", 1, 0, (struct sockaddr *)&flipped, sizeof flipped);
            else {
                fd = socket(AF_INET, SOCK_STREAM, 0);
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
                found = connect(fd, (struct sockaddr *)&flipped, sizeof flipped);
            }
            if (found >= 0)
                connected++;
            else if (errno == EPERM)
                refused++;
            if (!sending) close(fd);
        }
        printf("%ld %ld %ld\n", tries, connected, refused);
    } else if (!strcmp(mode, "swap")) {
        struct sockaddr_in to = place(number[0]);
        long tries = 0;
        double end = now() + number[2];
        shared = socket(AF_INET, SOCK_DGRAM, 0);
        start(swap, NULL);
        for (; tries < number[1] && now() < end; tries++) {
            if (connect(shared, (struct sockaddr *)&to, sizeof to) == 0)
                connected++;
            else if (errno == EPERM)
                refused++;
        }
        printf("%ld %ld %ld\n", tries, connected, refused);
    } else if (!strcmp(mode, "many")) {
        int port = number[0];
        run(number[1], one_connect, &port);
        printf("%ld\n", connected);
    } else if (!strcmp(mode, "alarm")) {
        struct sockaddr_in to = place(number[0]);
        struct timeval limit = {0, 300000};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        double before = now();
        int found = connect(fd, (struct sockaddr *)&to, sizeof to) ? errno : 0;
        printf("%d %d\n", found, (int)((now() - before) * 1000));
    } else if (!strcmp(mode, "signals")) {
        struct sockaddr_in to = place(number[0]);
        struct sigaction first = {.sa_handler = on_alarm, .sa_flags = number[1] ? SA_RESTART : 0};
        struct itimerval each = {{0, 200000}, {0, 200000}};
        struct timeval limit = {number[3] / 1000, number[3] % 1000 * 1000};
        pthread_t self = pthread_self(), other;
        sigset_t set;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        sigemptyset(&set);
        sigaddset(&set, SIGALRM);
        sigaction(SIGALRM, &first, 0);
        if (number[3]) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (number[2] == 2) pthread_sigmask(SIG_BLOCK, &set, 0);
        if (number[2] != 1) pthread_create(&other, 0, disturb, number[2] == 3 ? &self : 0);
        if (number[2] != 3) setitimer(ITIMER_REAL, &each, 0);
        double before = now();
        int found = connect(fd, (struct sockaddr *)&to, sizeof to) ? errno : 0;
        printf("%d %d %d\n", found, alarms, (int)((now() - before) * 1000));
    } else
        return 2;
    fflush(stdout);
    _exit(0);
}
