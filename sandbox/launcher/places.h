/* Landlock: from a policy's places to rules on this host (sandbox/enforce/files.py tells why). */
#ifndef SANDBOX_PLACES_H
#define SANDBOX_PLACES_H

#include "bundle.h"

/* Landlock (sandbox/kernel/landlock.py, sandbox/enforce/files.py). */
enum {
    FS_EXECUTE = 1,
    FS_WRITE_FILE = 2,
    FS_READ_FILE = 4,
    FS_READ_DIR = 8,
    FS_MAKE_BLOCK = 1 << 11,
    FS_DEVICES = 1 << 6 | FS_MAKE_BLOCK,
    FS_REFER = 1 << 13,
    FS_TRUNCATE = 1 << 14,
    FS_READ = FS_READ_FILE | FS_READ_DIR,
    FS_PROGRAM = FS_EXECUTE | FS_READ_FILE,
    FS_WRITE = FS_WRITE_FILE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 12 | FS_REFER | FS_TRUNCATE,
    OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE,
    NET_BIND = 1,
    NET_CONNECT = 2,
    SCOPE_SIGNAL = 2
};
static struct {
    int fd;
    uint32_t access;
} rules[MOST_RULES];
static uint32_t rule_count, handled, read_places;
static int rules_overflow;
static struct said written, programs, wider, absent;

static int allow(const char *path, uint32_t access, int entries) {
    long fd = SYS4(openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    if ((mode_of(fd, "", NULL) & S_IFMT) != S_IFDIR)
        access &= OF_FILES;
    else if (!entries)
        access &= FS_READ_DIR;
    access &= handled;
    if (access && rule_count < MOST_RULES) {
        rules[rule_count].fd = (int)fd;
        rules[rule_count++].access = access;
    } else {
        if (access) rules_overflow = 1;
        SYS1(close, fd);
    }
    return 1;
}

/* What {root}, {python} or {venv} is here, into at most four folders. */
static int folders_of(const char *name, const char *into[4]) {
    int n = 0;
    if (same(name, "{root}")) {
        const char *root = absolute(task_root());
        if (!same(root, "/")) into[n++] = root;
    } else if (same(name, "{venv}")) {
        const char *folder = folder_of(folder_of(absolute(command_path)));
        if (exists(form("%/pyvenv.cfg", folder))) into[n++] = folder;
    } else if (same(name, "{python}")) {
        const char *program = real(command_path), *prefix = folder_of(folder_of(program)), *own = name_of(program);
        if (!starts(own, "python")) return 0;
        for (int wide = 0; wide < 2; wide++) {
            const char *library = form("%%", prefix, wide ? "/lib64" : "/lib");
            if (last(own, '.')) {
                into[n] = form("%/%", library, own);
                n += exists(form("%/os.py", into[n]));
                continue;
            }
            long fd = open_read(library), got;
            char *entries = room(4096);
            while (fd >= 0 && n < 4 && (got = SYS3(getdents64, fd, entries, 4096)) > 0)
                for (long at = 0; at < got && n < 4; at += *(unsigned short *)(void *)(entries + at + 16)) {
                    if (!starts(entries + at + 19, "python3.")) continue;
                    into[n] = form("%/%", library, entries + at + 19);
                    n += exists(form("%/os.py", into[n]));
                }
            if (fd >= 0) SYS1(close, fd);
        }
    }
    return n;
}

static void allow_write(const char *path, int whole) {
    int device = starts(path, "/dev/");
    if (allow(path, FS_READ | FS_WRITE, whole | 1)) {
        if (!device) say(&written, path);
        return;
    }
    const char *above = folder_of(path);
    for (; *above && !same(above, "/") && !same(above, "/dev") && !same(above, "/proc") && !same(above, "/sys");
         above = folder_of(above)) {
        if (allow(above, FS_READ | FS_WRITE, 1)) {
            say(&written, above);
            say(&wider, form("% for %", above, path));
            return;
        }
    }
    if (!device) say(&absent, path);
}

static void allow_places(const struct list *places, int write) {
    const char *pattern = places->first;
    for (uint32_t i = 0; i < places->count; i++, pattern = next_text(pattern)) {
        size_t n = text_length(pattern), stem = n;
        int whole = n > 1 && pattern[n - 1] == '*' &&
                    (pattern[n - 2] == '/' || (n > 2 && pattern[n - 2] == '*' && pattern[n - 3] == '/'));
        while (whole && pattern[stem - 1] == '*') stem--;
        const char *path = slice(pattern, whole ? stem - 1 : n), *into[4] = {*path ? path : "/"}, *rest = "";
        int count = 1;
        if (*path == '{') {
            size_t name = 0;
            while (path[name] && path[name] != '/') name++;
            rest = path + name;
            count = folders_of(slice(path, name), into);
            int told = count;
            for (int j = 0; j < absent.count; j++) told |= same(absent.text[j], slice(path, name));
            if (!told) say(&absent, slice(path, name));
        }
        for (int j = 0; j < count; j++) {
            const char *found = form("%%", into[j], rest);
            if (write)
                allow_write(found, whole);
            else
                read_places += (uint32_t)allow(found, FS_READ, whole);
        }
    }
}

/* A program, the interpreters of its `#!` lines, and their dynamic loader (files.py: _chain). */
static const char *loader_of(const char *path, const unsigned char *head, long n) {
    uint64_t at, offset, length;
    if (n < 64 || !same_bytes(head, "\177ELF\2\1", 6)) return "";
    memcpy(&at, head + 32, 8);
    uint32_t size = head[54] | (uint32_t)head[55] << 8, count = head[56] | (uint32_t)head[57] << 8;
    for (uint32_t i = 0; i < count; i++, at += size) {
        if (at > (uint64_t)n || (uint64_t)n - at < 56) continue;
        if (!same_bytes(head + at, "\3\0\0", 4)) continue;
        memcpy(&offset, head + at + 8, 8);
        memcpy(&length, head + at + 32, 8);
        if (length > 4096) length = 4096;
        if (offset < (uint64_t)n && length <= (uint64_t)n - offset)
            return slice((const char *)head + offset, (size_t)length);
        char *text = room((size_t)length + 1);
        long fd = open_read(path), got = fd < 0 ? 0 : SYS4(pread64, fd, text, length, offset);
        if (fd >= 0) SYS1(close, fd);
        text[got > 0 ? got : 0] = 0;
        return text;
    }
    return "";
}

static long head_of(const char *path, unsigned char *head) {
    long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, head, 4095);
    if (fd >= 0) SYS1(close, fd);
    if (n < 0) n = 0;
    head[n] = 0;
    return n;
}

static void allow_chain(const char *path) {
    unsigned char *head = room(4096);
    for (int depth = 0; depth < CHAIN && *path; depth++) {
        long n = head_of(path, head);
        const char *loader = loader_of(path, head, n);
        allow(path, FS_PROGRAM, 1);
        if (*loader) allow(loader, FS_PROGRAM, 1);
        if (head[0] != '#' || head[1] != '!') return;
        char *words[64];
        int count = 0;
        head[n < 256 ? n : 256] = 0;
        for (char *p = (char *)head + 2; *p && *p != '\n' && count < 64;) {
            while (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\v' || *p == '\f') p++;
            char *from = p;
            while (*p && *p != '\n' && *p != ' ' && *p != '\t' && *p != '\r' && *p != '\v' && *p != '\f') p++;
            if (p > from) words[count++] = slice(from, (size_t)(p - from));
        }
        if (!count) return;
        path = words[0];
        if (!same(name_of(path), "env")) continue;
        loader = loader_of(path, head, head_of(path, head));
        allow(path, FS_PROGRAM, 1);
        if (*loader) allow(loader, FS_PROGRAM, 1);
        path = "";
        for (int i = 1; i < count && !*path; i++)
            if (words[i][0] != '-' && !last(words[i], '=')) path = search(words[i], search_path()), i = count;
    }
}

static void allow_programs(void) {
    const char *pattern = policy.programs.first;
    for (uint32_t i = 0; i < policy.programs.count; i++, pattern = next_text(pattern)) {
        const char *path = starts(pattern, "{root}/") ? form("%%", absolute(task_root()), pattern + 6) : pattern;
        const char *true_path = real(path);
        int inside = 0;
        for (int j = 0; j < written.count; j++) {
            const char *place = real(written.text[j]);
            inside |= same(true_path, place) || starts(true_path, form("%/", place));
        }
        if (inside) {
            say(&absent, form("% (lies where the function writes)", path));
        } else if (!allow(path, FS_PROGRAM, 1)) {
            say(&absent, path);
        } else {
            say(&programs, path);
            allow_chain(path);
        }
    }
}

static const char *some(const struct said *places) {
    const char *found = "";
    for (int i = 0; i < places->count && i < SHOWN; i++) found = form("%%%", found, i ? ", " : "", places->text[i]);
    return places->count > SHOWN ? form("% and # more", found, (long)(places->count - SHOWN)) : found;
}

static long landlock_abi;
static uint64_t scoped;
static const char *missing(void) {
    const char *what = landlock_abi ? form("Landlock ABI #", (long)landlock_abi) : "no Landlock";
    return form("% on Linux %", what, todays_kernel);
}

static void plan_files(void) {
    if (policy.listed) say(&requested, "files");
    if (policy.limited) say(&requested, "programs");
    if (!landlock_abi) {
        if (policy.listed) say(&degraded, form("files: not enforced (%)", missing()));
        if (policy.limited) say(&degraded, form("programs: not enforced (%)", missing()));
        return;
    }
    handled = (policy.listed ? FS_READ | FS_WRITE | FS_DEVICES : 0) | (policy.limited ? FS_EXECUTE : 0);
    if (landlock_abi < 2) handled &= ~(uint32_t)FS_REFER;
    if (landlock_abi < 3) handled &= ~(uint32_t)FS_TRUNCATE;
    if (!handled) return;
    if (policy.listed) {
        allow_places(&policy.read, 0);
        allow_places(&policy.write, 1);
    }
    allow_chain(command_path);
    if (policy.limited) allow_programs();
}

static void say_files(void) {
    const char *by = form("by Landlock ABI #", (long)landlock_abi);
    if (handled & FS_READ) {
        const char *places = some(&written);
        say(&enforced, form("files: read # places, write %, %", (long)read_places, *places ? places : "nothing", by));
        for (int i = 0; i < wider.count; i++)
            say(&degraded, form("files: write %, which is not there yet", wider.text[i]));
        long fd = open_read(form("/proc/#/environ", SYS1(getppid, 0)));
        if (fd >= 0) {
            SYS1(close, fd);
            say(&degraded, "files: /proc shows environment and maps of processes outside (CAP_PERFMON)");
        }
        if (!(handled & FS_TRUNCATE))
            say(&degraded, form("files: truncate(2) stays free (%; it needs ABI 3)", missing()));
    }
    if (handled & FS_EXECUTE) {
        const char *named = some(&programs);
        say(&enforced, form("programs: %, %", *named ? named : "none but the command", by));
        if (!policy.sealed) say(&degraded, "programs: what memfd_create makes lies in no folder and can be started");
    } else if (policy.granted && !policy.limited) {
        say(&enforced, "programs: any");
    }
    if (absent.count) say(&enforced, form("not here: %", some(&absent)));
}

static int restrict_files_and_network(int supervised) {
    uint64_t network = 0;
    scoped = landlock_abi >= 6 && (supervised || !policy.any_signal) ? SCOPE_SIGNAL : 0;
    long port = policy.network == RUNTIME_API ? api_port : 0;
    const char *where = port ? form("TCP to port # only", (long)port) : "no TCP";
    if (policy.network == FAMILY) {
        say(&requested, "network: by family");
        say(&enforced, "network: by family only");
    } else {
        say(&requested, form("network: %", port ? where : "no TCP"));
        if (landlock_abi < 4)
            say(&degraded, form("network: by family only (%; ports need ABI 4)", missing()));
        else
            network = NET_CONNECT | (policy.bind ? 0 : NET_BIND);
    }
    plan_files();
    uint32_t planned = handled;
    if (supervised && !network && !scoped && !handled && landlock_abi >= 2) {
        /* For the domain alone (files.py: bare_domain): only from inside one can nobody look into the supervisor. */
        handled = FS_MAKE_BLOCK | FS_REFER;
        allow("/", FS_REFER, 1);
    }
    if (network || scoped || handled) {
        uint64_t attributes[3] = {handled, network, scoped}, opened[2] = {NET_CONNECT, (uint64_t)port};
        long code = SYS3(landlock_create_ruleset, attributes, scoped ? 24 : network ? 16 : 8, 0), set = code;
        if (code >= 0 && network && port) code = SYS4(landlock_add_rule, set, 2, opened, 0);
        for (uint32_t i = 0; i < rule_count && code >= 0; i++) {
            struct __attribute__((packed)) {
                uint64_t access;
                int32_t fd;
            } beneath = {rules[i].access, rules[i].fd};
            code = SYS4(landlock_add_rule, set, 1, &beneath, 0);
        }
        if (code >= 0 && rules_overflow) code = -12;
        if (code >= 0) code = SYS2(landlock_restrict_self, set, 0);
        if (set >= 0) SYS1(close, set);
        for (uint32_t i = 0; i < rule_count; i++) SYS1(close, rules[i].fd);
        if (code < 0)
            return refuse(REFUSED, form("Landlock ABI #", (long)landlock_abi),
                          form("Landlock refused its rules: %", problem(code)), WARN);
    }
    handled = planned;
    if (network) say(&enforced, form("network: %, by Landlock ABI #", where, (long)landlock_abi));
    say_files();
    return 1;
}

#endif
