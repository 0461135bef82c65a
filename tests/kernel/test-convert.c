/* Promises that let a process waiting in a trapped execve be turned into another program without a byte written into
 * it: SEIZE with SUSPEND_SECCOMP, ADDFD of the binary, INTERRUPT, answer EINTR, then set the registers for execveat(fd,
 * "", argv, envp, AT_EMPTY_PATH) with "" at the end of the original path. x86-64. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "kern/probe.h"
#include "support.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif

enum { BECAME = 7, OTHER_UID = 65534, CANARIES = 8192, THREADS = 8 };

static const char wanted[] = "/nonexistent/wanted-program";
static const char first_argument[] = "become-the-other-program";
static const char *const wanted_env[] = { "WANTED=yes", NULL };

struct mem {
	volatile int listener, resumed, canary_bad;
	struct gate ready;
	volatile pid_t grandchild;
};

static struct mem *mem_new(void)
{
	struct mem *m = shared(sizeof *m);
	gate_init(&m->ready);
	return m;
}

static void traps_install(struct mem *m)
{
	static const int nrs[] = { SYS_execve, SYS_execveat };
	filter_install(nrs, 2, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &m->listener, &m->ready);
}

static void exec_wanted(void)
{
	const char *argv[] = { first_argument, "one", NULL };
	(void)syscall(SYS_execve, wanted, argv, wanted_env);
}

/* Does all of it. Returns the number under which the tracer sees the process after the exec, stopped there.
 * *ret_before: whether `resumed` was still 0 just before the tracee was let run. */
static pid_t convert(struct mem *m, int l, pid_t *ret_tid, int *ret_before)
{
	struct seccomp_notif n = notif_recv(l);
	pid_t tid = (pid_t)n.pid;
	CHECK(n.data.nr == SYS_execve);
	long opts = PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_SUSPEND_SECCOMP;
	CHECK(ptrace(PTRACE_SEIZE, tid, NULL, opts) == 0);

	/* a descriptor by O_PATH cannot be added */
	int path_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC), exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct seccomp_notif_addfd add = { .id = n.id, .srcfd = (uint32_t)path_fd, .newfd_flags = O_CLOEXEC };
	CHECK(ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 && errno == EBADF);
	add.srcfd = (uint32_t)exe;
	int fd = ioctl(l, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
	CHECK(fd >= 0 && close(exe) == 0 && close(path_fd) == 0);

	CHECK(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0);
	CHECK(notif_answer(l, n.id, 0, EINTR) == 0);
	CHECK(stop_wait(tid) >> 16 == PTRACE_EVENT_STOP);

	struct user_regs_struct regs;
	CHECK(ptrace(PTRACE_GETREGS, tid, NULL, &regs) == 0);
	CHECK((long)regs.rax == -EINTR && regs.rdi == n.data.args[0]);
	regs.rax = SYS_execveat;
	regs.orig_rax = (unsigned long long)-1; /* no restart of the call that was interrupted */
	regs.rdi = (unsigned long long)fd;
	regs.rsi = n.data.args[0] + sizeof wanted - 1; /* the NUL of its own path: "" */
	regs.rdx = n.data.args[1];
	regs.r10 = n.data.args[2];
	regs.r8 = AT_EMPTY_PATH;
	regs.rip -= 2; /* the syscall instruction again */
	CHECK(ptrace(PTRACE_SETREGS, tid, NULL, &regs) == 0);
	*ret_before = m->resumed == 0;
	CHECK(ptrace(PTRACE_CONT, tid, NULL, NULL) == 0);

	int st = 0;
	pid_t who = waitpid(-1, &st, __WALL); /* a thread that is not the leader is reported as the leader */
	CHECK(who > 0 && WIFSTOPPED(st) && st >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8));
	unsigned long old = 0;
	CHECK(ptrace(PTRACE_GETEVENTMSG, who, NULL, &old) == 0 && (pid_t)old == tid);
	CHECK(!notif_ready(l, 0)); /* the exec of ours was not trapped */
	*ret_tid = tid;
	return who;
}

static void finish(pid_t who, pid_t child, int want_status)
{
	CHECK(ptrace(PTRACE_DETACH, who, NULL, 0L) == 0);
	CHECK(child_end(child) == want_status);
}

/* space/trace.c: a process from fork, as root. */
static void test_a_waiting_exec_becomes_another_program(void)
{
	struct mem *m = mem_new();
	pid_t tid, pid = child_start();
	int before;
	if (pid == 0) {
		traps_install(m);
		exec_wanted();
		_exit(99);
	}
	int l = listener_take(pid, &m->listener, &m->ready);
	pid_t who = convert(m, l, &tid, &before);
	CHECK(who == pid && tid == pid);
	finish(who, pid, BECAME << 8);
	CHECK(close(l) == 0);
}

/* The same for an ordinary user that may gain no privileges, whose environment and arguments go along. */
static void test_it_works_for_an_ordinary_user_without_new_privileges(void)
{
	struct mem *m = mem_new();
	pid_t tid, pid = child_start();
	int before;
	if (pid == 0) {
		traps_install(m);
		CHECK(setgid(OTHER_UID) == 0 && setuid(OTHER_UID) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0); /* cleared by setuid */
		exec_wanted();
		_exit(99);
	}
	gate_wait(&m->ready);
	gate_open(&m->ready); /* for listener_take; the descriptor is taken as root */
	int l = listener_take(pid, &m->listener, &m->ready);
	pid_t who = convert(m, l, &tid, &before);
	finish(who, pid, BECAME << 8);
	CHECK(close(l) == 0);
}

/* A child of vfork shares memory and stack with its parent, which waits: nothing of the parent is changed, and it goes
 * on when the child has become the other program, not before. */
static void test_a_vfork_child_is_converted_while_its_parent_waits(void)
{
	struct mem *m = mem_new();
	pid_t tid, pid = child_start();
	int before;
	if (pid == 0) {
		volatile uint64_t canary[CANARIES];
		for (size_t i = 0; i < CANARIES; i++)
			canary[i] = i * 0x9e3779b97f4a7c15u;
		traps_install(m);
		pid_t child = vfork();
		if (child == 0) {
			exec_wanted();
			_exit(99);
		}
		m->resumed = 1;
		m->grandchild = child;
		for (size_t i = 0; i < CANARIES; i++)
			if (canary[i] != i * 0x9e3779b97f4a7c15u)
				m->canary_bad = 1;
		int st = 0;
		CHECK(waitpid(child, &st, 0) == child);
		_exit(WIFEXITED(st) ? WEXITSTATUS(st) : 98);
	}
	int l = listener_take(pid, &m->listener, &m->ready);
	pid_t who = convert(m, l, &tid, &before);
	CHECK(before); /* the parent waited all the time */
	CHECK(who != pid && who == tid);
	finish(who, pid, BECAME << 8); /* its status as given by its child */
	CHECK(m->resumed == 1 && !m->canary_bad && m->grandchild == who);
	CHECK(close(l) == 0);
}

static void *thread_exec(void *arg)
{
	exec_wanted();
	return NULL;
}

static void *thread_wait(void *arg)
{
	for (;;)
		(void)pause();
	return NULL;
}

/* Any thread may call execve; the process keeps its number, the other threads are gone, and the tracer is told the
 * number of the process although it had seized the thread. */
static void test_a_thread_that_is_not_the_leader_takes_the_process_along(void)
{
	struct mem *m = mem_new();
	pid_t tid, pid = child_start();
	int before;
	if (pid == 0) {
		pthread_t t;
		traps_install(m);
		for (int i = 0; i < THREADS - 1; i++)
			CHECK(pthread_create(&t, NULL, thread_wait, NULL) == 0);
		CHECK(pthread_create(&t, NULL, thread_exec, NULL) == 0);
		(void)thread_wait(NULL);
	}
	int l = listener_take(pid, &m->listener, &m->ready);
	pid_t who = convert(m, l, &tid, &before);
	CHECK(tid != pid && who == pid);
	finish(who, pid, BECAME << 8);
	CHECK(close(l) == 0);
}

/* A signal that comes between SEIZE and the exec is not lost: blocked ones stay pending over it, for sigtimedwait
 * there. */
static void test_pending_blocked_signals_survive_the_conversion(void)
{
	struct mem *m = mem_new();
	pid_t tid, pid = child_start();
	int before;
	if (pid == 0) {
		sigset_t set;
		(void)sigemptyset(&set);
		(void)sigaddset(&set, SIGUSR1);
		CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
		traps_install(m);
		exec_wanted();
		_exit(99);
	}
	int l = listener_take(pid, &m->listener, &m->ready);
	CHECK(notif_ready(l, WAIT_MS) && sigqueue(pid, SIGUSR1, (union sigval){ .sival_int = 77 }) == 0);
	pid_t who = convert(m, l, &tid, &before);
	finish(who, pid, (BECAME + 1) << 8); /* it found it, with its value */
	CHECK(close(l) == 0);
}

/* The other program: says by its status what it found. */
static int become(int argc, char **argv)
{
	sigset_t set;
	siginfo_t si;
	struct timespec none = { 0, 0 };
	const char *env = getenv("WANTED");
	if (argc != 2 || strcmp(argv[1], "one") != 0 || !env || strcmp(env, "yes") != 0)
		return 90;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	if (sigtimedwait(&set, &si, &none) == SIGUSR1)
		return si.si_value.sival_int == 77 && si.si_code == SI_QUEUE ? BECAME + 1 : 91;
	return BECAME;
}

int main(int argc, char **argv)
{
	if (argc && strcmp(argv[0], first_argument) == 0)
		return become(argc, argv);
	struct kern_has has;
	CHECK(probe_run(&has) == 0);
	if (geteuid() != 0 || !has.wait_killable || !has.notif_addfd || !has.suspend_seccomp || !has.pidfd_getfd)
		SKIP("needs root, seccomp notification and ptrace with SUSPEND_SECCOMP");
	TEST(test_a_waiting_exec_becomes_another_program);
	TEST(test_it_works_for_an_ordinary_user_without_new_privileges);
	TEST(test_a_vfork_child_is_converted_while_its_parent_waits);
	TEST(test_a_thread_that_is_not_the_leader_takes_the_process_along);
	TEST(test_pending_blocked_signals_survive_the_conversion);
	return 0;
}
