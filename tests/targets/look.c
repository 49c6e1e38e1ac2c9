/* look: prints what /proc shows of the parent's environment at the first instruction, when a supervisor still loads.
   Build: cc -O1 -static -nostdlib -ffreestanding -fno-stack-protector -fno-builtin -o look look.c */
#include "../../sandbox/launcher/abi.h"

_Noreturn void launch(long *stack);
_Noreturn void launch(long *stack) {
    static char name[] = "/proc/0000000/environ", data[1 << 16];
    long left = SYS1(getppid, 0);
    (void)stack;
    for (char *digit = name + 13; digit > name + 5; left /= 10) *--digit = (char)('0' + left % 10);
    char *first = name + 6; /* /proc knows no leading zeros */
    while (*first == '0') first++;
    for (int i = 0; i < 6; i++) first[i - 6] = "/proc/"[i];
    long fd = SYS4(openat, AT_FDCWD, first - 6, O_CLOEXEC, 0), n = SYS3(read, fd, data, sizeof data);
    if (n > 0) SYS3(write, 1, data, n);
    for (;;) SYS1(exit_group, 0);
}
