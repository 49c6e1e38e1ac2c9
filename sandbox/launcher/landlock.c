/* Landlock: from a policy's places to rules on this host (sandbox/confine/landlock_rules.py tells why). */
#ifndef SANDBOX_LANDLOCK_C
#define SANDBOX_LANDLOCK_C

#include "load.c"

static long ruleset, rule_problem;
static uint32_t handled, read_places;
static struct notes written, programs, absent;

struct rule { /* of look.py: the physical path, and of a file which one it is */
    uint64_t device, inode;
    uint32_t rights, length;
    char path[];
};
struct rules {
    uint32_t handled, used, incomplete, none;
    char first[RULES - 16];
};
static struct rules *rules; /* as they were installed, in memory that who looks at paths shares with the child */
static long rules_from; /* a descriptor of it for the decider, -1: none */
_Static_assert(sizeof(struct rule) == RULE_SIZE && sizeof(struct rules) == RULES, "as look.py reads them");

static const struct rule *rule_at(uint32_t at) { return (const void *)(rules->first + at); }
static uint32_t size_of_rule(const struct rule *rule) {
    return ((uint32_t)sizeof *rule + rule->length + 8) & ~7U; /* with a NUL */
}

static void share_rules(void) {
    rules_from = SYS2(memfd_create, "rules", MFD_CLOEXEC);
    if (rules_from >= 0 && SYS2(ftruncate, rules_from, RULES) < 0) rules_from = -1;
    int flags = rules_from < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    long at = SYS6(mmap, 0, RULES, PROT_READ_WRITE, flags, rules_from, 0);
    if (at > 0) rules = (struct rules *)at;
}

static void record(long fd, uint32_t rights) {
    if (!rules || rules->incomplete) return;
    uint64_t found[24]; /* struct stat */
    uint32_t mode, at = rules->used;
    struct rule *rule = (void *)(rules->first + at);
    const char *link = format("/proc/self/fd/#", fd);
    long n = sizeof rules->first - at < sizeof *rule + 4096 ? -1 : SYS4(readlinkat, AT_FDCWD, link, rule->path, 4095);
    release(link);
    if (n <= 0 || SYS4(newfstatat, fd, "", found, AT_EMPTY_PATH) < 0) {
        rules->incomplete = 1;
        return;
    }
    if (*rule->path != '/') return; /* a pipe: nothing holds it */
    memcpy(&mode, (char *)found + STAT_MODE, 4);
    if ((mode & S_IFMT) != S_IFDIR) rule->device = found[0], rule->inode = found[1];
    rule->path[n] = 0;
    rule->rights = rights, rule->length = (uint32_t)n;
    rules->used += size_of_rule(rule);
}

/* A rule on a path; unless it stands for the whole of it a folder can only be listed. 0: there is no such path. That
 * something is no folder (EINVAL: it takes fewer rights) is sooner tried than asked. */
static int allow(const char *path, uint32_t access, int whole) {
    long fd = SYS4(openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0), code = 0;
    if (fd < 0) return 0;
    if (!whole) access &= (mode_of(fd, "", NULL) & S_IFMT) == S_IFDIR ? LANDLOCK_ACCESS_FS_READ_DIR : FS_OF_FILES;
    struct __attribute__((packed)) {
        uint64_t access;
        int32_t fd;
    } beneath = {access & handled, (int32_t)fd};
    if (beneath.access) code = SYS4(landlock_add_rule, ruleset, 1, &beneath, 0);
    if (code == -EINVAL) beneath.access &= FS_OF_FILES;
    if (code == -EINVAL && beneath.access) code = SYS4(landlock_add_rule, ruleset, 1, &beneath, 0);
    /* EBADFD: a pipe or the like lies in no folder, and nothing holds it. Every other errno from here is smaller. */
    if ((uint64_t)(code + EBADFD - 1) < EBADFD - 1) rule_problem = code;
    if (beneath.access && !code) record(fd, (uint32_t)beneath.access);
    close_high(fd);
    return 1;
}

/* What {root}, {python} or {venv} is here, into at most two folders; one of no name is the root, by no text. */
static int folders_of(int name, const char *into[2]) {
    int n = 0;
    into[0] = "";
    if (name == BASE_NONE) return 1;
    if (name == BASE_ROOT) {
        into[0] = absolute_path(task_root());
        return !same(real_path(into[0]), "/");
    }
    if (name == BASE_VENV) {
        into[0] = folder_of(folder_of(absolute_path(command_path)));
        return exists(format("%/pyvenv.cfg", into[0]));
    }
    const char *program = real_path(command_path), *prefix = folder_of(folder_of(program)), *own = name_of(program);
    for (int wide = 0; wide < 2 && starts_with(own, "py"); wide++) { /* python3.12, pypy3.11 */
        into[n] = format("%/lib%/%", prefix, wide ? "64" : "", own);
        n += exists(format("%/os.py", into[n]));
    }
    return n;
}

/* A place to write, if it is there: nothing above it is opened in its place (landlock_rules.py: _write). */
static void allow_write(const char *path) {
    int device = starts_with(path, "/dev/") && (mode_of(AT_FDCWD, path, NULL) & S_IFMT) != S_IFDIR,
        there = allow(path, FS_READ | FS_WRITE, 1);
    if (!device) note(there ? &written : &absent, path);
}

/* Whether a folder like /lib is only another name for one in /usr, which every policy reads: a rule would say it twice,
 * and cost as much as four looks. */
static int in_usr(const char *path) {
    char target[5] = "";
    return last_char(path, '/') == path && SYS4(readlinkat, AT_FDCWD, path, target, 5) >= 4 &&
           same_bytes(target + (*target == '/'), "usr/", 4);
}

static void allow_places(const struct list *places, int write) {
    static int delivered;
    const char *place = places->first, *into[2];
    for (uint32_t i = 0; i < places->count; i++, place = next_text(place)) {
        int name = base_of(place), count = folders_of(name, into);
        if (!count && !(delivered >> name & 1)) {
            delivered |= 1 << name;
            note(&absent, BASES[name]);
        }
        for (int j = 0; j < count; j++) {
            const char *path = format("%%", into[j], path_in(place));
            if (write)
                allow_write(path);
            else
                read_places += (uint32_t)((is_whole(place) && in_usr(path)) || allow(path, FS_READ, is_whole(place)));
        }
    }
}

/* The first bytes of a program, with a NUL behind them, how many they are, and its dynamic loader, '' for none. */
static long read_program(const char *path, unsigned char *head, char *loader) {
    uint64_t at, offset, size;
    long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, head, 4095);
    if (n < 0) n = 0;
    head[n] = 0, *loader = 0;
    if (n >= 64 && same_bytes(head, "\177ELF\2\1", 6)) {
        int step = head[54] | head[55] << 8, count = head[56] | head[57] << 8;
        memcpy(&at, head + 32, 8);
        for (; count && at <= (uint64_t)n - 56; count--, at += (uint64_t)step) {
            if (!same_bytes(head + at, "\3\0\0", 4)) continue; /* PT_INTERP */
            memcpy(&offset, head + at + 8, 8);
            memcpy(&size, head + at + 32, 8);
            long got = SYS4(pread64, fd, loader, size < 4095 ? size : 4095, offset);
            loader[got > 0 ? got : 0] = 0;
            break;
        }
    }
    close_high(fd);
    return n;
}

/* A program and its dynamic loader may be executed; the program's first bytes, and how many they are. */
static long allow_program(const char *path, unsigned char *head) {
    char *loader = alloc(4096);
    long n = read_program(path, head, loader);
    allow(path, FS_PROGRAM, 0); /* a folder is no program */
    if (*loader) allow(loader, FS_PROGRAM, 0);
    release(loader);
    return n;
}

/* The next word of a line, '' at its end. */
static const char *next_word(const char **at) {
    size_t n = 0;
    while (**at == ' ' || (**at >= '\t' && **at <= '\r' && **at != '\n')) ++*at;
    for (const char *p = *at; *p && *p != ' ' && (*p < '\t' || *p > '\r'); p++) n++;
    const char *found = slice(*at, n);
    *at += n;
    return found;
}

/* Of the first bytes of a script its interpreter, and of one that env starts that, with env in `env`; '' for none. */
static const char *interpreter_of(unsigned char *head, long n, const char **env) {
    const char *line = (const char *)head + 2, *path;
    *env = NULL;
    if (head[0] != '#' || head[1] != '!') return "";
    head[n < 256 ? n : 256] = 0;
    path = next_word(&line);
    if (!same(name_of(path), "env")) return path;
    *env = path;
    do {
        path = next_word(&line);
        if (same(path, "-C") || same(path, "-u")) next_word(&line); /* and its operand */
    } while (*path == '-' || last_char(path, '='));
    return *path ? search(path, search_path(), 0) : path;
}

/* A program, the interpreters of its `#!` lines, and their dynamic loader (landlock_rules.py: _chain). */
static void allow_chain(const char *path) {
    unsigned char *head = alloc(4096);
    const char *env;
    for (int depth = 0; depth < LONGEST_CHAIN && *path; depth++) {
        long n = allow_program(path, head);
        path = interpreter_of(head, n, &env);
        if (env) allow_program(env, alloc(4096));
    }
}

static void allow_programs(void) {
    const char *place = policy.files.programs.first, *into[2];
    for (uint32_t i = 0; i < policy.files.programs.count; i++, place = next_text(place)) {
        int inside = 0;
        folders_of(base_of(place), into); /* {venv}, too, where there is no such environment: beside the interpreter */
        const char *path = format("%%", into[0], path_in(place)), *is = format("%/", real_path(path));
        for (struct item *item = written.first; item; item = item->next)
            inside |= starts_with(is, format("%/", real_path(item->text)));
        if (is_whole(place)) { /* a place for programs that the function puts there itself */
            allow(path, FS_PROGRAM, 1);
        } else if (inside) {
            note(&degraded, format("programs: % lies where the function writes", path));
        } else if (!is_file(path)) {
            note(&absent, path);
        } else {
            note(&programs, path);
            allow_chain(path);
        }
    }
}

static const char *first_few(const struct notes *places) {
    const char *found = "";
    int i = 0;
    for (struct item *item = places->first; item && i < SHOWN; item = item->next)
        found = format("%%%", found, i++ ? ", " : "", item->text);
    return places->count > SHOWN ? format("% and # more", found, (long)(places->count - SHOWN)) : found;
}

static long landlock_abi;
static uint32_t scoped;
static const char *missing(void) {
    const char *what = landlock_abi ? format("Landlock ABI #", landlock_abi) : "no Landlock";
    return format("% on Linux %", what, todays_kernel);
}

static void note_all(struct notes *list, const struct list *lines) {
    const char *text = lines->first;
    for (uint32_t i = 0; i < lines->count; i++, text = next_text(text)) note(list, text);
}

static void note_files(void) {
    const char *by = format("by Landlock ABI #", landlock_abi);
    if (handled & FS_READ) {
        const char *places = first_few(&written);
        note(&enforced,
             format("files: read # places, write %, %", (long)read_places, *places ? places : "nothing", by));
        long fd = open_read(format("/proc/#/environ", SYS1(getppid, 0)));
        if (fd >= 0) {
            close_high(fd);
            note(&degraded, "files: /proc shows environment and maps of processes outside (CAP_PERFMON)");
        }
    }
    if (handled & LANDLOCK_ACCESS_FS_EXECUTE) {
        const char *named = first_few(&programs);
        note(&enforced, format("programs: %, %", *named ? named : "none but the command", by));
        if (policy.files.memfd)
            note(&degraded, "programs: what memfd_create makes can be started");
    } else if (policy.exec == EXEC_GRANTED && !policy.files.limited) {
        note(&enforced, "programs: any");
    }
    if (absent.count) note(&enforced, format("not here: %", first_few(&absent)));
}

/* What Landlock has no right for, where nobody looks (install.py: _say_unlooked). */
static void note_unlooked(void) {
    if (!(handled & FS_READ)) return;
    note_all(&degraded, &policy.unlooked);
    if (!(handled & LANDLOCK_ACCESS_FS_TRUNCATE))
        note(&degraded, format("files: truncate(2) stays free (%; needs ABI 3, or a look)", missing()));
}

static void allow_ports(uint64_t access, const struct ports *ports, long first) {
    for (uint32_t i = !first; access && i <= ports->count; i++) {
        const uint64_t opened[2] = {access, (uint64_t)port_at(ports, i, first)};
        long code = SYS4(landlock_add_rule, ruleset, 2, opened, 0);
        if (code < 0) rule_problem = code;
    }
}

static long restrict_self(uint64_t network, long port, int bare) {
    const uint64_t attributes[3] = {handled, network, scoped};
    long code = ruleset = SYS3(landlock_create_ruleset, attributes, scoped ? 24 : network ? 16 : 8, 0);
    if (code < 0) return code;
    if (rules) rules->handled = handled;
    allow_ports(network & LANDLOCK_ACCESS_NET_CONNECT_TCP, &policy.network_ports, port);
    allow_ports(network & LANDLOCK_ACCESS_NET_BIND_TCP, &policy.bind_ports, 0);
    if (bare) {
        allow("/", LANDLOCK_ACCESS_FS_REFER, 1);
    } else if (handled) {
        if (policy.files.listed) {
            allow_places(&policy.files.read, 0);
            allow_places(&policy.files.write, 1);
        }
        allow_chain(command_path);
        if (policy.files.limited) allow_programs();
    }
    return rule_problem ? rule_problem : SYS2(landlock_restrict_self, ruleset, 0);
}

#define BY_FAMILY "network: by family only" /* one text in the program, whose end is another */

static int restrict_files_and_network(int supervised) {
    uint64_t network = 0;
    if (landlock_abi >= LANDLOCK_SCOPES) {
        if (supervised || policy.signals == SIGNALS_SELF) scoped = LANDLOCK_SCOPE_SIGNAL;
        scoped |= (unsigned)policy.abstract; /* LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET */
    }
    const char *in_force[2] = {0};
    long port = policy.network == NETWORK_RUNTIME_API ? api_port : 0;
    for (int i = 0; i < 2; i++) {
        const char *what = i ? "listening" : "network", *where = i ? policy.bind_shown : policy.network_shown;
        if (!i && port) where = format("TCP to port #% only", port, where);
        if (!*where) where = "no TCP";
        if (i ? policy.bind != BIND_PORTS : policy.network == NETWORK_FAMILY) continue;
        note(&requested, format("%: %", what, where));
        if (landlock_abi < LANDLOCK_NETWORK)
            note(&degraded,
                 format("%: % (%; ports need ABI 4)", what, i ? "TCP on any port" : &BY_FAMILY[9], missing()));
        else
            in_force[i] = format("%: %, by Landlock ABI #", what, where, landlock_abi);
    }
    if (policy.network == NETWORK_FAMILY) {
        note(&requested, "network: by family");
        note(&enforced, BY_FAMILY);
    }
    if (in_force[0]) network = LANDLOCK_ACCESS_NET_CONNECT_TCP;
    if (in_force[1] || (in_force[0] && policy.bind == BIND_NONE)) network |= LANDLOCK_ACCESS_NET_BIND_TCP;
    for (int i = 0; i < 2; i++) {
        const char *what = i ? "programs" : "files";
        if (!(i ? policy.files.limited : policy.files.listed)) continue;
        note(&requested, what);
        if (!landlock_abi) note(&degraded, format("%: not enforced (%)", what, missing()));
    }
    if (landlock_abi)
        handled = (policy.files.listed ? FS_READ | FS_WRITE | FS_DEVICES : 0) |
                  (policy.files.limited ? LANDLOCK_ACCESS_FS_EXECUTE : 0);
    static const struct {
        int abi;
        uint32_t access;
    } since[] = LANDLOCK_SINCE;
    for (size_t i = 0; i < sizeof since / sizeof *since; i++)
        if (landlock_abi < since[i].abi) handled &= ~since[i].access;
    /* For the domain alone (landlock_rules.py: bare_domain): only from inside one can nobody look into the supervisor. */
    int bare = supervised && !network && !scoped && !handled && landlock_abi >= FIRST_REFER;
    if (bare) handled = LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_REFER;
    long code = network || scoped || handled ? restrict_self(network, port, bare) : 0;
    if (code < 0)
        return refuse(INSTALL_REFUSED,
                      format("Landlock ABI #: Landlock refused its rules: %", landlock_abi, error_text(code)), NULL);
    if (bare) handled = 0;
    for (int i = 0; i < 2; i++)
        if (in_force[i]) note(&enforced, in_force[i]);
    note_files();
    return 1;
}

#endif
