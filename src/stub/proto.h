/* Between pandod and the small programs inside the space (pando-zygote: pid 1, the zygote, session processes, ghosts, arriving bodies).
 *
 * Two ways of talking:
 * - The zygote has a SOCK_SEQPACKET socket (fd STUB_FD_SOCK): struct zyg_cmd in, struct zyg_msg out.
 * - Every process that carries a session's filter talks by a system call that the filter always traps (PANDO_NR): the
 *   arguments are the report, the answer is a command. So nothing is lost while pandod is away: the caller waits in its call,
 *   signals stay queued in the kernel, and the listener lives in the keeper.
 *
 * Both sides are built from this header in the same build; the structs never leave the machine. */
#pragma once

#include <stdint.h>

enum {
	PANDO_NR = 480,          /* a system call number no kernel has */
	STUB_WAKE_SIGNAL = 64,   /* SIGRTMAX with si_code STUB_WAKE_CODE: ask for the next command */
	STUB_WAKE_CODE = -60,
	STUB_FD_SOCK = 3,        /* the zygote's socket */
	STUB_FD_BPF = 4,         /* file with the filter: struct sock_filter[] */
	STUB_FD_LAST_PID = 5,    /* /proc/sys/kernel/ns_last_pid of the space, open for reading and writing */
	STUB_BPF_MAX = 512,      /* instructions */
	STUB_SLOT_SIZE = 32768,
};

/* Reports: the first argument of PANDO_NR. Returns are commands (enum stub_cmd_op) unless said otherwise. */
enum stub_report {
	STUB_NEXT = 1,   /* (struct stub_cmd *out, result of the last command): the next command, written to out */
	STUB_SIGNAL,     /* (signo, si_code, sender pid, sender uid, value): a signal arrived at a ghost; returns 0 */
	STUB_CHILD,      /* (pid, wait status, utime us, stime us, maxrss KiB): a child was reaped or stopped; returns 0 */
	STUB_FD,         /* (index): returns the number at which descriptor `index` of the body was installed */
	STUB_FAILED,     /* (enum stub_stage, errno): the body could not be set up or executed; returns 0 */
};

enum stub_cmd_op {
	STUB_WAIT = 1,   /* nothing to do: wait for signals and children */
	STUB_FORK,       /* pid: fork a child with this pid, which asks for its own commands */
	STUB_SETPGID,    /* pid, arg */
	STUB_SETSID,
	STUB_EXIT,       /* arg: exit code */
	STUB_DIE,        /* arg: signal */
	STUB_STOP,       /* arg: stop signal (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU) */
	STUB_BODY,       /* arg: size of the image; descriptor index 0 is the file with it (struct stub_body) */
	STUB_KILL,       /* pid, arg: kill(pid, arg) as this process */
	STUB_KILL_AS,    /* pid, arg: the same with a user's rights; arg: signal | has CAP_KILL << 7 | user << 8 */
	STUB_SUBREAPER,  /* arg: PR_SET_CHILD_SUBREAPER */
	STUB_CTTY,       /* descriptor index 0 becomes the controlling terminal */
};

struct stub_cmd {
	uint32_t op;
	int32_t pid;
	int64_t arg;
};

enum stub_stage { STUB_AT_IMAGE = 1, STUB_AT_FD, STUB_AT_CWD, STUB_AT_LIMITS, STUB_AT_CREDS, STUB_AT_GROUP, STUB_AT_TTY, STUB_AT_EXEC };

enum { STUB_NGROUPS = 1024, STUB_NFDS = 1024, STUB_RLIMITS = 16 };

/* The image file of a body: this header, then data. Offsets are from the start of the file; argv and envp are arrays of u64
 * offsets, ended by 0. All strings end with NUL. */
struct stub_body {
	uint32_t size;            /* of the whole file */
	uint32_t path;            /* program, as given to execve */
	uint32_t cwd;             /* path; 0: leave */
	uint32_t argv, envp;
	uint32_t n_fds;           /* descriptors to fetch: index 1..n_fds of STUB_FD, in this order */
	uint32_t n_groups;
	uint32_t uid[3], gid[3];  /* real, effective, saved; fsuid = effective */
	uint64_t cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
	uint32_t securebits;
	uint32_t no_new_privs;
	uint32_t umask;
	int32_t nice;
	uint32_t personality;
	int32_t pgid;             /* 0: leave; > 0: join this group, -1: lead a new one */
	int32_t ctty;             /* descriptor number of the terminal whose foreground the own group takes, or -1 */
	int32_t pdeath_signal;
	uint64_t blocked, ignored; /* bit s-1 = signal s */
	uint64_t cpus[16];        /* affinity; all 0: leave */
	uint64_t rlimit[STUB_RLIMITS][2];
	uint32_t groups[STUB_NGROUPS];
	int32_t oom_score_adj;
	uint32_t timer_slack_ns;
};

/* The zygote's socket. */
enum zyg_op {
	ZYG_SESSION = 1,  /* pid (0: any): fork a session leader with the filter installed -> ZYG_LISTENER from it, ZYG_FORKED */
	ZYG_KILL_AS,      /* send a signal as another process would: struct below -> ZYG_KILLED */
	ZYG_PLACEHOLDER,  /* pid: occupy a number -> ZYG_FORKED */
	ZYG_PLAIN,        /* pid (0: any): as ZYG_SESSION but without a filter; descriptor 0: image, others: the body's -> ZYG_FORKED */
	ZYG_RELEASE,      /* pid: end a placeholder -> ZYG_FORKED with pid 0 */
	ZYG_PROC_FINISH,  /* descriptor 0: native procfs; procfs_mount_finish in a process of its own -> ZYG_PROC_FINISHED, when a server has answered */
};

struct zyg_cmd {
	uint32_t op;
	uint32_t id;      /* comes back in the answer */
	int32_t pid;      /* see above; ZYG_KILL_AS: the sender's pid */
	int32_t target, tid, signo; /* ZYG_KILL_AS; tid 0: the process; target < -1: a group; signo 0: only ask */
	uint32_t uid[3], gid;
	uint32_t cap_kill;
	uint32_t queue;   /* rt_sigqueueinfo with info below */
	uint8_t info[128];
};

enum zyg_msg_op {
	ZYG_READY = 1,
	ZYG_FORKED,
	ZYG_LISTENER,
	ZYG_EXITED,
	ZYG_KILLED,
	ZYG_PROC,          /* of pid 1, before ZYG_READY and only with a FUSE /proc: /dev/fuse, native procfs */
	ZYG_PROC_FINISHED, /* result: 0 or -errno of the mount that failed */
};

struct zyg_msg {
	uint32_t op;
	uint32_t id;
	int32_t pid;      /* the new process; the exited one */
	int32_t result;   /* 0 or -errno; ZYG_EXITED: wait status */
	uint64_t utime_us, stime_us, maxrss_kb;
};
