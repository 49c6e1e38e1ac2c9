/* smallest FILTER RULES PROGRAM: enter a Landlock domain with the rules of a file (struct { u64 rights; char path[]; },
   one behind the other), install the filter of another, and exec. What a launcher does at least, and nothing else. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;
static char rules[1 << 16];
static struct sock_filter code[1 << 12];

int main(int arguments, char **argument) {
    if (arguments != 4) return 2;
    int filter = open(argument[1], O_RDONLY), file = open(argument[2], O_RDONLY);
    struct sock_fprog program = {read(filter, code, sizeof code) / sizeof *code, code};
    long size = read(file, rules, sizeof rules);
    int domain = syscall(SYS_landlock_create_ruleset, rules, 24, 0);
    for (char *at = rules + 24; at < rules + size; at += 8 + strlen(at + 8) + 1) {
        struct landlock_path_beneath_attr rule = {.parent_fd = open(at + 8, O_PATH)};
        memcpy(&rule.allowed_access, at, 8);
        if (syscall(SYS_landlock_add_rule, domain, LANDLOCK_RULE_PATH_BENEATH, &rule, 0)) return 3;
        close(rule.parent_fd);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, domain, 0)) return 4;
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) return 5;
    execve(argument[3], argument + 3, environ);
    return 6;
}
