/* The DNS messages by themselves: LLVMFuzzerTestOneInput for a fuzzer, and with -DREPLAY a program that says of each
 * file named, or of each input on standard input behind its length (4 bytes, little endian), what is read in it and
 * what is made of it. An input is a question behind its length (2 bytes, big endian), and an answer to it, under the id
 * 7. */
#include "dns.c"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ID = 7, LARGEST_INPUT = 1 << 17 };

static FILE *told; /* NULL: nobody listens */

static void tell(const char *what, const uint8_t *bytes, size_t n) {
    if (!told) return;
    fprintf(told, "%s ", what);
    for (size_t i = 0; i < n; i++) fprintf(told, "%02x", bytes[i]);
    putc('\n', told);
}

static void try_answer(const struct question *question, const uint8_t *data, size_t n) {
    static struct dns_answer answer;
    if (!read_answer(data, n, ID, question, &answer)) return;
    if (told) fprintf(told, "answer %u %u\n", answer.code, answer.records);
    for (unsigned i = 0; i < answer.count; i++) {
        if (told) fprintf(told, "for %u ", answer.given[i].ttl);
        tell("given", answer.given[i].host, answer.given[i].length);
    }
    for (int stream = 0; stream < 2; stream++) {
        uint8_t *copy = malloc(n);
        if (!copy) abort();
        memcpy(copy, data, n);
        tell(stream ? "stream" : "datagram", copy, answer_to_client(question, copy, n, stream));
        free(copy);
    }
}

static void try_one(const uint8_t *data, size_t size) {
    static struct question question;
    static uint8_t made[DNS_MADE];
    char text[DNS_NAME];
    uint8_t host[16];
    size_t first = size < 2 ? 0 : (size_t)(data[0] << 8 | data[1]), n = size < 2 ? 0 : size - 2;
    if (first > n) first = n;
    /* Each in memory of its own, so that a read behind its end is seen. */
    uint8_t *asked = malloc(first ? first : 1), *answered = malloc(n - first ? n - first : 1);
    if (!asked || !answered) abort();
    if (n) memcpy(asked, data + 2, first), memcpy(answered, data + 2 + first, n - first);
    if (read_question(asked, first, &question)) {
        if (told)
            fprintf(told, "question %u %u %u %u %u %u %u\n", question.id, question.recursion, question.plain,
                    question.edns, question.offer, question.type, question.class);
        tell("wire", question.wire, question.wire_length);
        tell("reply", made, reply_without_records(&question, DNS_NAME_ERROR, made));
        if (question.plain) {
            int written = name_text(&question.name, text);
            tell("ask", made, question_to_ask(&question, ID, made));
            if (written && told) fprintf(told, "name %s\n", text);
            if (written) tell("reversed", host, reversed_address(text, host));
            try_answer(&question, answered, n - first);
        }
    }
    free(asked);
    free(answered);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_one(data, size);
    return 0;
}

#ifdef REPLAY
int main(int count, char **names) {
    static uint8_t data[LARGEST_INPUT], length[4];
    told = stdout;
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        if (!file) return 2;
        size_t size = fread(data, 1, sizeof data, file);
        fclose(file);
        try_one(data, size);
        puts("end");
    }
    while (count < 2 && fread(length, 1, 4, stdin) == 4) {
        size_t size = (size_t)(length[0] | length[1] << 8 | length[2] << 16);
        if (size > sizeof data || fread(data, 1, size, stdin) != size) return 2;
        try_one(data, size);
        puts("end");
        fflush(stdout);
    }
    return 0;
}
#endif
