/* The decision about destinations by itself: a program that reads a policy, and prints for each line of standard input
 * (`PROTOCOL LENGTH ADDRESS PORT NAME ...`, the address as 16 bytes in hexadecimal) 1 where it is surely allowed, else
 * 0. */
#include "destinations.c"
#include <stdio.h>
#include <string.h>

int main(int count, char **names) {
    static unsigned char data[1 << 20];
    static char line[1 << 16];
    static struct policy policy;
    FILE *file = count > 1 ? fopen(names[1], "rb") : NULL;
    if (!file) return 2;
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    const char *wrong = policy_read(&policy, data, size, "x86_64");
    if (wrong) return puts(wrong), 1;
    while (fgets(line, sizeof line, stdin)) {
        const char *words[64] = {0};
        unsigned n = 0, length = 0, port = 0;
        uint8_t host[16] = {0};
        for (char *word = strtok(line, " \n"); word && n < 64; word = strtok(NULL, " \n")) words[n++] = word;
        if (n < 4 || sscanf(words[1], "%u", &length) != 1 || sscanf(words[3], "%u", &port) != 1) return 2;
        for (unsigned i = 0; i < sizeof host; i++)
            if (sscanf(words[2] + 2 * i, "%2hhx", &host[i]) != 1) return 2;
        int protocol = strcmp(words[0], "udp") ? TCP : UDP;
        printf("%d\n", is_allowed(&policy, protocol, host, length, port, words + 4, n - 4));
        fflush(stdout);
    }
    return 0;
}
