/* Probes of what is done to other processes: seccomp notification and ptrace. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/probe-int.h"

/* Newer than the headers of Debian 12. */
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
struct pidfd_info_v0 {
	uint64_t mask, cgroupid;
	uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
};
#define PIDFD_GET_INFO_V0 _IOWR(0xFF, 11, struct pidfd_info_v0)
#define PIDFD_INFO_EXIT_BIT (UINT64_C(1) << 3)

enum { STEP_MS = 1000, SPOOFED = 777, DENIED = 77 };

/* A filter for getppid: nothing else calls it here. */
static int filter_set(uint32_t action, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof code / sizeof code[0], .filter = code };
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	if (r < 0 && errno == EACCES) { /* not root: root must not need this, set-uid programs would stop working */
		(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	}
	return r < 0 ? -errno : (int)r;
}

struct notified {
	int listener, killable; /* as filter_set answers */
	int pipe[2];            /* a byte when the listener is there */
	long first;
	int second_ok;
};

/* The one that is looked at; it shares the descriptors of the one that looks. */
static void notified_run(struct notified *n)
{
	n->listener = filter_set(SECCOMP_RET_USER_NOTIF,
				 SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
	n->killable = n->listener < 0 ? n->listener : 0;
	if (n->listener == -EINVAL)
		n->listener = filter_set(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
	(void)!write(n->pipe[1], "", 1); /* the other side has a deadline */
	if (n->listener < 0)
		_exit(0);
	n->first = syscall(SYS_getppid);
	long fd = syscall(SYS_getppid);
	n->second_ok = fd >= 0 && fcntl((int)fd, F_GETFD) >= 0;
	_exit(0);
}

static int notif_recv(int listener, struct seccomp_notif *req)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	if (poll(&p, 1, STEP_MS) != 1)
		return -ETIMEDOUT;
	memset(req, 0, sizeof *req); /* the kernel refuses anything else */
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, req) < 0 ? -errno : 0;
}

static int notif_answer(int listener, uint64_t id, long val)
{
	struct seccomp_notif_resp resp = { .id = id, .val = val };
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 ? -errno : 0;
}

static int notif_addfd(int listener, uint64_t id, int fd, unsigned flags)
{
	struct seccomp_notif_addfd add = { .id = id, .srcfd = (uint32_t)fd, .flags = flags };
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 ? -errno : 0;
}

/* Answers the two calls of notified_run. What the answers did is in *n when it has ended. */
static void notif_serve(struct kern_has *has, struct notified *n, pid_t pid)
{
	struct seccomp_notif req;
	_cleanup_(close_p) int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	int rc = notif_recv(n->listener, &req);
	int add = rc ? rc : notif_addfd(n->listener, req.id, null, 0);
	if (!rc)
		rc = notif_answer(n->listener, req.id, SPOOFED);

	int sync =
	    ioctl(n->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) < 0 ? -errno : 0;
	int rc2 = rc ? rc : notif_recv(n->listener, &req);
	int send = rc2 ? rc2 : notif_addfd(n->listener, req.id, null, SECCOMP_ADDFD_FLAG_SEND);
	if (!rc2 && send)
		(void)notif_answer(n->listener, req.id, -1); /* so that it ends */

	int ended = probe_reap(pid, STEP_MS);
	if (!rc && ended)
		rc = -EPROTO;
	if (!rc && n->first != SPOOFED)
		rc = -EPROTO;
	probe_set(has, &has->user_notif, rc);
	probe_set(has, &has->notif_addfd, add);
	probe_set(has, &has->wait_killable, n->killable);
	probe_set(has, &has->addfd_send, send ? send : n->second_ok ? 0 : -EPROTO);
	probe_set(has, &has->sync_wake_up, sync);
}

void probe_seccomp(struct kern_has *has)
{
	bool *fields[] = { &has->user_notif, &has->notif_addfd, &has->addfd_send, &has->wait_killable,
			   &has->sync_wake_up };
	struct notified *n = mmap(NULL, sizeof *n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int rc = 0;
	if (n == MAP_FAILED || pipe2(n->pipe, O_CLOEXEC) < 0)
		rc = -errno;
	pid_t pid = rc ? rc : probe_clone(CLONE_FILES);
	if (pid == 0)
		notified_run(n);
	if (pid < 0)
		rc = pid;
	char byte;
	struct pollfd p = { .fd = rc ? -1 : n->pipe[0], .events = POLLIN };
	if (!rc && (poll(&p, 1, STEP_MS) != 1 || read(n->pipe[0], &byte, 1) != 1))
		rc = -ETIMEDOUT;
	if (!rc && n->listener < 0)
		rc = n->listener;
	if (!rc) {
		notif_serve(has, n, pid);
		return;
	}
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		probe_set(has, fields[i], rc);
}

/* Shared with the traced child. */
struct traced {
	int go[2], ready[2];
	long ppid;
	int err;
	int fd; /* an open description that both have */
	char word[16];
};

static void traced_run(struct traced *t)
{
	char byte;
	int rc = filter_set(SECCOMP_RET_ERRNO | DENIED, 0);
	(void)strcpy(t->word, rc < 0 ? "bad" : "word");
	(void)!write(t->ready[1], "", 1);
	(void)!read(t->go[0], &byte, 1);
	t->ppid = syscall(SYS_getppid);
	t->err = errno;
	_exit(42);
}

static int stop_wait(pid_t pid)
{
	for (int i = 0; i < STEP_MS;
	     i++) { /* a stop makes no descriptor readable, and a signal may be lost to another */
		int st;
		pid_t r = waitpid(pid, &st, __WALL | WNOHANG);
		if (r == pid)
			return WIFSTOPPED(st) ? 0 : -ECHILD;
		if (r < 0)
			return -errno;
		(void)poll(NULL, 0, 1);
	}
	return -ETIMEDOUT;
}

/* Seizes the child, lets it call getppid with the filter suspended, sees it exit. */
static void trace_seize(struct kern_has *has, struct traced *t, pid_t pid)
{
	char regs[512];
	struct iovec iov = { .iov_base = regs, .iov_len = sizeof regs };
	int suspend = 0;
	int rc = ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXEC | PTRACE_O_SUSPEND_SECCOMP) < 0 ? -errno : 0;
	if (rc) {
		suspend = rc;
		rc = ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXEC) < 0 ? -errno : 0;
	}
	if (!rc && ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
		rc = -errno;
	if (!rc)
		rc = stop_wait(pid);
	if (!rc && ptrace(PTRACE_GETREGSET, pid, (void *)(uintptr_t)1 /* NT_PRSTATUS */, &iov) < 0)
		rc = -errno;
	if (!rc && ptrace(PTRACE_CONT, pid, NULL, NULL) < 0)
		rc = -errno;
	(void)!write(t->go[1], "", 1);
	int ended = probe_reap(pid, STEP_MS);
	if (!rc && ended != 42)
		rc = ended < 0 ? ended : -EPROTO;
	if (!suspend && (rc || t->ppid < 0))
		suspend = rc ? rc : -EPROTO;
	probe_set(has, &has->seize, rc);
	probe_set(has, &has->suspend_seccomp, suspend);
}

static int vm_works(pid_t pid, struct traced *t)
{
	char back[16] = "", put[16] = "other";
	struct iovec mine = { .iov_base = back, .iov_len = sizeof back };
	struct iovec its = { .iov_base = t->word, .iov_len = sizeof t->word };
	if (process_vm_readv(pid, &mine, 1, &its, 1, 0) != (ssize_t)sizeof back)
		return -errno;
	if (strcmp(back, "word") != 0)
		return -EPROTO;
	mine.iov_base = put;
	if (process_vm_writev(pid, &mine, 1, &its, 1, 0) != (ssize_t)sizeof put)
		return -errno;
	return strcmp(t->word, "other") == 0 ? 0 : -EPROTO;
}

static int getfd_works(int pidfd, struct traced *t)
{
	_cleanup_(close_p) int fd = (int)syscall(SYS_pidfd_getfd, pidfd, t->fd, 0);
	return fd < 0 ? -errno : 0;
}

static int kcmp_works(pid_t pid, struct traced *t)
{
	long same = syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, t->fd, t->fd);
	long other = syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, t->fd, t->go[0]);
	if (same < 0 || other < 0)
		return -errno;
	return same == 0 && other != 0 ? 0 : -EPROTO;
}

static int info_works(int pidfd, uint64_t mask, pid_t pid, int status)
{
	struct pidfd_info_v0 i = { .mask = mask };
	if (ioctl(pidfd, PIDFD_GET_INFO_V0, &i) < 0)
		return -errno;
	if (mask & PIDFD_INFO_EXIT_BIT)
		return i.mask & PIDFD_INFO_EXIT_BIT && i.exit_code == status << 8 ? 0 : -EOPNOTSUPP;
	return i.pid == (uint32_t)pid ? 0 : -EPROTO;
}

void probe_trace(struct kern_has *has)
{
	struct traced *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t == MAP_FAILED || pipe2(t->go, O_CLOEXEC) < 0 || pipe2(t->ready, O_CLOEXEC) < 0)
		return; /* all say -ETIMEDOUT; out of memory or descriptors is no answer about the kernel */
	t->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pid_t pid = probe_clone(0);
	if (pid == 0)
		traced_run(t);
	char byte;
	struct pollfd p = { .fd = t->ready[0], .events = POLLIN };
	if (pid < 0 || poll(&p, 1, STEP_MS) != 1 || read(t->ready[0], &byte, 1) != 1)
		return;

	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	probe_set(has, &has->vm_readv, vm_works(pid, t));
	probe_set(has, &has->kcmp, kcmp_works(pid, t));
	probe_set(has, &has->pidfd_getfd, getfd_works(pidfd, t));
	probe_set(has, &has->pidfd_info, info_works(pidfd, 1, pid, 0));
	trace_seize(has, t, pid);
	probe_set(has, &has->pidfd_exit, info_works(pidfd, PIDFD_INFO_EXIT_BIT, pid, 42));
}
