/* Ways of C code to make a process, connect, write and run code: `ways FOLDER PORT`; one JSON line of outcomes, like
 * ways.py. What stands under `passes` makes its system calls itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wordexp.h>

static char mark[4096], command[4200];
static int port;

/* Called through pointers that the loader fills, as drivers' tables of functions are. */
static pid_t (*const makes[])(void) = {fork};
static int (*volatile writes)(const char *, mode_t) = creat;

static int left(pid_t pid) {
    if (pid == 0) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY, 0600);
        close(fd);
        _exit(0);
    }
    if (pid > 0) waitpid(pid, NULL, 0);
    return pid < 0 ? -1 : 0;
}

static int way_fork(void) { return left(fork()); }
static int way_table(void) { return left(makes[0]()); }
static int way_vfork(void) {
    pid_t pid = vfork();
    if (pid == 0) execl("/usr/bin/touch", "touch", mark, (char *)NULL), _exit(1);
    if (pid > 0) waitpid(pid, NULL, 0);
    return pid < 0 ? -1 : 0;
}
static int way_spawn(void) {
    char *words[] = {"touch", mark, NULL};
    pid_t pid;
    errno = posix_spawn(&pid, "/usr/bin/touch", NULL, NULL, words, environ);
    if (!errno) waitpid(pid, NULL, 0);
    return errno ? -1 : 0;
}
static int way_system(void) { return system(command); }
static int way_popen(void) {
    FILE *file = popen(command, "r");
    return file ? pclose(file) : -1;
}
static int way_words(void) {
    wordexp_t found;
    char text[4300];
    snprintf(text, sizeof text, "$((true);(%s))", command); /* no arithmetic, though it begins so */
    return wordexp(text, &found, 0);
}
#ifndef STATIC
static int way_symbol(const char *name, void *where) {
    pid_t (*found)(void);
    void *symbol = dlsym(where, name);
    memcpy(&found, &symbol, sizeof found);
    return left(found());
}
static int way_dlsym(void) { return way_symbol("fork", RTLD_DEFAULT); }
static int way_next(void) { return way_symbol("fork", RTLD_NEXT); }
static int way_handle(void) { return way_symbol("fork", dlopen("libc.so.6", RTLD_NOW)); }
#endif
static int way_number(void) { return left((pid_t)syscall(SYS_clone, 17, 0, 0, 0, 0)); }
static int way_connect(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int code = connect(fd, (struct sockaddr *)&to, sizeof to);
    int error = errno;
    close(fd);
    errno = error;
    return code;
}
static int way_open(void) { return open(mark, O_CREAT | O_WRONLY, 0600) < 0 ? -1 : 0; }
static int way_creat(void) { return writes(mark, 0600) < 0 ? -1 : 0; }
static int way_stream(void) { return fopen(mark, "w") ? 0 : -1; }
static int way_protect(void) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(memory, 4096, PROT_READ | PROT_EXEC);
}
static int way_map(void) {
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}
static int way_instruction(void) {
    long code;
#if defined(__x86_64__)
    register long mode __asm__("r10") = 0600;
    __asm__ volatile("syscall"
                     : "=a"(code)
                     : "a"(SYS_openat), "D"(AT_FDCWD), "S"(mark), "d"(O_CREAT | O_WRONLY), "r"(mode)
                     : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = SYS_openat, x0 __asm__("x0") = AT_FDCWD, x2 __asm__("x2") = O_CREAT | O_WRONLY;
    register long x3 __asm__("x3") = 0600;
    register const char *x1 __asm__("x1") = mark;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    code = x0;
#endif
    return code < 0 ? -1 : 0;
}

static const struct {
    const char *name;
    int (*way)(void);
} ways[] = {
    {"fork", way_fork},
    {"fork in a table", way_table},
    {"vfork", way_vfork},
    {"posix_spawn", way_spawn},
    {"system", way_system},
    {"popen", way_popen},
    {"wordexp", way_words},
#ifndef STATIC
    {"dlsym: fork", way_dlsym},
    {"dlsym RTLD_NEXT: fork", way_next},
    {"dlsym of a handle: fork", way_handle},
#endif
    {"syscall(clone)", way_number},
    {"connect", way_connect},
    {"open", way_open},
    {"creat by a pointer", way_creat},
    {"fopen", way_stream},
    {"mprotect", way_protect},
    {"mmap", way_map},
    {"a syscall instruction of its own", way_instruction},
};

int main(int argc, char **argv) {
    (void)argc;
    port = atoi(argv[2]);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct stat found;
        snprintf(mark, sizeof mark, "%s/closed/c-mark-%zu", argv[1], i);
        snprintf(command, sizeof command, "/usr/bin/touch %s", mark);
        errno = 0;
        int code = ways[i].way(), error = errno;
        int made = stat(mark, &found) == 0;
        printf("%s\"%s\": \"%s\"", i ? ", " : "{", ways[i].name,
               made || !code ? "happened" : error ? strerror(error) : "failed");
    }
    printf("}\n");
    return 0;
}
