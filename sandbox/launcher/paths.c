/* Files, paths and programs of this host, and the Python package beside the launcher. */
#ifndef SANDBOX_PATHS_C
#define SANDBOX_PATHS_C

#include "errors.c"

static unsigned mode_of(long folder, const char *path, long *size) { /* 0: not there */
    uint64_t buffer[24];                                             /* struct stat has 128 or 144 bytes */
    long flags = folder >= 0 && !*path ? AT_EMPTY_PATH : 0;
    if (SYS4(newfstatat, folder, path, buffer, flags) < 0) return 0;
    if (size) *size = (long)buffer[6];
    uint32_t mode;
    memcpy(&mode, (char *)buffer + STAT_MODE, 4);
    return mode;
}

static int is_file(const char *path) { return (mode_of(AT_FDCWD, path, NULL) & S_IFMT) == S_IFREG; }
static int exists(const char *path) { return mode_of(AT_FDCWD, path, NULL) != 0; }
static long open_read(const char *path) { return SYS4(openat, AT_FDCWD, path, O_CLOEXEC, 0); }

/* A file of a bundle, with a NUL behind it. What is larger than that in one read is not what its digest says. */
static unsigned char *read_file(const char *path, size_t *length_of) {
    long fd = SYS4(openat, AT_FDCWD, path, O_CLOEXEC | O_NONBLOCK, 0), got = fd; /* a FIFO, too, ends at once */
    unsigned char *into = alloc(POLICY_LARGEST + 1);
    if (fd >= 0) {
        got = SYS3(read, fd, into, POLICY_LARGEST);
        close_high(fd);
    }
    if (got < 0) fail(POLICY_INVALID, format("%: cannot be read: %", path, error_text(got)));
    into[got] = 0;
    release(into + got + 1);
    *length_of = (size_t)got;
    return into;
}

static const char *folder_of(const char *path) {
    const char *slash = last_char(path, '/');
    if (!slash) return "";
    while (slash > path && slash[-1] == '/') slash--;
    return slash == path ? "/" : slice(path, (size_t)(slash - path));
}

static const char *name_of(const char *path) {
    const char *slash = last_char(path, '/');
    return slash ? slash + 1 : path;
}

static const char *working_folder(void) {
    char *found = alloc(4096);
    if (SYS2(getcwd, found, 4096) <= 0) return "/";
    release(found + text_length(found) + 1);
    return found;
}

/* Absolute and without empty parts, `.` and `..` (os.path.abspath). */
static const char *absolute_path(const char *path) {
    const char *from = *path == '/' ? path : format("%/%", working_folder(), path);
    char *found = alloc(text_length(from) + 2), *at = found;
    while (*from) {
        while (*from == '/') from++;
        size_t n = 0;
        while (from[n] && from[n] != '/') n++;
        if (n == 2 && starts_with(from, "..")) {
            while (at > found && *--at != '/') continue;
        } else if (n && !(n == 1 && *from == '.')) {
            *at++ = '/';
            memcpy(at, from, n);
            at += n;
        }
        from += n;
    }
    if (at == found) *at++ = '/';
    *at = 0;
    return found;
}

/* The path with its links followed, as far as /proc tells; else the path itself. */
static const char *real_path(const char *path) {
    long fd = SYS4(openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0), n;
    if (fd < 0) return absolute_path(path);
    char *found = alloc(4096);
    n = SYS4(readlinkat, AT_FDCWD, format("/proc/self/fd/#", (long)fd), found, 4095);
    SYS1(close, fd);
    if (n <= 0) return absolute_path(path);
    found[n] = 0;
    release(found + n + 1);
    return found;
}

/* Which of some words a variable is; the first stands for no value. */
static int setting(const char *name, const char *words) {
    const char *value = variable(name);
    int which = 0;
    for (const char *at = words; *at; which++) {
        size_t n = 0;
        while (at[n] && at[n] != ' ') n++;
        if (!*value || (text_length(value) == n && same_bytes(value, at, n))) return which;
        at += n + (at[n] == ' ');
    }
    fail(USAGE, format("%: is '%', not one of %", name, value, words));
}

static int is_executable(const char *path) { return is_file(path) && SYS3(faccessat, AT_FDCWD, path, X_OK) == 0; }

static int is_elf(const char *path) {
    char head[4] = "";
    long fd = open_read(path);
    SYS3(read, fd, head, 4);
    SYS1(close, fd);
    return same_bytes(head, "\177ELF", 4);
}

/* A program by name in a search path, '' where there is none; with a slash, itself. With `elf` no script: a shell that
 * stands in front of an interpreter (pyenv) would hear of its child's end in its place. */
static const char *search(const char *name, const char *path, int elf) {
    if (last_char(name, '/')) return name;
    for (const char *at = path;; at++) {
        size_t n = 0;
        while (at[n] && at[n] != ':') n++;
        const char *found = format("%%%", n ? slice(at, n) : ".", n && at[n - 1] == '/' ? "" : "/", name);
        if (is_executable(found) && (!elf || is_elf(found))) return found;
        at += n;
        if (!*at) return "";
    }
}

static const char *search_path(void) {
    const char *path = find_variable("PATH");
    return path ? path : "/bin:/usr/bin";
}

static const char *python(void) {
    const char *named = variable("SANDBOX_PYTHON");
    return *named ? format("%", named) : search("python3", search_path(), 1);
}

/* The file of the Python package that we start: below the launcher's folder or one above it. 0: there is none, or no
 * interpreter. A file, since a folder as program takes 3 ms more (runpy). */
static int find_package(void) {
    const char *folder = absolute_path(folder_of(real_path(own_path)));
    interpreter = python();
    if (!*interpreter || !is_file(interpreter)) return 0;
    for (int i = 0; i < 5; i++, folder = folder_of(folder)) {
        package = format("%%sandbox/start/by_launcher.py", folder, same(folder, "/") ? "" : "/");
        if (is_file(package)) {
            if (is_file(format("%/pyproject.toml", folder))) checkout = folder; /* else an installed one */
            return 1;
        }
        if (same(folder, "/")) break;
    }
    return 0;
}

/* Let the Python bootstrap do all of it, as if it had been started in our place. Returns where there is none. */
static void start_python(void) {
    size_t count = 0;
    if (!find_package()) return;
    while (args[count]) count++;
    const char **argv = alloc(sizeof(char *) * (count + 7)),
               *head[] = {interpreter, "-I", "-S", package, "start", own_path};
    for (size_t i = 0; i < 6; i++) argv[i] = head[i];
    for (size_t i = 0; i <= count; i++) argv[i + 6] = args[i];
    if (start_folder) SYS1(chdir, start_folder);
    SYS3(execve, interpreter, argv, environment);
}

#endif
