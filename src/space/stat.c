/* fstat and its like on the standard descriptors: a delegated pipe or terminal is a file of a FUSE file system, which cannot say what it is (the
 * kernel would open a pipe or a terminal of this node). Programs look at that: head does not seek back in a pipe, cat refuses to copy
 * a file onto itself. So the three standard descriptors, which are the ones that matter, are answered here; nothing is asked of the
 * file system, whose server must not be able to hold us up. */
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

#include "base/cleanup.h"
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

enum { PIPE_DEV = 13, PTS_DEV = 24, PTS_MAJOR = 136, PTS_INODES = 3, TTY_GID = 5, PAGE = 4096 };

/* What a delegated descriptor is. */
struct what {
	uint32_t mode, gid, dev;
	uint64_t ino, rdev;
};

/* The mount of the space's terminals, to tell them from delegated ones, which have the same name. 0: not known. */
static int devpts_mount(struct space *s)
{
	char path[64], line[1024], at[256];
	int id = 0;
	(void)snprintf(path, sizeof path, "/proc/%d/mountinfo", s->ends.init);
	_cleanup_(fclose_p) FILE *f = s->devpts_mount ? NULL : fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%d %*d %*s %*s %255s", &id, at) == 2 && strcmp(at, "/dev/pts") == 0)
			s->devpts_mount = id;
	return s->devpts_mount;
}

static int is_of_devpts(struct space *s, pid_t outer, int fd)
{
	char path[64], line[128];
	int id = 0;
	(void)snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", outer, fd);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			return id == devpts_mount(s);
	return 1; /* it has been closed: the kernel will say so */
}

/* 0 when the kernel's answer is right. */
static int what_of(struct space *s, const struct trap *t, struct what *ret)
{
	static const char pipe[] = "/pipe:[", pts[] = "/dev/pts/"; /* a pipe of this node has no slash */
	pid_t outer = (pid_t)t->req.pid;
	int fd = (int)t->req.data.args[0];
	char name[32], link[64];
	struct procinfo info;
	(void)snprintf(name, sizeof name, "fd/%d", fd);
	int n = procinfo_link(outer, name, link, sizeof link);
	if (n > 0 && strncmp(link, pipe, sizeof pipe - 1) == 0) {
		uint32_t gid = procinfo_read(outer, &info) == 0 ? info.gid[1] : 0;
		*ret = (struct what){ S_IFIFO | S_IRUSR | S_IWUSR, gid, PIPE_DEV, strtoull(link + sizeof pipe - 1, NULL, 10), 0 };
		return 1;
	}
	if (n > 0 && strncmp(link, pts, sizeof pts - 1) == 0 && link[sizeof pts - 1] != 'p' && !is_of_devpts(s, outer, fd)) {
		unsigned number = (unsigned)strtoul(link + sizeof pts - 1, NULL, 10);
		*ret = (struct what){ S_IFCHR | S_IRUSR | S_IWUSR | S_IWGRP, TTY_GID, PTS_DEV, number + PTS_INODES, makedev(PTS_MAJOR, number) };
		return 1;
	}
	return 0;
}

static int stat_give(pid_t tid, uint64_t to, const struct what *w, uint32_t uid)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	struct stat_x86_64 st = { .dev = w->dev, .ino = w->ino, .nlink = 1, .mode = w->mode, .uid = uid, .gid = w->gid, .rdev = w->rdev, .blksize = PAGE };
	for (int i = 0; i < 6; i += 2) {
		st.times[i] = now.tv_sec;
		st.times[i + 1] = now.tv_nsec;
	}
	return rmem_write(tid, (struct raddr){ to }, &st, sizeof st);
}

static int statx_give(pid_t tid, uint64_t to, const struct what *w, uint32_t uid)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	struct statx_timestamp at = { .tv_sec = now.tv_sec, .tv_nsec = (uint32_t)now.tv_nsec };
	struct statx st = { .stx_mask = STATX_BASIC_STATS, .stx_blksize = PAGE, .stx_nlink = 1, .stx_uid = uid, .stx_gid = w->gid,
			    .stx_mode = (uint16_t)w->mode, .stx_ino = w->ino, .stx_atime = at, .stx_ctime = at, .stx_mtime = at,
			    .stx_rdev_major = major(w->rdev), .stx_rdev_minor = minor(w->rdev), .stx_dev_minor = w->dev };
	return rmem_write(tid, (struct raddr){ to }, &st, sizeof st);
}

void trap_stat(struct trap *t)
{
	const struct seccomp_data *d = &t->req.data;
	pid_t tid = (pid_t)t->req.pid;
	struct procinfo info;
	char c = 1;
	struct what w;
	int by_path = d->nr != SYS_fstat && (rmem_read(tid, (struct raddr){ d->args[1] }, &c, 1) < 0 || c != 0);
	if (by_path || !what_of(t->s, t, &w) || procinfo_read(tid, &info) < 0 || trap_valid(t) < 0) {
		trap_continue(t);
		return;
	}
	int rc;
	if (d->nr == SYS_statx)
		rc = statx_give(tid, d->args[4], &w, info.uid[1]);
	else
		rc = stat_give(tid, d->args[d->nr == SYS_fstat ? 1 : 2], &w, info.uid[1]);
	trap_return(t, 0, rc < 0 ? EFAULT : 0);
}
