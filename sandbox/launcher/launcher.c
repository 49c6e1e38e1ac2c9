/* The bootstrap without Python: find the bundle, install it, say so, exec. It does what sandbox/enforce does on the way
 * to the handler and leaves the rest to it: learning, audit, profiles that must be compiled, and, where no Landlock
 * domain keeps the handler out of a starting supervisor, the supervised start. tests/kernel/test_conformance.py holds
 * both to one behaviour. Freestanding: no libc, all memory static, one thread. */
#include "filters.h"

/* A field of /proc/self/status, '' where there is none. */
static const char *field(const char *status, const char *name) {
    for (const char *at = status; *at;) {
        if (starts(at, name) && at[text_length(name)] == ':') {
            size_t n = 0;
            for (at += text_length(name) + 1; *at == ' ' || *at == '\t';) at++;
            while (at[n] && at[n] != '\n') n++;
            return slice(at, n);
        }
        while (*at && *at++ != '\n') continue;
    }
    return "";
}

static const char *read_status(long fd) {
    static char text[8192];
    long n = fd < 0 ? 0 : SYS3(read, fd, text, 8191);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static int read_back(long fd, long had, long more) {
    if (fd < 0) {
        say(&degraded, "read-back: /proc is not mounted, only the canary says that the filter is in force");
        return 1;
    }
    const char *status = read_status(fd), *mode = field(status, "Seccomp");
    if (!same(mode, "2"))
        return refuse(PASSED, "/proc/self/status", form("the kernel says Seccomp: % after the installation", mode),
                      DISTRUST);
    if (had < 0) return 1;
    filters_now = number(field(status, "Seccomp_filters"));
    if (filters_now == had + more) return 1;
    return refuse(PASSED, "/proc/self/status",
                  form("# filters became #, not #", (long)had, (long)filters_now, (long)(had + more)), DISTRUST);
}

/* Only the supervised program, and its listener; 0 where the kernel gives none. */
static int install_supervised(int *ok) {
    long code = -EINVAL;
    build_supervised_filter();
    say(&requested, "supervision");
    for (long flags = NEW_LISTENER | WAIT_KILLABLE_RECV; flags && code == -EINVAL;
         flags = flags == NEW_LISTENER ? 0 : NEW_LISTENER)
        code = seccomp_filter(built, length, flags);
    if (code >= 0) {
        listener = (int)code;
        say(&enforced, "supervision");
    } else if (code == -EINVAL || code == -EBUSY) {
        say(&degraded,
            code == -EBUSY ? "supervision: a listener stands above" : "supervision: this kernel gives no listener");
    } else {
        *ok = refused(code, "profile filter");
    }
    return code >= 0;
}

/* Confine this process (install.py: install); 0 with the noted error. */
static int install(int supervised) {
    const char *held[] = {"syscalls", policy.granted ? "exec: granted" : "exec: single-use",
                          policy.any_signal ? "signals: any" : "signals: self"};
    for (int i = 0; i < 3; i++) say(&requested, held[i]);
    long fd = open_read("/proc/self/status"), code, ok = 1;
    const char *status = read_status(fd), *count = field(status, "Seccomp_filters");
    long had = number(count);
    if (!same(field(status, "NoNewPrivs"), "1") && (code = SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) < 0)
        return refuse(REFUSED, "a filter above this process refuses prctl, and NoNewPrivs is not set",
                      form("prctl(PR_SET_NO_NEW_PRIVS) failed: %", problem(code)),
                      form("start it with NoNewPrivs (Kubernetes: allowPrivilegeEscalation: false), or %", WARN));
    /* Opened before Landlock and the filters, read again after them: its text is made at the moment of the read. */
    if (fd >= 0) SYS3(lseek, fd, 0, 0);
    if (!restrict_files_and_network(supervised)) return 0;
    int listens = 0, fine = 1;
    if (supervised) listens = install_supervised(&fine);
    if (!fine) return 0;
    if (!listens) {
        build_launch_filter();
        if ((code = seccomp_filter(built, length, 0)) < 0) return refused(code, "launch filter");
        code = seccomp_filter((const struct instruction *)(const void *)program_bytes[0], policy.plain.instructions, 0);
        if (code < 0) return refused(code, "profile filter");
    }
    ok = read_back(fd, had, listens ? 1 : 2);
    if (fd >= 0) SYS1(close, fd);
    if (!ok) return 0;
    if (!listens && !policy.granted && SYS3(execve, 0, 0, 0) != -EPERM)
        return refuse(PASSED, "canary", "execve with other addresses was not refused", DISTRUST);
    if ((code = SYS3(seccomp, 0xFFFFFFFF, 0, 0)) != -EPERM)
        return refuse(PASSED, "canary",
                      form("seccomp(2) answered %, not EPERM", code == -EINVAL   ? "EINVAL"
                                                               : code == -ENOSYS ? "ENOSYS"
                                                                                 : form("#", (long)-code)),
                      DISTRUST);
    for (int i = 0; i < 3; i++) say(&enforced, held[i]);
    return 1;
}

static void restore_signals(void) {
    uint64_t standard[4] = {0};
    SYS4(rt_sigaction, SIGPIPE, standard, 0, SIGSET);
    SYS4(rt_sigaction, SIGXFSZ, standard, 0, SIGSET);
}

static _Noreturn void not_executed(const char *path, long code) {
    fail(HANDLER, path, form("cannot be executed: %", problem(code)), FORMAT_TODO);
}

/* Install, say so and exec. In a supervised child an error goes to the parent, which runs in the same memory. */
static _Noreturn void confine(int supervised) {
    if (!install(supervised)) {
        if (!warn_only) give_up();
        say(&degraded, form("everything that is not listed as enforced: %", failure.text));
        failure.set = 0;
    }
    const char *line =
        form("{\"event\": \"sandbox\", \"mode\": \"enforce\", \"function\": %, \"policy\": \"sha256:%\", "
             "\"requested\": %, \"enforced\": %, \"degraded\": %",
             json(policy.function), policy_digest, json_list(&requested), json_list(&enforced), json_list(&degraded));
    if (stale.count) line = form("%, \"stale\": %", line, json_list(&stale));
    if (unchecked.count) line = form("%, \"unchecked\": %", line, json_list(&unchecked));
    if (filters_now >= 0) line = form("%, \"filters\": #", line, (long)filters_now);
    write_line(form("%}\n", line));
    restore_signals();
    not_executed(command_path, SYS3(execve, ticket[0], ticket[1], ticket[2]));
}

static uint64_t child_stack[8192] __attribute__((aligned(16)));

static _Noreturn void child(void) {
    SYS4(rt_sigprocmask, SIG_SETMASK, &signals_before, 0, SIGSET);
    confine(1);
}

/* Wait as the supervisor would where the child has none, pass signals on, and end as it ended (parent.py). */
static _Noreturn void attend(long pid, uint64_t held) {
    uint32_t status = 0, core[4] = {0};
    for (;;) {
        if (SYS4(wait4, pid, &status, 1, 0) == pid) break;
        long signal = SYS4(rt_sigtimedwait, &held, 0, 0, SIGSET);
        if (signal > 0 && signal != SIGCHLD) SYS2(kill, pid, signal);
    }
    uint32_t signal = status & 0x7F;
    if (!signal) leave((int)(status >> 8 & 0xFF));
    SYS4(prlimit64, 0, RLIMIT_CORE, 0, core);
    uint64_t none[2] = {0, core[2] | (uint64_t)core[3] << 32}, standard[4] = {0};
    SYS4(prlimit64, 0, RLIMIT_CORE, none, 0);
    if (signal != SIGKILL) SYS4(rt_sigaction, signal, standard, 0, SIGSET);
    held = 0;
    SYS4(rt_sigprocmask, SIG_SETMASK, &held, 0, SIGSET);
    SYS2(kill, SYS1(getpid, 0), signal);
    leave(128 + (int)signal);
}

static _Noreturn void lose(long pid, const char *what) {
    SYS2(kill, pid, SIGKILL);
    SYS4(wait4, pid, 0, 0, 0);
    fail(REFUSED, interpreter, what, "check that the interpreter runs, or set SANDBOX_SUPERVISE=0");
}

/* Whether the user of this process may write to a bundle's folder, or to what it is read from. */
static int writable(const char *folder) {
    return SYS3(faccessat, AT_FDCWD, folder, W_OK) == 0 ||
           SYS3(faccessat, AT_FDCWD, form("%/policy.bin", folder), W_OK) == 0 ||
           SYS3(faccessat, AT_FDCWD, form("%/policy.json", folder), W_OK) == 0;
}

/* Whether a supervisor can duplicate another process's descriptors here (man 2 pidfd_getfd). */
static int duplicates(void) {
    long process = SYS2(pidfd_open, SYS1(getpid, 0), 0);
    if (process < 0) return 0;
    long copy = SYS3(pidfd_getfd, process, process, 0);
    if (copy >= 0) SYS1(close, copy);
    SYS1(close, process);
    return copy >= 0;
}

/* Run the handler beside this process, which becomes its supervisor: the child has our memory until its exec, and then
 * neither memory nor descriptors of ours. Only then is the listener made to survive our own exec. */
static _Noreturn void supervise(void) {
    static const int HELD[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGCHLD};
    uint64_t held = 0;
    int ours[2] = {-1, -1};
    for (size_t i = 0; i < sizeof HELD / sizeof *HELD; i++) held |= 1ULL << (HELD[i] - 1);
    SYS5(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    SYS4(rt_sigprocmask, SIG_BLOCK, &held, &signals_before, SIGSET);
    child_tid = 1, in_child = 1;
    long pid =
        clone_run(CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID | SIGCHLD,
                  child_stack + sizeof child_stack / sizeof *child_stack, (uint32_t *)(uintptr_t)&child_tid, child);
    if (pid > 0)
        while (child_tid) SYS4(futex, &child_tid, FUTEX_WAIT, 1, 0);
    in_child = 0;
    if (pid < 0)
        fail(REFUSED, "clone(2)", form("no process can be made for the function: %", problem(pid)),
             "raise the limit of processes (RLIMIT_NPROC, pids.max), or set SANDBOX_SUPERVISE=0");
    if (failure.set) {
        SYS4(wait4, pid, 0, 0, 0);
        give_up();
    }
    if (listener < 0) {
        SYS5(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        attend(pid, held);
    }
    /* Our own variables go over a pipe: the function must not read them in the environment of its parent. */
    if (SYS2(pipe2, ours, O_CLOEXEC) < 0) lose(pid, "no pipe can be made for the supervisor");
    for (char **at = environment; *at; at++)
        if (starts(*at, "SANDBOX_") && SYS3(write, ours[1], *at, text_length(*at) + 1) < 0) lose(pid, "the pipe broke");
    SYS3(fcntl, listener, F_SETFD, 0);
    SYS3(fcntl, ours[0], F_SETFD, 0);
    const char *argv[] = {interpreter,
                          "-I",
                          "-S",
                          package,
                          "attend",
                          form("#", (long)pid),
                          form("#", (long)listener),
                          form("#", (long)(ours[0])),
                          policy_folder,
                          policy_digest,
                          NULL};
    lose(pid, form("cannot be executed: %", problem(SYS3(execve, interpreter, argv, kept))));
}

static size_t our_variables(void) {
    size_t n = 0;
    for (char **at = environment; *at; at++)
        if (starts(*at, "SANDBOX_")) n += text_length(*at) + 1;
    return n;
}

_Noreturn void launch(long *stack);
_Noreturn void launch(long *stack) {
    static char names[6][65];
    filters_now = listener = -1;
    int count = (int)stack[0], learning, fd_problem;
    char **arguments = (char **)(stack + 1), **at;
    environment = arguments + count + 1;
    if (!count) fail(USAGE, "launcher", "started without its own name", "start it as execve(2) asks");
    own_path = arguments[0];
    for (at = environment; *at; at++) continue;
    for (long *entry = (long *)(at + 1); *entry; entry += 2)
        if (*entry == AT_EXECFN) own_path = absolute((const char *)entry[1]);
    const char *next = get("SANDBOX_NEXT_WRAPPER");
    for (char **from = at = environment; (*at = *from); from++)
        if (!starts(*from, "SANDBOX_NEXT_WRAPPER=")) at++;
    if (*next) {
        char **chained = room(sizeof(char *) * (size_t)(count + 2));
        chained[0] = slice(next, text_length(next)), chained[1] = slice(own_path, text_length(own_path));
        for (int i = 1; i <= count; i++) chained[i + 1] = arguments[i];
        not_executed(next, SYS3(execve, next, chained, environment));
    }
    const char *named = get("SANDBOX_POLICY"), *mode = choice("SANDBOX_MODE", "enforce", "audit", "learn", "off");
    if (*named) named = absolute(named);
    warn_only = same(choice("SANDBOX_ON_UNAVAILABLE", "fail", "warn", NULL, NULL), "warn");
    learning = same(mode, "learn");
    if (learning) {
        hand_over(arguments + 1, count - 1);
        fail(USAGE, "SANDBOX_MODE", "learn needs the Python bootstrap, and there is none beside the launcher",
             "install seccomp-bootstrap and an interpreter here, or learn where they are");
    }
    int variables = 0;
    for (at = environment; *at; at++) {
        int double_name = 0;
        size_t name = 0;
        while ((*at)[name] && (*at)[name] != '=') name++;
        if (!(*at)[name] || starts(*at, "SANDBOX_")) continue;
        for (int i = 0; i < variables && !double_name; i++)
            double_name = kept[i][0] == **at && same_bytes(kept[i], *at, name + 1);
        if (double_name) continue;
        if (variables == MOST_VARIABLES - 1) fail(USAGE, "environment", "has too many variables", "remove some");
        kept[variables++] = *at;
    }
    char **given = arguments + 1;
    const char *start_folder = here();
    resolve(given);
    if (same(mode, "off")) {
        write_line("{\"event\": \"sandbox\", \"mode\": \"off\", \"enforced\": [], \"degraded\": [\"everything: "
                   "SANDBOX_MODE=off\"]}\n");
        restore_signals();
        not_executed(command_path, SYS3(execve, command_path, command_argv, kept));
    }
    policy_folder = find_policy(named);
    int profile = (mode_of(AT_FDCWD, policy_folder, NULL) & S_IFMT) != S_IFDIR, audit = same(mode, "audit");
    if (!profile) {
        load(policy_folder);
        audit |= is_ahead(policy.audit_until);
    }
    if (profile || audit) {
        SYS1(chdir, start_folder);
        hand_over(given, count - 1);
        if (profile)
            fail(INVALID, "bootstrap",
                 form("% is a profile and cannot be compiled here (no Python bootstrap)", policy_folder),
                 "ship the bundle that `sandbox compile` makes, or install seccomp-bootstrap here");
        fail(UNSUPPORTED, "seccomp(2)", "audit mode needs a supervisor, and there is none",
             "unset SANDBOX_SUPERVISE, or audit on a host that gives a notification listener");
    }
    if (*get("SANDBOX_VERIFY_KEY")) {
        SYS1(chdir, start_folder);
        hand_over(given, count - 1);
        fail(PACKAGE, "SANDBOX_VERIFY_KEY", "signatures are checked by the Python bootstrap, and there is none",
             "package it with Python, or let the platform check the signature");
    }
    /* Whether the function's own places hold its bundle the Python bootstrap tells. */
    if (SYS1(geteuid, 0) && writable(policy_folder)) {
        SYS1(chdir, start_folder);
        hand_over(given, count - 1);
        if (!warn_only)
            fail(WRITABLE, policy_folder, "the function could change its own policy for the next start",
                 "chmod -R a-w it, or let another user own it, or set SANDBOX_ON_UNAVAILABLE=warn to start all the same");
        say(&degraded, form("policy: the function could change %", policy_folder));
    }
    const char *api = get("AWS_LAMBDA_RUNTIME_API"), *colon = last(api, ':');
    api_port = number(colon ? colon + 1 : api);
    if (!*api)
        api_port = 0;
    else if (api_port <= 0 || api_port > 65535 || text_length(colon ? colon + 1 : api) > 5)
        fail(USAGE, "AWS_LAMBDA_RUNTIME_API", form("is '%', not host:port", api), "the platform sets it");
    fd_problem = SYS1(uname, names) < 0;
    todays_kernel = fd_problem ? "" : names[2];
    compare_host(names[4]);
    int strict = stale.count + unchecked.count && same(choice("SANDBOX_STALE", "warn", "refuse", NULL, NULL), "refuse");
    if (strict && unchecked.count && !stale.count) {
        SYS1(chdir, start_folder);
        hand_over(given, count - 1);
        say(&stale, "libc: the launcher cannot tell, and no Python bootstrap is beside it");
    }
    if (strict) {
        const char *all = stale.text[0];
        for (int i = 1; i < stale.count; i++) all = form("%; %", all, stale.text[i]);
        fail(STALE, "SANDBOX_STALE=refuse", all,
             "learn again on this host (`sandbox learn ... --merge`), or set SANDBOX_STALE=warn");
    }
    int relayed = same(choice("SANDBOX_REQUEST_ID", "off", "relay", NULL, NULL), "relay");
    int supervised = same(choice("SANDBOX_SUPERVISE", "1", "0", NULL, NULL), "1");
    landlock_abi = SYS3(landlock_create_ruleset, 0, 0, 1);
    if (landlock_abi < 0) landlock_abi = 0;
    if (supervised) {
        /* While the supervisor starts, only a Landlock domain keeps the function out of its memory. */
        if (!landlock_abi || (landlock_abi < 2 && !policy.listed && !policy.limited) || our_variables() > 60000 ||
            *get("AWS_LAMBDA_MAX_CONCURRENCY") || !duplicates()) {
            SYS1(chdir, start_folder);
            hand_over(given, count - 1);
            supervised = 0;
        }
        if (!supervised || !find_package()) {
            supervised = 0;
            say(&requested, "supervision");
            say(&degraded, "supervision: no Python supervisor is beside the launcher, or no interpreter in "
                           "SANDBOX_PYTHON or PATH");
        }
    }
    if (relayed && !supervised)
        fail(USAGE, "SANDBOX_REQUEST_ID", "is relay, which a supervisor does, and there is none",
             "set SANDBOX_SUPERVISE=1, or unset it");
    if (supervised) {
        policy_folder = absolute(policy_folder);
    }
    ticket[0] = place(text_length(command_path) + 1);
    memcpy((void *)(uintptr_t)ticket[0], command_path, text_length(command_path) + 1);
    ticket[1] = place_texts(command_argv);
    ticket[2] = place_texts(kept);
    if (supervised) supervise();
    confine(0);
}
