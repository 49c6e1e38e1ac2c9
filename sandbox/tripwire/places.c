/* What a call reaches in the file system: where a path leads, what may be written there, and which programs may be
 * started. A refusal is an errno; the text of what was asked for goes into `target`. */
#ifndef SANDBOX_PLACES_C
#define SANDBOX_PLACES_C

#include "reach.c"

enum { LONGEST = 4096 }; /* bytes of a path */

struct place { /* what a rule on files means here, without links */
    const char *path;
    uint32_t length, whole;
};

static const struct place *writable, *startable;
static uint32_t writable_count, startable_count;

/* Where a path leads, without links, into `to`; 0 where nobody can tell. `last` is not followed where `names` it. */
static int leads_to(long folder, const char *path, int names, char *to, size_t room) {
    char link[40], above[LONGEST], pointed[LONGEST];
    const char *rest = "";
    long fd = names ? -ENOENT : SYS4(openat, folder, path, O_PATH | O_CLOEXEC, 0), n = fd == -ENOENT, from = folder;
    for (int links = 0; n > 0 && links <= MOST_LINKS; links++) { /* what a link leads to is made, if it is not there */
        size_t cut = text_length(path);
        while (cut && path[cut - 1] == '/') cut--;
        while (cut && path[cut - 1] != '/') cut--;
        if (cut >= sizeof above) return 0;
        memcpy(above, cut ? path : ".", cut ? cut : 1);
        above[cut ? cut : 1] = 0;
        rest = path + cut;
        fd = SYS4(openat, from, above, O_PATH | O_CLOEXEC, 0);
        if (from != folder) SYS1(close, from);
        n = fd < 0 || names ? 0 : SYS4(readlinkat, fd, rest, pointed, sizeof pointed - 1);
        if (n > 0) pointed[n] = 0, path = pointed, from = fd;
    }
    if (fd < 0) return 0;
    put_number(link, put_text(link, 0, sizeof link, "/proc/self/fd/"), sizeof link, (unsigned long)fd, 10);
    long got = SYS4(readlinkat, AT_FDCWD, link, to, (long)room - 1);
    SYS1(close, fd);
    if (got <= 0) return 0;
    to[got] = 0;
    size_t at = (size_t)got;
    if (*rest && to[at - 1] != '/') at = put_text(to, at, room, "/");
    put_text(to, at, room, rest);
    for (at = text_length(to); at > 1 && to[at - 1] == '/'; at--) to[at - 1] = 0;
    return 1;
}

static int is_in(const struct place *places, uint32_t count, const char *path) {
    size_t n = text_length(path);
    for (uint32_t i = 0; i < count; i++) {
        size_t length = places[i].length;
        if (n < length || !same_bytes(path, places[i].path, length)) continue;
        if (!path[length] || (places[i].whole && (path[length] == '/' || length == 1))) return 1;
    }
    return 0;
}

/* Paths that a program wrote to: folders (with a slash behind) below which everything may be written, and files there
 * that are no links. Where a path leads is asked of the kernel by three calls, and programs write to few. Whatever
 * could put a link there forgets them; only another process does so unseen. */
enum { SEEN_PATHS = 8, SEEN_PATH = 256 };
static struct seen_path {
    uint32_t length;
    char text[SEEN_PATH];
} seen_folders[SEEN_PATHS], seen_files[SEEN_PATHS];
static volatile uint32_t seen_folder_count, seen_file_count, seen_version; /* odd: they are being written */
static volatile int seen_lock;

/* By eight bytes at a time, at addresses that no page ends within. */
static size_t quick_length(const char *text) {
    const char *at = text;
    uint64_t word;
    for (; (uintptr_t)at % 8; at++)
        if (!*at) return (size_t)(at - text);
    for (;; at += 8) {
        __builtin_memcpy(&word, __builtin_assume_aligned(at, 8), 8);
        if ((word - 0x0101010101010101U) & ~word & 0x8080808080808080U) break;
    }
    while (*at) at++;
    return (size_t)(at - text);
}

/* The length of the folder's part of a path, with its slash; 0 where its last part is none. */
static size_t folder_part(const char *path, size_t n) {
    while (n && path[n - 1] != '/') n--;
    const char *last = path + n;
    return !*last || same(last, ".") || same(last, "..") ? 0 : n;
}

static int is_seen(const struct seen_path *seen, volatile uint32_t *count, const char *path, size_t n) {
    int found = 0;
    uint32_t version = __atomic_load_n(&seen_version, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < SEEN_PATHS && i < *count && !found; i++) {
        size_t at = 0;
        uint64_t one = 0, other = 0;
        if (seen[i].length != n) continue;
        for (; at + 8 <= n && one == other; at += 8)
            __builtin_memcpy(&one, seen[i].text + at, 8), __builtin_memcpy(&other, path + at, 8);
        found = one == other && same_bytes(seen[i].text + at, path + at, n - at);
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return found && !(version & 1) && version == seen_version;
}

static void begin_seen(void) {
    lock(&seen_lock);
    __atomic_store_n(&seen_version, seen_version | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static void end_seen(void) {
    __atomic_store_n(&seen_version, (seen_version | 1) + 1, __ATOMIC_RELEASE);
    unlock(&seen_lock);
}

static void note_seen(struct seen_path *seen, volatile uint32_t *count, const char *path, size_t n) {
    begin_seen();
    uint32_t i = *count % SEEN_PATHS;
    memcpy(seen[i].text, path, n);
    seen[i].length = (uint32_t)n;
    *count = *count + 1 < 2 * SEEN_PATHS ? *count + 1 : SEEN_PATHS;
    end_seen();
}

/* Something is moved, linked or removed. */
static void forget_paths(int with_folders) {
    begin_seen();
    seen_file_count = 0;
    if (with_folders) seen_folder_count = 0;
    end_seen();
}

static int exists_at(const char *path) { return SYS3(faccessat, AT_FDCWD, path, 0) == 0; }

static uint32_t expand(const struct list *rules, const struct place **to, int whole) {
    struct place *into = alloc(rules->count * (size_t)(folder_count + 1) * sizeof *into);
    const char *rule = rules->first;
    char path[TARGET], real[4096];
    uint32_t count = 0;
    for (uint32_t i = 0; i < rules->count; i++, rule = next_text(rule))
        for (int j = -1; j < folder_count; j++) {
            if (base_of(rule) ? j < 0 || folder_bases[j] != base_of(rule) : j >= 0) continue;
            put_text(path, put_text(path, 0, TARGET, j < 0 ? "" : folders[j]), TARGET, path_in(rule));
            if (!*path || !leads_to(AT_FDCWD, path, 0, real, sizeof real) || *real != '/') continue;
            if (!exists_at(path)) continue; /* nothing above it is opened in its place */
            size_t n = text_length(real);
            into[count++] = (struct place){slice(real, n), (uint32_t)n, whole || is_whole(rule)};
        }
    *to = into;
    return count;
}

static void expand_places(void) {
    writable_count = expand(&policy.files.write, &writable, 1);
    startable_count = expand(&policy.files.programs, &startable, 0);
}

/* Whether a path may be written to, made or removed; the last part's link is not followed where the call `names` it. */
static int writes(long folder, const char *path, int names, struct target *to) {
    char real[4096], above[SEEN_PATH], link[1];
    if (!policy.files.listed || !path) return 0;
    size_t whole = *path == '/' ? quick_length(path) : SEEN_PATH;
    if (whole < SEEN_PATH && !names && is_seen(seen_files, &seen_file_count, path, whole)) return 0;
    size_t n = whole < SEEN_PATH ? folder_part(path, whole) : 0;
    long code = 0;
    if (n) code = names ? -ENOENT : SYS4(readlinkat, AT_FDCWD, path, link, sizeof link);
    if (code == -EINVAL || code == -ENOENT) { /* no link, or nothing: its folder says where it lies */
        int is_open = is_seen(seen_folders, &seen_folder_count, path, n);
        if (!is_open) {
            memcpy(above, path, n);
            above[n] = 0;
            is_open = leads_to(AT_FDCWD, above, 0, real, sizeof real) && is_in(writable, writable_count, real);
            if (is_open) note_seen(seen_folders, &seen_folder_count, path, n);
        }
        if (is_open && !names) note_seen(seen_files, &seen_file_count, path, whole);
        if (is_open) return 0;
    }
    if (!leads_to(folder, path, names, real, sizeof real) || *real != '/') return 0;
    if (is_in(writable, writable_count, real)) return 0;
    put_text(to->text, 0, TARGET, real);
    to->section = "files.write";
    return EACCES;
}

static int is_program(const char *path, uint64_t *file) {
    uint64_t found[24]; /* struct stat */
    uint32_t mode;
    if (SYS4(newfstatat, AT_FDCWD, path, found, 0) < 0) return 0;
    memcpy(&mode, (char *)found + STAT_MODE, 4);
    if (file) file[0] = found[0], file[1] = found[1];
    return (mode & S_IFMT) == S_IFREG && SYS3(faccessat, AT_FDCWD, path, X_OK) == 0;
}

static void report_bare(const char *path); /* report.c */

/* Say it where a program is started that no loader puts this library into. */
static void look_for_loader(const char *path) {
    unsigned char head[4096];
    long fd = SYS4(openat, AT_FDCWD, path, O_CLOEXEC, 0), n = SYS3(read, fd, head, sizeof head);
    uint64_t at, offset, size;
    SYS1(close, fd);
    if (n < 64 || !same_bytes(head, "\177ELF", 4)) return; /* of a script its interpreter is asked for by the kernel */
    uint32_t count = head[4] == 2 ? head[56] | (uint32_t)head[57] << 8 : 0;
    memcpy(&at, head + 32, 8);
    for (; count && at <= (uint64_t)n - 56; count--, at += 56) {
        if (!same_bytes(head + at, "\3\0\0", 4)) continue; /* PT_INTERP */
        memcpy(&offset, head + at + 8, 8);
        memcpy(&size, head + at + 32, 8);
        size_t length = sizeof "/" LOADER;
        if (size >= length && offset + size <= (uint64_t)n &&
            same_bytes(head + offset + size - length, "/" LOADER, length))
            return;
    }
    report_bare(path);
}

/* Whether a program may be started; a `name` without a slash is searched for as execvp(3) does. */
static int starts(long folder, const char *path, int search, struct target *to) {
    char tried[TARGET], real[4096];
    uint64_t file[2];
    if (!path) return 0;
    put_text(to->text, 0, TARGET, path);
    if (policy.exec == EXEC_SINGLE_USE) return EPERM;
    if (search && *path && !last_char(path, '/')) {
        const char *at = variable("PATH"), *name = path;
        for (path = NULL; !path;) {
            size_t n = 0;
            while (at[n] && at[n] != ':') n++;
            if (n && n < sizeof tried - 1) {
                memcpy(tried, at, n);
                tried[n] = 0;
                put_text(tried, put_text(tried, n, sizeof tried, "/"), sizeof tried, name);
                if (is_program(tried, NULL)) path = tried;
            }
            if (!path && !at[n]) return 0; /* there is none */
            at += n + (at[n] == ':');
        }
    }
    if (!leads_to(folder, path, 0, real, sizeof real) || *real != '/') return 0;
    put_text(to->text, 0, TARGET, real);
    if (!policy.files.limited || is_in(startable, startable_count, real)) {
        look_for_loader(real);
        return 0;
    }
    if (is_program(real, file) && file[0] == own_program[0] && file[1] == own_program[1]) return 0;
    to->section = "processes";
    return EACCES;
}

#endif
