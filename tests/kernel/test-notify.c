/* Promises of seccomp user notification beyond seccomp_unotify(2). */
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "kern/probe.h"
#include "support.h"

enum { OWN_NR = 480 }; /* no kernel has this call */

struct mem {
	volatile int listener;
	volatile long result, result2;
	volatile int handled;
	struct gate ready, done;
	struct seccomp_notif notif;
};

static struct mem *g_m;

static void on_signal(int s)
{
	g_m->handled++;
}

static struct mem *mem_new(void)
{
	g_m = shared(sizeof *g_m);
	gate_init(&g_m->ready);
	gate_init(&g_m->done);
	return g_m;
}

/* A child that installs the filter, calls OWN_NR once, notes the result and ends with status 3. handler: for SIGUSR1.
 */
static pid_t caller_start(struct mem *m, unsigned flags, int handler_flags)
{
	pid_t pid = child_start();
	if (pid == 0) {
		static const int nrs[] = { OWN_NR };
		struct sigaction sa = { .sa_handler = on_signal, .sa_flags = handler_flags };
		CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
		filter_install(nrs, 1, flags, &m->listener, &m->ready);
		long r = syscall(OWN_NR, 11L, 22L, 33L, 44L, 55L, 66L);
		m->result = r < 0 ? -errno : r;
		_exit(3);
	}
	return pid;
}

/* stub/: a call number that no kernel has is trapped like any other, with its arguments, and returns what we say. */
static void test_a_call_that_no_kernel_has_can_be_answered(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0);
	int l = listener_take(pid, &m->listener, &m->ready);
	struct seccomp_notif n = notif_recv(l);
	CHECK(n.data.nr == OWN_NR && n.data.args[0] == 11 && n.data.args[5] == 66 && (pid_t)n.pid == pid);
	CHECK(notif_answer(l, n.id, 1234567890123, 0) == 0);
	CHECK(child_end(pid) == 3 << 8 && m->result == 1234567890123);
	CHECK(close(l) == 0);
}

/* space/: with WAIT_KILLABLE_RECV a handled signal waits until the call is answered; the call is not restarted. */
static void test_a_received_call_is_not_disturbed_by_a_handled_signal(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SA_RESTART);
	int l = listener_take(pid, &m->listener, &m->ready);
	struct seccomp_notif n = notif_recv(l);
	CHECK(kill(pid, SIGUSR1) == 0);
	grace();
	CHECK(notif_valid(l, n.id) && m->handled == 0 && !notif_ready(l, 0));
	CHECK(notif_answer(l, n.id, 5, 0) == 0);
	CHECK(child_end(pid) == 3 << 8 && m->result == 5 && m->handled == 1);
	CHECK(close(l) == 0);
}

/* ... and without the flag the same call comes a second time with another id: the reason why the flag is needed. */
static void test_without_the_flag_the_call_comes_twice(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, 0, SA_RESTART);
	int l = listener_take(pid, &m->listener, &m->ready);
	struct seccomp_notif n = notif_recv(l);
	CHECK(kill(pid, SIGUSR1) == 0);
	struct seccomp_notif again = notif_recv(l);
	CHECK(again.id != n.id && !notif_valid(l, n.id) && notif_answer(l, n.id, 5, 0) == -ENOENT);
	CHECK(notif_answer(l, again.id, 6, 0) == 0);
	CHECK(child_end(pid) == 3 << 8 && m->result == 6 && m->handled == 1);
	CHECK(close(l) == 0);
}

/* space/place.c: a deadly signal takes the waiting caller along ... */
static void test_a_deadly_signal_ends_a_caller_that_is_not_seized(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0);
	int l = listener_take(pid, &m->listener, &m->ready);
	struct seccomp_notif n = notif_recv(l);
	CHECK(kill(pid, SIGINT) == 0);
	int st = child_end(pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGINT);
	CHECK(!notif_valid(l, n.id) && notif_answer(l, n.id, 5, 0) == -ENOENT);
	CHECK(close(l) == 0);
}

/* ... unless it was seized first: then the notification stays valid, and the signal shows as a stop after the answer,
 * to be passed on or kept. So ^C during a placement leaves neither a body without its original nor the other way round.
 */
static void test_seized_first_the_notification_stays_valid(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0);
	int l = listener_take(pid, &m->listener, &m->ready);
	struct seccomp_notif n = notif_recv(l);
	CHECK(ptrace(PTRACE_SEIZE, pid, NULL, 0L) == 0);
	CHECK(kill(pid, SIGINT) == 0);
	grace();
	CHECK(notif_valid(l, n.id) && waitpid(pid, NULL, WNOHANG | __WALL) == 0);
	CHECK(notif_answer(l, n.id, 5, 0) == 0);
	int st = stop_wait(pid);
	CHECK(WSTOPSIG(st) == SIGINT && st >> 16 == 0);
	CHECK(ptrace(PTRACE_DETACH, pid, NULL, 0L) == 0); /* the signal is swallowed */
	CHECK(child_end(pid) == 3 << 8 && m->result == 5);
	CHECK(close(l) == 0);
}

/* space/place.c: INTERRUPT reports no stop while the call waits; it does when the call is answered, before user space
 * runs. */
static void test_an_interrupted_caller_stops_only_when_answered(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0);
	int l = listener_take(pid, &m->listener, &m->ready);
	struct seccomp_notif n = notif_recv(l);
	CHECK(ptrace(PTRACE_SEIZE, pid, NULL, 0L) == 0 && ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0);
	grace();
	CHECK(waitpid(pid, NULL, WNOHANG | __WALL) == 0 && notif_valid(l, n.id));
	CHECK(notif_answer(l, n.id, 0, EINTR) == 0);
	int st = stop_wait(pid);
	CHECK(st >> 16 == PTRACE_EVENT_STOP);
	CHECK(m->result == 0); /* its next instruction has not run */
	CHECK(ptrace(PTRACE_DETACH, pid, NULL, 0L) == 0);
	CHECK(child_end(pid) == 3 << 8 && m->result == -EINTR);
	CHECK(close(l) == 0);
}

/* space/: SIGKILL works at any time; nobody has to answer. */
static void test_sigkill_is_not_held_up(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0);
	int l = listener_take(pid, &m->listener, &m->ready);
	struct seccomp_notif n = notif_recv(l);
	CHECK(ptrace(PTRACE_SEIZE, pid, NULL, 0L) == 0 && kill(pid, SIGKILL) == 0);
	int st = child_end(pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL && !notif_valid(l, n.id));
	CHECK(close(l) == 0);
}

/* keeper/: the last listener closed means ENOSYS for the call under way and for all later ones. */
static void test_a_closed_listener_gives_enosys(void)
{
	struct mem *m = mem_new();
	pid_t pid = child_start();
	if (pid == 0) {
		static const int nrs[] = { OWN_NR, SYS_getppid };
		filter_install(nrs, 2, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &m->listener, &m->ready);
		gate_wait(&m->done);
		CHECK(close(m->listener) == 0);
		m->result = syscall(OWN_NR) < 0 ? -errno : 0;
		m->result2 = syscall(SYS_getppid) < 0 ? -errno : 0; /* a call that the kernel does have */
		_exit(3);
	}
	int l = listener_take(pid, &m->listener, &m->ready);
	gate_open(&m->done);
	struct seccomp_notif n = notif_recv(l);
	CHECK(notif_valid(l, n.id));
	CHECK(close(l) == 0);
	CHECK(child_end(pid) == 3 << 8 && m->result == -ENOSYS && m->result2 == -ENOSYS);
}

/* keeper/: while any descriptor of the listener is open, calls wait; it does not matter who made it. */
static void test_a_kept_listener_keeps_calls_waiting(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0);
	int l = listener_take(pid, &m->listener, &m->ready), kept = dup(l);
	struct seccomp_notif n = notif_recv(l);
	CHECK(kept >= 0 && close(l) == 0);
	grace();
	CHECK(notif_valid(kept, n.id) && waitpid(pid, NULL, WNOHANG) == 0);
	CHECK(notif_answer(kept, n.id, 8, 0) == 0);
	CHECK(child_end(pid) == 3 << 8 && m->result == 8);
	CHECK(close(kept) == 0);
}

/* space/watch.c: a daemon that received a notification into shared memory and died is replaced by one that answers it.
 * It cannot be received again. */
static void test_a_notification_in_shared_memory_is_answered_by_another_process(void)
{
	struct mem *m = mem_new();
	pid_t pid = caller_start(m, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0);
	int l = listener_take(pid, &m->listener, &m->ready);
	pid_t daemon = child_start();
	if (daemon == 0) {
		CHECK(notif_ready(l, WAIT_MS) && ioctl(l, SECCOMP_IOCTL_NOTIF_RECV, &m->notif) == 0);
		_exit(0);
	}
	CHECK(child_end(daemon) == 0);
	CHECK(!notif_ready(l, 20));
	CHECK(m->notif.data.nr == OWN_NR && (pid_t)m->notif.pid == pid && notif_valid(l, m->notif.id));
	CHECK(notif_answer(l, m->notif.id, 123, 0) == 0);
	CHECK(child_end(pid) == 3 << 8 && m->result == 123);
	CHECK(close(l) == 0);
}

/* sessions: a second listener below the first is refused, so programs with one of their own need a session without
 * ours. */
static void test_a_second_listener_is_refused(void)
{
	struct mem *m = mem_new();
	pid_t pid = child_start();
	if (pid == 0) {
		static const int nrs[] = { OWN_NR };
		filter_install(nrs, 1, 0, &m->listener, &m->ready);
		static const unsigned char allow[8] = {
			0x06, 0, 0, 0, 0, 0, 0xff, 0x7f
		}; /* BPF_RET SECCOMP_RET_ALLOW */
		struct {
			unsigned short len;
			const void *filter;
		} prog = { 1, allow };
		long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
		m->result = r < 0 ? -errno : r;
		_exit(3);
	}
	CHECK(child_end(pid) == 3 << 8 && m->result == -EBUSY);
}

int main(void)
{
	struct kern_has has;
	CHECK(probe_run(&has) == 0);
	if (!has.user_notif || !has.wait_killable || !has.pidfd_getfd || !has.seize)
		SKIP("no seccomp notification with WAIT_KILLABLE_RECV, or no ptrace, here");
	TEST(test_a_call_that_no_kernel_has_can_be_answered);
	TEST(test_a_received_call_is_not_disturbed_by_a_handled_signal);
	TEST(test_without_the_flag_the_call_comes_twice);
	TEST(test_a_deadly_signal_ends_a_caller_that_is_not_seized);
	TEST(test_seized_first_the_notification_stays_valid);
	TEST(test_an_interrupted_caller_stops_only_when_answered);
	TEST(test_sigkill_is_not_held_up);
	TEST(test_a_closed_listener_gives_enosys);
	TEST(test_a_kept_listener_keeps_calls_waiting);
	TEST(test_a_notification_in_shared_memory_is_answered_by_another_process);
	TEST(test_a_second_listener_is_refused);
	return 0;
}
