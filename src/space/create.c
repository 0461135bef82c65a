#include "space/create.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stub/procmount.h"
#include "stub/proto.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static int text_write(const char *path, const char *text)
{
	_cleanup_(close_p) int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, strlen(text));
	return n < 0 ? -errno : 0;
}

/* The offset that our own clock has already: a new time namespace starts with it, and the kernel wants offsets from the machine's
 * clock (time_namespaces(7)). */
static int64_t clock_offset(const char *name)
{
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/timens_offsets", "re");
	char line[128], which[32];
	long long sec, nsec;
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%31s %lld %lld", which, &sec, &nsec) == 3 && strcmp(which, name) == 0)
			return sec * 1000000000 + nsec;
	return 0;
}

/* The space's clocks: CLOCK_MONOTONIC and CLOCK_BOOTTIME count from the cluster's epoch on every node. */
static int clocks_set(int64_t epoch_ns, struct err *e)
{
	static const struct {
		const char *name;
		clockid_t clock;
	} clocks[] = { { "monotonic", CLOCK_MONOTONIC }, { "boottime", CLOCK_BOOTTIME } };

	for (size_t i = 0; i < 2; i++) {
		struct timespec real, own;
		(void)clock_gettime(CLOCK_REALTIME, &real);
		(void)clock_gettime(clocks[i].clock, &own);
		int64_t want = (int64_t)real.tv_sec * 1000000000 + real.tv_nsec - epoch_ns;
		int64_t off = want - ((int64_t)own.tv_sec * 1000000000 + own.tv_nsec) + clock_offset(clocks[i].name);
		int64_t sec = off / 1000000000, nsec = off % 1000000000;
		if (nsec < 0) {
			nsec += 1000000000;
			sec--;
		}
		char line[96];
		(void)snprintf(line, sizeof line, "%s %lld %lld\n", clocks[i].name, (long long)sec, (long long)nsec);
		int rc = text_write("/proc/self/timens_offsets", line);
		if (rc < 0)
			return err_set(e, rc, "time namespace: offset \"%s\": %s", line, strerror(-rc));
	}
	return 0;
}

/* A directory for the space's cgroup: below our own in a cgroup2 hierarchy (whose freezer lets frozen tasks be traced), else
 * in the v1 freezer. "" when there is neither. */
static void cgroup_make(struct space_ends *ends, unsigned slot)
{
	ends->cgroup[0] = 0;
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	if (!mounts)
		return;
	char v1[PATH_MAX] = "", v2[PATH_MAX] = "", line[PATH_MAX], own1[PATH_MAX] = "", own2[PATH_MAX] = "";
	for (struct mntent *m = getmntent(mounts); m; m = getmntent(mounts)) {
		if (strcmp(m->mnt_type, "cgroup2") == 0)
			(void)snprintf(v2, sizeof v2, "%s", m->mnt_dir);
		else if (strcmp(m->mnt_type, "cgroup") == 0 && hasmntopt(m, "freezer"))
			(void)snprintf(v1, sizeof v1, "%s", m->mnt_dir);
	}
	(void)endmntent(mounts);

	_cleanup_(fclose_p) FILE *own = fopen("/proc/self/cgroup", "re");
	while (own && fgets(line, sizeof line, own)) {
		line[strcspn(line, "\n")] = 0;
		const char *path = strrchr(line, ':');
		if (!path)
			continue;
		if (strncmp(line, "0::", 3) == 0)
			(void)snprintf(own2, sizeof own2, "%s", path + 1);
		else if (strstr(line, "freezer"))
			(void)snprintf(own1, sizeof own1, "%s", path + 1);
	}
	for (int v = 2; v >= 1; v--) {
		const char *root = v == 2 ? v2 : v1, *sub = v == 2 ? own2 : own1;
		if (!*root)
			continue;
		char dir[2 * PATH_MAX + 64];
		(void)snprintf(dir, sizeof dir, "%s%s/pando-space-%u-%d", root, strcmp(sub, "/") == 0 ? "" : sub, slot, getpid());
		if (strlen(dir) < sizeof ends->cgroup && (mkdir(dir, 0755) == 0 || errno == EEXIST)) {
			(void)strcpy(ends->cgroup, dir);
			ends->freezer_v2 = v == 2;
			return;
		}
	}
}

int space_freeze(const struct space_ends *s, int frozen, struct err *e)
{
	char path[320];
	if (!s->cgroup[0])
		return err_set(e, -ENOENT, "no freezer cgroup here");
	(void)snprintf(path, sizeof path, "%s/%s", s->cgroup, s->freezer_v2 ? "cgroup.freeze" : "freezer.state");
	int rc = text_write(path, s->freezer_v2 ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED"));
	return rc < 0 ? err_set(e, rc, "%s: %s", path, strerror(-rc)) : 0;
}

void space_destroy(const struct space_ends *s)
{
	(void)space_freeze(s, 0, NULL);   /* v1: a frozen task does not die */
	if (s->init > 0)
		(void)kill(s->init, SIGKILL); /* the kernel kills the rest of its pid namespace */
	if (!s->cgroup[0])
		return;
	for (int i = 0; i < 500 && rmdir(s->cgroup) < 0 && errno == EBUSY; i++)
		(void)usleep(2000); /* until the last of them is gone; bounded */
}

static int mount_new(const char *type, const char *dir, unsigned long flags, const char *options, struct err *e)
{
	if (mount(type, dir, type, flags, options) < 0)
		return err_set(e, -errno, "mounting %s on %s: %m", type, dir);
	return 0;
}

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	long rc = syscall(nr, a, b, c, d, e, f);
	return rc < 0 ? -errno : rc;
}

/* The two descriptors of the FUSE /proc go to the creator before the zygote says a word. */
static int proc_send(int sock, const int fds[2], struct err *e)
{
	struct zyg_msg m = { .op = ZYG_PROC };
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(2 * sizeof(int))];
	} u = { .h = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int)) } };
	memcpy(CMSG_DATA(&u.h), fds, 2 * sizeof(int));
	struct iovec iov = { &m, sizeof m };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b };
	if (sendmsg(sock, &h, MSG_NOSIGNAL) != (ssize_t)sizeof m)
		return err_set(e, -errno, "descriptors of /proc: %m");
	return 0;
}

/* Mounts /proc. *ret_last_pid is the space's ns_last_pid, opened without a step through /proc, where nobody answers yet. */
static int proc_mount(const struct space_layout *l, int sock, int *ret_last_pid, struct err *e)
{
	int fds[2] = { -1, -1 }, rc = 0;
	if (l->use_fuse) {
		rc = procfs_mount_begin(call, &fds[0], &fds[1]);
		rc = rc < 0 ? err_set(e, rc, "mounting fuse on /proc: %s", strerror(-rc)) : proc_send(sock, fds, e);
	} else {
		rc = mount_new("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, e);
		fds[1] = rc < 0 ? -1 : open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (rc == 0) {
		*ret_last_pid = openat(fds[1], "sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC);
		if (*ret_last_pid < 0)
			rc = err_set(e, -errno, "/proc/sys/kernel/ns_last_pid: %m");
	}
	(void)close_fd(fds[0]);
	(void)close_fd(fds[1]);
	return rc;
}

static int dev_mount(struct err *e)
{
	int rc = mount_new("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5", e);
	if (rc < 0)
		return rc;
	if (mount("/dev/pts/ptmx", "/dev/ptmx", NULL, MS_BIND, NULL) < 0)
		return err_set(e, -errno, "binding /dev/ptmx: %m");
	(void)mkdir("/dev/shm", 01777);
	rc = mount_new("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", e);
	if (rc < 0)
		return rc;
	(void)mkdir("/dev/mqueue", 01777); /* not everywhere; then there is nothing to hide */
	if (access("/dev/mqueue", F_OK) == 0)
		(void)mount("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	return 0;
}

static int tmp_mount(const char *dir, struct err *e)
{
	static const char *const at[] = { "/tmp", "/var/tmp" };
	for (size_t i = 0; i < 2; i++) {
		char from[PATH_MAX];
		(void)snprintf(from, sizeof from, "%s/%s", dir, i ? "var-tmp" : "tmp");
		if (mkdir(from, 01777) == 0)
			(void)chmod(from, 01777);
		if (mount(from, at[i], NULL, MS_BIND, NULL) < 0)
			return err_set(e, -errno, "binding %s on %s: %m", from, at[i]);
	}
	return 0;
}

/* In pid 1 before it becomes pando-zygote. */
static int inside_setup(const struct space_layout *l, int sock, int *ret_last_pid, struct err *e)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_set(e, -errno, "making / a slave mount: %m");
	int rc = proc_mount(l, sock, ret_last_pid, e);
	if (rc == 0)
		rc = dev_mount(e);
	if (rc == 0 && l->shared_tmp && *l->shared_tmp)
		rc = tmp_mount(l->shared_tmp, e);
	if (rc == 0 && l->hostname && sethostname(l->hostname, strlen(l->hostname)) < 0)
		rc = err_set(e, -errno, "sethostname %s: %m", l->hostname);
	return rc;
}

/* Becomes pando-zygote with its three descriptors and nothing else open; returns only on failure. *report stays usable. */
static int zygote_exec(const struct space_layout *l, int sock, int bpf, int last_pid, int *report, struct err *e)
{
	char exe[PATH_MAX + 32], first[16];
	(void)snprintf(exe, sizeof exe, "%s/pando-zygote", l->libexec);
	(void)snprintf(first, sizeof first, "%u", (unsigned)l->slot * STUB_SLOT_SIZE);
	int binary = open(exe, O_RDONLY | O_CLOEXEC);
	if (binary < 0)
		return err_set(e, -errno, "%s: %m", exe);

	/* All out of the way first, so that no target number is overwritten while it is still needed. */
	int from[] = { sock, bpf, last_pid };
	for (size_t i = 0; i < 3; i++)
		from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 20);
	*report = fcntl(*report, F_DUPFD_CLOEXEC, 20);
	binary = fcntl(binary, F_DUPFD_CLOEXEC, 20);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		(void)dup2(null, fd);
	(void)dup2(from[0], STUB_FD_SOCK);
	(void)dup2(from[1], STUB_FD_BPF);
	(void)dup2(from[2], STUB_FD_LAST_PID);
	(void)close_range(STUB_FD_LAST_PID + 1, ~0u, CLOSE_RANGE_CLOEXEC);

	char *const argv[] = { (char *)(uintptr_t)"pando-init", first, NULL };
	char *const envp[] = { NULL };
	(void)fexecve(binary, argv, envp);
	return err_set(e, -errno, "executing %s: %m", exe);
}

/* pid 1 of the space. Reports to `report` by an error text; success is the close of it by exec. */
static void init_main(const struct space_layout *l, int sock, int bpf, int report)
{
	struct err e = { 0 };
	int last_pid = -1;
	int rc = inside_setup(l, sock, &last_pid, &e);
	if (rc == 0)
		rc = zygote_exec(l, sock, bpf, last_pid, &report, &e);
	(void)!write(report, &e, sizeof e); /* pandod may be gone; then nobody cares */
	_exit(rc == 0 ? 0 : 1);
}

/* Joins the new namespaces (a pid and a time namespace count only for children), forks pid 1 and tells its number. */
static void middle_main(const struct space_layout *l, const struct space_ends *ends, int sock, int bpf, int report)
{
	struct err e = { 0 };
	int rc = 0;
	(void)text_write("/proc/self/oom_score_adj", "0"); /* the daemons are spared, the users' programs are not */
	if (ends->cgroup[0]) {
		char path[320];
		(void)snprintf(path, sizeof path, "%s/cgroup.procs", ends->cgroup);
		rc = text_write(path, "0");
		if (rc < 0)
			(void)err_set(&e, rc, "%s: %s", path, strerror(-rc));
	}
	int flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
	if (rc == 0 && unshare(flags) < 0)
		rc = err_set(&e, -errno, "unshare: %m");
	if (rc == 0 && l->epoch_ns && unshare(CLONE_NEWTIME) == 0)
		rc = clocks_set(l->epoch_ns, &e);
	pid_t pid = -1;
	if (rc == 0) {
		pid = fork();
		if (pid == 0)
			init_main(l, sock, bpf, report);
		if (pid < 0)
			rc = err_set(&e, -errno, "fork: %m");
		else
			e.code = pid;
	}
	(void)!write(report, &e, sizeof e); /* code > 0: the number of pid 1 */
	_exit(0);
}

/* One message of pid 1 or the zygote, with the descriptors of ZYG_PROC. 0 when it is of that kind. */
static int ready_take(int sock, uint32_t op, struct space_ends *ret)
{
	struct zyg_msg m;
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(2 * sizeof(int))];
	} u;
	struct iovec iov = { &m, sizeof m };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.b, .msg_controllen = sizeof u.b };
	struct pollfd p = { .fd = sock, .events = POLLIN };
	if (poll(&p, 1, 5000) != 1 || recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof m || m.op != op)
		return -EIO;
	if (op != ZYG_PROC)
		return 0;
	const struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (!c || c->cmsg_len != CMSG_LEN(2 * sizeof(int)))
		return -EIO;
	int fds[2];
	memcpy(fds, CMSG_DATA(c), sizeof fds);
	ret->fuse_fd = fds[0];
	ret->proc_fd = fds[1];
	return 0;
}

/* Takes pid 1's outer number and errors from the report pipe (which closes when pando-zygote is executed), then waits for the
 * zygote. */
static int ready_wait(const struct space_layout *l, int sock, int report, struct space_ends *ret, struct err *e)
{
	struct err theirs;
	while (read(report, &theirs, sizeof theirs) == (ssize_t)sizeof theirs) {
		theirs.text[sizeof theirs.text - 1] = 0;
		if (theirs.code <= 0)
			return err_set(e, theirs.code ? theirs.code : -EIO, "%s", theirs.text);
		ret->init = theirs.code;
	}
	if (l->use_fuse && ready_take(sock, ZYG_PROC, ret) < 0)
		return err_set(e, -EIO, "pid 1 of the space did not send its /proc");
	if (ready_take(sock, ZYG_READY, ret) < 0)
		return err_set(e, -EIO, "the zygote of the space did not answer");
	return 0;
}

int space_create(const struct space_layout *l, struct space_ends *ret, struct err *e)
{
	_cleanup_(close_p) int bpf = memfd_create("pando-filter", MFD_CLOEXEC);
	if (bpf < 0)
		return err_set(e, -errno, "memfd_create: %m");
	int rc = space_filter_write(bpf, e);
	if (rc < 0)
		return rc;

	int sv[2], report[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(e, -errno, "socketpair: %m");
	_cleanup_(close_p) int ours = sv[0], theirs = sv[1];
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe: %m");
	_cleanup_(close_p) int report_r = report[0], report_w = report[1];

	*ret = (struct space_ends){ .sock = -1, .fuse_fd = -1, .proc_fd = -1 };
	cgroup_make(ret, l->slot);
	pid_t middle = fork();
	if (middle < 0)
		return err_set(e, -errno, "fork: %m");
	if (middle == 0)
		middle_main(l, ret, theirs, bpf, report_w);
	report_w = close_fd(report_w);
	theirs = close_fd(theirs);
	int status;
	(void)waitpid(middle, &status, 0);
	rc = ready_wait(l, ours, report_r, ret, e);
	if (rc < 0) {
		ret->fuse_fd = close_fd(ret->fuse_fd); /* first: who waits for an answer of it could not die */
		ret->proc_fd = close_fd(ret->proc_fd);
		space_destroy(ret);
		return err_wrap(e, rc, "making the space");
	}
	ret->sock = take_fd(&ours);
	return 0;
}
