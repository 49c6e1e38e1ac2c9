/* Where no filter can be installed: the variables that make the dynamic loader set the tripwire in the function
 * (sandbox/start/wire.py says what they tell). */
#ifndef SANDBOX_WIRE_C
#define SANDBOX_WIRE_C

#include "attend.c"

enum unavailable { FAIL, ON_WARN, ON_DETECT, ON_BEST };
static enum unavailable unavailable;
static const char *tier, *wire_problem;        /* why it cannot be set; NULL: it can */
static const char **wired_env, *wire_reads[3]; /* what the library reads as it is loaded, and itself */

/* The dynamic loader of a program, or of one of its `#!` interpreters; '' for a static one. */
static const char *loader_of(const char *path) {
    unsigned char *head = alloc(4096);
    char *loader = alloc(4096);
    const char *env;
    for (int depth = 0; depth < LONGEST_CHAIN && *path; depth++) {
        long n = read_program(path, head, loader);
        path = interpreter_of(head, n, &env);
    }
    return loader;
}

/* Whether a loader asks about each symbol, whether it is bound early or late: from glibc 2.35 on. */
static int asks_for_each(const char *loader) {
    size_t n;
    int found = 0;
    const char *text = (const char *)read_file(loader, &n);
    for (size_t i = 0; i < n && !found; i++) found = starts_with(text + i, "GLIBC_2.35");
    release(text);
    return found;
}

static const char *find_library(void) {
    const char *folder = absolute_path(folder_of(real_path(own_path)));
    for (int i = 0; i < 5; i++, folder = folder_of(folder)) {
        const char *found =
            format("%%sandbox/tripwire/built/tripwire-%.so", folder, same(folder, "/") ? "" : "/", ARCH);
        if (is_file(found)) return found;
        if (same(folder, "/")) break;
    }
    return "";
}

/* Before anything is installed: behind a part of the walls nothing can be looked at any more. */
static void prepare_wire(void) {
    const char *library = find_library(), *loader = loader_of(command_path), *into[2], *others = variable("LD_AUDIT");
    const char *tunables = variable("GLIBC_TUNABLES");
    int has_room = 0;
    for (const char *at = tunables; *at; at++) has_room |= starts_with(at, "optional_static_tls");
    size_t count = 0;
    if (!*library)
        wire_problem = "its library is not there (tools/release builds it)";
    else if (!*loader)
        wire_problem = "the program is static or not of 64 bits: no loader could load it";
    else if (!same(name_of(loader), LOADER))
        wire_problem = format("% is not glibc's: only that loads it", loader);
    wire_reads[0] = library, wire_reads[1] = format("%/policy.bin", absolute_path(policy_folder));
    wire_reads[2] = "/proc/self/stat";
    char *told = format("SANDBOX_TRIPWIRE=p %\na %\nm e\nf 1\ni 0\no %", absolute_path(policy_folder),
                        variable("AWS_LAMBDA_RUNTIME_API"), command_path);
    int lines = 6, breaks = 1;
    for (int base = BASE_ROOT; base <= BASE_VENV; base++)
        for (int i = 0, n = folders_of(base, into); i < n; i++, lines++)
            told = format("%\n# %", told, (long)base, into[i]);
    for (const char *at = told; *at; at++) breaks += *at == '\n';
    if (breaks != lines) wire_problem = "a path has a line break in it";
    while (handler_env[count]) count++;
    wired_env = alloc((count + 5) * sizeof *wired_env);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (!starts_with(handler_env[i], "LD_AUDIT=") && (has_room || !starts_with(handler_env[i], "GLIBC_TUNABLES=")))
            wired_env[n++] = handler_env[i];
    wired_env[n++] = told;
    wired_env[n++] = format("LD_AUDIT=%%%", library, *others ? ":" : "", others);
    /* Room for thread-local memory (sandbox/start/wire.py: STATIC_TLS). */
    if (!has_room) wired_env[n++] = format("GLIBC_TUNABLES=%%%", tunables, *tunables ? ":" : "", STATIC_TLS);
    if (!wire_problem && !asks_for_each(loader)) wired_env[n++] = "LD_BIND_NOW=1";
    wired_env[n] = NULL;
}

/* The walls cannot be built: start in the lower tier, if that was asked for; else this ends. */
static void step_down(void) {
    /* Landlock may be in force, and hide what the library needs. */
    for (int i = 0; i < 3 && unavailable >= ON_DETECT && !wire_problem; i++) {
        long fd = open_read(wire_reads[i]);
        if (fd < 0)
            wire_problem = format("% cannot be read: %", wire_reads[i], error_text(fd));
        else
            SYS1(close, fd);
    }
    if (unavailable == FAIL || (unavailable == ON_DETECT && wire_problem)) give_up();
    note(&degraded, format("everything that is not listed as enforced: %", failed));
    if (unavailable >= ON_DETECT && wire_problem) {
        note(&degraded, format("tier: nothing (the tripwire cannot be set: %)", wire_problem));
        tier = "nothing";
    } else if (unavailable >= ON_DETECT) {
        note(&degraded, "tier: detects, does not contain");
        tier = "detects";
        handler_env = wired_env;
        place_exec_arguments();
    }
    failed = NULL;
}

#endif
