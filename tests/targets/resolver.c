/* Looks a name up, by the C library or as other resolvers do, connects to it and prints what it hears.

   resolver libc NAME                      getaddrinfo(3)
   resolver connected NAME [RESOLVER]      like c-ares: connect, send, recvfrom with the source compared
   resolver recvfrom NAME [RESOLVER]       like dnspython: sendto, recvfrom
   resolver recvmsg NAME [RESOLVER]        like musl since 1.2.4: sendto to an IPv6 socket, recvmsg; answers by TCP with
                                           sendmsg(MSG_FASTOPEN) where one was truncated
   resolver several NAME [RESOLVER]        like libuv and Netty: sendmmsg, recvmmsg */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT "7777"

static void fail(const char *what) { printf("%s: %s\n", what, strerror(errno)); exit(1); }

static int question(unsigned char *at, const char *name, int id) {
    unsigned char *start = at;
    memcpy(at, "\0\0\1\0\0\1\0\0\0\0\0\0", 12);
    at[0] = 0x5a, at[1] = id;
    for (at += 12; *name; name += *name == '.') {
        int length = strcspn(name, ".");
        *at++ = length;
        memcpy(at, name, length);
        at += length, name += length;
    }
    memcpy(at, "\0\0\1\0\1", 5);
    return at + 5 - start;
}

static int by_stream(const struct sockaddr *there, socklen_t size, const unsigned char *asked, int length,
                     unsigned char *answer) {
    unsigned char head[2] = {0, length};
    struct iovec parts[] = {{head, 2}, {(void *)asked, length}};
    struct msghdr message = {.msg_name = (void *)there, .msg_namelen = size, .msg_iov = parts, .msg_iovlen = 2};
    int fd = socket(there->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sendmsg(fd, &message, MSG_FASTOPEN | MSG_NOSIGNAL) < 0 && errno != EINPROGRESS) fail("sendmsg");
    struct pollfd ready = {fd, POLLOUT, 0};
    if (poll(&ready, 1, 5000) != 1) fail("poll");
    message.msg_name = 0, message.msg_namelen = 0;
    if (send(fd, 0, 0, MSG_NOSIGNAL) < 0) fail("send");
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof peer;
    if (getpeername(fd, (void *)&peer, &peer_size) || memcmp(&peer, there, size > 24 ? 24 : 8)) fail("getpeername");
    if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0) fail("sendmsg");
    ready.events = POLLIN;
    for (int got = 0; got < 2 || got < 2 + answer[0] * 256 + answer[1];) {
        if (poll(&ready, 1, 5000) != 1) fail("poll");
        int more = recv(fd, answer + got, 512 - got, 0);
        if (more <= 0) fail("recv");
        got += more;
    }
    length = answer[0] * 256 + answer[1];
    memmove(answer, answer + 2, length);
    close(fd);
    return length;
}

static void own(const char *how, const char *name, const char *resolver, struct sockaddr_in *found) {
    int connected = !strcmp(how, "connected"), by_message = !strcmp(how, "recvmsg");
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
    inet_pton(AF_INET, resolver, &four.sin_addr);
    memcpy(&six.sin6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    memcpy((char *)&six.sin6_addr + 12, &four.sin_addr, 4);
    int is_six = by_message || inet_pton(AF_INET6, resolver, &six.sin6_addr) == 1;
    const struct sockaddr *there = is_six ? (void *)&six : (void *)&four;
    socklen_t size = is_six ? sizeof six : sizeof four;
    unsigned char asked[300], answer[512];
    int length = question(asked, name, getpid() & 255), got = 0;
    int fd = socket(there->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket");
    if (connected && (connect(fd, there, size) || send(fd, asked, length, 0) < 0)) fail("connect");
    int several = !strcmp(how, "several");
    struct iovec whole = {asked, length};
    struct mmsghdr sent = {.msg_hdr = {.msg_name = (void *)there, .msg_namelen = size, .msg_iov = &whole, .msg_iovlen = 1}};
    if (several && (sendmmsg(fd, &sent, 1, 0) != 1 || (int)sent.msg_len != length)) fail("sendmmsg");
    if (!connected && !several && sendto(fd, asked, length, MSG_NOSIGNAL, there, size) < 0) fail("sendto");
    for (int tries = 0;; tries++) {
        struct pollfd ready = {fd, POLLIN, 0};
        struct sockaddr_storage from;
        socklen_t from_size = sizeof from;
        if (tries == 3 || poll(&ready, 1, 1000) != 1) errno = ETIMEDOUT, fail("no answer");
        if (several) {
            struct iovec parts[] = {{answer, sizeof answer}, {answer, sizeof answer}};
            struct mmsghdr heard[2] = {{.msg_hdr = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = parts, .msg_iovlen = 1}},
                                       {.msg_hdr = {.msg_iov = parts + 1, .msg_iovlen = 1}}};
            if (recvmmsg(fd, heard, 2, 0, 0) != 1) fail("recvmmsg");
            got = heard[0].msg_len, from_size = heard[0].msg_hdr.msg_namelen;
        } else if (by_message) {
            struct iovec part = {answer, sizeof answer};
            struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
            got = recvmsg(fd, &message, 0);
            from_size = message.msg_namelen;
        } else {
            got = recvfrom(fd, answer, sizeof answer, 0, (void *)&from, &from_size);
        }
        if (got > 12 && from_size == size && !memcmp(&from, there, size)) break;
    }
    close(fd);
    if (answer[2] & 2) got = by_stream(there, size, asked, length, answer);
    if (answer[3] & 15 || memcmp(answer, asked, 2) || !answer[7]) errno = ENOENT, fail(name);
    memcpy(&found->sin_addr, answer + got - 4, 4);
}

int main(int count, char **words) {
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(atoi(PORT))};
    char heard[20] = "";
    if (count < 3) return 2;
    setbuf(stdout, 0);
    if (strcmp(words[1], "libc")) {
        own(words[1], words[2], count > 3 ? words[3] : "10.99.0.1", &found);
    } else {
        struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *result;
        int wrong = getaddrinfo(words[2], PORT, &hints, &result);
        if (wrong) printf("%s: %s\n", words[2], gai_strerror(wrong)), exit(1);
        memcpy(&found, result->ai_addr, sizeof found);
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&found, sizeof found)) fail("connect");
    if (read(fd, heard, sizeof heard - 1) < 0) fail("read");
    puts(heard);
    return 0;
}
