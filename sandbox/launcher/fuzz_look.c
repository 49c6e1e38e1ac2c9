/* The look by itself, on memory and files of this process, for tests. Lines of standard input, in order:
 *
 *     rights PATH                      of a rule; the first is of all rights that are handled, and its path is entered
 *     NUMBER ARGUMENT...               a call; an argument is a number, or a text in hexadecimal behind an `x`
 *
 * For each call a line comes back: whether it is surely quiet (1, 0), and its six registers. */
#include "look.c"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char line[64 << 10];

static uint64_t argument(const char *word) {
    if (*word != 'x') return strtoull(word, NULL, 0);
    size_t n = strlen(++word) / 2;
    char *text = malloc(n + 1); /* of its very length: what reads on is seen */
    if (!text) abort();
    for (size_t i = 0; i < n; i++) {
        const char digits[3] = {word[2 * i], word[2 * i + 1], 0};
        text[i] = (char)strtoul(digits, NULL, 16);
    }
    text[n] = 0;
    return (uint64_t)(uintptr_t)text;
}

int main(void) {
    static struct rules own;
    rules = &own, child = getpid(), policy.limits_proc = 1;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *rest = strchr(line, ' ');
        if (!rest) return 2;
        *rest++ = 0;
        if (*rest == '/') {
            uint32_t rights = (uint32_t)strtoul(line, NULL, 0);
            if (!own.handled) {
                own.handled = rights;
                if (chdir(rest)) return 2;
            } else {
                long fd = SYS4(openat, AT_FDCWD, rest, O_PATH | O_CLOEXEC, 0);
                if (fd < 0) return 2;
                record(fd, rights);
                close((int)fd);
            }
            continue;
        }
        struct notification call = {.task = (uint32_t)child, .nr = (int32_t)strtol(line, NULL, 0)};
        size_t n = 0;
        for (char *word = strtok(rest, " "); word && n < ARGUMENTS; word = strtok(NULL, " "))
            call.args[n++] = argument(word);
        const struct path_call *kind = path_call((uint32_t)call.nr);
        if (!kind) return 2;
        printf("%d", is_quiet(kind, &call));
        for (n = 0; n < ARGUMENTS; n++) printf(" %llu", (unsigned long long)call.args[n]);
        puts("");
        fflush(stdout);
    }
    _exit(0); /* the texts are the calls' for good */
}
