/* What to start and under which policy: the command, the bundle, and whether the host is the one it was learned on. */
#ifndef SANDBOX_LOAD_C
#define SANDBOX_LOAD_C

#include "paths.c"

/* What to exec: the arguments, or awslambdaric with $_HANDLER (launch.py: resolve). */
static void find_command(void) {
    command_argv = args;
    if (!*args) {
        static const char *words[5];
        const char *handler = variable("_HANDLER"), *root = variable("LAMBDA_TASK_ROOT"), *program = python();
        if (!*handler) fail(USAGE, "bootstrap: no command and no _HANDLER");
        start_folder = working_folder();
        long code = *root ? SYS1(chdir, root) : 0;
        if (code < 0) fail(HANDLER_NOT_FOUND, format("%: cannot be entered: %", root, error_text(code)));
        words[0] = *program ? program : "python3", words[1] = "-m", words[2] = "awslambdaric", words[3] = handler;
        command_argv = words;
    }
    command_path = search(*command_argv, search_path(), 0);
    if (!is_executable(command_path))
        fail(HANDLER_NOT_FOUND, format("%: is not a program, nor in %", *command_argv, search_path()));
}

/* The bundle's folder, or a profile's file (locate.py: find). */
static const char *find_policy(const char *named) {
    const char *function = variable("AWS_LAMBDA_FUNCTION_NAME"), *root = variable("LAMBDA_TASK_ROOT");
    if (*named) return named;
    if (!*function) fail(POLICY_NOT_FOUND, "SANDBOX_POLICY: is not set, nor AWS_LAMBDA_FUNCTION_NAME");
    if (last_char(function, '/') || same(function, ".") || same(function, ".."))
        fail(USAGE, format("AWS_LAMBDA_FUNCTION_NAME: '%' is not a plain name", function));
    const char *folders[] = {format("%/profiles", root), "/opt/profiles", "profiles"};
    for (int i = !*root; i < 3; i++) {
        const char *folder = format("%/%", folders[i], function), *yaml = format("%.yaml", folder);
        if (is_file(format("%/policy.bin", folder))) return folder;
        if (is_file(yaml)) return yaml;
    }
    fail(POLICY_NOT_FOUND, format("no policy for % in profiles/ or /opt/profiles", function));
}

static const char *hex(const unsigned char *bytes, size_t n) {
    char *found = alloc(2 * n + 1);
    for (size_t i = 0; i < n; i++)
        found[2 * i] = "0123456789abcdef"[bytes[i] >> 4], found[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    found[2 * n] = 0;
    return found;
}

/* What stands behind the first `wanted` in a text, '' where it is not in it. */
static const char *after(const char *text, const char *wanted) {
    while (*text && !starts_with(text, wanted)) text++;
    return *text ? text + text_length(wanted) : "";
}

/* Read the policy and compare it with the manifest of the package that it lies in, if any (integrity.py: listed). */
static void load(void) {
    size_t n;
    const char *whole = absolute_path(policy_folder), *file = format("%/policy.bin", policy_folder);
    const char *manifest = format("%/manifest.json", folder_of(whole));
    const unsigned char *data = read_file(file, &n);
    const char *wrong = policy_read(&policy, data, n, ARCH);
    if (wrong) end(POLICY_INVALID, format("%: %", file, wrong), NULL);
    policy_digest = hex(policy.digest, POLICY_DIGEST);
    if (!exists(manifest)) return;
    const char *listed = after((const char *)read_file(manifest, &n), format("\"%/policy.bin\"", name_of(whole)));
    if (!starts_with(after(listed, "\"sha256\": \""), policy_digest))
        end(PACKAGE_INVALID, format("%: is not the policy that manifest.json lists", policy_folder), NULL);
}

/* provenance.py: a short fingerprint, '' where a file cannot be read. */
static const char *fingerprint(const char *path) {
    long size = 0, part = FINGERPRINT_ELF_PART, fd = *path ? open_read(path) : -1;
    if (fd < 0) return "";
    mode_of(fd, "", &size);
    const char *text = format("#", size);
    unsigned char digest[32], *data = alloc(32 + 2 * FINGERPRINT_PART);
    size_t n = text_length(text);
    memcpy(data, text, n);
    long got = SYS4(pread64, fd, data + n, part, 0);
    if (got < 4 || !same_bytes(data + n, "\177ELF", 4)) part = FINGERPRINT_PART;
    if (size > 2 * part) {
        if (part != FINGERPRINT_ELF_PART) got = SYS4(pread64, fd, data + n, part, 0);
        if (got != part || SYS4(pread64, fd, data + n + part, part, size - part) != part) return "";
        sha256(data, n + 2 * (size_t)part, digest);
    } else {
        if (SYS4(pread64, fd, data, size, 0) != size) return "";
        sha256(data, (size_t)size, digest);
    }
    close_high(fd);
    release(data);
    return hex(digest, FINGERPRINT_BYTES);
}

static const char *task_root(void) {
    const char *root = variable("LAMBDA_TASK_ROOT");
    return *root ? root : working_folder();
}

/* 3.11 of /usr/bin/python3 -> python3.11 */
static const char *version_of(const char *program) {
    char link[1]; /* links of folders on the way do not change the name at the end */
    const char *name = name_of(SYS4(readlinkat, AT_FDCWD, program, link, 1) < 0 ? program : real_path(program));
    return starts_with(name, "python") && last_char(name, '.') ? name + 6 : "";
}

static const char *series(const char *release) {
    size_t n = 0, dots = 0;
    for (; release[n] && (release[n] != '.' || ++dots < 2); n++) continue;
    return slice(release, n);
}

static void compare(int fact, const char *name, const char *value) {
    const struct list *known = &policy.provenance[fact];
    const char *one = known->first, *all = "";
    if (!known->count || !*value) return;
    for (uint32_t i = 0; i < known->count; i++, one = next_text(one)) {
        if (same(one, value)) return;
        all = format("%%%", all, i ? ", " : "", one);
    }
    note(&stale, format("%: learned on %, here %", name, all, value));
}

/* Is the host still the one of the trainings? The C library is the interpreter's own knowledge: it goes unchecked. */
static void compare_host(const char *machine) {
    const char *version = policy.provenance[FACT_PYTHON].count || policy.provenance[FACT_HANDLER_DIGEST].count
                              ? version_of(command_path)
                              : "";
    if (policy.provenance[FACT_LIBC].count) note(&unchecked, "libc");
    compare(FACT_KERNEL, "kernel", series(todays_kernel));
    compare(FACT_ARCHITECTURE, "architecture", machine);
    compare(FACT_PYTHON, "python", version);
    if (policy.provenance[FACT_HANDLER_DIGEST].count) {
        const char *handler = variable("_HANDLER"), *dot = last_char(handler, '.'),
                   *file = *version ? "" : command_path;
        char *module = slice(handler, dot ? (size_t)(dot - handler) : 0);
        for (char *p = module; *p; p++)
            if (*p == '.') *p = '/';
        const char *path = *module == '/' ? format("%.py", module)
                           : *module      ? format("%/%.py", task_root(), module)
                                          : "";
        compare(FACT_HANDLER_DIGEST, "handler digest", fingerprint(*handler && is_file(path) ? path : file));
    }
    for (const char *name = LOCK_FILES; policy.provenance[FACT_LOCK_DIGEST].count && *name; name = next_text(name)) {
        const char *path = format("%/%", task_root(), name);
        if (!is_file(path)) continue;
        compare(FACT_LOCK_DIGEST, "lock digest", fingerprint(path));
        break;
    }
}

#endif
