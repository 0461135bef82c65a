/* Probes of cgroups, FUSE and mounts. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "kern/probe-int.h"
#include "wire/rd.h"

enum { STEP_MS = 2000, CGROUP_MS = 2000 };

#define FUSE_NOTIFY_RESEND_7_40 7
#define FUSE_UNIQUE_RESEND_7_40 (UINT64_C(1) << 63)

/* --- cgroups --- */

/* Where a cgroup hierarchy is mounted that we may use: v2, or v1 with this controller. 0 or -ENOENT. */
static int cgroup_mount(const char *controller, char *ret, size_t size)
{
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_(free_p) char *line = NULL;
	size_t cap = 0;
	if (!f)
		return -errno;
	while (getline(&line, &cap, f) > 0) {
		/* 25 1 0:22 ROOT POINT OPTIONS ... - TYPE SOURCE SUPEROPTIONS */
		char point[2048], type[32], super[512];
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %*s %2047s", point) != 1 ||
		    sscanf(dash + 3, "%31s %*s %511s", type, super) != 2 || strlen(point) >= size)
			continue;
		if (strcmp(type, controller ? "cgroup" : "cgroup2") != 0)
			continue;
		char *save = NULL;
		bool found = !controller;
		for (char *o = strtok_r(super, ",", &save); o && !found; o = strtok_r(NULL, ",", &save))
			found = strcmp(o, controller) == 0;
		if (found) {
			(void)strcpy(ret, point);
			return 0;
		}
	}
	return -ENOENT;
}

/* Our own group's directory in that hierarchy: "ID:CONTROLLERS:PATH". "" where it cannot be told, which is its root. */
static void cgroup_own(const char *controller, char *ret, size_t size)
{
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/cgroup", "re");
	_cleanup_(free_p) char *line = NULL;
	size_t cap = 0;
	*ret = 0;
	while (f && getline(&line, &cap, f) > 0) {
		char *names = strchr(line, ':');
		char *path = names ? strchr(names + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = 0;
		names++;
		path[strcspn(path, "\n")] = 0;
		bool mine = !controller && *names == 0;
		char *save = NULL;
		for (char *o = controller ? strtok_r(names, ",", &save) : NULL; o && !mine;
		     o = strtok_r(NULL, ",", &save))
			mine = strcmp(o, controller) == 0;
		if (mine && strcmp(path, "/") != 0 && !strstr(path, "/..") && strlen(path) < size)
			(void)strcpy(ret, path);
	}
}

void probe_cgroup_name(char ret[static 64], pid_t run)
{
	(void)snprintf(ret, 64, "pando-probe-%d", (int)run);
}

/* The two places where a probe group can be: below our own group, or below the root of the hierarchy. */
static void cgroup_path(const char *mount, const char *own, pid_t run, char *ret, size_t size)
{
	char name[64];
	probe_cgroup_name(name, run);
	(void)snprintf(ret, size, "%s%s/%s", mount, own, name);
}

void probe_cgroup_clean(pid_t run)
{
	static const char *const kinds[] = { NULL, "freezer" };
	for (size_t i = 0; i < 2; i++) {
		char mount[2048], own[2048], path[4200];
		if (cgroup_mount(kinds[i], mount, sizeof mount) < 0)
			continue;
		cgroup_own(kinds[i], own, sizeof own);
		cgroup_path(mount, own, run, path, sizeof path);
		uint64_t end = clock_ms() + 500;
		/* EBUSY until the last task is gone from the group, some time after it was reaped. */
		while (rmdir(path) < 0 && errno == EBUSY && clock_ms() < end)
			(void)poll(NULL, 0, 2);
		cgroup_path(mount, "", run, path, sizeof path);
		(void)rmdir(path); /* the probe itself waited; this is for a killed one */
	}
}

/* Makes the group. On 0 *ret_dir is its directory and path its name. */
static int cgroup_make(const char *controller, char *path, size_t size, int *ret_dir)
{
	char mount[2048], own[2048];
	int rc = cgroup_mount(controller, mount, sizeof mount);
	if (rc < 0)
		return rc;
	cgroup_own(controller, own, sizeof own);
	pid_t run = (pid_t)syscall(SYS_getppid);
	cgroup_path(mount, own, run, path, size);
	if (mkdir(path, 0755) < 0) { /* a group of a foreign namespace shows a path that is not there */
		if (errno != ENOENT)
			return -errno;
		cgroup_path(mount, "", run, path, size);
		if (mkdir(path, 0755) < 0)
			return -errno;
	}
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		rc = -errno;
		(void)rmdir(path);
		return rc;
	}
	*ret_dir = dir;
	return 0;
}

static void cgroup_drop(const char *path)
{
	uint64_t end = clock_ms() + 500;
	while (rmdir(path) < 0 && errno == EBUSY && clock_ms() < end)
		(void)poll(NULL, 0, 1);
}

static void sleep_forever(void)
{
	for (;;)
		(void)pause();
}

/* Reads a state file until it shows the word. */
static int state_wait(int dir, const char *file, const char *want)
{
	char text[256];
	uint64_t end = clock_ms() + CGROUP_MS;
	do {
		_cleanup_(close_p) int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		ssize_t n = read(fd, text, sizeof text - 1);
		if (n < 0)
			return -errno;
		text[n] = 0;
		if (strstr(text, want))
			return 0;
		(void)poll(NULL, 0, 1);
	} while (clock_ms() < end);
	return -ETIMEDOUT;
}

static int freezer1_works(int dir, pid_t pid)
{
	char text[16];
	(void)snprintf(text, sizeof text, "%d", (int)pid);
	int rc = probe_write_at(dir, "cgroup.procs", text);
	if (!rc)
		rc = probe_write_at(dir, "freezer.state", "FROZEN");
	if (!rc)
		rc = state_wait(dir, "freezer.state", "FROZEN");
	int thaw = probe_write_at(dir, "freezer.state", "THAWED");
	return rc ? rc : thaw;
}

void probe_cgroup1(struct kern_has *has)
{
	char path[4200];
	_cleanup_(close_p) int dir = -1;
	int rc = cgroup_make("freezer", path, sizeof path, &dir);
	if (!rc) {
		pid_t pid = probe_clone(0);
		if (pid == 0)
			sleep_forever();
		rc = pid < 0 ? pid : freezer1_works(dir, pid);
		if (pid > 0) {
			(void)kill(pid, SIGKILL);
			(void)probe_reap(pid, STEP_MS);
		}
		cgroup_drop(path);
	}
	probe_set(has, &has->cgroup_v1_freezer, rc);
}

static pid_t clone_into(int dir)
{
	struct clone_args a = { .exit_signal = SIGCHLD, .flags = CLONE_INTO_CGROUP, .cgroup = (unsigned)dir };
	long pid = syscall(SYS_clone3, &a, sizeof a);
	if (pid == 0)
		sleep_forever();
	return pid < 0 ? -errno : (pid_t)pid;
}

void probe_cgroup2(struct kern_has *has)
{
	char path[4200];
	_cleanup_(close_p) int dir = -1;
	int rc = cgroup_make(NULL, path, sizeof path, &dir);
	pid_t pid = rc ? rc : clone_into(dir);
	int freeze = pid < 0 ? pid : 0, killed = freeze;
	probe_set(has, &has->cgroup_v2, freeze);
	if (pid > 0) {
		freeze = probe_write_at(dir, "cgroup.freeze", "1");
		if (!freeze)
			freeze = state_wait(dir, "cgroup.events", "frozen 1");
		(void)probe_write_at(dir, "cgroup.freeze", "0");
		killed = probe_write_at(dir, "cgroup.kill", "1");
		if (killed)
			(void)kill(pid, SIGKILL);
		int end = probe_reap(pid, STEP_MS);
		if (!killed && end != -EINTR)
			killed = -EPROTO;
	}
	if (!rc)
		cgroup_drop(path);
	probe_set(has, &has->cgroup_v2_freeze, freeze);
	probe_set(has, &has->cgroup_v2_kill, killed);
}

/* --- FUSE: a mount attached nowhere, served by us, asked by a child --- */

static int fuse_mount(int dev, int *ret_root)
{
	char text[16];
	(void)snprintf(text, sizeof text, "%d", dev);
	_cleanup_(close_p) int fs = (int)syscall(SYS_fsopen, "fuse", 1 /* FSOPEN_CLOEXEC */);
	if (fs < 0)
		return -errno;
	static const char *const keys[] = { "fd", "rootmode", "user_id", "group_id" };
	const char *values[] = { text, "40000", "0", "0" };
	for (size_t i = 0; i < 4; i++)
		if (syscall(SYS_fsconfig, fs, 1 /* FSCONFIG_SET_STRING */, keys[i], values[i], 0) < 0)
			return -errno;
	if (syscall(SYS_fsconfig, fs, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) < 0)
		return -errno;
	int root = (int)syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0);
	if (root < 0)
		return -errno;
	*ret_root = root;
	return 0;
}

struct fuse_req {
	uint32_t opcode;
	uint64_t unique;
	uint32_t major, minor;
};

static int fuse_read(int dev, struct fuse_req *ret)
{
	uint8_t buf[FUSE_MIN_READ_BUFFER * 2];
	struct pollfd p = { .fd = dev, .events = POLLIN };
	if (poll(&p, 1, STEP_MS) != 1)
		return -ETIMEDOUT;
	ssize_t n = read(dev, buf, sizeof buf);
	if (n < 0)
		return -errno;
	struct rd r; /* struct fuse_in_header, then perhaps struct fuse_init_in; the kernel is of our byte order, which
			is little */
	rd_init(&r, buf, (size_t)n);
	(void)rd_u32(&r);
	ret->opcode = rd_u32(&r);
	ret->unique = rd_u64(&r);
	(void)rd_raw(&r, sizeof(struct fuse_in_header) - 16);
	ret->major = r.n >= 8 ? rd_u32(&r) : 0;
	ret->minor = r.n >= 4 ? rd_u32(&r) : 0;
	return r.bad ? -EBADMSG : 0;
}

static int fuse_init(int dev, struct kern_has *has)
{
	struct fuse_req q;
	int rc = fuse_read(dev, &q);
	if (rc)
		return rc;
	if (q.opcode != FUSE_INIT || q.major != 7)
		return -EPROTO;
	struct {
		struct fuse_out_header h;
		struct fuse_init_out o;
	} a = { .h = { .len = sizeof a, .unique = q.unique }, .o = { .major = 7, .minor = 31, .max_write = 4096 } };
	if (write(dev, &a, sizeof a) != (ssize_t)sizeof a)
		return -errno;
	has->fuse_minor = q.minor;
	return 0;
}

/* A request that was read but not answered is given again after a RESEND. */
static int fuse_resend(int dev, uint64_t unique)
{
	struct fuse_out_header h = { .len = sizeof h, .error = FUSE_NOTIFY_RESEND_7_40 };
	struct fuse_req q;
	if (write(dev, &h, sizeof h) != (ssize_t)sizeof h)
		return -errno;
	int rc = fuse_read(dev, &q);
	if (rc)
		return rc;
	return q.unique == (unique | FUSE_UNIQUE_RESEND_7_40) ? 0 : -EPROTO;
}

static int fuse_ask(int dev, int root, struct kern_has *has)
{
	struct fuse_req q;
	int rc = fuse_init(dev, has);
	if (rc)
		return rc;
	pid_t pid = probe_clone(0);
	if (pid == 0) {
		struct stat st;
		(void)close(dev); /* else its own copy would keep the connection, and it, for ever */
		_exit(fstatat(root, "", &st, AT_EMPTY_PATH) < 0 && errno == EACCES ? 0 : 1);
	}
	if (pid < 0)
		return pid;
	rc = fuse_read(dev, &q);
	if (!rc && q.opcode != FUSE_GETATTR)
		rc = -EPROTO;
	probe_set(has, &has->fuse_resend, rc ? rc : fuse_resend(dev, q.unique));
	if (!rc) {
		struct fuse_out_header h = { .len = sizeof h, .error = -EACCES, .unique = q.unique };
		rc = write(dev, &h, sizeof h) == (ssize_t)sizeof h ? 0 : -errno;
		if (rc == -ENOENT) { /* resent: it goes by its new number */
			h.unique |= FUSE_UNIQUE_RESEND_7_40;
			rc = write(dev, &h, sizeof h) == (ssize_t)sizeof h ? 0 : -errno;
		}
	}
	int ended = probe_reap(pid, STEP_MS);
	return rc ? rc : ended > 0 ? -EPROTO : ended;
}

void probe_fuse(struct kern_has *has)
{
	_cleanup_(close_p) int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	_cleanup_(close_p) int root = -1;
	int rc = dev < 0 ? -errno : 0;
	probe_set(has, &has->dev_fuse, rc);
	probe_set(has, &has->fuse_resend, rc);
	if (!rc)
		rc = fuse_mount(dev, &root);
	if (!rc)
		rc = fuse_ask(dev, root, has);
	probe_set(has, &has->fuse, rc);
	if (rc)
		probe_set(has, &has->fuse_resend, rc);
}

/* --- mounts --- */

static int open_tree_works(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	_cleanup_(close_p) int tree =
	    (int)syscall(SYS_open_tree, AT_FDCWD, "/dev", 1u | O_CLOEXEC /* OPEN_TREE_CLONE */);
	if (tree < 0)
		return -errno;
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "/proc", 4 /* MOVE_MOUNT_F_EMPTY_PATH */) < 0)
		return -errno;
	struct stat a, b;
	if (stat("/dev/null", &a) < 0 || stat("/proc/null", &b) < 0)
		return -errno;
	return a.st_ino == b.st_ino ? 0 : -EPROTO;
}

static int openat2_works(void)
{
	_cleanup_(close_p) int dir = open("/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	_cleanup_(close_p) int fd = (int)syscall(SYS_openat2, dir, "/../../..", &how, sizeof how);
	struct stat a, b;
	if (dir < 0 || fd < 0 || fstat(dir, &a) < 0 || fstat(fd, &b) < 0)
		return -errno;
	return a.st_ino == b.st_ino ? 0 : -EPROTO;
}

void probe_mount(struct kern_has *has)
{
	probe_set(has, &has->openat2, openat2_works());
	probe_set(has, &has->open_tree, open_tree_works());
}
