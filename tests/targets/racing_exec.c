/* racing_exec HOW,... GOOD BAD SECONDS [ARG]: execs of a path that somebody else changes between GOOD and BAD, of one
   length, all the time, until both have started. Prints a line for each HOW: execs, how many ended as GOOD does (exit
   code 7) and as BAD does (9), how many were refused with EPERM, and others. Writes in ./work.
   Build: cc -O1 -pthread -o racing_exec racing_exec.c

   shared   the path lies in a page that a forked sibling shares
   file     in a page of a private mapping of a file, to which a sibling writes
   threads  the exec is that of a thread; another one of its process changes the path
   vfork    the child shares the memory of its maker, of which another thread changes the path
   timer    the path lies in a shared page, and a timer of the caller sends it SIGCONT all the time
   places   nobody changes the path, but a sibling what lies at it: a link to GOOD, or to BAD */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *volatile path;
static volatile int *stop;
static char **ends, *words[3];
static size_t differs;
static int file = -1;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void *flip(void *none) {
    for (unsigned turn = 0; !*stop; turn++) {
        char *one = ends[turn & 1] + differs;
        if (file >= 0) {
            if (pwrite(file, one, 1, (off_t)differs) != 1) abort();
        } else {
            ((volatile char *)path)[differs] = *one;
        }
        for (volatile unsigned wait = turn * 7919 % 6000; wait; wait--) {}
    }
    return none;
}

static void replace(void) {
    for (unsigned turn = 0; !*stop; turn++) {
        unlink("work/new");
        if (symlink(ends[turn & 1], "work/new") || rename("work/new", path)) abort();
        for (volatile unsigned wait = turn * 7919 % 6000; wait; wait--) {}
    }
}

static void continue_often(void) {
    struct sigevent signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
    for (long i = 1; i <= 400; i++) {
        struct itimerspec once = {{0, 0}, {0, 50000 * i}};
        timer_t timer;
        if (timer_create(CLOCK_MONOTONIC, &signal, &timer) || timer_settime(timer, 0, &once, 0)) abort();
    }
}

static void *start(void *none) {
    execv(path, words);
    _exit(errno == EPERM ? 1 : 2);
    return none;
}

static int race(const char *how, double seconds) {
    int found[4] = {0, 0, 0, 0}, execs = 0, sibling = -1;
    int in_thread = !strcmp(how, "threads"), shares = !strcmp(how, "vfork"), links = !strcmp(how, "places");
    pthread_t thread;
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stop = (int *)(page + 4096);
    path = in_thread || shares ? malloc(4096) : page;
    file = -1;
    if (!strcmp(how, "file")) {
        file = open("work/path", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (file < 0 || pwrite(file, ends[0], strlen(ends[0]) + 1, 0) < 0 || ftruncate(file, 4096)) return 65;
        path = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    } else {
        strcpy(path, links ? "work/link" : ends[0]);
    }
    if (links && symlink(ends[0], path)) return 66;
    if (shares && pthread_create(&thread, 0, flip, 0)) return 67;
    if (!in_thread && !shares && !(sibling = fork())) {
        if (links) replace(); else flip(0);
        _exit(0);
    }
    for (double until = now() + seconds; now() < until && !(found[0] && found[1]); execs++) {
        int child = shares ? vfork() : fork(), status;
        if (child < 0) return 68;
        if (!child) {
            if (in_thread && (pthread_create(&thread, 0, flip, 0) || pthread_create(&thread, 0, start, 0))) _exit(3);
            if (in_thread) pause();
            if (!strcmp(how, "timer")) continue_often();
            start(0);
        }
        waitpid(child, &status, 0);
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 3;
        found[code == 7 ? 0 : code == 9 ? 1 : code == 1 ? 2 : 3]++;
    }
    *stop = 1;
    if (sibling > 0) waitpid(sibling, 0, 0);
    if (shares) pthread_join(thread, 0);
    printf("%d %d %d %d %d\n", execs, found[0], found[1], found[2], found[3]);
    fflush(stdout);
    return 0;
}

int main(int count, char **args) {
    if (count < 5) return 64;
    ends = args + 2;
    words[0] = "program", words[1] = count > 5 ? args[5] : 0;
    while (ends[0][differs] == ends[1][differs] && ends[0][differs]) differs++;
    for (char *how = strtok(args[1], ","); how; how = strtok(0, ",")) {
        int code = race(how, atof(args[4]));
        if (code) return code;
    }
    return 0;
}
