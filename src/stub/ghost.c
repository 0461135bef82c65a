/* A ghost: a real task with the right number, parent, group and session, that stands for a process whose body runs on another
 * node. All signals are blocked; each that arrives is handed to pandod by a trapped call with its siginfo, so nothing is lost
 * while pandod is away. Children (bodies that came back to this ghost as parent) are reaped and reported in the same way. */
#include "stub/ghost.h"

#include <linux/wait.h>
#include <sys/syscall.h>

#include "stub/body.h"
#include "stub/proto.h"
#include "stub/sys.h"

enum { SIG_SETMASK_ = 2, SIG_UNBLOCK_ = 1, SIGCHLD_ = 17, TIOCSCTTY_ = 0x540e, SIGCONT_ = 18, EINTR_ = 4, EAGAIN_ = 11, PR_SET_CHILD_SUBREAPER_ = 36 };

/* siginfo_t as the kernel writes it (include/uapi/asm-generic/siginfo.h), 128 bytes. */
struct info {
	int32_t signo, error, code, pad;
	union {
		struct {
			int32_t pid;
			uint32_t uid;
			uint64_t value;
		} user;
		uint8_t raw[112];
	} u;
};

struct kernel_rusage {
	int64_t utime[2], stime[2], maxrss, rest[13];
};

struct clone_args_ {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static void signals_block(uint64_t mask)
{
	(void)sys4(SYS_rt_sigprocmask, SIG_SETMASK_, &mask, 0, 8);
}

static void children_report(void)
{
	for (;;) {
		int32_t status = 0;
		struct kernel_rusage ru;
		long pid = sys4(SYS_wait4, -1, &status, WNOHANG | WUNTRACED | WCONTINUED | __WALL, &ru);
		if (pid <= 0)
			return;
		(void)sys6(PANDO_NR, STUB_CHILD, pid, status, ru.utime[0] * 1000000 + ru.utime[1],
			   ru.stime[0] * 1000000 + ru.stime[1], ru.maxrss);
	}
}

/* One signal, or a wake-up; children first, so that their ends are reported before what follows from them. */
static void signal_wait(void)
{
	uint64_t all = ~0ull;
	struct info info;

	long rc = sys4(SYS_rt_sigtimedwait, &all, &info, 0, 8);
	if (rc < 0)
		return;
	if (rc == SIGCHLD_) {
		children_report();
		return;
	}
	if (rc == STUB_WAKE_SIGNAL && info.code == STUB_WAKE_CODE)
		return;
	(void)sys6(PANDO_NR, STUB_SIGNAL, rc, info.code, info.u.user.pid, info.u.user.uid, (long)info.u.user.value);
}

static long fork_as(int32_t pid)
{
	struct clone_args_ args = { .exit_signal = SIGCHLD_, .set_tid = pid ? (uint64_t)&pid : 0, .set_tid_size = pid ? 1 : 0 };
	return sys2(SYS_clone3, &args, sizeof args);
}

/* Ends by the signal, or by SIGKILL should it not kill (it must look like the body's end, whatever happens). */
static void die_by(long sig)
{
	uint64_t action[4] = { 0 };
	uint64_t only = 1ull << (sig - 1);

	(void)sys4(SYS_rt_sigaction, sig, action, 0, 8);
	(void)sys4(SYS_rt_sigprocmask, SIG_UNBLOCK_, &only, 0, 8);
	long pid = sys0(SYS_getpid);
	(void)sys3(SYS_tgkill, pid, sys0(SYS_gettid), sig);
	(void)sys3(SYS_tgkill, pid, sys0(SYS_gettid), 9);
}

/* Stops by a real stop signal, so that the parent's wait sees the right one. */
static void stop_by(long sig)
{
	uint64_t only = 1ull << (sig - 1);
	(void)sys3(SYS_tgkill, sys0(SYS_getpid), sys0(SYS_gettid), sig);
	(void)sys4(SYS_rt_sigprocmask, SIG_UNBLOCK_, &only, 0, 8);
	signals_block(~0ull);
}

static long ctty_take(void)
{
	long fd = sys2(PANDO_NR, STUB_FD, 0);
	if (fd < 0)
		return fd;
	long rc = sys3(SYS_ioctl, fd, TIOCSCTTY_, 0);
	(void)sys1(SYS_close, fd);
	return rc;
}

/* The kernel takes the sender's number from this process, its user and its rights from the ids of the moment. A ghost that was the
 * process itself has that user's ids and cannot change them, which is as right. */
static long kill_as_user(int32_t pid, long sig, int has_cap, long uid)
{
	(void)sys3(SYS_setresuid, uid, has_cap ? 0 : uid, 0);
	long rc = sys2(SYS_kill, pid, sig);
	(void)sys3(SYS_setresuid, 0, 0, 0);
	return rc;
}

static long command_run(const struct stub_cmd *c)
{
	switch (c->op) {
	case STUB_WAIT:
		signal_wait();
		return 0;
	case STUB_FORK:
		return fork_as(c->pid); /* the child gets 0 and asks for its own command */
	case STUB_SETPGID:
		return sys2(SYS_setpgid, c->pid, c->arg);
	case STUB_SETSID:
		return sys0(SYS_setsid);
	case STUB_EXIT:
		children_report(); /* the ends of bodies below it that it has not seen yet */
		return sys1(SYS_exit_group, c->arg);
	case STUB_DIE:
		die_by(c->arg);
		return 0;
	case STUB_STOP:
		stop_by(c->arg);
		return 0;
	case STUB_BODY:
		body_run((uint32_t)c->arg);
		(void)sys3(SYS_close_range, 0, ~0u, 0); /* it could not be executed: what it got so far must not be held */
		(void)sys1(SYS_chdir, "/");
		return 0;
	case STUB_KILL:
		return sys2(SYS_kill, c->pid, c->arg);
	case STUB_KILL_AS:
		return kill_as_user(c->pid, c->arg & 127, (c->arg >> 7) & 1, (long)((uint64_t)c->arg >> 8));
	case STUB_SUBREAPER:
		return sys2(SYS_prctl, PR_SET_CHILD_SUBREAPER_, c->arg);
	case STUB_CTTY:
		return ctty_take();
	default:
		return -38; /* ENOSYS: a pandod of another build */
	}
}

void ghost_loop(void)
{
	long result = 0;
	signals_block(~0ull);
	for (;;) {
		struct stub_cmd c = { .op = STUB_WAIT };
		long rc = sys3(PANDO_NR, STUB_NEXT, &c, result);
		if (rc < 0) { /* no listener any more: nobody will ever tell; a ghost without its pandod must not linger */
			if (rc == -38)
				(void)sys1(SYS_exit_group, 125);
			c.op = STUB_WAIT;
		}
		result = command_run(&c);
	}
}
