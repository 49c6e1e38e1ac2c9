/* Where no filter can be installed: the variables that make the dynamic loader set the tripwire in the function
 * (sandbox/start/wire.py says what they tell). */
#ifndef SANDBOX_WIRE_C
#define SANDBOX_WIRE_C

#include "attend.c"

enum unavailable { FAIL, ON_WARN, ON_DETECT, ON_BEST };
enum { LOADER_LARGEST = 4 << 20 };
static enum unavailable unavailable;
static const char *tier, *wire_problem; /* why it cannot be set; NULL: it can */
static const char **wired_env;

/* The dynamic loader that a program names (man 5 elf), or one of its `#!` interpreters; '' for a static one. */
static const char *loader_of(const char *path) {
    unsigned char *head = alloc(4096);
    for (int depth = 0; depth < LONGEST_CHAIN && *path; depth++) {
        long fd = open_read(path), n = fd < 0 ? 0 : SYS3(read, fd, head, 4095);
        uint64_t at, offset, size;
        head[n > 0 ? n : 0] = 0;
        if (n >= 64 && same_bytes(head, "\177ELF\2\1", 6)) {
            int step = head[54] | head[55] << 8, count = head[56] | head[57] << 8;
            char *found = alloc(4096);
            *found = 0;
            memcpy(&at, head + 32, 8);
            for (; count && at <= (uint64_t)n - 56; count--, at += (uint64_t)step) {
                if (!same_bytes(head + at, "\3\0\0", 4)) continue; /* PT_INTERP */
                memcpy(&offset, head + at + 8, 8);
                memcpy(&size, head + at + 32, 8);
                long got = SYS4(pread64, fd, found, size < 4095 ? size : 4095, offset);
                found[got > 0 ? got : 0] = 0;
            }
            SYS1(close, fd);
            return found;
        }
        SYS1(close, fd);
        const char *line = (const char *)head + 2;
        if (head[0] != '#' || head[1] != '!') return "";
        head[n < 256 ? n : 256] = 0;
        path = next_word(&line);
        if (!same(name_of(path), "env")) continue;
        do {
            path = next_word(&line);
            if (same(path, "-C") || same(path, "-u")) next_word(&line); /* and its operand */
        } while (*path == '-' || last_char(path, '='));
        if (*path) path = search(path, search_path(), 0);
    }
    return "";
}

/* Whether a loader asks about each symbol, whether it is bound early or late: from glibc 2.35 on. */
static int asks_for_each(const char *loader) {
    static const char word[] = "GLIBC_2.35";
    long fd = open_read(loader), n = 0;
    long at = SYS6(mmap, 0, LOADER_LARGEST, 1, MAP_PRIVATE, fd, 0), size = 0;
    mode_of(fd, "", &size);
    SYS1(close, fd);
    if (at < 0) return 0;
    if (size > LOADER_LARGEST) size = LOADER_LARGEST;
    const char *text = (const char *)at;
    while (n + (long)sizeof word <= size && !(text[n] == 'G' && same_bytes(text + n, word, sizeof word - 1))) n++;
    int found = n + (long)sizeof word <= size;
    SYS2(munmap, at, LOADER_LARGEST);
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
    size_t count = 0;
    if (!*library)
        wire_problem = "its library is not there (tools/release builds it)";
    else if (!*loader)
        wire_problem = "the program is static: no dynamic loader could load it";
    else if (!starts_with(name_of(loader), "ld-linux"))
        wire_problem = format("% is not glibc's: only that loads it", loader);
    char *told = format("SANDBOX_TRIPWIRE=p %\na %\nm e\nf 1\ni 0\no %", absolute_path(policy_folder),
                        variable("AWS_LAMBDA_RUNTIME_API"), command_path);
    for (int base = BASE_ROOT; base <= BASE_VENV; base++)
        for (int i = 0, n = folders_of(base, into); i < n; i++) {
            const char *real = real_path(into[i]);
            told = format("%\n# %", told, (long)base, into[i]);
            if (!same(real, into[i])) told = format("%\n# %", told, (long)base, real);
        }
    while (handler_env[count]) count++;
    wired_env = alloc((count + 4) * sizeof *wired_env);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (!starts_with(handler_env[i], "LD_AUDIT=")) wired_env[n++] = handler_env[i];
    wired_env[n++] = told;
    wired_env[n++] = format("LD_AUDIT=%%%", library, *others ? ":" : "", others);
    if (!wire_problem && !asks_for_each(loader)) wired_env[n++] = "LD_BIND_NOW=1";
    wired_env[n] = NULL;
}

/* The walls cannot be built: start in the lower tier, if that was asked for; else this ends. */
static void step_down(void) {
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
