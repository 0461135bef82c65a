/* The list, and the runner of the probes.
 *
 * probe_run forks one runner (a subreaper, so that nothing can slip away from it), the runner forks one child for each
 * group of probes, all at once, over one shared page that holds the answers. When all have ended, or at the limit, it
 * kills and reaps whatever is left below it. Failures: a probe hangs -> killed, its fields say -ETIMEDOUT; a probe
 * crashes -> its fields too; the runner hangs (a child that cannot be killed) -> probe_run kills it and goes on with
 * what the page says. */
#include "kern/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "kern/probe-int.h"

#define ITEM(field, is_needed, label, lost)                                                                            \
	{                                                                                                              \
		.name = label, .offset = offsetof(struct kern_has, field), .needed = is_needed, .without = lost        \
	}

const struct probe_item probe_list[] = {
	ITEM(user_notif, true, "seccomp user notification",
	     "no call can be looked at: no placement at exec, no signals over nodes"),
	ITEM(notif_addfd, true, "seccomp ADDFD", "a waiting exec cannot become a ghost: no placement"),
	ITEM(addfd_send, false, "seccomp ADDFD_SEND", "descriptors are handed over in two steps: slower"),
	ITEM(wait_killable, true, "seccomp WAIT_KILLABLE_RECV",
	     "a signal during a placement would start the command twice"),
	ITEM(sync_wake_up, false, "seccomp SYNC_WAKE_UP", "looked-at calls may cost a wake-up on another CPU"),
	ITEM(namespaces, true, "namespaces", "no space on this node"),
	ITEM(time_ns, true, "time namespace",
	     "monotonic clocks differ between nodes: moved programs would see time jump"),
	ITEM(set_tid, true, "clone3 set_tid", "an arriving process cannot keep its pid"),
	ITEM(ns_last_pid, true, "ns_last_pid", "pids cannot be steered into the slot of the node"),
	ITEM(ns_pid_max, false, "pid_max per namespace (6.14)",
	     "no hard wall at the end of a slot: half of each slot is kept as a guard"),
	ITEM(host_pid_max, true, "pids up to 4194304", "the slots of pids do not exist: set kernel.pid_max=4194304"),
	ITEM(pid_in_pidns, false, "pid translation ioctls (6.11)", "pids are translated by reading /proc: slower"),
	ITEM(pidfd_info, false, "PIDFD_GET_INFO (6.13)", "ids of a process are read from /proc: slower"),
	ITEM(pidfd_exit, false, "PIDFD_INFO_EXIT (6.15)",
	     "the exit status of a process that another reaped is unknown"),
	ITEM(pidfd_getfd, true, "pidfd_getfd", "descriptors of a process cannot be taken along"),
	ITEM(vm_readv, true, "process_vm_readv, writev", "arguments of looked-at calls cannot be read"),
	ITEM(kcmp, true, "kcmp", "shared open files cannot be recognised: redirections would tear"),
	ITEM(seize, true, "ptrace SEIZE", "a waiting exec cannot become a ghost: no placement"),
	ITEM(suspend_seccomp, true, "ptrace SUSPEND_SECCOMP", "the ghost's own exec would be looked at: no placement"),
	ITEM(cgroup_v1_freezer, false, "cgroup v1 freezer", "no loss where the cgroup v2 freezer is there"),
	ITEM(cgroup_v2, false, "cgroup v2, clone into a group",
	     "the space is put into its groups after the start: slower"),
	ITEM(cgroup_v2_freeze, false, "cgroup v2 freezer",
	     "a cut-off node freezes its space by the v1 freezer, or by signals where that is absent too"),
	ITEM(cgroup_v2_kill, false, "cgroup.kill", "a node's space is ended process by process"),
	ITEM(psi, false, "pressure stall information", "the scheduler sees load but not pressure"),
	ITEM(dev_fuse, true, "/dev/fuse", "no /proc of the cluster, no delegated descriptors"),
	ITEM(fuse, true, "FUSE mount", "no /proc of the cluster, no delegated descriptors"),
	ITEM(fuse_resend, false, "FUSE RESEND (6.9)", "requests under way when a file server dies fail with an error"),
	ITEM(open_tree, true, "open_tree, move_mount", "mounts cannot be put into the space"),
	ITEM(openat2, true, "openat2 RESOLVE_IN_ROOT", "files cannot be looked up as the process would"),
	ITEM(uffd, false, "userfaultfd", "later: no post-copy migration, no shared memory over nodes"),
	ITEM(uffd_wp_async, false, "userfaultfd WP_ASYNC (6.7)", "later: no pre-copy migration"),
	ITEM(pagemap_scan, false, "PAGEMAP_SCAN (6.7)", "later: no pre-copy migration"),
	ITEM(tcp_repair, false, "TCP_REPAIR", "later: TCP connections do not move"),
	ITEM(tun, false, "tun devices", "pando dev cannot delay or lose packets"),
	ITEM(veth, false, "veth and bridge", "no trial clusters (pando dev) on this machine"),
	ITEM(nft_bridge, false, "nftables for bridges", "pando dev cannot cut links one by one"),
	ITEM(landlock, false, "Landlock", "no loss: programs that use it stay where they are"),
	ITEM(io_uring, false, "io_uring", "no loss: programs that use it stay where they are"),
};
const size_t probe_n = sizeof probe_list / sizeof probe_list[0];
_Static_assert(sizeof probe_list / sizeof probe_list[0] <= PROBE_MAX, "struct kern_has.why is too small");

static bool *field_of(struct kern_has *has, const struct probe_item *item)
{
	return (bool *)((char *)has + item->offset);
}

bool probe_present(const struct kern_has *has, const struct probe_item *item)
{
	return *(const bool *)((const char *)has + item->offset);
}

int probe_why(const struct kern_has *has, const struct probe_item *item)
{
	return has->why[item - probe_list];
}

const char *probe_missing(const struct kern_has *has)
{
	for (size_t i = 0; i < probe_n; i++)
		if (probe_list[i].needed && !probe_present(has, &probe_list[i]))
			return probe_list[i].name;
	return NULL;
}

void probe_set(struct kern_has *has, bool *field, int rc)
{
	for (size_t i = 0; i < probe_n; i++) {
		if (field_of(has, &probe_list[i]) == field) {
			has->why[i] = rc;
			*field = rc == 0;
			return;
		}
	}
	abort(); /* a field without a line in the list */
}

pid_t probe_clone(unsigned long flags)
{
	pid_t parent = (pid_t)syscall(SYS_getpid);
	long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* cannot fail for a valid signal */
		/* In a new pid namespace the parent shows as 0 whether it lives or not; the runner kills what is left.
		 */
		if (!(flags & CLONE_NEWPID) && (pid_t)syscall(SYS_getppid) != parent && syscall(SYS_getppid) != 0)
			_exit(126);
	}
	return (pid_t)pid;
}

int probe_reap(pid_t pid, int ms)
{
	_cleanup_(close_p) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return -errno;

	struct pollfd p = { .fd = fd, .events = POLLIN };
	int late = poll(&p, 1, ms) <= 0;
	if (late)
		(void)kill(pid, SIGKILL); /* our child, not reaped yet: the number is his */
	int st;
	if (waitpid(pid, &st, 0) != pid)
		return -errno;
	if (late)
		return -ETIMEDOUT;
	return WIFEXITED(st) ? WEXITSTATUS(st) : -EINTR;
}

int probe_write_at(int dir, const char *path, const char *text)
{
	_cleanup_(close_p) int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int probe_read_at(int dir, const char *path, char *ret, size_t size)
{
	_cleanup_(close_p) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, ret, size - 1);
	if (n < 0)
		return -errno;
	ret[n] = 0;
	ret[strcspn(ret, "\n")] = 0;
	return 0;
}

static void (*const probes[])(struct kern_has *) = {
	probe_cgroup1, probe_cgroup2, probe_net,  probe_seccomp, probe_trace,  probe_namespaces,
	probe_pidns,   probe_time,    probe_fuse, probe_mount,   probe_memory, probe_rest,
};
enum { PROBES = sizeof probes / sizeof probes[0] };

/* Kills and reaps all descendants: killing a parent makes us the parent of its children. At most ms. */
static void reap_all(int ms)
{
	uint64_t end = clock_ms() + (uint64_t)ms;
	char list[4096];
	while (clock_ms() < end) {
		while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
			;
		if (waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD)
			return;
		if (probe_read_at(AT_FDCWD, "/proc/thread-self/children", list, sizeof list) == 0)
			for (char *p = list, *next; *p; p = next) {
				long pid = strtol(p, &next, 10);
				if (next == p)
					break;
				if (pid > 1)
					(void)kill((pid_t)pid, SIGKILL); /* gone already is fine */
			}
		struct pollfd none = { .fd = -1 };
		(void)poll(&none, 1, 1); /* no descriptor tells of the death of children not started by us */
	}
}

static void runner(struct kern_has *has)
{
	pid_t pids[PROBES];
	int fds[PROBES];
	sigset_t none;

	(void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* without it only the killing of strays is lost */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < 32; s++)
		(void)signal(s, SIG_DFL);

	for (size_t i = 0; i < PROBES; i++) {
		pids[i] = probe_clone(0);
		if (pids[i] == 0) {
			probes[i](has);
			_exit(0);
		}
		fds[i] = pids[i] > 0 ? (int)syscall(SYS_pidfd_open, pids[i], 0) : -1;
	}
	uint64_t end = clock_ms() + PROBE_LIMIT_MS - 1000;
	for (size_t i = 0; i < PROBES; i++) {
		uint64_t now = clock_ms();
		struct pollfd p = { .fd = fds[i], .events = POLLIN };
		if (fds[i] >= 0)
			(void)poll(&p, 1, now < end ? (int)(end - now) : 0);
		if (pids[i] > 0) {
			(void)kill(pids[i], SIGKILL); /* has ended, or is late; not reaped yet */
			(void)waitpid(pids[i], NULL, p.revents ? 0 : WNOHANG);
		}
	}
	reap_all(500);
	probe_cgroup_clean((pid_t)syscall(SYS_getpid));
}

static void nothing_there(struct kern_has *has, int why)
{
	memset(has, 0, sizeof *has);
	for (size_t i = 0; i < probe_n; i++)
		has->why[i] = why;
}

int probe_run(struct kern_has *ret)
{
	nothing_there(ret, -ETIMEDOUT);
	struct kern_has *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		int rc = -errno;
		nothing_there(ret, rc);
		return rc;
	}
	*page = *ret;

	int rc = 0;
	pid_t pid = fork(); /* with libc's handlers: the caller may have threads */
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		runner(page);
		_exit(0);
	}
	if (pid < 0) {
		rc = -errno;
		nothing_there(ret, rc);
	} else {
		if (probe_reap(pid, PROBE_LIMIT_MS) != 0)
			probe_cgroup_clean(pid);
		*ret = *page;
	}
	(void)munmap(page, sizeof *page);
	return rc;
}
