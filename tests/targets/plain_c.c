/* plain_c FILE [thread]: a plain program that writes FILE and reads it back; with "thread", a thread does it.
   Build: cc -O2 -pthread -o plain_c plain_c.c. Exit status: 0, or the errno of the step that failed. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static const char text[] = "written by plain_c\n";

static void *work(void *path) {
    char back[sizeof text];
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || write(file, text, sizeof text) < 0 || lseek(file, 0, SEEK_SET) < 0 ||
        read(file, back, sizeof back) != sizeof text || memcmp(text, back, sizeof text) || close(file))
        _exit(errno ? errno : 1);
    return NULL;
}

int main(int count, char **arguments) {
    pthread_t thread;
    if (count < 2) return 2;
    if (count == 2) {
        work(arguments[1]);
        return 0;
    }
    int error = pthread_create(&thread, NULL, work, arguments[1]);
    if (error) return error;
    return pthread_join(thread, NULL);
}
