/* Made by tools/header from the Python tables: change those and run it again. */
#ifndef SANDBOX_NUMBERS_H
#define SANDBOX_NUMBERS_H

/* errno.h */
#define EACCES 13
#define EAGAIN 11
#define EALREADY 114
#define EBADF 9
#define EBADFD 77
#define EBUSY 16
#define EEXIST 17
#define EFAULT 14
#define EINPROGRESS 115
#define EINTR 4
#define EINVAL 22
#define EISCONN 106
#define ELOOP 40
#define EMFILE 24
#define ENAMETOOLONG 36
#define ENFILE 23
#define ENOENT 2
#define ENOSYS 38
#define ENOTDIR 20
#define EPERM 1
#define ESRCH 3

/* fcntl.h and unistd.h */
#define F_DUPFD_CLOEXEC 02006
#define F_GETFL 3
#define F_SETFD 2
#define F_SETFL 4
#define O_ACCMODE 3
#define O_CLOEXEC 02000000
#define O_CREAT 0100
#define O_EXCL 0200
#define O_NONBLOCK 04000
#define O_PATH 010000000
#define O_RDWR 2
#define O_TRUNC 01000
#define O_WRONLY 1
#define W_OK 2
#define X_OK 1

/* poll.h, sys/resource.h and sys/wait.h */
#define EPOLLIN 1
#define EPOLLONESHOT 0x40000000
#define EPOLLOUT 4
#define EPOLL_CLOEXEC 0x80000
#define POLLHUP 0x10
#define POLLIN 1
#define POLLOUT 4
#define POLLPRI 2
#define RLIMIT_AS 9
#define RLIMIT_CORE 4
#define RLIMIT_FSIZE 1
#define RLIMIT_NOFILE 7
#define RLIMIT_NPROC 6
#define WNOHANG 1

/* sys/stat.h */
#define S_IFBLK 060000
#define S_IFCHR 020000
#define S_IFDIR 040000
#define S_IFIFO 010000
#define S_IFLNK 0120000
#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFSOCK 0140000
#define S_ISVTX 01000

/* signal.h */
#define SIGCHLD 17
#define SIGCONT 18
#define SIGHUP 1
#define SIGINT 2
#define SIGKILL 9
#define SIGQUIT 3
#define SIGTERM 15
#define SIGTTIN 21
#define SIGTTOU 22
#define SIGUSR1 10
#define SIGUSR2 12
#define SIGWINCH 28
#define SIG_BLOCK 0
#define SIG_SETMASK 2
#define SIG_UNBLOCK 1

/* sys/mman.h */
#define MAP_ANONYMOUS 0x20
#define MAP_FIXED_NOREPLACE 0x100000
#define MAP_PRIVATE 2
#define MAP_SHARED 1
#define PROT_READ_WRITE 3

/* sys/socket.h */
#define AF_INET 2
#define AF_INET6 0xa
#define AF_NETLINK 0x10
#define AF_UNIX 1
#define AF_UNSPEC 0
#define MSG_DONTWAIT 0x40
#define MSG_ERRQUEUE 0x2000
#define MSG_NOSIGNAL 0x4000
#define MSG_PEEK 2
#define SCM_RIGHTS 1
#define SHUT_WR 1
#define SOCK_CLOEXEC 0x80000
#define SOCK_DGRAM 2
#define SOCK_NONBLOCK 0x800
#define SOCK_RAW 3
#define SOCK_SEQPACKET 5
#define SOCK_STREAM 1
#define SOL_SOCKET 1
#define SO_COOKIE 0x39
#define SO_DOMAIN 0x27
#define SO_PROTOCOL 0x26
#define SO_RCVTIMEO 0x14
#define SO_SNDTIMEO 0x15
#define SO_TYPE 3

/* sandbox/egress/sockets.py */
#define FEW_ASLEEP 8

/* sandbox/confine/parent.py */
#define NO_PROCESS 0x7fffffff
#define PTRACE_SEIZE 0x4206
#define YAMA_CAPABLE 2

/* linux/sched.h */
#define CLONE_FILES 0x400

/* linux/prctl.h */
#define PR_GET_DUMPABLE 3
#define PR_SET_CHILD_SUBREAPER 0x24
#define PR_SET_DUMPABLE 4
#define PR_SET_NO_NEW_PRIVS 0x26
#define PR_SET_PDEATHSIG 1

/* linux/seccomp.h */
#define SECCOMP_FILTER_FLAG_NEW_LISTENER 8
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV 0x20
#define SECCOMP_SET_MODE_FILTER 1

/* linux/seccomp.h: notification */
#define NOTIF_FD_SYNC_WAKE_UP 1
#define NOTIF_FLAG_CONTINUE 1
#define NOTIF_ID_VALID 0x40082102
#define NOTIF_RECV 0xc0502100U
#define NOTIF_SEND 0xc0182101U
#define NOTIF_SET_FLAGS 0x40082104

/* sandbox/kernel/sockaddr.py and task.py */
#define LONGEST_ADDRESS 0x80
#define PIDFD_THREAD 0x80

/* sandbox/kernel/path_walk.py */
#define MOST_LINKS 0x28

/* sandbox/behaviour/outcome.py */
#define RENAME_EXCHANGE 2

/* sandbox/supervise/look.py */
#define RULES 0x10000
#define RULE_SIZE 0x18

/* sandbox/names/__init__.py */
#define DNS_PORT 0x35

/* sandbox/names/addresses.py */
#define LONGEST_STANDING 0x15180
#define MOST_NAMES 0x10
#define MOST_SERVERS 3

/* sandbox/names/questions.py */
#define DNS_INTERNET 1
#define DNS_LARGEST_QUESTION 0x1000
#define DNS_MOST_ALIASES 0x10
#define DNS_MOST_RECORDS 0x100
#define DNS_NAME_ERROR 3
#define DNS_NOT_IMPLEMENTED 4
#define DNS_OFFERED_SIZE 0x4d0
#define DNS_RECURSION 0x100
#define DNS_REFUSED 5
#define DNS_SERVER_FAILURE 2
#define DNS_SMALLEST_OFFER 0x200
#define DNS_TRUNCATED 0x200
#define DNS_TYPE_A 1
#define DNS_TYPE_AAAA 0x1c
#define DNS_TYPE_AXFR 0xfc
#define DNS_TYPE_CNAME 5
#define DNS_TYPE_IXFR 0xfb
#define DNS_TYPE_OPT 0x29
#define DNS_TYPE_PTR 0xc

/* asm-generic/ioctls.h */
#define TIOCOUTQ 0x5411

/* time.h */
#define CLOCK_MONOTONIC 1

/* sandbox/supervise/link.py */
#define LINK_AFTER_INIT 1
#define LINK_CALL 1
#define LINK_CONNECTED 0x12
#define LINK_CONNECTING 2
#define LINK_ENDED 0x13
#define LINK_FIXED 0x20
#define LINK_NAME 3
#define LINK_PREPARE 2
#define LINK_QUESTION 4
#define LINK_READY 0x11
#define LINK_RELEASED 4
#define LINK_STARTED 0x10
#define LINK_TAKES 0x14

/* linux/filter.h */
#define BPF_ALLOW 0x7fff0000
#define BPF_AND_K 0x54
#define BPF_ERRNO 0x50000
#define BPF_JA 5
#define BPF_JEQ_K 0x15
#define BPF_JEQ_X 0x1d
#define BPF_JGE_K 0x35
#define BPF_JGT_K 0x25
#define BPF_JSET_K 0x45
#define BPF_LDX_MEM 0x61
#define BPF_LD_ABS 0x20
#define BPF_LD_IMM 0
#define BPF_LD_MEM 0x60
#define BPF_LSH_K 0x64
#define BPF_MAX_INSTRUCTIONS 0x1000
#define BPF_OFFSET_ARCH 4
#define BPF_OFFSET_ARGS 0x10
#define BPF_OFFSET_NR 0
#define BPF_OR_K 0x44
#define BPF_OR_X 0x4c
#define BPF_RET_K 6
#define BPF_RSH_K 0x74
#define BPF_ST 2
#define BPF_TAX 7
#define BPF_TXA 0x87
#define BPF_USER_NOTIF 0x7fc00000
#define BPF_XOR_K 0xa4

/* linux/landlock.h */
#define LANDLOCK_ACCESS_FS_EXECUTE 1
#define LANDLOCK_ACCESS_FS_MAKE_BLOCK 0x800
#define LANDLOCK_ACCESS_FS_MAKE_CHAR 0x40
#define LANDLOCK_ACCESS_FS_MAKE_DIR 0x80
#define LANDLOCK_ACCESS_FS_MAKE_FIFO 0x400
#define LANDLOCK_ACCESS_FS_MAKE_REG 0x100
#define LANDLOCK_ACCESS_FS_MAKE_SOCK 0x200
#define LANDLOCK_ACCESS_FS_MAKE_SYM 0x1000
#define LANDLOCK_ACCESS_FS_READ_DIR 8
#define LANDLOCK_ACCESS_FS_READ_FILE 4
#define LANDLOCK_ACCESS_FS_REFER 0x2000
#define LANDLOCK_ACCESS_FS_REMOVE_DIR 0x10
#define LANDLOCK_ACCESS_FS_REMOVE_FILE 0x20
#define LANDLOCK_ACCESS_FS_TRUNCATE 0x4000
#define LANDLOCK_ACCESS_FS_WRITE_FILE 2
#define LANDLOCK_ACCESS_NET_BIND_TCP 1
#define LANDLOCK_ACCESS_NET_CONNECT_TCP 2
#define LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET 1
#define LANDLOCK_SCOPE_SIGNAL 2

/* sandbox/confine/landlock_rules.py */
#define FIRST_REFER 2
#define FS_DEVICES 0x840
#define FS_OF_FILES 0x4007
#define FS_PROGRAM 5
#define FS_READ 0xc
#define FS_WRITE 0x77b2
#define LONGEST_CHAIN 5
#define SHOWN 4

/* sandbox/confine/install.py */
#define LANDLOCK_NETWORK 4
#define LANDLOCK_SCOPES 6

/* sandbox/confine/single_exec.py */
#define TRIES 64

/* sandbox/provenance.py */
#define FINGERPRINT_BYTES 8
#define FINGERPRINT_ELF_PART 4096
#define FINGERPRINT_PART 65536

/* sandbox/bundle.py */
#define ARGUMENTS 6
#define LITERAL 22
#define POLICY_DIGEST 32
#define POLICY_LARGEST 1048576
#define POLICY_MAGIC_LENGTH 8
#define SERVED_IN_INIT 0x80000000U

/* The ABI of Landlock from which on a right can be handled. */
#define LANDLOCK_SINCE {{2, 0x2000}, {3, 0x4000}}

/* sandbox/confine/parent.py: the signals that wait for the supervisor */
#define HELD_SIGNALS (BIT(SIGTERM) | BIT(SIGINT) | BIT(SIGHUP) | BIT(SIGQUIT) | BIT(SIGUSR1) | BIT(SIGUSR2) | \
    BIT(SIGCONT) | BIT(SIGWINCH) | BIT(SIGTTIN) | BIT(SIGTTOU) | BIT(SIGCHLD))

/* sandbox/bundle.py: the calls that send a signal to a process by its number */
#define SIGNALLING {NR_kill, NR_tgkill, NR_rt_sigqueueinfo, NR_rt_tgsigqueueinfo}

/* sandbox/provenance.py: lock files, each with a NUL behind it */
#define LOCK_FILES "uv.lock\0" "poetry.lock\0" "pdm.lock\0" "Pipfile.lock\0" "requirements.lock\0" \
    "requirements.txt\0" "package-lock.json\0" "go.sum\0" "Cargo.lock\0"

/* sandbox/kernel/path_walk.py and supervise/look.py: words, each with a NUL behind it */
#define HANGING "fuse\0" "nfs\0" "nfs4\0" "cifs\0" "smb3\0" "9p\0" "ceph\0" "autofs\0" "afs\0" "virtiofs\0" "lustre\0" \
    "gfs2\0" "ocfs2\0"
#define OWN_FILES "comm\0" "coredump_filter\0" "oom_score_adj\0" "timerslack_ns\0"

/* sandbox/start/settings.py: the variables that there are, each with a NUL behind it */
#define KNOWN_SETTINGS "ACTIVITY\0" "DEBUG\0" "ENTRY\0" "EVENTS\0" "EVENT_KEY\0" "FILES\0" "GRANTS\0" "MODE\0" \
    "NEXT_WRAPPER\0" "OBSERVATIONS\0" "ON_DECIDER\0" "ON_UNAVAILABLE\0" "POLICY\0" "PYTHON\0" "REFUSES\0" \
    "REQUEST_ID\0" "STALE\0" "STANDS_FOR\0" "STATUS\0" "SUPERVISE\0" "TRIPWIRE\0" "VERIFY_KEY\0"

/* sandbox/errors.py: exit code and name of each, in the order of enum error */
enum error { USAGE, POLICY_INVALID, POLICY_NOT_FOUND, INSTALL_REFUSED, KERNEL_UNSUPPORTED, LISTENER_BUSY,
    CANARY_PASSED, HANDLER_NOT_FOUND, POLICY_STALE, PACKAGE_INVALID, POLICY_WRITABLE, DECIDER_LOST, ERROR_COUNT };
#define ERRORS "\100Usage\0" "\102PolicyInvalid\0" "\103PolicyNotFound\0" "\105InstallRefused\0" \
    "\106KernelUnsupported\0" "\107ListenerBusy\0" "\110CanaryPassed\0" "\111HandlerNotFound\0" "\116PolicyStale\0" \
    "\117PackageInvalid\0" "\120PolicyWritable\0" "\125DeciderLost\0"

/* sandbox/behaviour/destination.py: addresses where credentials are given out, and NAT64's */
#define METADATA_IPV6 {{253, 0, 14, 194, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 35}, {253, 0, 14, 194, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 84}}
#define NAT64 ((const uint8_t[]){0, 100, 255, 155, 0, 0, 0, 0, 0, 0, 0, 0})

/* sandbox/egress/netlink.py */
#define NETLINK_QUESTIONS {18, 22, 26, 30}
/* sandbox/kernel/capabilities.py */
#define CAP_NET_ADMIN 0x1000
#define CAPABILITY_VERSION 0x20080522

/* sandbox/names/questions.py: what may be asked about a name */
#define DNS_TYPES {1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 64, 65, 255, 257}
#define WARN "set SANDBOX_ON_UNAVAILABLE=warn to run without what is missing, knowing so"
#define WHAT_STARTS "programs: what starts is compared %"
#define SEIZED "before its first instruction (ptrace)"
#define STOPPED "before its first instruction (SIGSTOP; ptrace(2) is refused)"
#define MET "at its first call that is notified (ptrace(2) is refused)"
#define REBUILD "compile the profile again: `sandbox compile PROFILE --output DIR`"
#define STATIC_TLS "glibc.rtld.optional_static_tls=16384"

#if defined(__x86_64__)
#define ARCH "x86_64"
#define LOADER "ld-linux-x86-64.so.2"
#define AUDIT_ARCH 0xc000003eU
#define PATH_CALL_ROWS {{2, OPENED, -1, 0, -1, -1, 1, 0x0}, {257, OPENED, 0, 1, -1, -1, 2, 0x0}, {85, OPENED, -1, 0, \
    -1, -1, -1, 0x0}, {76, TRUNCATED, -1, 0, -1, -1, -1, 0x0}, {83, MADE, -1, -1, -1, 0, -1, 0x80}, {258, MADE, -1, \
    -1, 0, 1, -1, 0x80}, {133, MADE, -1, -1, -1, 0, 1, 0x0}, {259, MADE, -1, -1, 0, 1, 2, 0x0}, {82, MOVED, -1, 0, -1, \
    1, -1, 0x0}, {264, MOVED, 0, 1, 2, 3, -1, 0x0}, {316, MOVED, 0, 1, 2, 3, 4, 0x0}, {86, LINKED, -1, 0, -1, 1, -1, \
    0x0}, {265, LINKED, 0, 1, 2, 3, 4, 0x0}, {88, MADE, -1, -1, -1, 1, -1, 0x1000}, {266, MADE, -1, -1, 1, 2, -1, \
    0x1000}, {87, REMOVED, -1, -1, -1, 0, -1, 0x0}, {263, REMOVED, -1, -1, 0, 1, -1, 0x0}, {84, REMOVED, -1, -1, -1, \
    0, -1, 0x0}, {90, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {268, ATTRIBUTES, 0, 1, -1, -1, -1, 0x0}, {452, ATTRIBUTES, \
    0, 1, -1, -1, -1, 0x0}, {92, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {94, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {260, \
    ATTRIBUTES, 0, 1, -1, -1, -1, 0x0}, {132, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {235, ATTRIBUTES, -1, 0, -1, -1, \
    -1, 0x0}, {261, TIMES, 0, 1, -1, -1, -1, 0x0}, {280, TIMES, 0, 1, -1, -1, -1, 0x0}, {188, ATTRIBUTES, -1, 0, -1, \
    -1, -1, 0x0}, {189, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {463, ATTRIBUTES, 0, 1, -1, -1, -1, 0x0}, {197, \
    ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {198, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {466, ATTRIBUTES, 0, 1, -1, -1, \
    -1, 0x0}}
#define NR_accept4 288
#define NR_bind 49
#define NR_capget 125
#define NR_capset 126
#define NR_chdir 80
#define NR_chmod 90
#define NR_chown 92
#define NR_chroot 161
#define NR_clock_gettime 228
#define NR_clone 56
#define NR_close 3
#define NR_close_range 436
#define NR_connect 42
#define NR_creat 85
#define NR_epoll_create1 291
#define NR_epoll_ctl 233
#define NR_epoll_pwait 281
#define NR_execve 59
#define NR_execveat 322
#define NR_exit_group 231
#define NR_faccessat 269
#define NR_fanotify_init 300
#define NR_fchmodat 268
#define NR_fchownat 260
#define NR_fcntl 72
#define NR_ftruncate 77
#define NR_getcwd 79
#define NR_getdents64 217
#define NR_geteuid 107
#define NR_getpeername 52
#define NR_getpgid 121
#define NR_getpid 39
#define NR_getppid 110
#define NR_getrandom 318
#define NR_getsockname 51
#define NR_getsockopt 55
#define NR_gettid 186
#define NR_ioctl 16
#define NR_kill 62
#define NR_landlock_add_rule 445
#define NR_landlock_create_ruleset 444
#define NR_landlock_restrict_self 446
#define NR_lchown 94
#define NR_link 86
#define NR_linkat 265
#define NR_listen 50
#define NR_lremovexattr 198
#define NR_lsetxattr 189
#define NR_memfd_create 319
#define NR_mkdir 83
#define NR_mkdirat 258
#define NR_mknod 133
#define NR_mknodat 259
#define NR_mmap 9
#define NR_mount 165
#define NR_mprotect 10
#define NR_munmap 11
#define NR_newfstatat 262
#define NR_open 2
#define NR_open_by_handle_at 304
#define NR_openat 257
#define NR_openat2 437
#define NR_personality 135
#define NR_pidfd_getfd 438
#define NR_pidfd_open 434
#define NR_pidfd_send_signal 424
#define NR_pipe2 293
#define NR_pkey_mprotect 329
#define NR_ppoll 271
#define NR_prctl 157
#define NR_pread64 17
#define NR_prlimit64 302
#define NR_process_vm_readv 310
#define NR_process_vm_writev 311
#define NR_ptrace 101
#define NR_read 0
#define NR_readlinkat 267
#define NR_recvfrom 45
#define NR_recvmmsg 299
#define NR_recvmsg 47
#define NR_removexattr 197
#define NR_rename 82
#define NR_renameat 264
#define NR_renameat2 316
#define NR_rmdir 84
#define NR_rt_sigaction 13
#define NR_rt_sigprocmask 14
#define NR_rt_sigqueueinfo 129
#define NR_rt_tgsigqueueinfo 297
#define NR_sched_yield 24
#define NR_seccomp 317
#define NR_sendmmsg 307
#define NR_sendmsg 46
#define NR_sendto 44
#define NR_setgid 106
#define NR_setns 308
#define NR_setsockopt 54
#define NR_setuid 105
#define NR_setxattr 188
#define NR_shmat 30
#define NR_shutdown 48
#define NR_signalfd4 289
#define NR_socket 41
#define NR_socketpair 53
#define NR_symlink 88
#define NR_symlinkat 266
#define NR_tgkill 234
#define NR_timerfd_create 283
#define NR_timerfd_settime 286
#define NR_truncate 76
#define NR_umount2 166
#define NR_uname 63
#define NR_unlink 87
#define NR_unlinkat 263
#define NR_unshare 272
#define NR_utime 132
#define NR_utimensat 280
#define NR_utimes 235
#define NR_wait4 61
#define NR_write 1

#elif defined(__aarch64__)
#define ARCH "aarch64"
#define LOADER "ld-linux-aarch64.so.1"
#define AUDIT_ARCH 0xc00000b7U
#define PATH_CALL_ROWS {{56, OPENED, 0, 1, -1, -1, 2, 0x0}, {45, TRUNCATED, -1, 0, -1, -1, -1, 0x0}, {34, MADE, -1, \
    -1, 0, 1, -1, 0x80}, {33, MADE, -1, -1, 0, 1, 2, 0x0}, {38, MOVED, 0, 1, 2, 3, -1, 0x0}, {276, MOVED, 0, 1, 2, 3, \
    4, 0x0}, {37, LINKED, 0, 1, 2, 3, 4, 0x0}, {36, MADE, -1, -1, 1, 2, -1, 0x1000}, {35, REMOVED, -1, -1, 0, 1, -1, \
    0x0}, {53, ATTRIBUTES, 0, 1, -1, -1, -1, 0x0}, {452, ATTRIBUTES, 0, 1, -1, -1, -1, 0x0}, {54, ATTRIBUTES, 0, 1, \
    -1, -1, -1, 0x0}, {88, TIMES, 0, 1, -1, -1, -1, 0x0}, {5, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {6, ATTRIBUTES, -1, \
    0, -1, -1, -1, 0x0}, {463, ATTRIBUTES, 0, 1, -1, -1, -1, 0x0}, {14, ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {15, \
    ATTRIBUTES, -1, 0, -1, -1, -1, 0x0}, {466, ATTRIBUTES, 0, 1, -1, -1, -1, 0x0}}
#define NR_accept4 242
#define NR_bind 200
#define NR_capget 90
#define NR_capset 91
#define NR_chdir 49
#define NR_chroot 51
#define NR_clock_gettime 113
#define NR_clone 220
#define NR_close 57
#define NR_close_range 436
#define NR_connect 203
#define NR_epoll_create1 20
#define NR_epoll_ctl 21
#define NR_epoll_pwait 22
#define NR_execve 221
#define NR_execveat 281
#define NR_exit_group 94
#define NR_faccessat 48
#define NR_fanotify_init 262
#define NR_fchmodat 53
#define NR_fchownat 54
#define NR_fcntl 25
#define NR_ftruncate 46
#define NR_getcwd 17
#define NR_getdents64 61
#define NR_geteuid 175
#define NR_getpeername 205
#define NR_getpgid 155
#define NR_getpid 172
#define NR_getppid 173
#define NR_getrandom 278
#define NR_getsockname 204
#define NR_getsockopt 209
#define NR_gettid 178
#define NR_ioctl 29
#define NR_kill 129
#define NR_landlock_add_rule 445
#define NR_landlock_create_ruleset 444
#define NR_landlock_restrict_self 446
#define NR_linkat 37
#define NR_listen 201
#define NR_lremovexattr 15
#define NR_lsetxattr 6
#define NR_memfd_create 279
#define NR_mkdirat 34
#define NR_mknodat 33
#define NR_mmap 222
#define NR_mount 40
#define NR_mprotect 226
#define NR_munmap 215
#define NR_newfstatat 79
#define NR_open_by_handle_at 265
#define NR_openat 56
#define NR_openat2 437
#define NR_personality 92
#define NR_pidfd_getfd 438
#define NR_pidfd_open 434
#define NR_pidfd_send_signal 424
#define NR_pipe2 59
#define NR_pkey_mprotect 288
#define NR_ppoll 73
#define NR_prctl 167
#define NR_pread64 67
#define NR_prlimit64 261
#define NR_process_vm_readv 270
#define NR_process_vm_writev 271
#define NR_ptrace 117
#define NR_read 63
#define NR_readlinkat 78
#define NR_recvfrom 207
#define NR_recvmmsg 243
#define NR_recvmsg 212
#define NR_removexattr 14
#define NR_renameat 38
#define NR_renameat2 276
#define NR_rt_sigaction 134
#define NR_rt_sigprocmask 135
#define NR_rt_sigqueueinfo 138
#define NR_rt_tgsigqueueinfo 240
#define NR_sched_yield 124
#define NR_seccomp 277
#define NR_sendmmsg 269
#define NR_sendmsg 211
#define NR_sendto 206
#define NR_setgid 144
#define NR_setns 268
#define NR_setsockopt 208
#define NR_setuid 146
#define NR_setxattr 5
#define NR_shmat 196
#define NR_shutdown 210
#define NR_signalfd4 74
#define NR_socket 198
#define NR_socketpair 199
#define NR_symlinkat 36
#define NR_tgkill 131
#define NR_timerfd_create 85
#define NR_timerfd_settime 86
#define NR_truncate 45
#define NR_umount2 39
#define NR_uname 160
#define NR_unlinkat 35
#define NR_unshare 97
#define NR_utimensat 88
#define NR_wait4 260
#define NR_write 64
#endif

#endif
