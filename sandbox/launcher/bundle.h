/* What to start and under which policy: the command, the bundle, and whether the host is the one it was learned on. */
#ifndef SANDBOX_BUNDLE_H
#define SANDBOX_BUNDLE_H

#include "host.h"

/* What to exec: the arguments, or awslambdaric with $_HANDLER (launch.py: resolve). */
static void resolve(char **arguments) {
    if (!*arguments) {
        const char *handler = get("_HANDLER"), *root = get("LAMBDA_TASK_ROOT"),
                   *words[] = {python(), "-m", "awslambdaric", handler};
        if (!*handler)
            fail(USAGE, "bootstrap", "no command and no _HANDLER",
                 "give a command to start, or set _HANDLER=module.function as the platform does");
        long code = *root ? SYS1(chdir, root) : 0;
        if (code < 0) fail(HANDLER, root, form("cannot be entered: %", problem(code)), "correct LAMBDA_TASK_ROOT");
        for (int i = 0; i < 4; i++) default_argv[i] = slice(words[i], text_length(words[i]));
        if (!*words[0]) default_argv[0] = slice("python3", 7);
        arguments = default_argv;
    }
    command_argv = arguments;
    command_path = search(arguments[0], search_path());
    if (last(arguments[0], '/')) {
        if (!is_file(command_path)) fail(HANDLER, arguments[0], "does not exist", "correct the command");
        if (SYS3(faccessat, AT_FDCWD, command_path, X_OK) < 0)
            fail(HANDLER, command_path, "is not executable", form("chmod +x %", command_path));
    } else if (!*command_path) {
        fail(HANDLER, arguments[0], form("is in none of %", search_path()), "correct the command");
    }
}

/* The bundle's folder, or a profile's file (locate.py: find). */
static const char *find_policy(const char *named) {
    const char *function = get("AWS_LAMBDA_FUNCTION_NAME"), *root = get("LAMBDA_TASK_ROOT"), *tried = "";
    if (*named) {
        if (!exists(named)) fail(NOT_FOUND, "SANDBOX_POLICY", form("% does not exist", named), MAKE);
        return named;
    }
    if (!*function) fail(NOT_FOUND, "environment", "neither SANDBOX_POLICY nor AWS_LAMBDA_FUNCTION_NAME is set", MAKE);
    if (last(function, '/') || same(function, ".") || same(function, ".."))
        fail(USAGE, "AWS_LAMBDA_FUNCTION_NAME", form("'%' is no plain name", function), "name the function");
    const char *folders[] = {*root ? form("%%profiles", root, root[text_length(root) - 1] == '/' ? "" : "/") : "",
                             "/opt/profiles", "profiles"};
    for (int i = 0; i < 3; i++) {
        if (!*folders[i]) continue;
        const char *folder = form("%/%", folders[i], function), *yaml = form("%.yaml", folder);
        if (is_file(form("%/policy.json", folder))) return folder;
        if (is_file(yaml)) return yaml;
        tried = form("%%%, %", tried, *tried ? ", " : "", folder, yaml);
    }
    fail(NOT_FOUND, "bootstrap", form("no policy for % (looked at %)", function, tried), MAKE);
}

static const char *hex(const unsigned char *bytes, size_t n) {
    char *found = room(2 * n + 1);
    for (size_t i = 0; i < n; i++)
        found[2 * i] = "0123456789abcdef"[bytes[i] >> 4], found[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    found[2 * n] = 0;
    return found;
}

/* Read the twin, hold it against policy.json and both programs against the twin (bundle.py: decode). */
static void load(const char *folder) {
    size_t described, n;
    unsigned char digest[32];
    const char *json_path = form("%/policy.json", folder), *twin = form("%/policy.bin", folder);
    const unsigned char *text = read_file(json_path, &described), *data = read_file(twin, &n);
    const char *wrong = policy_read(&policy, data, n, ARCH);
    if (wrong) fail(INVALID, twin, form("%%", wrong, starts(wrong, "has no filter") ? ARCH : ""), REBUILD);
    sha256(text, described, digest);
    if (!same_bytes(digest, policy.described, 32))
        fail(INVALID, json_path, "is not what policy.bin was made of", REBUILD);
    policy_digest = hex(digest, 32);
    for (int i = 0; i < 2; i++) {
        const struct filter *filter = i ? &policy.supervised : &policy.plain;
        program_bytes[i] = read_file(form("%/%", folder, filter->file), &n);
        sha256(program_bytes[i], n, digest);
        if (!same_bytes(digest, filter->sha256, 32))
            fail(INVALID, json_path, form("% is not the file that was compiled (its digest differs)", filter->file),
                 REBUILD);
        if (n != 8 * (size_t)filter->instructions)
            fail(INVALID, json_path, form("% is no array of # instructions", filter->file, (long)filter->instructions),
                 REBUILD);
    }
}

/* Whether a day, YYYY-MM-DD or '', is still to come (UTC). */
static int is_ahead(const char *day) {
    long now[2] = {0, 0}, part[3];
    if (!*day) return 0;
    for (int i = 0; i < 3; i++) part[i] = number(slice(day + (i ? 2 + 3 * i : 0), i ? 2 : 4));
    long year = part[1] > 2 ? part[0] : part[0] - 1, month = part[1] > 2 ? part[1] - 3 : part[1] + 9;
    SYS2(clock_gettime, 0, now);
    return now[0] / 86400 < 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + part[2] - 719469;
}

/* staleness.py: a short fingerprint, '' where a file cannot be read. */
static const char *fingerprint(const char *path) {
    long size = 0, fd = *path ? open_read(path) : -1;
    unsigned char digest[32];
    if (fd < 0) return "";
    mode_of(fd, "", &size);
    char *text = form("#", (long)size);
    int large = size > 2 * PART;
    size_t head = large ? text_length(text) : 0, n = head, most = head + 2 * PART;
    /* A small file as it lies in the page cache: every page that is copied costs more than it takes to hash. */
    long mapped = large || !size ? -1 : SYS6(mmap, 0, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (mapped > 0) {
        SYS1(close, fd);
        sha256((const unsigned char *)mapped, (size_t)size, digest);
        return hex(digest, 8);
    }
    unsigned char *data = room(most);
    memcpy(data, text, head);
    for (long got; n < most; n += (size_t)got) {
        size_t read = n - head, left = large && read < PART ? PART - read : most - n;
        long at = large && read >= PART ? size - 2 * PART + (long)read : (long)read;
        got = SYS4(pread64, fd, data + n, left, at);
        if (got < 0) return SYS1(close, fd), "";
        if (!got) break;
    }
    SYS1(close, fd);
    sha256(data, n, digest);
    return hex(digest, 8);
}

static const char *task_root(void) {
    const char *root = get("LAMBDA_TASK_ROOT");
    return *root ? root : here();
}

/* 3.11 of /usr/bin/python3 -> python3.11: the links of the folders on the way do not change the name at their end. */
static const char *version_of(const char *program) {
    char *target = room(4096);
    for (int depth = 0; depth < 40; depth++) {
        long n = SYS4(readlinkat, AT_FDCWD, program, target, 4095);
        if (n <= 0) break;
        target[n] = 0;
        program = *target == '/' ? slice(target, (size_t)n) : form("%/%", folder_of(program), target);
    }
    const char *name = name_of(program);
    return starts(name, "python") && last(name, '.') ? name + 6 : "";
}

static const char *series(const char *release) {
    size_t n = 0, dots = 0;
    for (; release[n] && (release[n] != '.' || ++dots < 2); n++) continue;
    return slice(release, n);
}

static void compare(int fact, const char *name, const char *value) {
    const struct list *known = &policy.known[fact];
    const char *one = known->first, *all = "";
    if (!known->count || !*value) return;
    for (uint32_t i = 0; i < known->count; i++, one = next_text(one)) {
        if (same(one, value)) return;
        all = form("%%%", all, i ? ", " : "", one);
    }
    say(&stale, form("%: learned on %, here %", name, all, value));
}

/* Is the host still the one of the trainings? The C library is the interpreter's own knowledge: it goes unchecked. */
static void compare_host(const char *machine) {
    static const char *const LOCKS[] = {"uv.lock",           "poetry.lock",      "pdm.lock",          "Pipfile.lock",
                                        "requirements.lock", "requirements.txt", "package-lock.json", "go.sum",
                                        "Cargo.lock"};
    const char *version =
        policy.known[PYTHON].count || policy.known[HANDLER_DIGEST].count ? version_of(command_path) : "";
    if (policy.known[LIBC].count) say(&unchecked, "libc");
    compare(KERNEL, "kernel", series(todays_kernel));
    compare(ARCHITECTURE, "architecture", machine);
    compare(PYTHON, "python", version);
    if (policy.known[HANDLER_DIGEST].count) {
        const char *handler = get("_HANDLER"), *dot = last(handler, '.'), *file = *version ? "" : command_path;
        char *module = slice(handler, dot ? (size_t)(dot - handler) : 0);
        for (char *p = module; *p; p++)
            if (*p == '.') *p = '/';
        const char *path = *module == '/' ? form("%.py", module) : form("%/%.py", task_root(), module);
        compare(HANDLER_DIGEST, "handler digest", fingerprint(*handler && is_file(path) ? path : file));
    }
    for (size_t i = 0; policy.known[LOCK_DIGEST].count && i < sizeof LOCKS / sizeof *LOCKS; i++) {
        const char *path = form("%/%", task_root(), LOCKS[i]);
        if (!is_file(path)) continue;
        compare(LOCK_DIGEST, "lock digest", fingerprint(path));
        break;
    }
}

#endif
