/* pando-zygote: pid 1 of the space, the zygote, the watcher of the pid slot, and (by the name pando-ghost) the ghosts.
 *
 * Started as pid 1: reaps, starts the zygote and the watcher, and starts the zygote again should it die.
 * Zygote: serves struct zyg_cmd on its socket. It has no filter; what it forks either installs the session's filter first
 * (ZYG_SESSION) or not (ZYG_PLAIN).
 * Started as anything but pid 1 it is a ghost that pandod made of a process waiting in execve. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/wait.h>
#include <sys/syscall.h>

#include "stub/body.h"
#include "stub/ghost.h"
#include "stub/procmount.h"
#include "stub/proto.h"
#include "stub/sys.h"

enum {
	SIGCHLD_ = 17, SIG_SETMASK_ = 2, POLLIN_ = 1, SOL_SOCKET_ = 1, SCM_RIGHTS_ = 1, SCHED_FIFO_ = 1,
	CLONE_VM_ = 0x100, CLONE_FILES_ = 0x400, CLONE_FS_ = 0x200, ENOSYS_ = 38, PLACE_STACK = 4096, FDS_MAX = 250,
};

struct iov {
	void *base;
	uint64_t n;
};

struct msg {
	void *name;
	uint32_t name_n, pad;
	struct iov *iov;
	uint64_t iov_n;
	void *control;
	uint64_t control_n;
	int32_t flags, pad2;
};

struct cmsg {
	uint64_t len;
	int32_t level, type;
	int32_t fds[FDS_MAX];
};

struct clone_args_ {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

struct kernel_rusage {
	int64_t utime[2], stime[2], maxrss, rest[13];
};

static struct sock_filter g_filter[STUB_BPF_MAX];
static uint16_t g_filter_n;
static int32_t g_slot_first, g_slot_end; /* first number of the slot, one past its last */

/* gcc makes calls to these of struct assignments. */
void *memset(void *p, int c, size_t n);
void *memset(void *p, int c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)p)[i] = (uint8_t)c;
	return p;
}

void *memcpy(void *to, const void *from, size_t n);
void *memcpy(void *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
	return to;
}

static void msg_send(const struct zyg_msg *m, int32_t fd)
{
	struct iov iov = { (void *)(uintptr_t)m, sizeof *m };
	struct cmsg c = { .len = 16 + 4, .level = SOL_SOCKET_, .type = SCM_RIGHTS_, .fds = { fd } };
	struct msg h = { .iov = &iov, .iov_n = 1, .control = fd >= 0 ? &c : 0, .control_n = fd >= 0 ? 24 : 0 };
	(void)sys3(SYS_sendmsg, STUB_FD_SOCK, &h, 0x4000 /* MSG_NOSIGNAL */);
}

static long fork_as(int32_t pid, uint64_t flags, uint64_t exit_signal)
{
	struct clone_args_ args = { .flags = flags, .exit_signal = exit_signal, .set_tid = pid ? (uint64_t)&pid : 0, .set_tid_size = pid ? 1 : 0 };
	return sys2(SYS_clone3, &args, sizeof args);
}

static void fds_close_from(unsigned first)
{
	(void)sys3(SYS_close_range, first, ~0u, 0);
}

/* The session process: own session, filter with its listener sent to pandod, then a ghost until pandod says what it is. */
static void session_run(uint32_t id)
{
	struct sock_fprog prog = { .len = g_filter_n, .filter = g_filter };

	(void)sys0(SYS_setsid);
	long fd = sys3(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		       SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
	struct zyg_msg m = { .op = ZYG_LISTENER, .id = id, .pid = (int32_t)sys0(SYS_getpid), .result = fd < 0 ? (int32_t)fd : 0 };
	msg_send(&m, fd < 0 ? -1 : (int32_t)fd);
	if (fd < 0)
		(void)sys1(SYS_exit_group, 126);
	fds_close_from(0);
	ghost_loop();
}

/* A process without a filter: image in fds[0], its descriptors after it; the target numbers are in the image's tail. */
static void plain_run(int32_t *fds, uint32_t n)
{
	(void)sys0(SYS_setsid);
	uint64_t size = 0;
	long at = -22;
	if (n >= 1) {
		long end = sys3(SYS_lseek, fds[0], 0, 2);
		size = end > 0 ? (uint64_t)end : 0;
		at = sys6(SYS_mmap, 0, (long)size, 3, 2, fds[0], 0);
	}
	if (at < 0)
		(void)sys1(SYS_exit_group, 126);
	struct stub_body *b = (struct stub_body *)at;
	const uint32_t *numbers = (const uint32_t *)(const void *)((const char *)b + b->size);
	/* Out of the way first (above every target), then down to their numbers. */
	uint32_t top = 1024;
	for (uint32_t i = 1; i < n; i++)
		if (numbers[i - 1] >= top)
			top = numbers[i - 1] + 1;
	for (uint32_t i = 1; i < n; i++) {
		long up = sys3(SYS_fcntl, fds[i], 1030 /* F_DUPFD_CLOEXEC */, top);
		if (up < 0)
			(void)sys1(SYS_exit_group, 126);
		fds[i] = (int32_t)up;
	}
	for (uint32_t fd = 0; fd < top; fd++) {
		uint32_t i = 1;
		while (i < n && numbers[i - 1] != fd)
			i++;
		if (i < n)
			(void)sys3(SYS_dup3, fds[i], fd, 0);
		else
			(void)sys1(SYS_close, fd);
	}
	fds_close_from(top);
	long rc = body_exec(b);
	(void)sys1(SYS_exit_group, rc == -2 ? 127 : 126);
}

/* A signal sent as another process would: a short-lived task with the sender's number and identity does it, so the kernel
 * checks the permission and fills in the sender. */
static void kill_as(const struct zyg_cmd *c)
{
	struct zyg_msg m = { .op = ZYG_KILLED, .id = c->id, .pid = c->target };
	long pid = fork_as(c->pid, 0, 0);
	if (pid == 0) {
		long rc = 0;
		if (!c->cap_kill) {
			(void)sys2(SYS_setgroups, 0, 0);
			rc = sys3(SYS_setresgid, c->gid, c->gid, c->gid);
			if (rc == 0)
				rc = sys3(SYS_setresuid, c->uid[0], c->uid[1], c->uid[2]);
			if (rc == 0) { /* setresuid keeps capabilities if one of the three is 0 */
				struct { uint32_t version; int32_t pid; } head = { 0x20080522, 0 };
				uint32_t none[6] = { 0 };
				rc = sys2(SYS_capset, &head, none);
			}
		}
		if (rc == 0 && c->queue && c->tid)
			rc = sys4(SYS_rt_tgsigqueueinfo, c->target, c->tid, c->signo, c->info);
		else if (rc == 0 && c->queue)
			rc = sys3(SYS_rt_sigqueueinfo, c->target, c->signo, c->info);
		else if (rc == 0 && c->tid)
			rc = sys3(SYS_tgkill, c->target, c->tid, c->signo);
		else if (rc == 0)
			rc = sys2(SYS_kill, c->target, c->signo);
		(void)sys1(SYS_exit_group, -rc);
	}
	if (pid < 0) {
		m.result = (int32_t)pid;
	} else {
		int32_t status = 0;
		long rc;
		do
			rc = sys4(SYS_wait4, pid, &status, (long)0x40000000 /* __WALL */, 0);
		while (rc == -4);
		m.result = (status & 0x7f) ? -4 : -((status >> 8) & 0xff);
	}
	msg_send(&m, -1);
}

/* A task that only occupies its number: shares everything with the zygote, own page as stack. */
static long placeholder_make(int32_t pid)
{
	long stack = sys6(SYS_mmap, 0, PLACE_STACK, 3, 0x22, -1, 0);
	if (stack < 0)
		return stack;
	struct clone_args_ args = { .flags = CLONE_VM_ | CLONE_FILES_ | CLONE_FS_, .stack = (uint64_t)stack, .stack_size = PLACE_STACK,
				    .set_tid = (uint64_t)&pid, .set_tid_size = 1 };
	long rc;
	/* The child must not return through the parent's frames: it pauses right here, on its own stack. */
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 2f\n"
			 "1:\tmov %[pause], %%eax\n\t"
			 "syscall\n\t"
			 "jmp 1b\n"
			 "2:"
			 : "=a"(rc)
			 : "a"((long)SYS_clone3), "D"(&args), "S"(sizeof args), [pause] "i"(SYS_pause)
			 : "rcx", "r11", "memory");
	if (rc < 0)
		(void)sys2(SYS_munmap, stack, PLACE_STACK);
	return rc;
}

/* The rest of /proc is mounted by a child: its paths lead through the /proc server, and should that not answer, only the child waits. */
static void proc_finish(const struct zyg_cmd *c, const int32_t *fds, uint32_t n)
{
	struct zyg_msg m = { .op = ZYG_PROC_FINISHED, .id = c->id, .result = -22 };
	long pid = n == 1 ? fork_as(0, 0, SIGCHLD_) : -22;
	if (pid > 0)
		return;
	m.result = pid < 0 ? (int32_t)pid : procfs_mount_finish(sys6, fds[0]);
	msg_send(&m, -1);
	if (pid == 0)
		(void)sys1(SYS_exit_group, 0);
}

static void command_serve(const struct zyg_cmd *c, int32_t *fds, uint32_t n_fds)
{
	struct zyg_msg m = { .op = ZYG_FORKED, .id = c->id };
	long pid = -ENOSYS_;

	switch (c->op) {
	case ZYG_SESSION:
		pid = fork_as(c->pid, 0, SIGCHLD_);
		if (pid == 0)
			session_run(c->id);
		break;
	case ZYG_PLAIN:
		pid = fork_as(c->pid, 0, SIGCHLD_);
		if (pid == 0)
			plain_run(fds, n_fds);
		break;
	case ZYG_KILL_AS:
		kill_as(c);
		return;
	case ZYG_PROC_FINISH:
		proc_finish(c, fds, n_fds);
		return;
	case ZYG_PLACEHOLDER:
		pid = placeholder_make(c->pid);
		break;
	case ZYG_RELEASE:
		pid = sys2(SYS_kill, c->pid, 9);
		break;
	default:
		break;
	}
	m.pid = pid > 0 ? (int32_t)pid : 0;
	m.result = pid < 0 ? (int32_t)pid : 0;
	msg_send(&m, -1);
}

static void commands_take(void)
{
	struct zyg_cmd c;
	struct cmsg ctl = { 0 };
	struct iov iov = { &c, sizeof c };
	struct msg h = { .iov = &iov, .iov_n = 1, .control = &ctl, .control_n = sizeof ctl };

	long n = sys3(SYS_recvmsg, STUB_FD_SOCK, &h, 0x40000040 /* MSG_CMSG_CLOEXEC | MSG_DONTWAIT */);
	if (n == 0) { /* pandod and the keeper are gone: nobody can ever ask again */
		int64_t forever[2] = { 3600, 0 };
		(void)sys2(SYS_nanosleep, forever, 0);
		return;
	}
	uint32_t n_fds = h.control_n >= 20 && ctl.type == SCM_RIGHTS_ ? (uint32_t)((ctl.len - 16) / 4) : 0;
	if (n == (long)sizeof c)
		command_serve(&c, ctl.fds, n_fds);
	for (uint32_t i = 0; i < n_fds; i++)
		(void)sys1(SYS_close, ctl.fds[i]);
}

static void children_reap(void)
{
	for (;;) {
		int32_t status = 0;
		struct kernel_rusage ru;
		long pid = sys4(SYS_wait4, -1, &status, WNOHANG | (long)__WALL, &ru);
		if (pid <= 0)
			return;
		struct zyg_msg m = { .op = ZYG_EXITED, .pid = (int32_t)pid, .result = status,
				     .utime_us = (uint64_t)(ru.utime[0] * 1000000 + ru.utime[1]),
				     .stime_us = (uint64_t)(ru.stime[0] * 1000000 + ru.stime[1]),
				     .maxrss_kb = (uint64_t)ru.maxrss };
		msg_send(&m, -1);
	}
}

static void on_child(int sig)
{
	(void)sig;
}

__attribute__((naked)) static void signal_return(void)
{
	__asm__ volatile("mov %0, %%eax\n\tsyscall" : : "i"(SYS_rt_sigreturn));
}

static void zygote_run(void)
{
	/* SIGCHLD is open only within ppoll: no end of a child is missed between looking and sleeping. */
	uint64_t action[4] = { (uint64_t)on_child, 0x04000000 /* SA_RESTORER */, (uint64_t)signal_return, 0 };
	uint64_t all = ~0ull, but_child = ~(1ull << (SIGCHLD_ - 1));
	(void)sys4(SYS_rt_sigprocmask, SIG_SETMASK_, &all, 0, 8);
	(void)sys4(SYS_rt_sigaction, SIGCHLD_, action, 0, 8);

	struct zyg_msg ready = { .op = ZYG_READY, .pid = (int32_t)sys0(SYS_getpid) };
	msg_send(&ready, -1);
	for (;;) {
		struct { int32_t fd; int16_t events, revents; } p = { STUB_FD_SOCK, POLLIN_, 0 };
		children_reap();
		if (sys5(SYS_ppoll, &p, 1, 0, &but_child, 8) == 1)
			commands_take();
	}
}

static int64_t number_read(int fd)
{
	char text[24];
	long n = sys4(SYS_pread64, fd, text, sizeof text - 1, 0);
	int64_t v = 0;
	for (long i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
		v = v * 10 + text[i] - '0';
	return v;
}

static void number_write(int fd, int64_t v)
{
	char text[24];
	int n = 0;
	for (int64_t rest = v; rest || !n; rest /= 10)
		n++;
	int64_t rest = v;
	for (int i = n - 1; i >= 0; i--, rest /= 10)
		text[i] = (char)('0' + rest % 10);
	(void)sys4(SYS_pwrite64, fd, text, n, 0);
}

/* Keeps the kernel's cursor within the slot: the second half is the guard. A write may be lost to a concurrent fork (0.3 %
 * measured), so it is read back. The sleep is what the fastest rate seen would need for half of what is left, at most 5 ms. */
static void watcher_run(void)
{
	int32_t fifo = 1;
	(void)sys3(SYS_sched_setscheduler, 0, SCHED_FIFO_, &fifo);
	(void)sys3(SYS_setpriority, 0, 0, -20);

	const int64_t half = g_slot_first + (g_slot_end - g_slot_first) / 2;
	int64_t before = number_read(STUB_FD_LAST_PID), fastest = 1; /* pids per ms */
	int64_t slept_us = 5000;
	for (;;) {
		int64_t now = number_read(STUB_FD_LAST_PID);
		int64_t rate = now > before ? (now - before) * 1000 / slept_us : 0;
		if (rate > fastest)
			fastest = rate;
		while (now < g_slot_first - 1 || now >= half) {
			number_write(STUB_FD_LAST_PID, g_slot_first - 1);
			now = number_read(STUB_FD_LAST_PID);
		}
		before = now;
		slept_us = (half - now) * 1000 / (2 * fastest);
		if (slept_us > 5000)
			slept_us = 5000;
		if (slept_us < 200)
			slept_us = 200;
		int64_t t[2] = { 0, slept_us * 1000 };
		(void)sys2(SYS_nanosleep, t, 0);
	}
}

static void filter_load(void)
{
	long n = sys4(SYS_pread64, STUB_FD_BPF, g_filter, sizeof g_filter, 0);
	g_filter_n = n > 0 ? (uint16_t)(n / (long)sizeof g_filter[0]) : 0;
}

static long helper_start(void (*run)(void))
{
	long pid = fork_as(0, 0, SIGCHLD_);
	if (pid == 0) {
		run();
		(void)sys1(SYS_exit_group, 1);
	}
	return pid;
}

static void init_run(char **argv)
{
	uint64_t all = ~0ull;
	g_slot_first = 0;
	for (const char *p = argv[1] ? argv[1] : ""; *p >= '0' && *p <= '9'; p++)
		g_slot_first = g_slot_first * 10 + *p - '0';
	g_slot_end = g_slot_first + STUB_SLOT_SIZE;

	(void)sys4(SYS_rt_sigprocmask, SIG_SETMASK_, &all, 0, 8);
	(void)sys0(SYS_setsid); /* without, everything in the space has group and session 0 */
	filter_load();
	long zygote = helper_start(zygote_run); /* gets pid 2, before the cursor goes to the slot */
	long watcher = helper_start(watcher_run);
	for (;;) {
		long pid = sys4(SYS_wait4, -1, 0, (long)__WALL, 0);
		if (pid < 0 || zygote < 0 || watcher < 0) /* no helpers: a space that cannot work must not look as if it did */
			(void)sys1(SYS_exit_group, 1);
		if (pid == zygote)
			zygote = helper_start(zygote_run);
		else if (pid == watcher)
			watcher = helper_start(watcher_run);
	}
}

__attribute__((noreturn, used)) void stub_start(uint64_t *stack);
void stub_start(uint64_t *stack)
{
	char **argv = (char **)(stack + 1);
	if (sys0(SYS_getpid) == 1)
		init_run(argv);
	fds_close_from(0);
	(void)sys1(SYS_chdir, "/");
	ghost_loop();
}

__attribute__((naked, noreturn, used)) void _start(void);
void _start(void)
{
	__asm__ volatile("xor %ebp, %ebp\n\t"
			 "mov %rsp, %rdi\n\t"
			 "and $-16, %rsp\n\t"
			 "call stub_start");
}
