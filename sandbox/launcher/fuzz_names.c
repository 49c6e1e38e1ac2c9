/* The resolver's files and the table of addresses by themselves: a program in the launcher's manner.
 *
 *     names files RESOLV_CONF HOSTS LOCALDOMAIN    what is read in them, with `a.example` and what is under it wanted
 *     names                                        commands of standard input, a line each: `stand NAME ADDRESS
 * SECONDS`, with an address in hexadecimal, `host NAME ADDRESS`, as the hosts file says it, and two that answer: `names
 * ADDRESS`, and `tell` with the names that the decider is to be told of
 */
#include "names.c"

static void print(const char *line) { SYS3(write, 1, line, text_length(line)); }

static const char *hexadecimal_of(const uint8_t *bytes, unsigned n) {
    static const char digit[] = "0123456789abcdef";
    char *text = alloc(2 * n + 1);
    for (unsigned i = 0; i < n; i++) text[2 * i] = digit[bytes[i] >> 4], text[2 * i + 1] = digit[bytes[i] & 15];
    text[2 * n] = 0;
    return text;
}

static unsigned bytes_of(const char *text, uint8_t *to) {
    unsigned n = 0;
    for (; text[0] && text[1] && n < 16; text += 2, n++) {
        unsigned high = (unsigned)(text[0] <= '9' ? text[0] - '0' : text[0] - 'a' + 10);
        unsigned low = (unsigned)(text[1] <= '9' ? text[1] - '0' : text[1] - 'a' + 10);
        to[n] = (uint8_t)(high << 4 | low);
    }
    return n;
}

static void read_files(const char **words) {
    each_line(words[2], take_resolver_line);
    take_local_domains(words[4]);
    if (!server_count) add_server("127.0.0.1");
    each_line(words[3], take_hosts_line);
    for (unsigned i = 0; i < server_count; i++) {
        const struct server *server = &servers[i];
        const char *host =
            server->family == AF_INET ? hexadecimal_of(server->host4, 4) : hexadecimal_of(server->host6, 16);
        print(format("server % #\n", host, (long)server->scope));
    }
    for (unsigned i = 0; i < search_count; i++) print(format("search %\n", searches[i]));
    for (unsigned i = 0; i < standing_count; i++)
        print(format("host % %\n", hexadecimal_of(standing[i].host, standing[i].length), standing[i].name));
}

static void run_line(char **words, int count) {
    const char *names[MOST_NAMES];
    uint8_t host[16];
    if (count == 4) {
        unsigned length = bytes_of(words[2], host);
        int past = *words[3] == '-';
        long seconds = parse_number(words[3] + past);
        stand_until(words[1], host, length, now() + (past ? -seconds : seconds), 0);
    } else if (count == 3) {
        stand_until(words[1], host, bytes_of(words[2], host), FOR_GOOD, 1);
    } else if (count == 1) {
        print("tell");
        for (unsigned i = 0; i < standing_count; i++) {
            if (!standing[i].told) print(format(" %", standing[i].name)), standing_untold--;
            standing[i].told = 1;
        }
        print(standing_untold ? " and more\n" : "\n");
    } else if (count == 2) {
        unsigned found = names_of(host, bytes_of(words[1], host), names);
        print("names");
        for (unsigned i = 0; i < found; i++) print(format(" %", names[i]));
        print("\n");
    }
}

_Noreturn void launch(long *stack);
_Noreturn void launch(long *stack) {
    const char **words = (const char **)(stack + 1);
    make_table();
    policy.hosts = (struct list){2, "0****a.example\0000****.a.example"};
    if (stack[0] == 5)
        read_files(words);
    else
        each_line("/dev/stdin", run_line);
    leave(0);
}
