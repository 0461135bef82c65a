/* How the /proc of a space is put together, in the space's own mount namespace (as root; its propagation is private or slave). For
 * normal and freestanding programs: nothing but the system call function of the caller is used.
 *
 *   /proc           FUSE, answered by pando-procfs
 *   /proc/.n        native procfs of the space's pid namespace, mounted inside: links lead into it, and it is the never overmounted
 *                   procfs that the kernel asks for when a user namespace wants to mount one (unshare --mount-proc, bwrap --proc)
 *   /proc/sys       /proc/.n/sys, bound (sysctl insists on real paths)
 *   /dev/fd         symbolic link to PROCFS_DEV_FD, stdin, stdout, stderr to PROCFS_DEV_STDIN...: straight into the native one, so that
 *                   a /proc server that is away breaks no `<(...)` and no /dev/stdin
 *
 * Step 1, procfs_mount_begin, by pid 1: makes the native procfs (detached) and mounts FUSE on /proc. Does not wait for the server:
 *   from here on a path through /proc does. The two descriptors go to pandod, which adds a journal (procfs/journal.h), gives all
 *   three to procfs_server_space and to the keeper.
 * Step 2, procfs_mount_finish: moves the native procfs to /proc/.n and binds /proc/sys. This looks up names in the FUSE file
 *   system, so it waits until a server answers: it is done by a process that nobody waits for (ZYG_PROC_FINISH), when on_client
 *   said that a server is there. What is done already is left alone, so it may be asked for again.
 * Step 3, procfs_dev_links, by pid 1, at any time: /dev is the host's and stays as it is; each of the four links that is there has
 *   another one mounted over it. */
#pragma once

#include <fcntl.h>
#include <sys/syscall.h>

#define PROCFS_DEV_FD "/proc/.n/self/fd"
#define PROCFS_DEV_STDIN "/proc/.n/self/fd/0"
#define PROCFS_DEV_STDOUT "/proc/.n/self/fd/1"
#define PROCFS_DEV_STDERR "/proc/.n/self/fd/2"

/* Flags of mount(2) for the FUSE file system, and the room that its options need. */
enum { PROCFS_MOUNT_FLAGS = 2 | 4 | 8 /* MS_NOSUID | MS_NODEV | MS_NOEXEC */, PROCFS_MOUNT_OPTIONS_MAX = 128 };

/* Of <linux/mount.h>, which cannot be included beside <sys/mount.h>. */
enum {
	PROCFS_FSOPEN_CLOEXEC = 1,
	PROCFS_FSCONFIG_SET_STRING = 1,
	PROCFS_FSCONFIG_CMD_CREATE = 6,
	PROCFS_FSMOUNT_CLOEXEC = 1,
	PROCFS_MOUNT_ATTRS = 2 | 4 | 8, /* MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC */
	PROCFS_MOVE_MOUNT_F_EMPTY_PATH = 4,
	PROCFS_OPEN_TREE = 1 | O_CLOEXEC | 0x100, /* OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW */
	PROCFS_MS_BIND = 4096,
	PROCFS_MNT_DETACH = 2,
	PROCFS_MAGIC = 0x9fa0,
};

/* A system call of the caller's: result or -errno. */
typedef long procfs_syscall_fn(long nr, long a, long b, long c, long d, long e, long f);

/* Writes the options of mount("proc", "/proc", "fuse", PROCFS_MOUNT_FLAGS, options) for this /dev/fuse. Returns their length. */
static inline unsigned procfs_mount_options(int fuse_fd, char ret[static PROCFS_MOUNT_OPTIONS_MAX])
{
	static const char rest[] = ",rootmode=40555,user_id=0,group_id=0,allow_other,default_permissions";
	char digits[12];
	unsigned n = 0, d = 0;
	unsigned v = (unsigned)fuse_fd;
	do {
		digits[d++] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	ret[n++] = 'f';
	ret[n++] = 'd';
	ret[n++] = '=';
	while (d)
		ret[n++] = digits[--d];
	for (unsigned i = 0; i < sizeof(rest); i++)
		ret[n++] = rest[i];
	return n - 1;
}

static inline long procfs_ptr(const void *p)
{
	return (long)p;
}

/* Step 1. The caller is in the new pid namespace (pid 1 of it, or its child) and owns both descriptors on 0 (O_CLOEXEC). -errno of the
 * step that failed; nothing is mounted then. */
static inline int procfs_mount_begin(procfs_syscall_fn *sys, int *ret_fuse_fd, int *ret_proc_fd)
{
	char options[PROCFS_MOUNT_OPTIONS_MAX];
	long fs = sys(SYS_fsopen, procfs_ptr("proc"), PROCFS_FSOPEN_CLOEXEC, 0, 0, 0, 0);
	if (fs < 0)
		return (int)fs;
	(void)sys(SYS_fsconfig, fs, PROCFS_FSCONFIG_SET_STRING, procfs_ptr("source"), procfs_ptr("proc"), 0, 0); /* only shown */
	long rc = sys(SYS_fsconfig, fs, PROCFS_FSCONFIG_CMD_CREATE, 0, 0, 0, 0);
	long proc = rc < 0 ? rc : sys(SYS_fsmount, fs, PROCFS_FSMOUNT_CLOEXEC, PROCFS_MOUNT_ATTRS, 0, 0, 0);
	(void)sys(SYS_close, fs, 0, 0, 0, 0, 0);
	if (proc < 0)
		return (int)proc;
	long fuse = sys(SYS_openat, AT_FDCWD, procfs_ptr("/dev/fuse"), O_RDWR | O_CLOEXEC, 0, 0, 0);
	rc = fuse;
	if (fuse >= 0) {
		(void)procfs_mount_options((int)fuse, options);
		rc = sys(SYS_mount, procfs_ptr("proc"), procfs_ptr("/proc"), procfs_ptr("fuse"), PROCFS_MOUNT_FLAGS, procfs_ptr(options), 0);
	}
	if (rc < 0) {
		if (fuse >= 0)
			(void)sys(SYS_close, fuse, 0, 0, 0, 0, 0);
		(void)sys(SYS_close, proc, 0, 0, 0, 0, 0);
		return (int)rc;
	}
	*ret_fuse_fd = (int)fuse;
	*ret_proc_fd = (int)proc;
	return 0;
}

/* Whether a native procfs is mounted there. */
static inline int procfs_is_native(procfs_syscall_fn *sys, const char *path)
{
	long st[16] = { 0 }; /* struct statfs has 120 bytes; its first member is f_type */
	return sys(SYS_statfs, procfs_ptr(path), procfs_ptr(st), 0, 0, 0, 0) == 0 && st[0] == PROCFS_MAGIC;
}

/* Step 2. proc_fd stays the caller's. 0 also when it was done before; -errno of the step that failed. */
static inline int procfs_mount_finish(procfs_syscall_fn *sys, int proc_fd)
{
	long rc = 0;
	if (!procfs_is_native(sys, "/proc/.n"))
		rc = sys(SYS_move_mount, proc_fd, procfs_ptr(""), AT_FDCWD, procfs_ptr("/proc/.n"), PROCFS_MOVE_MOUNT_F_EMPTY_PATH, 0);
	if (rc < 0 && !procfs_is_native(sys, "/proc/.n")) /* somebody else may have been faster */
		return (int)rc;
	rc = 0;
	if (!procfs_is_native(sys, "/proc/sys"))
		rc = sys(SYS_mount, procfs_ptr("/proc/.n/sys"), procfs_ptr("/proc/sys"), 0, PROCFS_MS_BIND, 0, 0);
	return rc < 0 ? (int)rc : 0;
}

/* A link name -> target in dir, mounted over the link of that name in dev. One that is not there, or is no link, stays away. */
static inline long procfs_dev_link(procfs_syscall_fn *sys, long dir, long dev, const char *name, const char *target)
{
	long rc = sys(SYS_symlinkat, procfs_ptr(target), dir, procfs_ptr(name), 0, 0, 0);
	if (rc < 0)
		return rc;
	long tree = sys(SYS_open_tree, dir, procfs_ptr(name), PROCFS_OPEN_TREE, 0, 0, 0);
	if (tree < 0)
		return tree;
	rc = sys(SYS_move_mount, tree, procfs_ptr(""), dev, procfs_ptr(name), PROCFS_MOVE_MOUNT_F_EMPTY_PATH, 0);
	(void)sys(SYS_close, tree, 0, 0, 0, 0, 0);
	return rc == -2 /* ENOENT */ || rc == -20 /* ENOTDIR */ ? 0 : rc;
}

/* Step 3. Where the links are made is mounted on /proc for a moment: before step 1 only. -errno of the step that failed: some links are
 * as they were, and /proc too. */
static inline int procfs_dev_links(procfs_syscall_fn *sys)
{
	const char *const links[4][2] = {
		{ "fd", PROCFS_DEV_FD }, { "stdin", PROCFS_DEV_STDIN }, { "stdout", PROCFS_DEV_STDOUT }, { "stderr", PROCFS_DEV_STDERR },
	};
	long rc = sys(SYS_mount, procfs_ptr("dev-links"), procfs_ptr("/proc"), procfs_ptr("tmpfs"), PROCFS_MOUNT_FLAGS,
		      procfs_ptr("mode=755,size=64k,nr_inodes=16"), 0);
	if (rc < 0)
		return (int)rc;
	long dir = sys(SYS_openat, AT_FDCWD, procfs_ptr("/proc"), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
	long dev = sys(SYS_openat, AT_FDCWD, procfs_ptr("/dev"), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
	rc = dir < 0 ? dir : dev < 0 ? dev : 0;
	for (int i = 0; i < 4 && rc == 0; i++)
		rc = procfs_dev_link(sys, dir, dev, links[i][0], links[i][1]);
	if (dir >= 0)
		(void)sys(SYS_close, dir, 0, 0, 0, 0, 0);
	if (dev >= 0)
		(void)sys(SYS_close, dev, 0, 0, 0, 0, 0);
	(void)sys(SYS_umount2, procfs_ptr("/proc"), PROCFS_MNT_DETACH, 0, 0, 0, 0);
	return (int)rc;
}
