/* The policy's reader by itself: LLVMFuzzerTestOneInput for a fuzzer, and with -DREPLAY a program that prints, for each
 * file named, what is wrong with it as a policy, or that it is one. -DANY_DIGEST puts the right length and digest in
 * first, so that mutations reach what lies behind that check. */
#include "destinations.c"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *try_one(const unsigned char *data, size_t size) {
    struct policy policy;
    unsigned char *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
#ifdef ANY_DIGEST
    if (size >= POLICY_MAGIC_LENGTH + 4 + POLICY_DIGEST) {
        memcpy(copy, POLICY_MAGIC, POLICY_MAGIC_LENGTH);
        for (int i = 0; i < 4; i++) copy[POLICY_MAGIC_LENGTH + i] = (unsigned char)(size >> (8 * i));
        sha256(copy, size - POLICY_DIGEST, copy + size - POLICY_DIGEST);
    }
#endif
    const char *wrong = policy_read(&policy, copy, size, "x86_64");
    if (!wrong) {
        /* What the launcher does with it: walk every list to its end, and read every instruction. */
        size_t seen = text_length(policy.function);
        const struct list paths[] = {policy.files.read, policy.files.write, policy.files.programs};
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
            const char *text = paths[i].first;
            for (uint32_t j = 0; j < paths[i].count; j++, text = next_text(text)) {
                seen += text_length(path_in(text));
                if (base_of(text) < 0 || base_of(text) > BASE_VENV || is_whole(text) > 1) abort();
            }
        }
        for (size_t i = 0; i <= sizeof policy.provenance / sizeof *policy.provenance; i++) {
            const struct list *texts = i ? &policy.provenance[i - 1] : &policy.unsupervised;
            const char *text = texts->first;
            for (uint32_t j = 0; j < texts->count; j++, text = next_text(text)) seen += text_length(text);
        }
        const struct ports ports[] = {policy.network_ports, policy.bind_ports};
        for (size_t i = 0; i < 2; i++)
            for (uint32_t j = 0; j <= ports[i].count; j++) seen += port_at(&ports[i], j, 0) > 65535;
        const uint8_t host[16] = {10, 0, 0, 1};
        const char *text = policy.hosts.first;
        for (uint32_t i = 0; i < policy.hosts.count; i++, text = next_text(text)) {
            seen += text_length(name_of_host(text));
            if (name_opens(&policy, i % 2, name_of_host(text), 443) && !may_look_up(&policy, name_of_host(text)))
                abort();
        }
        for (unsigned length = 4; length <= 16; length += 12)
            for (int protocol = 0; protocol < 2; protocol++)
                seen += is_allowed(&policy, protocol, host, length, 443, NULL, 0) > 1;
        const uint64_t registers[ARGUMENTS] = {1, 0, 0xFF, 0, 0, ~0ULL};
        for (uint32_t nr = 0; nr < 500; nr++)
            seen += (size_t)is_early(&policy.early, nr, registers) + (size_t)is_early(&policy.paths, nr, registers) > 2;
        const struct program programs[] = {policy.plain, policy.supervised};
        for (size_t i = 0; i < 2; i++)
            for (size_t j = 0; j < 8 * (size_t)programs[i].instructions; j++) seen += programs[i].code[j] > 255;
        if (seen > size) abort();
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
        puts(wrong ? wrong : "is a policy");
    }
    return 0;
}
#endif
