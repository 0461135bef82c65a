/* How the /proc of a space is put together, in the space's own mount namespace (as root; its propagation is private or slave). For
 * normal and freestanding programs: nothing but the system call function of the caller is used.
 *
 *   /proc           FUSE, answered by pando-procfs
 *   /proc/.n        native procfs of the space's pid namespace, mounted inside: links lead into it, and it is the never overmounted
 *                   procfs that the kernel asks for when a user namespace wants to mount one (unshare --mount-proc, bwrap --proc)
 *   /proc/sys       /proc/.n/sys, bound (sysctl insists on real paths)
 * /dev is the host's and stays as it is: its links fd, stdin, stdout and stderr lead to /proc/self/fd, and from there past the server.
 * The links of the root of /proc are constant and kept by the kernel, so that a server that is away breaks no `<(...)` and no /dev/stdin.
 * (Other links mounted over those of /dev were tried: bwrap cannot remount what it finds in the list of mounts there.)
 *
 * Step 1, procfs_mount_begin, by pid 1: makes the native procfs (detached) and mounts FUSE on /proc. Does not wait for the server:
 *   from here on a path through /proc does. The two descriptors go to pandod, which adds a journal (procfs/journal.h), gives all
 *   three to procfs_server_space and to the keeper.
 * Step 2, procfs_mount_finish: moves the native procfs to /proc/.n and binds /proc/sys. This looks up names in the FUSE file
 *   system, so it waits until a server answers: it is done by a process that nobody waits for (ZYG_PROC_FINISH), when on_client
 *   said that a server is there. What is done already is left alone, so it may be asked for again. */
#pragma once

#include <fcntl.h>
#include <sys/syscall.h>

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
	PROCFS_MS_BIND = 4096,
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
	if (rc < 0)
		return (int)rc;

	/* What is most used, so that the kernel has it when the server is away for the first time. */
	const char *const links[] = { "/proc/self", "/proc/thread-self", "/proc/mounts", "/proc/net" };
	char text[64];
	for (int i = 0; i < 4; i++)
		(void)sys(SYS_readlink, procfs_ptr(links[i]), procfs_ptr(text), sizeof(text), 0, 0, 0);
	return 0;
}
