/* Probes of namespaces, pids and clocks. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/probe-int.h"

#define NS_GET_PID_FROM_PIDNS_6_11 _IOR(0xb7, 0x6, int)
#define NS_GET_TGID_FROM_PIDNS_6_11 _IOR(0xb7, 0x7, int)
#define NS_GET_PID_IN_PIDNS_6_11 _IOR(0xb7, 0x8, int)
#define NS_GET_TGID_IN_PIDNS_6_11 _IOR(0xb7, 0x9, int)

enum { STEP_MS = 2000, WANTED_PID = 31337, STEERED_PID = 20000, OWN_PID_MAX = 31999, SHIFT_S = 1000 };

void probe_namespaces(struct kern_has *has)
{
	int rc = unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP) < 0 ? -errno : 0;
	if (!rc) {
		pid_t pid = probe_clone(CLONE_NEWPID);
		if (pid == 0)
			_exit(syscall(SYS_getpid) == 1 ? 0 : 1);
		rc = pid < 0 ? pid : probe_reap(pid, STEP_MS);
	}
	probe_set(has, &has->namespaces, rc > 0 ? -EPROTO : rc);
}

/* The procfs to write /proc/sys by: containers often have /proc/sys read-only, and a mount of our own, attached
 * nowhere, is not. A directory descriptor; AT_FDCWD-like failure falls back to /proc. */
static int procfs_own(void)
{
	_cleanup_(close_p) int fs = (int)syscall(SYS_fsopen, "proc", 1 /* CLOEXEC */);
	if (fs >= 0 && syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) == 0) {
		int fd = (int)syscall(SYS_fsmount, fs, 1, 0);
		if (fd >= 0)
			return fd;
	}
	return open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

struct pidns {
	int host_pid_max; /* descriptor of the file, opened outside */
	uint64_t host_ino;
};

/* Clones a child that exits at once. Its pid, or -errno. */
static int clone_pid(pid_t want)
{
	struct clone_args a = { .exit_signal = SIGCHLD };
	if (want) {
		a.set_tid = (uint64_t)(uintptr_t)&want;
		a.set_tid_size = 1;
	}
	long pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(0);
	(void)waitpid((pid_t)pid, NULL, 0); /* no deadline: it does nothing but exit */
	return (int)pid;
}

static int last_pid_works(int proc)
{
	char text[16];
	(void)snprintf(text, sizeof text, "%d", STEERED_PID - 1);
	int rc = probe_write_at(proc, "sys/kernel/ns_last_pid", text);
	if (rc < 0)
		return rc;
	int pid = clone_pid(0);
	return pid < 0 ? pid : pid == STEERED_PID ? 0 : -EPROTO;
}

/* Before 6.14 the file is one for the machine, and a write here would change it. So first look, without writing,
 * whether the same name in the same procfs is another file in this namespace than outside; only then write, and see
 * that outside nothing changed. */
static int pid_max_works(int proc, const struct pidns *p)
{
	struct stat st;
	char before[16] = "", text[16] = "";
	if (p->host_pid_max < 0 || stat("/proc/sys/kernel/pid_max", &st) < 0)
		return -errno;
	if (st.st_ino == p->host_ino)
		return -EOPNOTSUPP;
	if (pread(p->host_pid_max, before, sizeof before - 1, 0) <= 0)
		return -errno;
	char want[16];
	(void)snprintf(want, sizeof want, "%d", OWN_PID_MAX);
	int rc = probe_write_at(proc, "sys/kernel/pid_max", want);
	if (rc < 0)
		return rc;
	rc = probe_read_at(proc, "sys/kernel/pid_max", text, sizeof text);
	if (rc < 0)
		return rc;
	char after[16] = "";
	if (pread(p->host_pid_max, after, sizeof after - 1, 0) <= 0)
		return -errno;
	return strcmp(text, want) == 0 && strcmp(before, after) == 0 ? 0 : -EPROTO;
}

static void pidns_init(struct kern_has *has, const struct pidns *p)
{
	_cleanup_(close_p) int proc = procfs_own();
	char text[16] = "";
	int pid = clone_pid(WANTED_PID);
	probe_set(has, &has->set_tid, pid < 0 ? pid : pid == WANTED_PID ? 0 : -EPROTO);
	probe_set(has, &has->ns_last_pid, last_pid_works(proc));
	/* A new namespace starts at the highest limit where the limit is per namespace, else it has the machine's. */
	int rc = probe_read_at(proc, "sys/kernel/pid_max", text, sizeof text);
	probe_set(has, &has->host_pid_max, rc ? rc : atoi(text) >= 4194304 ? 0 : -ERANGE);
	probe_set(has, &has->ns_pid_max, pid_max_works(proc, p));
	_exit(0);
}

static int translate_works(pid_t pid)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)pid);
	_cleanup_(close_p) int ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return -errno;
	int in = ioctl(ns, NS_GET_PID_IN_PIDNS_6_11, pid), tgid_in = ioctl(ns, NS_GET_TGID_IN_PIDNS_6_11, pid);
	int from = ioctl(ns, NS_GET_PID_FROM_PIDNS_6_11, 1), tgid_from = ioctl(ns, NS_GET_TGID_FROM_PIDNS_6_11, 1);
	if (in < 0 || tgid_in < 0 || from < 0 || tgid_from < 0)
		return -errno;
	return in == 1 && tgid_in == 1 && from == pid && tgid_from == pid ? 0 : -EPROTO;
}

void probe_pidns(struct kern_has *has)
{
	struct pidns p = { .host_pid_max = open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC) };
	struct stat st = { 0 };
	char text[16] = "0";
	if (p.host_pid_max >= 0 && fstat(p.host_pid_max, &st) == 0)
		(void)!pread(p.host_pid_max, text, sizeof text - 1, 0);
	p.host_ino = st.st_ino;
	has->pid_max = (uint32_t)atoi(text);

	int gate[2];
	if (pipe2(gate, O_CLOEXEC) < 0)
		return;
	pid_t pid = probe_clone(CLONE_NEWPID);
	if (pid == 0) {
		char byte;
		(void)!read(gate[0], &byte, 1); /* stay until the translation was looked at */
		pidns_init(has, &p);
	}
	bool *fields[] = { &has->set_tid, &has->ns_last_pid, &has->ns_pid_max, &has->host_pid_max, &has->pid_in_pidns };
	if (pid < 0) {
		for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
			probe_set(has, fields[i], pid);
		return;
	}
	probe_set(has, &has->pid_in_pidns, translate_works(pid));
	(void)!write(gate[1], "", 1);
	(void)probe_reap(pid, STEP_MS); /* what it did not answer says -ETIMEDOUT */
}

static time_t monotonic_s(void)
{
	struct timespec ts = { 0 };
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

void probe_time(struct kern_has *has)
{
	time_t before = monotonic_s();
	char text[64];
	long long own = 0; /* offsets are from the machine's clock, not from ours: we may be in a shifted namespace */
	int rc = probe_read_at(AT_FDCWD, "/proc/self/timens_offsets", text, sizeof text);
	if (!rc)
		(void)sscanf(text, "monotonic %lld", &own);
	(void)snprintf(text, sizeof text, "monotonic %lld 0\nboottime %lld 0\n", own + SHIFT_S, own + SHIFT_S);
	rc = unshare(CLONE_NEWTIME) < 0 ? -errno : probe_write_at(AT_FDCWD, "/proc/self/timens_offsets", text);
	if (!rc) {
		pid_t pid = probe_clone(0);
		if (pid == 0) {
			time_t d = monotonic_s() - before;
			_exit(d >= SHIFT_S && d < SHIFT_S + 60 ? 0 : 1);
		}
		rc = pid < 0 ? pid : probe_reap(pid, STEP_MS);
	}
	probe_set(has, &has->time_ns, rc > 0 ? -EPROTO : rc);
}
