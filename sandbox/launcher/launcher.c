/* The bootstrap without Python: find the bundle, install it, say so, exec. It does what sandbox/start does on the way
 * to the handler and leaves the rest to it: learning, audit, profiles that must be compiled, and, where no Landlock
 * domain keeps the handler out of a starting supervisor, the supervised start. What stands in the way before anything
 * is installed goes there too. tests/kernel/test_conformance.py holds both to one behaviour. Freestanding: no libc, one
 * thread, memory that only grows. */
#include "wire.c"

/* A field of /proc/self/status, '' where there is none. */
static const char *field(const char *status, const char *name) {
    for (const char *at = status; *at;) {
        if (starts_with(at, name) && at[text_length(name)] == ':') {
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
    char *text = alloc(STATUS); /* with all groups of its user */
    long n = fd < 0 ? 0 : SYS4(pread64, fd, text, STATUS - 1, 0);
    text[n > 0 ? n : 0] = 0;
    release(text + text_length(text) + 1);
    return text;
}

static int read_back(long fd, long had) {
    if (fd < 0) {
        note(&degraded, "read-back: /proc is not mounted");
        return 1;
    }
    const char *status = read_status(fd), *mode = field(status, "Seccomp");
    if (!same(mode, "2"))
        return refuse(CANARY_PASSED,
                      format("/proc/self/status: the kernel says Seccomp: % after the installation", mode), NULL);
    if (had < 0) return 1;
    filters_now = parse_number(field(status, "Seccomp_filters"));
    if (filters_now == had + 1) return 1;
    return refuse(CANARY_PASSED, format("/proc/self/status: # filters became #, not #", had, filters_now, had + 1),
                  NULL);
}

/* Whether a parent may trace its children here (parent.py: seizes). */
static int seizes(void) {
    if (SYS4(ptrace, PTRACE_SEIZE, NO_PROCESS, 0, 0) != -ESRCH) return 0;
    int yama = *read_status(open_read("/proc/sys/kernel/yama/ptrace_scope")) - '0';
    return yama < YAMA_CAPABLE || (yama == YAMA_CAPABLE && !SYS1(geteuid, 0));
}

/* Give up CAP_NET_ADMIN, with which a netlink socket could change the network (install.py: _give_up_network). */
static void give_up_network(void) {
    uint32_t header[2] = {CAPABILITY_VERSION, 0}, sets[6] = {0}; /* effective, permitted, inheritable; twice */
    long code = SYS2(capget, header, sets);
    if (code >= 0) {
        if (!((sets[0] | sets[1]) & CAP_NET_ADMIN)) return;
        for (int i = 0; i < 3; i++) sets[i] &= ~(uint32_t)CAP_NET_ADMIN;
        code = SYS2(capset, header, sets);
    }
    if (code < 0)
        note(&degraded, format("network: routes and addresses can be changed (% of capset(2))", error_text(code)));
    else
        note(&enforced, "network: netlink reads (CAP_NET_ADMIN is given up)");
}

enum { CAP_SYS_PTRACE = 1 << 19 }; /* linux/capability.h */
static int has_domain;            /* of Landlock, around the function */

/* The filter, and its listener if that is wanted and given; 0 with the noted error. */
static int install_filter(int supervised) {
    long code = -EINVAL;
    if (supervised) {
        int follows = policy.exec == EXEC_GRANTED && policy.files.limited, killable = 1;
        int seized = follows && seizes(); /* asked before there is a filter that would answer */
        long exposed = has_domain ? -1 : open_read(format("/proc/#/mem", SYS1(getppid, 0)));
        if (exposed >= 0) close_high(exposed);
        build_filter(1);
        note(&requested, "supervision");
        for (long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
             flags && code == -EINVAL;
             flags = flags == SECCOMP_FILTER_FLAG_NEW_LISTENER
                         ? 0
                         : SECCOMP_FILTER_FLAG_NEW_LISTENER) { /* the second flag is of Linux 5.19 */
            killable = flags != SECCOMP_FILTER_FLAG_NEW_LISTENER;
            code = seccomp_filter(flags);
        }
        if (code >= 0) {
            child_report->listener = listener = (int)code;
            note(&enforced, "supervision");
            if (exposed >= 0)
                note(&degraded, "memory: the supervisor's is open to the function (no Landlock, and prctl is refused "
                                "or the function is root's)");
            if (owns) note(&enforced, format("destinations: on sockets that the supervisor makes (%)", owns));
            if (follows)
                note(seized || killable ? &enforced : &degraded,
                     format(WHAT_STARTS, seized ? SEIZED : killable ? STOPPED : MET));
            if (looks) {
                note(&reported, "files: what Landlock refuses");
                note_all(&enforced, &policy.looked);
            }
            if (cannot_look)
                note(&degraded, format("files: what Landlock refuses has no line (Linux %; needs 5.19, or "
                                       "SANDBOX_FILES=look)",
                                       todays_kernel));
        } else if (code != -EINVAL && code != -EBUSY) {
            return refused(code);
        } else {
            note(&degraded, code == -EBUSY ? "supervision: a listener stands above"
                                           : "supervision: this kernel gives no listener");
        }
    }
    if (listener < 0) {
        note_all(&degraded, &policy.unsupervised);
        if (policy.reads_netlink) give_up_network();
        build_filter(0);
        code = seccomp_filter(0);
    }
    if (code >= 0 && (listener < 0 || !looks)) note_unlooked();
    return code < 0 ? refused(code) : 1;
}

/* Confine this process (install.py: install); 0 with the noted error. */
static int install(int supervised) {
    const char *held[] = {"syscalls", policy.exec == EXEC_GRANTED ? "exec: granted" : "exec: single-use",
                          policy.signals == SIGNALS_ANY ? "signals: any" : "signals: self"};
    for (int i = 0; i < 3; i++) note(&requested, held[i]);
    long fd = open_read("/proc/self/status"), code;
    const char *status = read_status(fd);
    long had = parse_number(field(status, "Seccomp_filters"));
    if (!same(field(status, "NoNewPrivs"), "1") && (code = SYS5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) < 0)
        return refuse(
            INSTALL_REFUSED,
            format("PR_SET_NO_NEW_PRIVS: NoNewPrivs is not set, and prctl(2) does not set it: %", error_text(code)),
            format("start it with NoNewPrivs (Kubernetes: allowPrivilegeEscalation: false), or %", WARN));
    /* Opened before Landlock and the filter, read again after them: its text is made at the moment of the read. */
    if (!restrict_files_and_network(supervised) || !install_filter(supervised) || !read_back(fd, had)) return 0;
    if (listener < 0 && policy.exec != EXEC_GRANTED && SYS3(execve, 0, 0, 0) != -EPERM)
        return refuse(CANARY_PASSED, "canary: execve with other addresses was not refused", NULL);
    if ((code = SYS3(seccomp, 0xFFFFFFFF, 0, 0)) != -EPERM) {
        const char *answer = code == -EINVAL ? "EINVAL" : code == -ENOSYS ? "ENOSYS" : format("#", -code);
        return refuse(CANARY_PASSED, format("canary: seccomp(2) answered %, not EPERM", answer), NULL);
    }
    for (int i = 0; i < 3; i++) note(&enforced, held[i]);
    return 1;
}

static _Noreturn void not_executed(const char *path, long code) {
    end(HANDLER_NOT_FOUND, format("%: cannot be executed: %", path, error_text(code)), NULL);
}

/* Whether path calls are notified; unasked not where any signal ends a call that waits (install.py: looks_at_files). */
static void decide_to_look(int is_asked) {
    long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    looks = is_asked || SYS3(seccomp, SECCOMP_SET_MODE_FILTER, flags, 0) == -EFAULT;
    cannot_look = !looks;
    if (looks) share_rules();
}

/* Install, say so and exec. In a supervised child an error goes to the parent, which runs in the same memory. */
static _Noreturn void confine(int supervised) {
    if (!install(supervised)) step_down();
    const char *line =
        format("{\"event\": \"sandbox\", \"mode\": \"enforce\", \"function\": $, \"policy\": \"sha256:%\", "
               "\"requested\": @, \"enforced\": @, \"degraded\": @",
               policy.function, policy_digest, &requested, &enforced, &degraded);
    if (reported.count) line = format("%, \"reported\": @", line, &reported);
    if (stale.count) line = format("%, \"stale\": @", line, &stale);
    if (unchecked.count) line = format("%, \"unchecked\": @", line, &unchecked);
    if (filters_now >= 0) line = format("%, \"filters\": #", line, filters_now);
    if (unavailable >= ON_DETECT)
        line = format("%, \"tier\": $", line, tier ? tier : listener >= 0 ? "kernel + supervisor" : "kernel only");
    write_line(format("%}\n", line));
    not_executed(command_path, SYS3(execve, exec_addresses[0], exec_addresses[1], exec_addresses[2]));
}

/* Whether the user of this process may write to a bundle, or could put another one in its place. */
static int writable(void) {
    if (SYS3(faccessat, AT_FDCWD, format("%/policy.bin", policy_folder), W_OK) == 0) return 1;
    const char *place = absolute_path(policy_folder);
    for (unsigned sticky = 0;; sticky = mode_of(AT_FDCWD, place, NULL) & S_ISVTX) {
        if (!sticky && SYS3(faccessat, AT_FDCWD, place, W_OK) == 0) return 1;
        if (!policy.files.renames || same(place, "/")) return 0;
        place = folder_of(place);
    }
}

/* Why a supervisor cannot duplicate another process's descriptors here (man 2 pidfd_getfd); NULL where it can. */
static const char *refused_duplicates(void) {
    const char *step = "pidfd_open";
    long process = SYS2(pidfd_open, SYS1(getpid, 0), 0), copy = process;
    if (process >= 0) {
        step = "pidfd_getfd", copy = SYS3(pidfd_getfd, process, process, 0);
        if (copy >= 0) SYS1(close, copy);
        SYS1(close, process);
    }
    return copy < 0 ? format("%: %", step, error_text(copy)) : NULL;
}

/* Whether a supervisor of this user cannot close its memory to the function, now or ever, other than by a domain. */
static int is_open_anyway(void) {
    uint32_t header[2] = {CAPABILITY_VERSION, 0}, has[6] = {0};
    return !may_prctl || (SYS2(capget, header, has) == 0 && has[0] & CAP_SYS_PTRACE);
}

static int has_call(const struct calls *calls, uint32_t nr) {
    struct cursor c = {calls->first, calls->size, 0};
    while (c.left) {
        if ((take_number(&c) & ~SERVED_IN_INIT) == nr) return 1;
        take(&c, CONDITION * (size_t)take_number(&c));
    }
    return 0;
}

static _Noreturn void no_process(long code) {
    end(INSTALL_REFUSED, format("clone(2): no process can be made for the function: %", error_text(code)),
        "raise the limit of processes (RLIMIT_NPROC, pids.max), or set SANDBOX_SUPERVISE=0");
}

/* Run the function below a decider below this process, which attends both. All three share one table of descriptors
 * until the function's exec. */
static _Noreturn void supervise(int relayed) {
    static const uint64_t HELD = HELD_SIGNALS;
    uint64_t default_action[4] = {0}, inherited_action[4];
    int pipe[2] = {-1, -1}, link[2] = {-1, -1};
    if (!is_executable(interpreter))
        end(INSTALL_REFUSED, format("%: cannot be executed: %", interpreter, error_text(-EACCES)),
            "correct it, or set SANDBOX_SUPERVISE=0");
    /* The way to a Runtime API whose requests are followed leads through the decider. */
    if (!relayed) read_api(variable("AWS_LAMBDA_RUNTIME_API"));
    if (policy.hosts.count) read_resolver_files(variable("LOCALDOMAIN"));
    /* Where the lines go is tried, and a signed run begun, before the function is answered, and both are the
     * decider's. */
    at_once = relayed || *variable("SANDBOX_EVENTS") || *variable("SANDBOX_EVENT_KEY");
    /* Our own variables go over a pipe, and out of the environment that the function might read. */
    held_signals = SYS4(signalfd4, -1, &HELD, SIGSET, O_CLOEXEC | O_NONBLOCK);
    if (SYS2(pipe2, pipe, O_CLOEXEC | O_NONBLOCK) < 0 || held_signals < 0 ||
        SYS4(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0)
        end(INSTALL_REFUSED, "pipe2(2): no descriptor is left", "raise RLIMIT_NOFILE");
    variables_from = pipe[0], link_here = link[0], link_there = link[1];
    SYS3(fcntl, link_here, F_SETFL, O_NONBLOCK);
    for (char **at = environment; *at; at++) {
        size_t n = text_length(*at) + 1;
        if (!starts_with(*at, "SANDBOX_")) continue;
        if (SYS3(write, pipe[1], *at, n) != (long)n)
            end(INSTALL_REFUSED, "pipe2(2): does not take all our variables", NULL);
        memset(*at, 0, n);
    }
    if (may_prctl) {
        SYS2(prctl, PR_SET_DUMPABLE, 0);
        SYS5(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    SYS4(rt_sigaction, SIGCHLD, default_action, inherited_action,
         SIGSET); /* ignored, nobody would hear how the child ends */
    SYS4(rt_sigprocmask, SIG_BLOCK, &HELD, &signals_before, SIGSET);
    long page = SYS6(mmap, 0, sizeof *child_report, PROT_READ_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page > 0)
        child_report = (struct child_report *)page;
    else
        no_memory();
    child_report->listener = -1;
    attendant = SYS1(getpid, 0);
    decider = SYS5(clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (!decider) stand_by(inherited_action);
    if (decider < 0) no_process(decider);
    attend();
}

/* The environment without variables that begin so, into another place or its own. */
static void leave_out(const char *prefix, const char **to) {
    for (char **at = environment; (*to = *at); at++) to += !starts_with(*at, prefix);
}

/* A variable with our prefix that means nothing is misspelled, or the function's own, which it would not get. */
static void refuse_unknown_settings(void) {
    static const size_t prefix = sizeof "SANDBOX_" - 1;
    for (char **at = environment; *at; at++) {
        size_t n = prefix;
        if (!starts_with(*at, "SANDBOX_")) continue;
        while ((*at)[n] && (*at)[n] != '=') n++;
        if (is_listed(KNOWN_SETTINGS, *at + prefix, n - prefix)) continue;
        char *name = alloc(n + 1);
        memcpy(name, *at, n);
        name[n] = 0;
        fail(USAGE, format("%: is not a setting", name));
    }
}

/* Exec SANDBOX_NEXT_WRAPPER, if any, with this program before its arguments: it execs us again, innermost and last. */
static void exec_next_wrapper(int count) {
    const char *next = variable("SANDBOX_NEXT_WRAPPER"), *variables = variable("SANDBOX_ENTRY");
    leave_out("SANDBOX_NEXT_WRAPPER=", (const char **)environment);
    if (!*next) return;
    const char **argv = alloc(sizeof(char *) * (size_t)(count + 3));
    argv[0] = next, argv[1] = *variables ? variables : own_path;
    for (int i = 0; i <= count; i++) argv[i + 2] = args[i];
    long code = SYS3(execve, next, argv, environment);
    end(HANDLER_NOT_FOUND, format("SANDBOX_NEXT_WRAPPER: %: cannot be executed: %", next, error_text(code)),
        "name an executable file by its whole path, or unset it");
}

static _Noreturn void needs_python(enum error error, const char *what) {
    start_python();
    end(error, format("%: needs the Python bootstrap and a Python 3.11", what), "put both in place, or unset it");
}

static void unset_or_python(enum error error, const char *name) {
    if (find_variable(name)) needs_python(error, name);
}

/* Read the policy and hold it against this host; what only the Python bootstrap can do goes there. */
enum mode { ENFORCE, AUDIT, LEARN, OFF };
static void choose_policy(const char *named, enum mode mode) {
    static char names[6][65];
    long now[2] = {0, 0};
    policy_folder = find_policy(named);
    unsigned kind = mode_of(AT_FDCWD, policy_folder, NULL) & S_IFMT;
    if (!kind) fail(POLICY_NOT_FOUND, format("SANDBOX_POLICY: % does not exist", policy_folder));
    if (kind != S_IFDIR) needs_python(POLICY_INVALID, format("%: is a profile to be compiled", policy_folder));
    load();
    if (policy.audit_until) SYS2(clock_gettime, 0, now);
    if (mode == AUDIT || now[0] / 86400 < policy.audit_until)
        needs_python(KERNEL_UNSUPPORTED, "SANDBOX_MODE: is audit");
    /* That only the supervisor has the one, and that the function cannot write to the other, the bootstrap sees to. */
    if (starts_with(variable("SANDBOX_EVENTS"), "fd:") || starts_with(variable("SANDBOX_EVENTS"), "file:"))
        needs_python(USAGE, "SANDBOX_EVENTS");
    /* What the attendant answers by table has no line. */
    if (setting("SANDBOX_ACTIVITY", "off summary full")) needs_python(USAGE, "SANDBOX_ACTIVITY");
    unset_or_python(USAGE, "SANDBOX_STANDS_FOR");
    unset_or_python(USAGE, "SANDBOX_REFUSES");
    unset_or_python(PACKAGE_INVALID, "SANDBOX_VERIFY_KEY");
    /* Whether the function's own places hold its bundle the Python bootstrap tells. */
    if (SYS1(geteuid, 0) && writable()) {
        const char *what = format("the function could change %", policy_folder);
        if (!warn_only) fail(POLICY_WRITABLE, what);
        start_python();
        note(&degraded, format("policy: %", what));
    }
    /* Where an interpreter's name has no version, its library must be searched for. */
    if (starts_with(name_of(command_path), "python") && !*version_of(command_path)) start_python();
    if (SYS1(uname, names) == 0) todays_kernel = names[2];
    compare_host(names[4]);
    if (setting("SANDBOX_STALE", "warn refuse") && (stale.count || unchecked.count))
        needs_python(POLICY_STALE, format("SANDBOX_STALE=refuse: @ stale, @ unchecked", &stale, &unchecked));
}

_Noreturn void launch(long *stack);
_Noreturn void launch(long *stack) {
    int count = (int)stack[0] - 1;
    filters_now = listener = -1, rules_from = -1;
    char **at = environment = (char **)(stack + 3) + count;
    args = (const char **)(stack + 2);
    if (count < 0) end(USAGE, "argv: is empty", NULL);
    own_path = args[-1];
    while (*at) at++;
    for (long *entry = (long *)(at + 1); *entry; entry += 2)
        if (*entry == AT_EXECFN) own_path = absolute_path((const char *)entry[1]);
    exec_next_wrapper(count);
    refuse_unknown_settings();
    const char *named = variable("SANDBOX_POLICY");
    if (*named) named = absolute_path(named);
    enum mode mode = (enum mode)setting("SANDBOX_MODE", "enforce audit learn off");
    unavailable = (enum unavailable)setting("SANDBOX_ON_UNAVAILABLE", "fail warn detect best");
    warn_only = unavailable == ON_WARN;
    if (mode == LEARN) needs_python(USAGE, "SANDBOX_MODE: is learn");
    unset_or_python(USAGE, "SANDBOX_STATUS");
    handler_env = alloc((size_t)(at - environment + 1) * sizeof *handler_env);
    leave_out("SANDBOX_", handler_env);
    find_command();
    place_exec_arguments();
    if (mode == OFF) {
        write_line("{\"event\": \"sandbox\", \"mode\": \"off\", \"enforced\": [], \"degraded\": [\"everything: "
                   "SANDBOX_MODE=off\"]}\n");
        not_executed(command_path, SYS3(execve, command_path, command_argv, handler_env));
    }
    choose_policy(named, mode);
    const char *api = variable("AWS_LAMBDA_RUNTIME_API");
    api_port = *api ? port_of(api) : 0;
    if (api_port < 0) fail(USAGE, format("AWS_LAMBDA_RUNTIME_API: is '%', not host:port", api));
    landlock_abi = SYS3(landlock_create_ruleset, 0, 0, 1);
    if (landlock_abi < 0) landlock_abi = 0;
    goes_on = setting("SANDBOX_ON_DECIDER", "end continue");
    if (unavailable >= ON_DETECT) prepare_wire();
    enum { LOOK = 1, NO_LOOK };
    int files = setting("SANDBOX_FILES", "auto look off");
    int relayed = setting("SANDBOX_REQUEST_ID", "off relay"), supervised = !setting("SANDBOX_SUPERVISE", "1 0");
    if (supervised) {
        has_domain = landlock_abi && (landlock_abi >= FIRST_REFER || policy.files.listed || policy.files.limited);
        may_prctl = SYS5(prctl, PR_GET_DUMPABLE, 0, 0, 0, 0) >= 0; /* one call tells, and no other is made */
        /* While the decider becomes Python, only a Landlock domain keeps the function out of its memory. */
        if (*variable("AWS_LAMBDA_MAX_CONCURRENCY") || (!has_domain && !is_open_anyway())) {
            start_python();
            supervised = 0;
        }
        supervised = supervised && find_package();
        if (!supervised) {
            note(&requested, "supervision");
            note(&degraded, "supervision: no Python supervisor beside the launcher, or no python in PATH");
        }
    }
    if (files == LOOK && !supervised) needs_python(USAGE, "SANDBOX_FILES: is look");
    if (relayed && !supervised) needs_python(USAGE, "SANDBOX_REQUEST_ID: is relay");
    if (!supervised && *variable("SANDBOX_EVENT_KEY")) needs_python(USAGE, "SANDBOX_EVENT_KEY");
    if (supervised) {
        owns = refused_duplicates();
        keeps_connected = has_call(&policy.served, NR_sendmsg);
        policy_folder = absolute_path(policy_folder);
        if (policy.files.listed && landlock_abi && files != NO_LOOK) decide_to_look(files == LOOK);
        supervise(relayed);
    }
    confine(0);
}
