/* Where a path of a task leads (sandbox/kernel/path_walk.py tells why each step is as it is): by the text, as long as
 * no name in it is a link, which openat2(2) tells in one step, and else link by link. The task sees the files that this
 * process sees; of a function that may change that nobody asks here. Nothing is waited for: what may hang is not
 * walked. */
#ifndef SANDBOX_WALK_C
#define SANDBOX_WALK_C

#include "connect.c"

enum { PATH = 4096, MOST_MOUNTS = 32, LONGEST_MOUNT = 256 };

/* The file is there. Only its last name is missing. The task gets an errno for the way to it. It lies behind a server
 * that may never answer. It lies in no folder: a pipe or the like. Nobody knows. */
enum reached { THERE, MISSING, NOWHERE, HANGS, IN_NO_FOLDER, UNKNOWN };

struct place { /* physical, of the file or of the one that is missing */
    size_t length;
    uint64_t device, inode;
    uint32_t mode;
    char path[PATH];
};

/* The mounts that a path must not pass, and whether there is a /proc. */
static struct {
    int opened, unknown, proc, count;
    long file;
    struct mount {
        size_t length;
        int hangs; /* else it is another /proc */
        char path[LONGEST_MOUNT];
    } at[MOST_MOUNTS];
} mounts;

static int is_listed(const char *texts, const char *word, size_t n) {
    for (; *texts; texts = next_text(texts))
        if (text_length(texts) == n && same_bytes(texts, word, n)) return 1;
    return 0;
}

/* Take a line of mountinfo (man 5 proc_pid_mountinfo): its fifth word, and the first behind ` - `. */
static void take_mount(const char *point, size_t length, const char *type, size_t type_length) {
    size_t family = 0;
    while (family < type_length && type[family] != '.') family++; /* fuse of fuse.sshfs */
    int hangs = is_listed(HANGING, type, family), proc = type_length == 4 && same_bytes(type, "proc", 4);
    if (!hangs && !proc) return;
    if (proc && length == 5 && same_bytes(point, "/proc", 5)) {
        mounts.proc = 1;
    } else if (mounts.count == MOST_MOUNTS || length >= LONGEST_MOUNT) {
        mounts.unknown = 1;
    } else {
        struct mount *found = &mounts.at[mounts.count++];
        memcpy(found->path, point, length);
        found->length = length, found->hangs = hangs;
    }
}

static void read_mounts(void) {
    char data[1024], point[LONGEST_MOUNT], word[LONGEST_MOUNT];
    size_t length = 0, n = 0;
    long offset = 0, got, field = 0, type_at = -1;
    mounts.unknown = mounts.proc = mounts.count = 0;
    while ((got = SYS4(pread64, mounts.file, data, sizeof data, offset)) > 0) {
        offset += got;
        for (long i = 0; i < got; i++) {
            if (data[i] != ' ' && data[i] != '\n') {
                if (n < LONGEST_MOUNT) word[n++] = data[i];
                continue;
            }
            if (field == 4) {
                for (size_t from = length = 0; from < n; length++) { /* a space is \040, in octal */
                    int escaped = word[from] == '\\' && n - from > 3;
                    point[length] =
                        escaped
                            ? (char)((word[from + 1] - '0') << 6 | (word[from + 2] - '0') << 3 | (word[from + 3] - '0'))
                            : word[from];
                    from += escaped ? 4 : 1;
                }
                if (n == LONGEST_MOUNT) length = n; /* cut */
            }
            if (field == type_at) take_mount(point, length, word, n);
            if (n == 1 && *word == '-') type_at = field + 1;
            field++, n = 0;
            if (data[i] == '\n') field = 0, type_at = -1;
        }
    }
    if (got < 0) mounts.unknown = 1;
}

/* Know the mounts as they are now; the kernel says when they changed. 0: nobody tells. */
static int know_mounts(void) {
    struct {
        int32_t fd;
        int16_t events, found;
    } changed = {0, POLLPRI, 0};
    const long now[2] = {0, 0};
    if (!mounts.opened) {
        mounts.opened = 1, mounts.file = open_read("/proc/self/mountinfo");
        if (mounts.file >= 0) read_mounts();
    }
    if (mounts.file < 0) return 0;
    changed.fd = (int32_t)mounts.file;
    if (SYS5(ppoll, &changed, 1, now, 0, SIGSET) > 0) read_mounts();
    return !mounts.unknown;
}

enum laid { PLAIN, PASSES_HANGING, PASSES_PROC, TOO_LONG };

/* Write `base` and the first `n` bytes of `rest` as one path without `..`, `.` and empty names. It is the physical one
 * if no name is a link. */
static enum laid lay(const char *base, const char *rest, size_t n, struct place *to) {
    int dots = 0;
    to->length = 0;
    for (int part = 0; part < 2; part++) {
        const char *at = part ? rest : base, *end = at + (part ? n : text_length(base));
        while (at < end) {
            const char *name = at;
            while (at < end && *at != '/') at++;
            size_t length = (size_t)(at++ - name);
            if (!length || (length == 1 && *name == '.')) continue;
            if (length == 2 && same_bytes(name, "..", 2)) {
                dots = 1;
                while (to->length && to->path[--to->length] != '/') continue;
                continue;
            }
            if (to->length + length + 2 > PATH) return TOO_LONG;
            to->path[to->length] = '/';
            memcpy(to->path + to->length + 1, name, length);
            to->length += length + 1;
            for (int i = 0; i < mounts.count; i++) {
                const struct mount *mount = &mounts.at[i];
                if (mount->length != to->length || !same_bytes(mount->path, to->path, to->length)) continue;
                /* Behind `..` it may be another path, and a folder to begin with was reached without this walk. */
                return mount->hangs && !dots && part ? PASSES_HANGING : PASSES_PROC;
            }
        }
    }
    if (!to->length) to->path[to->length++] = '/';
    to->path[to->length] = 0;
    return PLAIN;
}

static int says_deleted(const char *path) {
    size_t n = text_length(path);
    return n >= 10 && same_bytes(path + n - 10, " (deleted)", 10);
}

static int is_below(const struct place *place, const char *folder) {
    size_t n = text_length(folder);
    return place->length >= n && same_bytes(place->path, folder, n) && (place->length == n || place->path[n] == '/');
}

/* Open a path without links, as it stands, for its place alone. -ELOOP: it has some, or may. */
static int name_by_name; /* a filter above refuses openat2(2), or this is before Linux 5.6 */
static long open_plain(long from, const char *path, int follow) {
    const uint64_t how[3] = {O_PATH | O_CLOEXEC | (follow ? 0 : OPEN_NOFOLLOW), 0, RESOLVE_NO_SYMLINKS};
    long fd = name_by_name ? -ELOOP : SYS4(openat2, from, path, how, sizeof how);
    if (fd != -ENOSYS && fd != -EPERM) return fd;
    name_by_name = 1;
    return -ELOOP;
}

/* Whether the folder is there in which the last name of a path is missing; NOWHERE: it is not. */
static enum reached folder_there(long from, const char *path) {
    static char folder[PATH];
    size_t n = text_length(path), end;
    while (n && path[n - 1] == '/') n--;
    for (end = n; n && path[n - 1] != '/';) n--;
    if (end - n <= 2 && path[n] == '.' && (end - n == 1 || path[n + 1] == '.')) return UNKNOWN;
    if (!n) return MISSING; /* the folder that it is walked from */
    memcpy(folder, path, n);
    folder[n] = 0;
    return (mode_of(from, folder, NULL) & S_IFMT) == S_IFDIR ? MISSING : NOWHERE;
}

static long process_of(long task) { /* 0: nobody tells */
    return task == child ? child : (long)number_in(task_status(task), "\nTgid:\t", 10);
}

/* What `self` and `thread-self` are in the task's /proc. */
static const char *own_name(long task, const char *name) {
    long process = process_of(task);
    if (!process) return NULL;
    return same(name, "self") ? format("#", process) : format("#/task/#", process, task);
}

/* Replace the first link of a path by what it says. THERE: done, and `*from` is the root where that is absolute;
 * MISSING: there is none. */
static enum reached follow_link(long task, long *from, const char **base, char *rest, int follow, struct place *to) {
    static char target[PATH], behind[PATH];
    for (size_t at = 0, end; rest[at]; at = end) {
        while (rest[at] == '/') at++;
        for (end = at; rest[end] && rest[end] != '/';) end++;
        int last = !rest[end];
        if (end == at || (last && !follow)) return MISSING;
        if (end - at <= 2 && rest[at] == '.' && (end - at == 1 || rest[at + 1] == '.')) continue;
        char slash = rest[end];
        rest[end] = 0;
        long n = SYS4(readlinkat, *from, rest, target, PATH - 1);
        if (n == -EINVAL) { /* it is none */
            rest[end] = slash;
            continue;
        }
        if (n <= 0 || n == PATH - 1 || lay(*base, rest, at, to) != PLAIN) return UNKNOWN;
        target[n] = 0;
        const char *text = target;
        if (mounts.proc && is_below(to, "/proc")) {
            if (to->length == 5 && (same(rest + at, "self") || same(rest + at, "thread-self"))) {
                text = own_name(task, rest + at);
            } else if (to->length != 5) { /* by no path, but the kernel knows one */
                if (*text != '/' || starts_with(text, "/memfd:")) return last ? IN_NO_FOLDER : UNKNOWN;
                if (says_deleted(text)) return UNKNOWN;
            }
            if (!text) return UNKNOWN;
        }
        size_t length = text_length(text), left = 0;
        rest[end] = slash;
        left = text_length(rest + end);
        if (*text == '/') {
            if (*from != AT_FDCWD) SYS1(close, *from);
            *from = AT_FDCWD, *base = "", at = 0;
        }
        if (at + length + left >= PATH) return UNKNOWN;
        memcpy(behind, rest + end, left + 1);
        memcpy(rest + at, text, length);
        memcpy(rest + at + length, behind, left + 1);
        return THERE;
    }
    return MISSING;
}

static enum reached walk_from(long task, long *from, const char *base, char *rest, int follow, int makes,
                              struct place *to) {
    uint64_t found[24]; /* struct stat */
    for (int links = 0; links <= MOST_LINKS; links++) {
        enum laid laid = lay(base, rest, text_length(rest), to);
        if (laid != PLAIN) return laid == PASSES_HANGING ? HANGS : UNKNOWN;
        long fd = open_plain(*from, rest, follow);
        if (fd == -ELOOP) {
            const char *mark = format("");
            enum reached reached = follow_link(task, from, &base, rest, follow, to);
            release(mark);
            if (reached == THERE) continue;
            if (reached != MISSING || !name_by_name) return reached == MISSING ? UNKNOWN : reached;
            fd = SYS4(openat, *from, rest, O_PATH | O_CLOEXEC | OPEN_NOFOLLOW, 0);
        }
        if (fd >= 0) {
            long code = SYS4(newfstatat, fd, "", found, AT_EMPTY_PATH);
            SYS1(close, fd);
            if (code < 0) return UNKNOWN;
            memcpy(&to->mode, (char *)found + STAT_MODE, 4);
            to->device = found[0], to->inode = found[1];
            return THERE;
        }
        if (fd == -ENOENT) return makes ? folder_there(*from, rest) : NOWHERE;
        if (fd == -ENOTDIR || fd == -ENAMETOOLONG) return NOWHERE;
        /* Who is not root has no more rights in the function than here. */
        return fd == -EACCES && SYS1(geteuid, 0) ? NOWHERE : UNKNOWN;
    }
    return NOWHERE;
}

/* Walk a path of the thread `task` from its descriptor `folder`. Without `follow` a link as the last name is itself the
 * end. `makes`: it matters whether only the last name is missing. */
static enum reached walk(long task, long folder, const char *path, int follow, int makes, struct place *to) {
    static char rest[PATH], base[PATH];
    long from = AT_FDCWD;
    size_t n = text_length(path);
    if (n >= PATH) return NOWHERE;
    if (!know_mounts()) return UNKNOWN;
    memcpy(rest, path, n + 1);
    *base = 0;
    if (*path != '/') {
        const char *link = folder == AT_FDCWD ? format("/proc/#/cwd", task) : format("/proc/#/fd/#", task, folder);
        from = SYS4(openat, AT_FDCWD, link, O_PATH | O_CLOEXEC, 0);
        long length = from < 0 ? from : SYS4(readlinkat, AT_FDCWD, link, base, PATH - 1);
        release(link);
        if (from == -ENOENT && folder != AT_FDCWD) return NOWHERE; /* EBADF */
        if (from < 0) return UNKNOWN;
        base[length > 0 ? length : 0] = 0;
        if (length >= PATH - 1 || *base != '/' || says_deleted(base)) {
            SYS1(close, from);
            return UNKNOWN;
        }
    }
    enum reached reached = walk_from(task, &from, base, rest, follow, makes, to);
    if (from != AT_FDCWD) SYS1(close, from);
    return reached;
}

#endif
