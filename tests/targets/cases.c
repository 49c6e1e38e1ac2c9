/* A handler of examples/c-runtime for every case of tests/e2e/test_runtimes.py, attacks included. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

static int events;

static void ended(int number) {
    static const char said[] = "the handler saw SIGTERM\n";
    (void)number;
    _exit(write(1, said, sizeof said - 1) < 0);
}

static int begin(void) {
    signal(SIGTERM, ended);
    return getenv("BREAK_INIT") != NULL;
}

static const char *field(const char *event, const char *name) { /* the value of `name`, its quote left out */
    char key[64];
    snprintf(key, sizeof key, "\"%s\": ", name);
    const char *found = strstr(event, key);
    return found ? found + strlen(key) + (found[strlen(key)] == '"') : NULL;
}

static const char *spawned(const char *marker) {
    char path[512];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(marker, "\""), marker);
    char *const argv[] = {"touch", path, NULL}, *const envp[] = {NULL};
    pid_t child;
    int error = posix_spawn(&child, "/usr/bin/touch", NULL, NULL, argv, envp), status = 0;
    if (error) return strerror(error);
    waitpid(child, &status, 0);
    return status ? "spawned, failed" : "spawned";
}

static const char *connected(int number) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *said = connect(fd, (struct sockaddr *)&to, sizeof to) ? strerror(errno) : "connected";
    close(fd);
    return said;
}

static ssize_t answer(const char *event, size_t length, char *out) {
    static char copy[4096];
    const char *found, *attack = "";
    snprintf(copy, sizeof copy, "%.*s", (int)length, event);
    events++;
    if ((found = field(copy, "raise"))) {
        sprintf(out, "%.*s", (int)strcspn(found, "\""), found);
        return -1;
    }
    if ((found = field(copy, "exit"))) _exit(atoi(found));
    if ((found = field(copy, "spawn"))) attack = spawned(found);
    if ((found = field(copy, "connect"))) attack = connected(atoi(found));
    if ((found = field(copy, "sleep"))) {
        double seconds = atof(found);
        struct timespec rest = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
        nanosleep(&rest, NULL);
    }
    return sprintf(out, "{\"pid\": %d, \"parent\": %d, \"events\": %d, \"attack\": \"%s\"}", getpid(), getppid(), events,
                   attack);
}
