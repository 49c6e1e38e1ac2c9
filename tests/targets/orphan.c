/* orphan: prints the parent of a grandchild whose own parent ended at once. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    if (fork() == 0) {
        if (fork() == 0) {
            usleep(150000);
            printf("%d\n", (int)getppid());
        }
        return 0;
    }
    wait(NULL);
    usleep(300000);
    return 0;
}
