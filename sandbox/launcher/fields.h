/* Made by tools/header from the Python tables: change those and run it again. */
#ifndef SANDBOX_FIELDS_H
#define SANDBOX_FIELDS_H

#define POLICY_MAGIC "sandbox\10"
static const char *const BASES[] = {"", "{root}", "{python}", "{venv}"};
enum { BASE_NONE, BASE_ROOT, BASE_PYTHON, BASE_VENV };
enum { EXEC_SINGLE_USE, EXEC_GRANTED };
enum { SIGNALS_SELF, SIGNALS_ANY };
enum { NETWORK_FAMILY, NETWORK_RUNTIME_API, NETWORK_PORTS };
enum { BIND_ANY, BIND_PORTS, BIND_NONE };
enum { ABSTRACT_ANY, ABSTRACT_OWN };
enum { CONNECTS_NEVER, CONNECTS_INIT, CONNECTS_ALWAYS };
enum { DECIDER_WHEN_NEEDED, DECIDER_EARLY };
enum { LOOKS_ATTENDANT, LOOKS_DECIDER };
enum { FACT_LIBC, FACT_KERNEL, FACT_ARCHITECTURE, FACT_PYTHON, FACT_HANDLER_DIGEST, FACT_LOCK_DIGEST };

struct policy {
    const char *function;
    int exec;
    int signals;
    int network;
    int bind;
    int abstract;
    uint32_t audit_until;
    struct {
        int listed;
        int limited;
        int memfd;
        int renames;
        struct list read;
        struct list write;
        struct list programs;
    } files;
    struct ports network_ports;
    const char *network_shown;
    struct ports bind_ports;
    const char *bind_shown;
    struct list unsupervised;
    int limits_proc;
    struct list looked;
    struct list unlooked;
    int reads_netlink;
    int connects;
    int decider;
    int looks;
    int judged;
    int own;
    struct literals literals;
    struct list hosts;
    struct list socket_paths;
    uint32_t names_keep;
    struct list names_receives;
    struct list provenance[6];
    struct program plain, supervised;
    struct calls early, paths, served;
    unsigned char digest[POLICY_DIGEST]; /* of the file */
};

static void take_fields(struct cursor *c, struct policy *policy) {
    policy->function = take_text(c);
    policy->exec = take_choice(c, 2);
    policy->signals = take_choice(c, 2);
    policy->network = take_choice(c, 3);
    policy->bind = take_choice(c, 3);
    policy->abstract = take_choice(c, 2);
    policy->audit_until = take_number(c);
    policy->files.listed = take_choice(c, 2);
    policy->files.limited = take_choice(c, 2);
    policy->files.memfd = take_choice(c, 2);
    policy->files.renames = take_choice(c, 2);
    policy->files.read = take_paths(c);
    policy->files.write = take_paths(c);
    policy->files.programs = take_paths(c);
    policy->network_ports = take_ports(c);
    policy->network_shown = take_text(c);
    policy->bind_ports = take_ports(c);
    policy->bind_shown = take_text(c);
    policy->unsupervised = take_texts(c);
    policy->limits_proc = take_choice(c, 2);
    policy->looked = take_texts(c);
    policy->unlooked = take_texts(c);
    policy->reads_netlink = take_choice(c, 2);
    policy->connects = take_choice(c, 3);
    policy->decider = take_choice(c, 2);
    policy->looks = take_choice(c, 2);
    policy->judged = take_choice(c, 2);
    policy->own = take_choice(c, 2);
    policy->literals = take_literals(c);
    policy->hosts = take_hosts(c);
    policy->socket_paths = take_texts(c);
    policy->names_keep = take_number(c);
    policy->names_receives = take_texts(c);
    for (int i = 0; i < 6; i++) policy->provenance[i] = take_texts(c);
}

#endif
