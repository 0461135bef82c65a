/* fstat and its like on the standard descriptors: a delegated pipe is a file of a FUSE file system, which cannot say S_IFIFO (the kernel would
 * open a pipe of this node). Programs look at that: head does not seek back in a pipe. So the three standard descriptors, which are
 * the ones that matter, are answered here; nothing is asked of the file system, whose server must not be able to hold us up. */
#include "space/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "kern/rmem.h"

/* <sys/stat.h> has struct stat but collides with <linux/stat.h>, which alone has struct statx in all libcs: the kernel's layout of both. */
struct stat_x86_64 {
	uint64_t dev, ino, nlink;
	uint32_t mode, uid, gid, pad;
	uint64_t rdev;
	int64_t size, blksize, blocks;
	int64_t times[6]; /* access, change of content, change: seconds, nanoseconds */
	int64_t unused[3];
};
_Static_assert(sizeof(struct stat_x86_64) == 144, "struct stat of x86-64");

enum { PIPE_DEV = 13, PIPE_MODE = S_IFIFO | S_IRUSR | S_IWUSR, PAGE = 4096 };

/* The inode number of the delegated pipe that this descriptor is, or 0. */
static uint64_t pipe_of(pid_t outer, int fd)
{
	static const char name[] = "/pipe:["; /* a pipe of this node has no slash */
	char what[32], link[64];
	(void)snprintf(what, sizeof what, "fd/%d", fd);
	int n = procinfo_link(outer, what, link, sizeof link);
	return n > 0 && strncmp(link, name, sizeof name - 1) == 0 ? strtoull(link + sizeof name - 1, NULL, 10) : 0;
}

static int stat_give(pid_t tid, uint64_t to, uint64_t ino, const struct procinfo *info)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	struct stat_x86_64 st = { .dev = PIPE_DEV, .ino = ino, .nlink = 1, .mode = PIPE_MODE, .uid = info->uid[1], .gid = info->gid[1], .blksize = PAGE };
	for (int i = 0; i < 6; i += 2) {
		st.times[i] = now.tv_sec;
		st.times[i + 1] = now.tv_nsec;
	}
	return rmem_write(tid, (struct raddr){ to }, &st, sizeof st);
}

static int statx_give(pid_t tid, uint64_t to, uint64_t ino, const struct procinfo *info)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	struct statx_timestamp at = { .tv_sec = now.tv_sec, .tv_nsec = (uint32_t)now.tv_nsec };
	struct statx st = { .stx_mask = STATX_BASIC_STATS, .stx_blksize = PAGE, .stx_nlink = 1, .stx_uid = info->uid[1], .stx_gid = info->gid[1],
			    .stx_mode = PIPE_MODE, .stx_ino = ino, .stx_atime = at, .stx_ctime = at, .stx_mtime = at, .stx_dev_minor = PIPE_DEV };
	return rmem_write(tid, (struct raddr){ to }, &st, sizeof st);
}

void trap_stat(struct trap *t)
{
	const struct seccomp_data *d = &t->req.data;
	pid_t tid = (pid_t)t->req.pid;
	struct procinfo info;
	char c = 1;
	uint64_t ino = pipe_of(tid, (int)d->args[0]);
	int by_path = d->nr != SYS_fstat && (rmem_read(tid, (struct raddr){ d->args[1] }, &c, 1) < 0 || c != 0);
	if (!ino || by_path || procinfo_read(tid, &info) < 0 || trap_valid(t) < 0) {
		trap_continue(t);
		return;
	}
	int rc;
	if (d->nr == SYS_statx)
		rc = statx_give(tid, d->args[4], ino, &info);
	else
		rc = stat_give(tid, d->args[d->nr == SYS_fstat ? 1 : 2], ino, &info);
	trap_return(t, 0, rc < 0 ? EFAULT : 0);
}
