/* Happy path: RUN is locked, what a keeper before left is ended; WAIT until the state directory holds a membership; RUN: the programs are
 * started, and again when they end; SIGTERM: LEAVE: pandod is told to go, OTHERS: the other programs are, then the space is destroyed if
 * it is still there.
 * The membership ends (pandod left for good, or was removed, and deleted it): the same way down, and then WAIT again.
 * pandod ends: its descriptors and the space stay; children that it did not wait for are killed, but for the announced space, before it
 * is started again.
 * The space ends by itself: its cgroup is removed; pandod finds out by its own means.
 * The keeper is killed: its programs get SIGTERM, which makes pandod wipe the space; the record is for the next keeper. */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "keeper/child.h"
#include "keeper/client.h"
#include "keeper/guard.h"
#include "keeper/leftover.h"
#include "keeper/notify.h"

enum { PANDOD, STREAMS, PROCFS, PROGRAMS };

enum phase { PHASE_WAIT, PHASE_RUN, PHASE_LEAVE, PHASE_OTHERS };

enum {
	OTHERS_MS = 2000,  /* from SIGTERM to SIGKILL for pando-streams and pando-procfs */
	KILLED_MS = 1000,  /* from SIGKILL to going on without it */
	SWEEP_MS = 10,
	SWEEPS = 200,      /* then what does not die is left alone */
	OWN_FDS = 64,      /* never given away: the watchdog opens files */
};

struct keeperd {
	const struct keeper_options *o;
	enum phase phase;
	uint64_t deadline_ms; /* of PHASE_LEAVE and PHASE_OTHERS */
	int is_killed;        /* ... which has passed once */
	int is_ending;        /* SIGTERM has come */
	int is_sweeping;      /* children that pandod left are being killed */
	int n_sweeps;
	uint64_t sweep_ms;    /* when to look again */
	int signals;          /* owned; signalfd */
	int watch;            /* owned; inotify on the state directory in PHASE_WAIT */
	struct guard guard;
	struct record_task init; /* of the announced space */
	struct store_room room;
	struct child child[PROGRAMS];
	struct conn_ops ops[PROGRAMS];
};

/* ---- the space ---- */

static void record_update(const struct keeperd *k)
{
	struct err e = { 0 };
	struct record r = { .init = k->init, .freezer_v2 = k->guard.ends.freezer_v2 != 0 };
	(void)strcpy(r.cgroup, k->guard.ends.cgroup);
	for (unsigned i = 0; i < PROGRAMS; i++)
		if (k->child[i].task.pid)
			r.child[r.n_children++] = k->child[i].task;
	if (record_write(k->o->run_dir, &r, &e) < 0)
		log_error("%s; should the keeper be killed, the next one does not find what it left", e.text);
}

static void space_forget(struct keeperd *k)
{
	k->init = (struct record_task){ 0 };
	guard_watch(&k->guard, NULL, NULL);
	record_update(k);
}

static int space_announced(void *ctx, const struct keeper_request *r)
{
	struct keeperd *k = ctx;
	if (!r->init) {
		space_forget(k);
		return 0;
	}
	struct record_task init = record_task_of(r->init);
	if (!init.pid)
		return -ESRCH;
	struct space_ends ends = { .sock = -1, .init = r->init, .freezer_v2 = r->freezer_v2 };
	(void)strcpy(ends.cgroup, r->cgroup);
	k->init = init;
	guard_watch(&k->guard, &ends, r->lease);
	record_update(k);
	return 0;
}

static int space_refused(void *ctx, const struct keeper_request *r)
{
	return -EPERM;
}

/* Its pid 1 was reaped: no process of it is left. */
static void space_gone(struct keeperd *k, int status)
{
	log_warn("the space has ended (pid 1: %s %d)", WIFSIGNALED(status) ? "signal" : "exit status",
		 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	struct space_ends rest = k->guard.ends;
	rest.init = 0;
	leftover_space(&rest, 0);
	space_forget(k);
}

/* The way down is at its end: no program runs that could answer or be harmed. What is killed first cannot see that the kept
 * descriptors are closed; what waits for a FUSE server ends by their closing. */
static void space_end(struct keeperd *k)
{
	struct space_ends ends = k->guard.ends;
	struct record_task init = k->init;
	if (ends.init)
		leftover_kill(&ends, init.start);
	for (unsigned i = 0; i < PROGRAMS; i++)
		store_clear(&k->child[i].store);
	if (ends.init) {
		log_notice("destroying the space that pandod left");
		leftover_space(&ends, init.start);
	}
	space_forget(k);
}

/* ---- programs ---- */

static void ready(void *ctx)
{
	notify_send("READY=1\nSTATUS=running\n");
}

static void ready_ignored(void *ctx)
{
}

static void program_start(struct keeperd *k, unsigned i)
{
	struct child *c = &k->child[i];
	char *argv[12];
	unsigned n = 0;
	const struct { const char *name, *value; int given; } args[] = {
		{ "--run", k->o->run_dir, 1 },
		{ "--state", k->o->state_dir, i != PROCFS },
		{ "--load-source", k->o->load_source, i == PANDOD && k->o->load_source },
		{ "--cpus", k->o->cpus, i == PANDOD && k->o->cpus },
	};
	argv[n++] = (char *)(uintptr_t)c->name;
	for (unsigned a = 0; a < sizeof args / sizeof *args; a++) {
		if (!args[a].given)
			continue;
		argv[n++] = (char *)(uintptr_t)args[a].name;
		argv[n++] = (char *)(uintptr_t)args[a].value;
	}
	argv[n] = NULL;
	child_start(c, k->o->libexec, argv, &k->ops[i], k);
	record_update(k);
}

static int is_ours(const struct keeperd *k, pid_t pid)
{
	for (unsigned i = 0; i < PROGRAMS; i++)
		if (k->child[i].state == CHILD_RUNS && k->child[i].pid == pid)
			return 1;
	return pid == k->init.pid;
}

/* Kills the children that nobody of ours is the parent of any more, and returns how many there were. */
static int orphans_kill(const struct keeperd *k)
{
	char path[64], list[4096];
	int n_killed = 0;
	(void)snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
	if (n < 0)
		return 0;
	list[n] = 0;
	char *end;
	for (const char *p = list;; p = end) {
		long pid = strtol(p, &end, 10);
		if (end == p || (!*end && n == sizeof list - 1)) /* the last number may be cut off */
			return n_killed;
		if (is_ours(k, (pid_t)pid))
			continue;
		if (!k->n_sweeps)
			log_notice("pid %ld was left by pandod, and is not its space: killed", pid);
		(void)kill((pid_t)pid, SIGKILL); /* our child: the number is its own until we reap it */
		n_killed++;
	}
}

/* pandod has ended: what it had begun and not told, such as a space half made, would have no owner. The children of those that are
 * killed become ours in turn, so it is looked again until there are none; and before there is another pandod, whose
 * own ones would look the same. */
static void sweep(struct keeperd *k)
{
	if (!k->is_sweeping || clock_ms() < k->sweep_ms)
		return;
	k->is_sweeping = orphans_kill(k) > 0 && k->n_sweeps++ < SWEEPS;
	k->sweep_ms = clock_ms() + SWEEP_MS;
}

static void down(struct keeperd *k);

static int is_member(const struct keeperd *k)
{
	static const char *const files[] = { "cluster", "node.crt" }; /* the last ones of member.h and pki.h */
	for (unsigned i = 0; i < 2; i++) {
		char path[PATH_MAX];
		struct stat st;
		(void)snprintf(path, sizeof path, "%s/%s", k->o->state_dir, files[i]);
		if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size)
			return 0;
	}
	return 1;
}

static void program_ended(struct keeperd *k, unsigned i, int status)
{
	child_ended(&k->child[i], status, k->phase == PHASE_RUN);
	if (k->child[PANDOD].state != CHILD_RUNS) {
		k->is_sweeping = 1;
		k->n_sweeps = 0;
		k->sweep_ms = clock_ms();
	}
	record_update(k);
	if (i == PANDOD && k->phase == PHASE_RUN && !is_member(k)) {
		log_notice("this node is no member of a cluster any more");
		down(k);
	}
}

/* ---- phases ---- */

static void up(struct keeperd *k)
{
	k->watch = close_fd(k->watch);
	k->phase = PHASE_RUN;
	for (unsigned i = 0; i < PROGRAMS; i++)
		child_want(&k->child[i], clock_ms());
	if (k->child[PANDOD].state == CHILD_ABSENT)
		ready(k);
}

/* Watches first and looks then, so that nothing comes in between. */
static void wait_begin(struct keeperd *k)
{
	k->phase = PHASE_WAIT;
	k->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (k->watch < 0 || inotify_add_watch(k->watch, k->o->state_dir, IN_MOVED_TO | IN_CLOSE_WRITE | IN_CREATE) < 0) {
		log_error("watching %s: %m; start the service again after pando init or pando join", k->o->state_dir);
		k->watch = close_fd(k->watch);
	}
	if (is_member(k)) {
		up(k);
		return;
	}
	log_notice("no cluster yet in %s; waiting for one. Type `pando init` for a new cluster, or `pando join` with a token of a member "
		   "(made there by `pando token`)", k->o->state_dir);
	notify_send("READY=1\nSTATUS=waiting for pando init or pando join\n");
}

static void watch_read(struct keeperd *k)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	while (read(k->watch, events, sizeof events) > 0)
		; /* whatever it was, we look ourselves */
	if (is_member(k)) {
		log_notice("this node is a member of a cluster now");
		up(k);
	}
}

/* The first step of the way down; phase_step does the others. */
static void down(struct keeperd *k)
{
	for (unsigned i = 0; i < PROGRAMS; i++)
		if (k->child[i].state == CHILD_WAITING)
			k->child[i].state = CHILD_STOPPED;
	k->phase = PHASE_LEAVE;
	k->deadline_ms = clock_ms() + LEFTOVER_LEAVE_MS;
	k->is_killed = 0;
	child_signal(&k->child[PANDOD], SIGTERM, 0);
}

static void others_begin(struct keeperd *k)
{
	k->phase = PHASE_OTHERS;
	k->deadline_ms = clock_ms() + OTHERS_MS;
	k->is_killed = 0;
	for (unsigned i = STREAMS; i < PROGRAMS; i++)
		child_signal(&k->child[i], SIGTERM, 0);
}

static int runs_any(const struct keeperd *k, unsigned first, unsigned last)
{
	for (unsigned i = first; i <= last; i++)
		if (k->child[i].state == CHILD_RUNS)
			return 1;
	return 0;
}

/* 1: all of first..last have ended, or there is no more waiting for them. */
static int are_down(struct keeperd *k, unsigned first, unsigned last)
{
	if (!runs_any(k, first, last))
		return 1;
	if (clock_ms() < k->deadline_ms)
		return 0;
	for (unsigned i = first; i <= last; i++) {
		if (k->child[i].state != CHILD_RUNS)
			continue;
		if (k->is_killed)
			log_error("%s (%d) does not even end by SIGKILL; going on without", k->child[i].name, k->child[i].pid);
		else
			log_warn("%s (%d) does not end: killed", k->child[i].name, k->child[i].pid);
		child_signal(&k->child[i], SIGKILL, 1);
	}
	k->deadline_ms = clock_ms() + KILLED_MS;
	return k->is_killed++;
}

static int may_start(const struct keeperd *k, unsigned i)
{
	return k->child[i].state == CHILD_WAITING && !(i == PANDOD && k->is_sweeping);
}

/* 1: this is the end of the program. */
static int phase_step(struct keeperd *k)
{
	sweep(k);
	if (k->phase == PHASE_LEAVE && are_down(k, PANDOD, PANDOD))
		others_begin(k);
	if (k->phase == PHASE_OTHERS && are_down(k, STREAMS, PROCFS) && !k->is_sweeping) {
		space_end(k);
		if (k->is_ending)
			return 1;
		wait_begin(k);
	}
	if (k->phase == PHASE_WAIT && k->is_ending)
		return 1;
	for (unsigned i = 0; k->phase == PHASE_RUN && i < PROGRAMS; i++)
		if (may_start(k, i) && k->child[i].start_ms <= clock_ms())
			program_start(k, i);
	return 0;
}

/* ---- loop ---- */

/* It is a zombie until the waitpid here, so that its number is its own as long as anything is done about it. */
static void child_reap(struct keeperd *k, const siginfo_t *si)
{
	pid_t pid = si->si_pid;
	int status = si->si_code == CLD_EXITED ? si->si_status << 8 : si->si_status | (si->si_code == CLD_DUMPED ? 0x80 : 0);
	for (unsigned i = 0; i < PROGRAMS; i++)
		if (k->child[i].state == CHILD_RUNS && k->child[i].pid == pid)
			program_ended(k, i, status);
	(void)waitpid(pid, NULL, 0);
	if (pid == k->init.pid)
		space_gone(k, status);
}

static void reap(struct keeperd *k)
{
	for (;;) {
		siginfo_t si = { 0 };
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || !si.si_pid)
			return;
		child_reap(k, &si);
	}
}

static void signals_read(struct keeperd *k)
{
	struct signalfd_siginfo si;
	while (read(k->signals, &si, sizeof si) == (ssize_t)sizeof si) {
		if (si.ssi_signo == SIGCHLD || k->is_ending)
			continue;
		log_notice("%s: ending", si.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
		notify_send("STOPPING=1\nSTATUS=leaving the cluster\n");
		k->is_ending = 1;
		if (k->phase == PHASE_RUN)
			down(k);
	}
	reap(k);
}

static void earlier(uint64_t *at_ms, uint64_t other_ms)
{
	if (other_ms < *at_ms)
		*at_ms = other_ms;
}

/* For poll: until the next thing to do by time. */
static int time_left(const struct keeperd *k)
{
	uint64_t at_ms = UINT64_MAX, now = clock_ms();
	if ((k->phase == PHASE_LEAVE || k->phase == PHASE_OTHERS) && runs_any(k, PANDOD, PROCFS))
		earlier(&at_ms, k->deadline_ms);
	for (unsigned i = 0; k->phase == PHASE_RUN && i < PROGRAMS; i++)
		if (may_start(k, i))
			earlier(&at_ms, k->child[i].start_ms);
	if (k->is_sweeping)
		earlier(&at_ms, k->sweep_ms);
	if (at_ms == UINT64_MAX)
		return -1;
	return at_ms <= now ? 0 : (int)(at_ms - now);
}

static void loop(struct keeperd *k)
{
	while (!phase_step(k)) {
		struct pollfd p[3 + PROGRAMS] = {
			{ .fd = k->signals, .events = POLLIN },
			{ .fd = k->guard.timer, .events = POLLIN },
			{ .fd = k->watch, .events = POLLIN },
		};
		for (unsigned i = 0; i < PROGRAMS; i++)
			p[3 + i] = (struct pollfd){ .fd = k->child[i].conn.sock, .events = conn_events(&k->child[i].conn) };
		if (poll(p, 3 + PROGRAMS, time_left(k)) <= 0)
			continue;
		if (p[1].revents)
			guard_step(&k->guard);
		for (unsigned i = 0; i < PROGRAMS; i++)
			if (p[3 + i].revents)
				conn_step(&k->child[i].conn, 0);
		if (p[2].revents)
			watch_read(k);
		if (p[0].revents)
			signals_read(k);
	}
}

/* ---- begin and end ---- */

/* A record lock: no child has it, and it goes with us. The descriptor stays open for that. */
static int run_lock(const struct keeper_options *o, int *ret, struct err *e)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/keeper.lock", o->run_dir) >= sizeof path)
		return err_set(e, -ENAMETOOLONG, "%s: path too long", o->run_dir);
	_cleanup_(close_p) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", path);
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	if (fcntl(fd, F_SETLK, &l) < 0)
		return err_set(e, -EBUSY, "%s: another pando-keeper runs", path);
	*ret = take_fd(&fd);
	return 0;
}

static int signals_open(struct keeperd *k, struct err *e)
{
	static const int ignored[] = { SIGPIPE, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGQUIT, SIGXFSZ, SIGTSTP, SIGTTOU, SIGTTIN };
	sigset_t set;
	for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
		(void)signal(ignored[i], SIG_IGN);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_set(e, -errno, "signals: %m");
	k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->signals < 0 ? err_set(e, -errno, "signals: %m") : 0;
}

static void oom_spare(void)
{
	_cleanup_(close_p) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "-900", 4) < 0)
		log_debug("oom_score_adj: %m"); /* not root */
}

static void programs_find(struct keeperd *k)
{
	static const char *const names[PROGRAMS] = { [PANDOD] = "pandod", [STREAMS] = "pando-streams", [PROCFS] = "pando-procfs" };
	unsigned most = child_limits();
	k->room.max = most > 2 * OWN_FDS ? most - OWN_FDS : most / 2;
	for (unsigned i = 0; i < PROGRAMS; i++) {
		k->child[i] = (struct child){ .name = names[i], .store = { .room = &k->room, .max = KEEPER_FDS_MAX } };
		k->ops[i] = (struct conn_ops){ .on_space = i == PANDOD ? space_announced : space_refused,
					       .on_ready = i == PANDOD ? ready : ready_ignored };
		child_find(&k->child[i], k->o->libexec);
	}
}

int keeper_run(const struct keeper_options *o, struct err *e)
{
	static struct keeperd g_keeper;
	struct keeperd *k = &g_keeper;
	_cleanup_(close_p) int lock = -1;
	*k = (struct keeperd){ .o = o, .signals = -1, .watch = -1, .guard = { .timer = -1 } };
	int rc = run_lock(o, &lock, e);
	if (rc == 0)
		rc = signals_open(k, e);
	if (rc == 0) {
		rc = guard_init(&k->guard);
		if (rc < 0)
			(void)err_set(e, rc, "timer: %s", strerror(-rc));
	}
	if (rc == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		rc = err_set(e, -errno, "becoming a reaper: %m");
	if (rc == 0) {
		oom_spare();
		leftover_clear(o->run_dir);
		programs_find(k);
		wait_begin(k);
		loop(k);
		log_notice("ended");
	}
	guard_fini(&k->guard);
	k->signals = close_fd(k->signals);
	k->watch = close_fd(k->watch);
	return rc;
}
