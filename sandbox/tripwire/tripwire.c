/* The library that the dynamic loader loads before a function (man 7 rtld-audit), where no filter can be installed. It
 * detects, and refuses what goes through the C library; who makes system calls by itself passes it. It brings no C
 * library of its own and no thread-local memory, so that it fits every glibc. */
#include "decide.c"

enum { LA_FLG_BINDTO = 1, LA_FLG_BINDFROM = 2, LA_SER_ORIG = 1, SLOTS = 512, EAI_AGAIN = -3 };
enum { FIRST_BINDING = 2 }; /* of glibc 2.35, which asks for each symbol, however it is bound */
enum { LA_SYMB_DLSYM = 8 };
#ifdef AS_BEFORE_2_35 /* tests/clients/test_ways.py: what older loaders ask for, and no more */
#define OLDER_LOADER(version) 1
#define OLDER_BINDING(flags) (!((flags)&LA_SYMB_DLSYM))
#else
#define OLDER_LOADER(version) ((version) < FIRST_BINDING)
#define OLDER_BINDING(flags) 0
#endif
enum { TRY_AGAIN = 2 };
enum { PROBED = 42, NOT_PROBED = 43 }; /* sandbox/doctor/tripwire.py */

#define VISIBLE __attribute__((visibility("default")))

VISIBLE unsigned la_version(unsigned version);
VISIBLE unsigned la_objopen(struct link_map *map, long space, uintptr_t *cookie);
VISIBLE unsigned la_objclose(uintptr_t *cookie);
VISIBLE char *la_objsearch(const char *name, uintptr_t *cookie, unsigned flag);
VISIBLE void la_preinit(uintptr_t *cookie);
VISIBLE uintptr_t la_symbind64(struct symbol *symbol, unsigned number, uintptr_t *from, uintptr_t *to, unsigned *flags,
                               const char *name);

static uint8_t slots[SLOTS]; /* by hash: a function's number and 1 */
static unsigned audit_version;
static int libc_is_known, is_probed; /* probed: the doctor asks whether all of it would work here */
static const struct link_map *owners[MOST_FUNCTIONS + 32]; /* who defines a function in front of the C library */
static const char *limits = "";

#include "replaced.c"

static uint32_t slot_of(uint32_t hash) { return (hash ^ hash >> 9) % SLOTS; }

static const char *name_at(int i) { return i < FUNCTIONS ? functions[i].name : replaced[i - FUNCTIONS].name; }

_Static_assert(FUNCTIONS + REPLACED <= MOST_FUNCTIONS + 32 && FUNCTIONS + REPLACED < 255 &&
                   SLOTS > 2 * (FUNCTIONS + REPLACED),
               "each has a slot");

static void fill_slots(void) {
    for (int i = 0; i < FUNCTIONS + REPLACED; i++) {
        uint32_t slot = slot_of(gnu_hash(name_at(i)));
        while (slots[slot]) slot = (slot + 1) % SLOTS;
        slots[slot] = (uint8_t)(i + 1);
    }
}

static int find_function(const char *name) {
    for (uint32_t slot = slot_of(gnu_hash(name)); slots[slot]; slot = (slot + 1) % SLOTS)
        if (same(name_at(slots[slot] - 1), name)) return slots[slot] - 1;
    return -1;
}

/* Where calls of a function are led; 0 where the policy lets all of them pass. */
static uint64_t stand_in_of(int i) {
    if (!in_force) return 0;
    if (i >= FUNCTIONS)
        return replaced_is_bound[i - FUNCTIONS] ? (uint64_t)(uintptr_t)replaced[i - FUNCTIONS].stand_in : 0;
    return is_bound[i] ? (uint64_t)(uintptr_t)way_in + WAY_IN * (uint64_t)i : 0;
}

/* Whether a call of this function could ever be refused. */
static int may_be_refused(const struct function *function) {
    uint32_t nr = function->nr;
    if (function->special & (RAW | STARTS_FIRST | SHELL | ENVIRONMENTS | QUESTION | NEVER)) return 1;
    switch (nr) {
    case NR_connect:
    case NR_sendmsg:
    case NR_sendmmsg:
    case NR_execve:
    case NR_execveat:
        return 1;
    case NR_bind:
        return policy.bind != BIND_ANY || !always_passes(nr);
    case NR_openat:
    case NR_truncate:
    case NR_unlinkat:
    case NR_mkdirat:
    case NR_mknodat:
    case NR_renameat:
    case NR_renameat2:
    case NR_linkat:
    case NR_symlinkat:
    case NR_fchmodat:
    case NR_fchownat:
    case NR_utimensat:
    case NR_setxattr:
    case NR_lsetxattr:
    case NR_removexattr:
        return policy.files.listed || !always_passes(nr);
    case NR_write: /* a question to a resolver */
        return counts_names;
    case NR_sendto:
        return function->operands[4] != NONE || counts_names || !always_passes(nr);
    default:
        return !always_passes(nr) || (policy.signals == SIGNALS_SELF && is_signal(nr));
    }
}

/* Where the profile has neither a thread nor a process, and where it writes no file, the kernel's own limits say so,
 * too: those hold for code that goes past this library. */
static void set_limits(void) {
    uint64_t thread[6] = {CLONE_OF_THREADS}, process[6] = {SIGCHLD};
    uint64_t none[2] = {0, 0}, one[2] = {1, 1};
    if (is_audit) return;
    if (SYS1(geteuid, 0) && filtered(NR_clone, thread) && filtered(NR_clone, process) &&
        SYS4(prlimit64, 0, RLIMIT_NPROC, one, 0) == 0)
        limits = "\"RLIMIT_NPROC\"";
    uint64_t writes_file[6] = {0, 0, O_WRONLY}, makes_file[6] = {0, 0, O_WRONLY | O_CREAT};
    if (!filtered(NR_openat, writes_file) || !filtered(NR_openat, makes_file)) return;
    for (int fd = 0; fd < 3; fd++) {
        uint64_t found[24]; /* struct stat */
        uint32_t mode = 0;
        if (SYS4(newfstatat, fd, "", found, AT_EMPTY_PATH) == 0) memcpy(&mode, (char *)found + STAT_MODE, 4);
        if ((mode & S_IFMT) == S_IFREG) return; /* a log: its growth is the platform's to limit */
    }
    if (SYS4(prlimit64, 0, RLIMIT_FSIZE, none, 0) == 0)
        limits = *limits ? "\"RLIMIT_NPROC\", \"RLIMIT_FSIZE\"" : "\"RLIMIT_FSIZE\"";
}

/* The environment as the kernel handed it over, by /proc: nobody gives it to a library of the loader's. */
static int find_environment(void) {
    static char text[1024];
    long fd = SYS4(openat, AT_FDCWD, "/proc/self/stat", O_CLOEXEC, 0), n = SYS3(read, fd, text, sizeof text - 1);
    SYS1(close, fd);
    if (n <= 0) return 0;
    text[n] = 0;
    const char *at = last_char(text, ')');
    if (!at) return 0;
    uint64_t stack = 0;
    int field = 2; /* the name; the stack's start is field 28 (man 5 proc) */
    for (at++; *at && field < 28; at++) field += *at == ' ';
    for (at--; *at == ' '; at++) continue;
    for (; *at >= '0' && *at <= '9'; at++) stack = 10 * stack + (uint64_t)(*at - '0');
    if (!stack) return 0;
    const long *count = (const long *)stack; /* NOLINT: an address */
    environment = (char **)(count + 2) + *count;
    return 1;
}

static _Noreturn void refuse_start(const char *why) {
    write_line(format("sandbox: Runtime.SandboxInstallRefused: the tripwire cannot be set: %\n"
                      "  what to do: report this, or unset SANDBOX_ON_UNAVAILABLE\n",
                      why));
    leave(69);
}

VISIBLE unsigned la_version(unsigned version) {
    static char name[9];
    audit_version = version;
    if (!find_environment() || !*variable("SANDBOX_TRIPWIRE")) return version;
    if (same(variable("SANDBOX_TRIPWIRE"), "probe")) {
        is_probed = in_force = 1;
        return version;
    }
    take_settings(variable("SANDBOX_TRIPWIRE"));
    const char *wrong = read_policy();
    if (wrong) refuse_start(wrong);
    fill_slots();
    fill_names_paths();
    read_api_address();
    expand_places();
    keep_variables();
    if (own_path) is_program(own_path, own_program);
    start_pid = SYS1(getpid, 0);
    put_number(name, 0, sizeof name, (random_words[1] & 0x7FFFFFFF) | 0x10000000, 16);
    run_name = name;
    in_force = 1;
    for (int i = 0; i < FUNCTIONS; i++) {
        /* An argument that a call does not have nobody compares, but for the address of a message. */
        int own = 0, all;
        while (own < 6 && functions[i].operands[own] == own) own++;
        for (all = own; all < 6 && functions[i].operands[all] == NONE;) all++;
        is_direct[i] = own && all == 6 && (own == 6 || functions[i].nr != NR_sendto);
        is_bound[i] = (uint8_t)may_be_refused(&functions[i]);
    }
    choose_replaced();
    set_limits();
    return version;
}

/* Whether an object is of the C library itself: its own calls inside it are its own. */
static int is_libc(const struct object *object) {
    const char *name = object->own_name;
    return starts_with(name, "libc.so.") || starts_with(name, "libpthread.so.") || starts_with(name, "libdl.so.") ||
           starts_with(name, "libresolv.so.") || starts_with(name, "ld-linux");
}

static void take_originals(const struct object *object, const struct link_map *map, int library) {
    for (int i = 0; i < FUNCTIONS + REPLACED; i++) {
        uint64_t *to = i < FUNCTIONS ? &originals[i] : &replaced_originals[i - FUNCTIONS];
        if (*to) continue;
        *to = address_of(object, name_at(i));
        if (*to && !library) owners[i] = map;
    }
    if (!errno_location && library) {
        uint64_t found = address_of(object, "__errno_location");
        memcpy(&errno_location, &found, sizeof found);
    }
}

VISIBLE unsigned la_objopen(struct link_map *map, long space, uintptr_t *cookie) {
    struct object object;
    if (!in_force || space != LM_ID_BASE) return 0;
    read_object(map, &object);
    *cookie = (uintptr_t)map;
    for (uint32_t i = 0; i <= map_count && i < MOST_OBJECTS; i++) {
        if (i < map_count && maps[i]) continue;
        maps[i] = map;
        map_count += i == map_count;
        break;
    }
    if (is_probed && !is_libc(&object)) return 0;
    if (is_libc(&object)) {
        take_originals(&object, map, 1);
        libc_is_known |= starts_with(object.own_name, "libc.so.");
        return LA_FLG_BINDTO;
    }
    if (!libc_is_known) take_originals(&object, map, 0);
    take_python(&object);
    if (object.symbols && object.strings) {
        int old = OLDER_LOADER(audit_version);
        redirect(&object, object.relocations, object.relative_count, object.relocation_count, old);
        if (old) redirect(&object, object.jumps, 0, object.jump_count, 1);
    }
    return LA_FLG_BINDFROM;
}

VISIBLE unsigned la_objclose(uintptr_t *cookie) {
    for (uint32_t i = 0; i < map_count; i++)
        if (maps[i] == (const struct link_map *)*cookie) maps[i] = NULL;
    return 0;
}

VISIBLE uintptr_t la_symbind64(struct symbol *symbol, unsigned number, uintptr_t *from, uintptr_t *to, unsigned *flags,
                               const char *name) {
    (void)number, (void)to, (void)flags;
    if (OLDER_BINDING(*flags)) return symbol->value;
    int function = in_force ? find_function(name) : -1;
    if (function < 0 || (owners[function] && owners[function] == (const struct link_map *)*from)) return symbol->value;
    uint64_t way = stand_in_of(function);
    return way ? way : symbol->value;
}

/* A library that is loaded later is executable memory from a file. */
VISIBLE char *la_objsearch(const char *name, uintptr_t *cookie, unsigned flag) {
    uint64_t registers[6] = {0, PAGE, MMAP_LIBRARY_PROT, MMAP_LIBRARY_FLAGS, 3, 0};
    (void)cookie;
    if (in_force && flag == LA_SER_ORIG && phase == INVOKE) {
        int code = filtered(NR_mmap, registers);
        if (code) {
            struct target target = {"", NULL};
            put_text(target.text, 0, TARGET, name);
            report(NR_mmap, registers, code, &target, "dlopen", 0);
            if (!is_audit) return NULL;
        }
    }
    return (char *)(uintptr_t)name;
}

VISIBLE void la_preinit(uintptr_t *cookie) {
    (void)cookie;
    if (!in_force) return;
    if (is_probed) {
        int known = errno_location != NULL;
        for (int i = 0; i < FUNCTIONS; i++) known += originals[i] != 0;
        leave(known > FUNCTIONS / 2 ? PROBED : NOT_PROBED);
    }
    if (has_python) py.PySys_AddAuditHook(on_event, NULL);
    if (!is_first) return;
    long bound = 0;
    for (int i = 0; i < FUNCTIONS + REPLACED; i++) bound += stand_in_of(i) != 0;
    lock(&line_lock);
    const char *mark = alloc(1);
    write_line(format("%\"tier\": \"detects\", \"functions\": #, \"python\": %, \"limits\": [%]}\n",
                      beginning("tripwire"), bound, has_python ? "true" : "false", limits));
    release(mark);
    unlock(&line_lock);
}
