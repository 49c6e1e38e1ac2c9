/* The look at files (sandbox/supervise/look.py): of a path call that waits only whether the rules surely let it
 * through. Whatever is not sure the decider looks at again, and tells. Nothing is refused here: Landlock decides. What
 * that has no right for the decider makes itself (changing.py): such a call never goes on as it stands. */
#ifndef SANDBOX_LOOK_C
#define SANDBOX_LOOK_C

#include "walk.c"

enum change { OPENED, TRUNCATED, MADE, REMOVED, LINKED, MOVED, ATTRIBUTES, TIMES };
struct path_call { /* where its arguments lie; -1 for none. `makes`: the right, 0 where a mode says it */
    uint32_t nr;
    enum change change;
    int8_t from, from_path, to, to_path, flags;
    uint32_t makes;
};
static const struct path_call PATH_CALLS[] = PATH_CALL_ROWS;

static const struct path_call *path_call(uint32_t nr) { /* NULL: it is none */
    for (size_t i = 0; i < sizeof PATH_CALLS / sizeof *PATH_CALLS; i++)
        if (PATH_CALLS[i].nr == nr) return &PATH_CALLS[i];
    return NULL;
}

static size_t length_of_folder(const char *path, size_t length) {
    while (length > 1 && path[length - 1] != '/') length--;
    return length > 1 ? length - 1 : length;
}

/* Those of the rights that no rule gives on a path (permissions.py: missing); of a file that `file` is. */
static uint32_t lacking(const char *path, size_t length, uint32_t rights, const struct place *file) {
    uint32_t left = rights & rules->handled, of_itself = 0;
    int replaced = 0;
    for (uint32_t at = 0; at < rules->used;) {
        const struct rule *rule = rule_at(at);
        size_t n = rule->length;
        at += size_of_rule(rule);
        if (n > length || (n > 1 && n < length && path[n] != '/') || !same_bytes(rule->path, path, n)) continue;
        if (n < length) {
            left &= ~rule->rights;
        } else {
            of_itself |= rule->rights;
            if (rule->inode) replaced |= !file || file->inode != rule->inode || file->device != rule->device;
        }
    }
    return replaced ? left : left & ~of_itself;
}

/* The same of the folder that holds an entry, for the right to change it. */
static uint32_t lacking_above(const struct place *entry, uint32_t rights) {
    return lacking(entry->path, length_of_folder(entry->path, entry->length), rights, NULL);
}

/* Whether a file of the task's own process is one that runtimes set without need (look.py: OWN). */
static int is_own(const struct place *place, long task) {
    if (!mounts.proc || !is_below(place, "/proc")) return 0;
    const char *own = format("/proc/#", process_of(task));
    const char *at = is_below(place, own) ? place->path + text_length(own) : "";
    release(own);
    if (starts_with(at, "/task/"))
        for (at += 6; *at && *at != '/';) at++;
    return *at == '/' && is_listed(OWN_FILES, at + 1, text_length(at + 1));
}

/* Whether a file may show something of others (behaviour/proc.py: of_others): of another process, of the network. */
static int is_of_others(const struct place *place, long task) {
    const char *at = place->path + 6;
    if (!starts_with(place->path, "/proc/") || *at < '0' || *at > '9') return 0;
    const char *own = format("/proc/#", process_of(task));
    int foreign = !is_below(place, own);
    at = place->path + text_length(own);
    release(own);
    if (foreign) return 1;
    if (starts_with(at, "/task/"))
        for (at += 6; *at && *at != '/';) at++;
    return starts_with(at, "/net/");
}

static uint32_t removal(uint32_t mode) {
    return (mode & S_IFMT) == S_IFDIR ? LANDLOCK_ACCESS_FS_REMOVE_DIR : LANDLOCK_ACCESS_FS_REMOVE_FILE;
}

static uint32_t making(uint64_t mode) {
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return LANDLOCK_ACCESS_FS_MAKE_DIR;
    case S_IFLNK:
        return LANDLOCK_ACCESS_FS_MAKE_SYM;
    case S_IFCHR:
        return LANDLOCK_ACCESS_FS_MAKE_CHAR;
    case S_IFBLK:
        return LANDLOCK_ACCESS_FS_MAKE_BLOCK;
    case S_IFIFO:
        return LANDLOCK_ACCESS_FS_MAKE_FIFO;
    case S_IFSOCK:
        return LANDLOCK_ACCESS_FS_MAKE_SOCK;
    default:
        return LANDLOCK_ACCESS_FS_MAKE_REG;
    }
}

/* Folders that are no link's, in which all may be read and nothing changed: what lies in them needs no walk. */
enum { MOST_FOLDERS = 16, LONGEST_FOLDER = 248 };
static struct folder {
    size_t length;
    char path[LONGEST_FOLDER];
} plain_folders[MOST_FOLDERS];
static unsigned next_folder;

static void remember_folder(const struct place *place) {
    size_t n = length_of_folder(place->path, place->length);
    if (n > LONGEST_FOLDER || n == 1 || is_below(place, "/proc")) return;
    if (lacking(place->path, n, FS_READ | FS_WRITE, NULL) != (FS_WRITE & rules->handled)) return;
    struct folder *folder = &plain_folders[next_folder++ % MOST_FOLDERS];
    memcpy(folder->path, place->path, n);
    folder->length = n;
}

/* Whether an open for reading is surely quiet by the folder of its path alone. */
static int is_in_plain_folder(const char *path, int follow) {
    uint64_t found[24]; /* struct stat */
    uint32_t mode;
    size_t length = text_length(path), n = length;
    while (n && path[n - 1] != '/') n--;
    const char *name = path + n;
    if (n < 2 || !*name || same(name, ".") || same(name, "..")) return 0;
    int known = 0;
    for (int i = 0; i < MOST_FOLDERS && !known; i++)
        known = plain_folders[i].length == n - 1 && same_bytes(plain_folders[i].path, path, n - 1);
    for (int i = 0; i < mounts.count; i++)
        if (mounts.at[i].length == length && same_bytes(mounts.at[i].path, path, length)) return 0;
    if (!known) return 0;
    long code = SYS4(newfstatat, AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW);
    if (code < 0) return code == -ENOENT;
    memcpy(&mode, (char *)found + STAT_MODE, 4);
    return (mode & S_IFMT) != S_IFLNK || !follow;
}

/* What of an open the rules and the file system say; access.py: opening, outcome.py: of_opening. */
static int opens_quietly(long task, long folder, const char *path, uint32_t flags) {
    static struct place place;
    int mode = (int)(flags & O_ACCMODE), temporary = (flags & OPEN_TMPFILE) == OPEN_TMPFILE;
    int create = (flags & O_CREAT) && !temporary, changes = mode || (flags & O_TRUNC) || temporary;
    uint32_t rights = (mode != O_WRONLY && mode != O_ACCMODE ? LANDLOCK_ACCESS_FS_READ_FILE : 0) |
                      (mode == O_WRONLY || mode == O_RDWR ? LANDLOCK_ACCESS_FS_WRITE_FILE : 0);
    if (flags & O_PATH || (create && path[text_length(path) - 1] == '/')) return 1;
    int exclusive = (flags & O_CREAT) && (flags & O_EXCL), reads = !create && !changes;
    if (reads && checkout && same(path, checkout)) return 1; /* look.py: CHECKOUT */
    if (reads && is_in_plain_folder(path, !(flags & OPEN_NOFOLLOW || exclusive))) return 1;
    switch (walk(task, folder, path, !(flags & OPEN_NOFOLLOW || exclusive), create, &place)) {
    case UNKNOWN:
        return 0;
    case MISSING:
        return !lacking_above(&place, rights | LANDLOCK_ACCESS_FS_MAKE_REG);
    case THERE:
        break;
    default:
        return 1;
    }
    uint32_t type = place.mode & S_IFMT;
    int is_folder = type == S_IFDIR;
    if ((create && exclusive) || (is_folder && (changes || create) && !temporary)) return 1;
    if (((flags & OPEN_DIRECTORY) && !is_folder) || type == S_IFLNK || type == S_IFSOCK) return 1;
    if (policy.limits_proc && is_of_others(&place, task)) return 0;
    if (is_folder && !temporary)
        rights = LANDLOCK_ACCESS_FS_READ_DIR;
    else if ((flags & O_TRUNC) && type == S_IFREG)
        rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
    int quiet = !lacking(place.path, place.length, rights, &place);
    if (quiet && reads) remember_folder(&place);
    return quiet || is_own(&place, task);
}

/* Whether a file would have rights in the folder of `there` that it lacks where it is (permissions.py: _gains). */
static int gains(const struct place *file, const struct place *there) {
    uint32_t rights = (file->mode & S_IFMT) == S_IFDIR ? ~0U : FS_OF_FILES;
    return (lacking(file->path, file->length, rights, file) & ~lacking_above(there, rights)) != 0;
}

/* A rename or link of which both names were walked (access.py: _moving, permissions.py: allows). */
static int moves_quietly(const struct place *old, enum reached reached, const struct place *new, int links,
                         int exchanges) {
    uint32_t gone = links ? 0 : removal(old->mode), made = making(old->mode);
    int replaces = reached == THERE;
    if (replaces && !links) made |= removal(new->mode);
    if (exchanges) gone |= making(new->mode);
    size_t n = length_of_folder(old->path, old->length);
    if (n != length_of_folder(new->path, new->length) || !same_bytes(old->path, new->path, n)) {
        if (!(rules->handled & LANDLOCK_ACCESS_FS_REFER)) return 0;
        gone |= LANDLOCK_ACCESS_FS_REFER, made |= LANDLOCK_ACCESS_FS_REFER;
        if (gains(old, new) || (exchanges && gains(new, old))) return 0;
    }
    return !lacking_above(old, gone) && !lacking_above(new, made);
}

/* Copy a text of the task's; its length, PATH for one that is too long, -1 where it cannot be read to its end. */
static long read_text(uint32_t task, uint64_t at, char into[PATH + 1]) {
    long n = 0;
    *into = 0;
    while (at && n < PATH) {
        uint64_t left = 4096 - ((at + (uint64_t)n) & 4095), rest = (uint64_t)(PATH - n);
        struct {
            uint64_t at, length;
        } here = {(uint64_t)(uintptr_t)(into + n), left < rest ? left : rest}, there = {at + (uint64_t)n, here.length};
        long got = SYS6(process_vm_readv, task, &here, 1, &there, 1, 0);
        if (got <= 0) return -1;
        for (long end = n + got; n < end; n++)
            if (!into[n]) return n;
    }
    return n;
}

/* Take slashes from the end of a path whose last name is an entry; 0: its last name is none. */
static int names_entry(char *path) {
    size_t n = text_length(path);
    while (n > 1 && path[n - 1] == '/') path[--n] = 0;
    const char *slash = last_char(path, '/'), *name = slash ? slash + 1 : path;
    return *name && !same(name, ".") && !same(name, "..");
}

/* Whether a path call is Python's own to keep bytecode: its folder, or in that the file that it then renames
 * (reports.py: BYTECODE). Whatever becomes of it, nobody is told. */
static int keeps_bytecode(const struct path_call *kind, const char *path) {
    static const char folder[] = "__pycache__";
    const char *slash = last_char(path, '/'), *name = slash ? slash + 1 : path, *dot = last_char(name, '.');
    const long n = sizeof folder - 1;
    if (kind->change == MADE && kind->makes == LANDLOCK_ACCESS_FS_MAKE_DIR) return same(name, folder);
    if (kind->change != OPENED || !slash || slash - path < n || !same_bytes(slash - n, folder, (size_t)n)) return 0;
    if (!dot || dot - name < 4 || !same_bytes(dot - 4, ".pyc", 4) || !dot[1]) return 0;
    if (slash - path > n && slash[-n - 1] != '/') return 0;
    while (*++dot >= '0' && *dot <= '9') continue;
    return !*dot;
}

/* Whether what a path call asks for is surely allowed, or fails for another reason than the rules. */
static int is_quiet(const struct path_call *kind, const struct notification *call) {
    static char texts[2][PATH + 1];
    static struct place old, new;
    const uint64_t *registers = call->args;
    char *path = texts[0];
    long task = (long)call->task, length[2] = {1, 1};
    if (kind->from_path >= 0) length[0] = read_text(call->task, registers[kind->from_path], texts[0]);
    if (kind->to_path >= 0) length[1] = read_text(call->task, registers[kind->to_path], path = texts[1]);
    if (length[0] < 0 || length[1] < 0) return 0;
    uint32_t flags = kind->flags < 0 ? O_CREAT | O_WRONLY | O_TRUNC : (uint32_t)registers[kind->flags];
    long from = kind->from < 0 ? AT_FDCWD : (int32_t)registers[kind->from];
    long to = kind->to < 0 ? AT_FDCWD : (int32_t)registers[kind->to];
    int slash = 0;
    if (!length[0] || !length[1]) return kind->change != LINKED; /* ENOENT, but for AT_EMPTY_PATH */
    if (length[0] >= PATH || length[1] >= PATH) return 1;        /* ENAMETOOLONG */
    if (keeps_bytecode(kind, path)) return 1;
    enum reached reached;
    switch (kind->change) {
    case OPENED:
        return opens_quietly(task, from, path, flags);
    case TRUNCATED:
        reached = walk(task, from, path, 1, 0, &new);
        if (reached != THERE || (new.mode &S_IFMT) != S_IFREG) return reached != UNKNOWN;
        return !lacking(new.path, new.length, LANDLOCK_ACCESS_FS_TRUNCATE, &new) || is_own(&new, task);
    case MADE:
    case REMOVED:
        slash = path[text_length(path) - 1] == '/';
        if (!names_entry(path)) return 0;
        reached = walk(task, to, path, 0, 1, &new);
        if (reached == UNKNOWN) return 0;
        if (kind->change == REMOVED) return reached != THERE || !lacking_above(&new, removal(new.mode));
        if (reached != MISSING || (slash && kind->makes != LANDLOCK_ACCESS_FS_MAKE_DIR)) return 1;
        return !lacking_above(&new, kind->makes ? kind->makes : making(flags));
    case LINKED:
    case MOVED:
        break;
    case ATTRIBUTES:
    case TIMES:
        return 0;
    }
    int links = kind->change == LINKED;
    if ((!links && !names_entry(texts[0])) || !names_entry(texts[1])) return 0;
    if (kind->flags < 0) flags = 0;
    reached = walk(task, from, texts[0], links && (flags & AT_SYMLINK_FOLLOW), 0, &old);
    if (reached != THERE) return reached != UNKNOWN && reached != IN_NO_FOLDER;
    reached = walk(task, to, texts[1], 0, 1, &new);
    if (reached != THERE && reached != MISSING) return reached != UNKNOWN;
    if (links && reached == THERE) return 1; /* EEXIST */
    int exchanges = !links && (flags & RENAME_EXCHANGE);
    if (exchanges && reached == MISSING) return 1; /* ENOENT */
    return moves_quietly(&old, reached, &new, links, exchanges);
}

/* Whether no wall stands behind a look at a call: Landlock has no right for it, or not in this kernel. */
static int is_decided(const struct path_call *kind, const struct notification *call) {
    if (kind->change == TRUNCATED) return !rules || !(rules->handled & LANDLOCK_ACCESS_FS_TRUNCATE);
    /* Times by a descriptor alone: futimens(3). */
    return kind->change == ATTRIBUTES || (kind->change == TIMES && call->args[kind->from_path]);
}

/* What a look says of a call that waits; `early`: the init phase alone may make it. */
enum looked { NO_PATH, QUIET, NOT_SURE, DECIDED };
static enum looked look_at(const struct notification *call, int early) {
    const struct path_call *kind = looks ? path_call((uint32_t)call->nr) : NULL;
    if (!kind || !(early || is_early(&policy.paths, (uint32_t)call->nr, call->args))) return NO_PATH;
    if (is_decided(kind, call)) return DECIDED;
    if (kind->change == TIMES) return QUIET;
    return rules && !rules->incomplete && policy.looks == LOOKS_ATTENDANT && is_quiet(kind, call) ? QUIET : NOT_SURE;
}

/* Whether a call that the policy has in no phase is one to keep bytecode. */
static int is_refused_bytecode(const struct notification *call) {
    static char path[PATH + 1];
    const struct path_call *kind = policy.looks == LOOKS_ATTENDANT ? path_call((uint32_t)call->nr) : NULL;
    if (!kind || is_early(&policy.paths, (uint32_t)call->nr, call->args) ||
        is_early(&policy.early, (uint32_t)call->nr, call->args))
        return 0;
    int at = kind->to_path >= 0 ? kind->to_path : kind->from_path;
    return read_text(call->task, call->args[at], path) > 0 && keeps_bytecode(kind, path);
}

#endif
