/* Promises that let a ghost stand for a process: all signals blocked, it collects them with sigtimedwait and loses
 * none, whoever sends them and whatever their disposition; and what the kernel does to groups and sessions of ghosts.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "kern/probe.h"
#include "support.h"

enum { SIGS_MAX = 64 };

struct mem {
	struct gate ready, look, done;
	volatile int n;
	struct {
		int signo, code, value;
		pid_t pid;
		uid_t uid;
	} got[SIGS_MAX];
};

static struct mem *mem_new(void)
{
	struct mem *m = shared(sizeof *m);
	gate_init(&m->ready);
	gate_init(&m->look);
	gate_init(&m->done);
	return m;
}

static void all_blocked(sigset_t *set)
{
	(void)sigfillset(set);
	CHECK(sigprocmask(SIG_BLOCK, set, NULL) == 0);
}

/* Takes what is pending, in the order the kernel gives it. */
static void signals_collect(struct mem *m, const sigset_t *set)
{
	siginfo_t si;
	struct timespec none = { 0, 0 };
	while (m->n < SIGS_MAX && sigtimedwait(set, &si, &none) > 0) {
		m->got[m->n].signo = si.si_signo;
		m->got[m->n].code = si.si_code;
		m->got[m->n].value = si.si_value.sival_int;
		m->got[m->n].pid = si.si_pid;
		m->got[m->n].uid = si.si_uid;
		m->n++;
	}
}

/* A child with all signals blocked and the given dispositions, that collects when told to, and then ends. */
static pid_t ghost_start(struct mem *m, void (*disposition)(int))
{
	pid_t pid = child_start();
	if (pid == 0) {
		sigset_t set;
		all_blocked(&set);
		for (int s = 1; s < 32; s++)
			if (s != SIGKILL && s != SIGSTOP)
				CHECK(signal(s, disposition) != SIG_ERR);
		gate_open(&m->ready);
		gate_wait(&m->look);
		signals_collect(m, &set);
		gate_open(&m->done);
		_exit(0);
	}
	gate_wait(&m->ready);
	return pid;
}

static void ghost_end(struct mem *m, pid_t pid)
{
	gate_open(&m->look);
	gate_wait(&m->done);
	CHECK(child_end(pid) == 0);
}

static int has_got(const struct mem *m, int signo)
{
	int n = 0;
	for (int i = 0; i < m->n; i++)
		n += m->got[i].signo == signo;
	return n;
}

/* stub/ghost.c: a blocked signal is queued even when it is ignored or ignored by default (nohup's SIGHUP, SIGCHLD,
 * SIGWINCH): an exec keeps the ignored ones, and the body must still get what it is entitled to. */
static void blocked_signals_arrive(void (*disposition)(int))
{
	struct mem *m = mem_new();
	pid_t pid = ghost_start(m, disposition);
	int sent = 0;
	for (int s = 1; s < 32; s++) {
		if (s == SIGKILL || s == SIGSTOP || s == SIGCONT) /* SIGCONT would take the stops out of the queue */
			continue;
		CHECK(kill(pid, s) == 0);
		sent++;
	}
	ghost_end(m, pid);
	CHECK(m->n == sent);
	for (int i = 0; i < m->n; i++)
		CHECK(has_got(m, m->got[i].signo) == 1 && m->got[i].code == SI_USER && m->got[i].pid == getpid() &&
		      m->got[i].uid == getuid());
}

static void test_blocked_signals_are_queued_although_ignored(void)
{
	blocked_signals_arrive(SIG_IGN);
}

static void test_blocked_signals_are_queued_whatever_their_default(void)
{
	blocked_signals_arrive(SIG_DFL);
}

/* Stop signals do not stop a ghost that blocks them; SIGCONT removes them from the queue, and they remove it. */
static void test_stop_signals_wait_and_are_undone_by_sigcont(void)
{
	struct mem *m = mem_new();
	pid_t pid = ghost_start(m, SIG_DFL);
	CHECK(kill(pid, SIGTSTP) == 0 && kill(pid, SIGTTIN) == 0);
	grace();
	state_wait(pid, "S");
	CHECK(kill(pid, SIGCONT) == 0);
	CHECK(kill(pid, SIGUSR1) == 0);
	ghost_end(m, pid);
	CHECK(m->n == 2 && has_got(m, SIGCONT) == 1 && has_got(m, SIGUSR1) == 1);

	m = mem_new();
	pid = ghost_start(m, SIG_DFL);
	CHECK(kill(pid, SIGCONT) == 0 && kill(pid, SIGTSTP) == 0);
	ghost_end(m, pid);
	CHECK(m->n == 1 && has_got(m, SIGTSTP) == 1);
}

/* Real-time signals are queued one by one, in order, with value and sender; others once. */
static void test_values_and_order_of_real_time_signals_are_kept(void)
{
	struct mem *m = mem_new();
	pid_t pid = ghost_start(m, SIG_DFL);
	for (int i = 0; i < 10; i++)
		CHECK(sigqueue(pid, SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i }) == 0 &&
		      kill(pid, SIGUSR1) == 0);
	ghost_end(m, pid);
	CHECK(m->n == 11 && has_got(m, SIGUSR1) == 1);
	for (int i = 0, k = 0; i < m->n; i++)
		if (m->got[i].signo == SIGRTMIN + 1)
			CHECK(m->got[i].value == 100 + k++ && m->got[i].code == SI_QUEUE && m->got[i].pid == getpid());
}

/* A job-control stop (SIGSTOP) is not to be blocked: it stops the ghost, and what was pending is still there
 * afterwards. */
static void test_a_stopped_ghost_keeps_what_is_pending(void)
{
	struct mem *m = mem_new();
	pid_t pid = ghost_start(m, SIG_DFL);
	CHECK(kill(pid, SIGTERM) == 0 && kill(pid, SIGSTOP) == 0);
	state_wait(pid, "T");
	CHECK(kill(pid, SIGHUP) == 0 && kill(pid, SIGCONT) == 0);
	ghost_end(m, pid);
	CHECK(m->n == 3 && has_got(m, SIGTERM) && has_got(m, SIGHUP) && has_got(m, SIGCONT));
}

/* --- terminals and groups --- */

struct session {
	int master;
	pid_t leader;
	struct mem *m;
	struct gate quit;
};

/* A session on its own pty whose leader is a ghost: blocks all, collects when told to, ends when told to. */
static struct session *session_start(void)
{
	struct session *s = shared(sizeof *s);
	s->m = mem_new();
	gate_init(&s->quit);
	s->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(s->master >= 0 && grantpt(s->master) == 0 && unlockpt(s->master) == 0);
	char name[64];
	CHECK(ptsname_r(s->master, name, sizeof name) == 0);
	pid_t pid = child_start();
	if (pid == 0) {
		sigset_t set;
		CHECK(setsid() == getpid());
		int tty = open(name, O_RDWR | O_CLOEXEC);
		CHECK(tty >= 0 && ioctl(tty, TIOCSCTTY, 0) == 0);
		CHECK(close(s->master) == 0);
		all_blocked(&set);
		gate_open(&s->m->ready);
		gate_wait(&s->m->look);
		signals_collect(s->m, &set);
		gate_open(&s->m->done);
		gate_wait(&s->quit);
		_exit(0);
	}
	s->leader = pid;
	gate_wait(&s->m->ready);
	return s;
}

/* stream/: ^C and ^Z at a terminal reach a ghost of the foreground group as signals of the kernel, so that it can tell
 * them from those that somebody sent; and SIGWINCH, ignored by default, arrives too. */
static void test_signals_of_the_terminal_reach_a_blocked_ghost(void)
{
	struct session *s = session_start();
	CHECK(write(s->master, "\003\032", 2) == 2); /* ^Z comes last: it takes the input that was flushed along */
	struct winsize ws = { .ws_row = 33, .ws_col = 99 };
	CHECK(ioctl(s->master, TIOCSWINSZ, &ws) == 0);
	grace();
	gate_open(&s->m->look);
	gate_wait(&s->m->done);
	CHECK(has_got(s->m, SIGINT) == 1 && has_got(s->m, SIGTSTP) == 1 && has_got(s->m, SIGWINCH) == 1);
	for (int i = 0; i < s->m->n; i++)
		CHECK(s->m->got[i].code == SI_KERNEL);
	state_wait(s->leader, "S");
	gate_open(&s->quit);
	CHECK(child_end(s->leader) == 0 && close(s->master) == 0);
}

/* A terminal that goes away is a SIGHUP of the kernel for the session's leader, and SIGCONT with it. */
static void test_a_lost_terminal_is_a_hangup_of_the_kernel(void)
{
	struct session *s = session_start();
	CHECK(close(s->master) == 0);
	grace();
	gate_open(&s->m->look);
	gate_wait(&s->m->done);
	CHECK(has_got(s->m, SIGHUP) == 1 && has_got(s->m, SIGCONT) == 1);
	for (int i = 0; i < s->m->n; i++)
		CHECK(s->m->got[i].code == SI_KERNEL);
	gate_open(&s->quit);
	CHECK(child_end(s->leader) == 0);
}

/* space/ghost.c: a group whose members have no parent in another group of the session is orphaned, and a stop from the
 * terminal is dropped: so the chain of parents must be there. With the parent there it stops. */
static void job_stops(int with_parent)
{
	struct gate ready, end;
	volatile pid_t *job = shared(sizeof *job);
	gate_init(&ready);
	gate_init(&end);
	pid_t leader = child_start();
	if (leader == 0) {
		CHECK(setsid() == getpid());
		pid_t parent = with_parent ? 0 : fork();
		if (parent == 0) { /* the parent of the job: the leader itself, or one in the job's own group */
			if (!with_parent)
				CHECK(setpgid(0, 0) == 0);
			pid_t pid = fork();
			if (pid == 0) {
				CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
				if (with_parent)
					CHECK(setpgid(0, 0) == 0);
				*job = getpid();
				gate_open(&ready);
				for (;;)
					(void)pause();
			}
			if (!with_parent) {
				gate_wait(&ready);
				gate_open(&ready);
			}
		}
		if (parent > 0) { /* the leader goes: now nobody outside the group is the parent of one inside */
			gate_wait(&ready);
			gate_open(&ready);
			_exit(0);
		}
		gate_wait(&end);
		_exit(0);
	}
	if (with_parent) {
		gate_wait(&ready);
	} else {
		CHECK(child_end(leader) == 0);
	}
	CHECK(*job > 0 && kill(*job, SIGTSTP) == 0);
	if (with_parent) {
		state_wait(*job, "T");
	} else {
		grace();
		CHECK(state_of(*job) == 'S');
	}
	CHECK(kill(*job, SIGKILL) == 0);
	gate_open(&end);
	if (with_parent)
		CHECK(child_end(leader) == 0);
}

static void test_a_group_with_a_parent_in_the_session_can_be_stopped(void)
{
	job_stops(1);
}

static void test_an_orphaned_group_drops_terminal_stops(void)
{
	job_stops(0);
}

/* space/ghost.c: when the last parent above a stopped group goes, the kernel sends it SIGHUP and SIGCONT: so a ghost
 * above a stopped body must not be removed. */
static void test_a_stopped_group_that_becomes_orphaned_is_hung_up(void)
{
	struct gate ready, end;
	volatile pid_t *job = shared(sizeof *job);
	gate_init(&ready);
	gate_init(&end);
	pid_t leader = child_start();
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	if (leader == 0) {
		CHECK(setsid() == getpid());
		pid_t pid = fork();
		if (pid == 0) {
			CHECK(setpgid(0, 0) == 0);
			*job = getpid();
			gate_open(&ready);
			for (;;)
				(void)pause();
		}
		gate_wait(&end);
		_exit(0);
	}
	gate_wait(&ready);
	CHECK(kill(*job, SIGTSTP) == 0);
	state_wait(*job, "T");
	gate_open(&end);
	CHECK(child_end(leader) == 0);
	int st = child_end(*job); /* it came to us, the subreaper */
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGHUP);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
}

/* space/gather.c: fdinfo tells whether an exec closes a descriptor, unless the description itself has the flag, as TIOCGPTPEER leaves it;
 * F_GETFL tells the two apart. */
static unsigned fdinfo_flags(int fd)
{
	char path[64], text[256];
	unsigned flags = 0;
	(void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	int f = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = f < 0 ? 0 : read(f, text, sizeof text - 1);
	text[n > 0 ? n : 0] = 0;
	CHECK(f >= 0 && sscanf(text, "pos: %*d flags: %o", &flags) == 1 && close(f) == 0);
	return flags;
}

static void test_close_on_exec_is_told_apart(void)
{
	int zero = 0, master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(master >= 0 && ioctl(master, TIOCSPTLCK, &zero) == 0);
	int marked = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), plain = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	CHECK(marked >= 0 && plain >= 0 && fcntl(marked, F_SETFD, 0) == 0);
	CHECK(!(fdinfo_flags(plain) & O_CLOEXEC) && !(fcntl(plain, F_GETFL) & O_CLOEXEC));
	CHECK(!(fdinfo_flags(marked) & O_CLOEXEC) || (fcntl(marked, F_GETFL) & O_CLOEXEC));
	CHECK(fcntl(plain, F_SETFD, FD_CLOEXEC) == 0 && (fdinfo_flags(plain) & O_CLOEXEC) && !(fcntl(plain, F_GETFL) & O_CLOEXEC));
	CHECK(close(marked) == 0 && close(plain) == 0 && close(master) == 0);
}

int main(void)
{
	TEST(test_blocked_signals_are_queued_although_ignored);
	TEST(test_blocked_signals_are_queued_whatever_their_default);
	TEST(test_stop_signals_wait_and_are_undone_by_sigcont);
	TEST(test_values_and_order_of_real_time_signals_are_kept);
	TEST(test_a_stopped_ghost_keeps_what_is_pending);
	TEST(test_signals_of_the_terminal_reach_a_blocked_ghost);
	TEST(test_a_lost_terminal_is_a_hangup_of_the_kernel);
	TEST(test_close_on_exec_is_told_apart);
	TEST(test_a_group_with_a_parent_in_the_session_can_be_stopped);
	TEST(test_an_orphaned_group_drops_terminal_stops);
	TEST(test_a_stopped_group_that_becomes_orphaned_is_hung_up);
	return 0;
}
