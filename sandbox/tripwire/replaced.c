/* Functions whose result matters: what a resolver says, and what the Runtime API sends. Each has a function of ours in
 * front, which calls it. */
#ifndef SANDBOX_REPLACED_C
#define SANDBOX_REPLACED_C

enum replaced_function {
    GETADDRINFO,
    GETHOSTBYNAME,
    GETHOSTBYNAME2,
    GETHOSTBYNAME_R,
    GETHOSTBYNAME2_R,
    RES_QUERY,
    RES_SEARCH,
    RES_NQUERY,
    RES_NSEARCH,
    OLD_RES_QUERY,
    OLD_RES_SEARCH,
    OLD_RES_NQUERY,
    OLD_RES_NSEARCH,
    READ,
    RECV,
    RECVFROM,
    RECVMSG,
    REPLACED
};
enum { OLDER = OLD_RES_QUERY - RES_QUERY }; /* the name before glibc 2.34 */

static uint64_t replaced_originals[REPLACED];
static uint8_t replaced_is_bound[REPLACED];

struct found_address { /* struct addrinfo */
    int flags, family, type, protocol;
    uint32_t length;
    const uint8_t *address;
    char *name;
    struct found_address *next;
};

struct found_host { /* struct hostent */
    char *name;
    char **aliases;
    int type, length;
    uint8_t **addresses;
};

#define ORIGINAL(which, type) ((type)(uintptr_t)original_of(which))

static uint64_t original_of(enum replaced_function which) {
    uint64_t found = replaced_originals[which];
    return found || which < RES_QUERY || which > RES_NSEARCH ? found : replaced_originals[which + OLDER];
}

/* Whether a name may be asked for; if not, its line is written. */
static int is_asked(const char *name, const char *function, uint64_t caller) {
    char small_text[NAME];
    struct target target = {"", "network"};
    if (may_ask(name)) return 1;
    if (!small_name(name, small_text)) *small_text = 0;
    put_text(target.text, put_text(target.text, 0, TARGET, "dns://"), TARGET, small_text);
    report(NR_connect, NULL, EPERM, &target, function, caller);
    return is_audit;
}

#define asks_for(name, function) is_asked(name, function, (uint64_t)(uintptr_t)__builtin_return_address(0))

static void stand_for(const char *name, const uint8_t *address, uint32_t length) {
    char known[NAME];
    uint8_t literal[4];
    uint16_t family;
    if (!name || length < 8 || !small_name(name, known)) return;
    if (parse_four(name, text_length(name), literal) || last_char(name, ':')) return; /* an address is not a name */
    memcpy(&family, address, 2);
    if (family == AF_INET) stand(known, address + 4, 4);
    if (family == AF_INET6 && length >= 24) stand(known, address + 8, 16);
}

static int our_getaddrinfo(const char *name, const char *service, const void *hints, struct found_address **result) {
    if (!asks_for(name, "getaddrinfo")) return EAI_AGAIN;
    int code = ORIGINAL(GETADDRINFO, int (*)(const char *, const char *, const void *, struct found_address **))(
        name, service, hints, result);
    for (const struct found_address *at = code ? NULL : *result; at; at = at->next)
        if (at->address) stand_for(name, at->address, at->length);
    return code;
}

static struct found_host *hear_host(const char *name, struct found_host *found) {
    char known[NAME];
    if (!found || !name || !small_name(name, known)) return found;
    for (uint8_t **at = found->addresses; at && *at; at++)
        if (found->length == 4 || found->length == 16) stand(known, *at, (unsigned)found->length);
    return found;
}

static struct found_host *our_gethostbyname(const char *name) {
    if (!asks_for(name, "gethostbyname")) return NULL;
    return hear_host(name, ORIGINAL(GETHOSTBYNAME, struct found_host * (*)(const char *))(name));
}

static struct found_host *our_gethostbyname2(const char *name, int family) {
    if (!asks_for(name, "gethostbyname2")) return NULL;
    return hear_host(name, ORIGINAL(GETHOSTBYNAME2, struct found_host * (*)(const char *, int))(name, family));
}

static int our_gethostbyname_r(const char *name, void *host, char *room, size_t size, struct found_host **result,
                               int *error) {
    if (!asks_for(name, "gethostbyname_r")) {
        *result = NULL, *error = TRY_AGAIN;
        return EAGAIN;
    }
    int code = ORIGINAL(GETHOSTBYNAME_R, int (*)(const char *, void *, char *, size_t, struct found_host **, int *))(
        name, host, room, size, result, error);
    if (!code) hear_host(name, *result);
    return code;
}

static int our_gethostbyname2_r(const char *name, int family, void *host, char *room, size_t size,
                                struct found_host **result, int *error) {
    if (!asks_for(name, "gethostbyname2_r")) {
        *result = NULL, *error = TRY_AGAIN;
        return EAGAIN;
    }
    int code = ORIGINAL(GETHOSTBYNAME2_R, int (*)(const char *, int, void *, char *, size_t, struct found_host **,
                                                  int *))(name, family, host, room, size, result, error);
    if (!code) hear_host(name, *result);
    return code;
}

static int our_res_query(const char *name, int class, int type, uint8_t *answer_to, int size) {
    if (!asks_for(name, "res_query")) return -1;
    int n = ORIGINAL(RES_QUERY, int (*)(const char *, int, int, uint8_t *, int))(name, class, type, answer_to, size);
    if (n > 0) hear(answer_to, (size_t)(n < size ? n : size));
    return n;
}

static int our_res_search(const char *name, int class, int type, uint8_t *answer_to, int size) {
    if (!asks_for(name, "res_search")) return -1;
    int n = ORIGINAL(RES_SEARCH, int (*)(const char *, int, int, uint8_t *, int))(name, class, type, answer_to, size);
    if (n > 0) hear(answer_to, (size_t)(n < size ? n : size));
    return n;
}

static int our_res_nquery(void *state, const char *name, int class, int type, uint8_t *answer_to, int size) {
    if (!asks_for(name, "res_nquery")) return -1;
    int n = ORIGINAL(RES_NQUERY, int (*)(void *, const char *, int, int, uint8_t *, int))(state, name, class, type,
                                                                                          answer_to, size);
    if (n > 0) hear(answer_to, (size_t)(n < size ? n : size));
    return n;
}

static int our_res_nsearch(void *state, const char *name, int class, int type, uint8_t *answer_to, int size) {
    if (!asks_for(name, "res_nsearch")) return -1;
    int n = ORIGINAL(RES_NSEARCH, int (*)(void *, const char *, int, int, uint8_t *, int))(state, name, class, type,
                                                                                           answer_to, size);
    if (n > 0) hear(answer_to, (size_t)(n < size ? n : size));
    return n;
}

/* The id of the invocation stands in what the Runtime API answers to /next. */
static void note_request(const char *text, size_t n) {
    static const char wanted[] = "lambda-runtime-aws-request-id:";
    for (size_t i = 0; i + sizeof wanted < n; i++) {
        size_t j = 0;
        while (wanted[j] && small((uint8_t)text[i + j]) == (uint8_t)wanted[j]) j++;
        if (wanted[j]) continue;
        for (i += j; i < n && text[i] == ' ';) i++;
        for (j = 0; i < n && j < sizeof request - 1 && text[i] > ' ' && text[i] < 127;) request[j++] = text[i++];
        request[j] = 0;
        return;
    }
}

/* A receive that truncates may say more than it wrote, or write nowhere (man 2 recv). */
static void heard_on(long fd, const void *data, size_t room, long n) {
    if (n <= 0 || !data) return;
    if ((size_t)n > room) n = (long)room;
    if (fd == api_descriptor) note_request(data, (size_t)n);
    if (counts_names && n >= DNS_HEADER && asks(fd)) hear(data, (size_t)n);
}

static long our_read(int fd, void *to, size_t n) {
    long got = ORIGINAL(READ, long (*)(int, void *, size_t))(fd, to, n);
    heard_on(fd, to, n, got);
    return got;
}

static long our_recv(int fd, void *to, size_t n, int flags) {
    long got = ORIGINAL(RECV, long (*)(int, void *, size_t, int))(fd, to, n, flags);
    heard_on(fd, to, n, got);
    return got;
}

static long our_recvfrom(int fd, void *to, size_t n, int flags, void *from, uint32_t *length) {
    long got =
        ORIGINAL(RECVFROM, long (*)(int, void *, size_t, int, void *, uint32_t *))(fd, to, n, flags, from, length);
    heard_on(fd, to, n, got);
    return got;
}

static long our_recvmsg(int fd, struct parts *message, int flags) {
    long got = ORIGINAL(RECVMSG, long (*)(int, struct parts *, int))(fd, message, flags);
    if (got > 0 && message->count) heard_on(fd, message->parts->data, message->parts->length, got);
    return got;
}

#define OURS(function) (void (*)(void)) our_##function
static const struct {
    char name[20];
    void (*stand_in)(void);
} replaced[REPLACED] = {
    {"getaddrinfo", OURS(getaddrinfo)},
    {"gethostbyname", OURS(gethostbyname)},
    {"gethostbyname2", OURS(gethostbyname2)},
    {"gethostbyname_r", OURS(gethostbyname_r)},
    {"gethostbyname2_r", OURS(gethostbyname2_r)},
    {"res_query", OURS(res_query)},
    {"res_search", OURS(res_search)},
    {"res_nquery", OURS(res_nquery)},
    {"res_nsearch", OURS(res_nsearch)},
    {"__res_query", OURS(res_query)},
    {"__res_search", OURS(res_search)},
    {"__res_nquery", OURS(res_nquery)},
    {"__res_nsearch", OURS(res_nsearch)},
    {"read", OURS(read)},
    {"recv", OURS(recv)},
    {"recvfrom", OURS(recvfrom)},
    {"recvmsg", OURS(recvmsg)},
};

/* What is read is looked at only where it may hold an id or an address. */
static void choose_replaced(void) {
    for (int i = 0; i < REPLACED; i++) replaced_is_bound[i] = i < READ || phase != RUN || counts_names;
}

#endif
