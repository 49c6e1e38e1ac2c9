/* The bundle reader by itself: LLVMFuzzerTestOneInput for a fuzzer, and with -DREPLAY a program that prints, for each
 * file named, what is wrong with it as a twin, or that it is one. -DUNSEALED puts the right length and digest in first,
 * so that mutations reach what lies behind that check. */
#include "policy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *try_one(const unsigned char *data, size_t size) {
    struct policy policy;
    unsigned char *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
#ifdef UNSEALED
    if (size >= 84) {
        memcpy(copy, "sbxtwin\3", 8);
        for (int i = 0; i < 4; i++) copy[8 + i] = (unsigned char)(size >> (8 * i));
        sha256(copy, size - 32, copy + size - 32);
    }
#endif
    const char *wrong = policy_read(&policy, copy, size, "x86_64");
    if (!wrong) {
        /* What the launcher does with it: walk every list to its end. */
        size_t seen = text_length(policy.function);
        struct list lists[] = {policy.read, policy.write, policy.programs, policy.known[0], policy.known[5]};
        for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
            const char *text = lists[i].first;
            int before = i < 3 ? OF_PLACES : OF_TEXTS;
            for (uint32_t j = 0; j < lists[i].count; j++) {
                seen += text_length(text);
                if (i < 3 && (folder_in(text) > IN_VENV || is_whole(text) > 1)) abort();
                if (j + 1 < lists[i].count) text = next_text(text, before);
            }
        }
        if (seen > size || policy.plain.sha256[0] + policy.supervised.sha256[31] < 0) abort();
    }
    free(copy);
    return wrong;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    try_one(data, size);
    return 0;
}

#ifdef REPLAY
int main(int count, char **names) {
    static unsigned char data[1 << 20];
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        if (!file) return 2;
        size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        const char *wrong = try_one(data, size);
        puts(wrong ? wrong : "is a twin");
    }
    return 0;
}
#endif
