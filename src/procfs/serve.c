#include "procfs/serve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Figures of a node that tell nothing about others' processes. */
static const char *const globals[] = {
	"buddyinfo", "consoles", "cpuinfo", "crypto", "devices", "diskstats", "dma", "filesystems", "interrupts", "iomem", "ioports",
	"loadavg", "locks", "mdstat", "meminfo", "misc", "modules", "partitions", "pressure", "schedstat", "softirqs", "stat",
	"swaps", "uptime", "version", "vmstat", "zoneinfo",
};

int serve_is_global(const char *name)
{
	for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++)
		if (strcmp(globals[i], name) == 0)
			return 1;
	return 0;
}

static int by_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static int is_hidden(const struct serve_job *job, uint32_t pid)
{
	return job->n_hidden && bsearch(&pid, job->hidden, job->n_hidden, sizeof(pid), by_u32);
}

/* Other nodes see processes that are here, and the figures above; the path itself is checked by remote_req_get. */
static int path_allowed(const struct serve_job *job)
{
	if (job->local)
		return 1;
	const char *path = job->q.path;
	if (!*path)
		return job->q.op == REMOTE_LIST;
	uint32_t pid = remote_path_pid(path, NULL);
	if (pid)
		return !is_hidden(job, pid);
	char first[32];
	size_t n = strcspn(path, "/");
	if (n >= sizeof(first))
		return 0;
	memcpy(first, path, n);
	first[n] = 0;
	return serve_is_global(first);
}

/* No symbolic link is followed on the way: a magic link would lead out of the procfs. */
static int open_beneath(int procfd, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC | O_NOFOLLOW, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_NO_XDEV };
	long fd = syscall(SYS_openat2, procfd, *path ? path : ".", &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

static void attr_of(const struct stat *st, struct remote_attr *ret)
{
	*ret = (struct remote_attr){ .mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid, .nlink = (uint32_t)st->st_nlink,
				     .size = (uint64_t)st->st_size, .mtime = st->st_mtim.tv_sec };
}

/* Text of the link name in dirfd, "" when it cannot be read or is too long. */
static int link_text(int dirfd, const char *name, char *ret, size_t size)
{
	ssize_t n = readlinkat(dirfd, name, ret, size - 1);
	int rc = n < 0 ? -errno : 0;
	ret[n < 0 ? 0 : n] = 0;
	return rc;
}

static int run_stat(const struct serve_job *job, struct wr *body)
{
	_cleanup_(close_p) int fd = open_beneath(job->procfd, job->q.path, O_PATH);
	if (fd < 0)
		return fd;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	struct remote_entry e = { .name = "x" };
	attr_of(&st, &e.attr);
	if (S_ISLNK(st.st_mode))
		(void)link_text(fd, "", e.link, sizeof(e.link)); /* not readable by this user: he asks again by REMOTE_READLINK and is told */
	remote_entry_put(body, &e);
	return 0;
}

static int run_readlink(const struct serve_job *job, struct wr *body)
{
	_cleanup_(close_p) int fd = open_beneath(job->procfd, job->q.path, O_PATH);
	if (fd < 0)
		return fd;
	char text[4096];
	int rc = link_text(fd, "", text, sizeof(text));
	if (rc == 0)
		wr_str(body, text);
	return rc == -ENOENT ? -EINVAL : rc; /* readlinkat("") of something else than a link says ENOENT */
}

static int run_list(const struct serve_job *job, struct wr *body)
{
	int fd = open_beneath(job->procfd, job->q.path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	_cleanup_(closedir_p) DIR *d = fdopendir(fd);
	if (!d) {
		int rc = -errno;
		(void)close(fd);
		return rc;
	}
	int root = !*job->q.path;
	uint64_t at = 0, next = 0;
	uint32_t count = 0;
	size_t head = body->n;
	wr_u64(body, 0);
	wr_u32(body, 0);
	struct dirent *de;
	while ((de = readdir(d))) {
		struct remote_entry e = { 0 };
		struct stat st;
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (root && !job->local && !serve_is_global(de->d_name))
			continue;
		if (at++ < job->q.off || fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (body->n > REMOTE_BODY_MAX) {
			next = at - 1;
			break;
		}
		memcpy(e.name, de->d_name, strlen(de->d_name) + 1);
		attr_of(&st, &e.attr);
		if (S_ISLNK(st.st_mode))
			(void)link_text(fd, e.name, e.link, sizeof(e.link)); /* as in run_stat */
		remote_entry_put(body, &e);
		count++;
	}
	wr_put_u32(body, head, (uint32_t)next);
	wr_put_u32(body, head + 4, (uint32_t)(next >> 32));
	wr_put_u32(body, head + 8, count);
	return 0;
}

/* Appends at most size bytes of fd from off on; *ret_eof says whether the end was met. */
static int copy_from(int fd, uint64_t off, size_t size, struct wr *w, int *ret_eof)
{
	char buf[16 << 10];
	size_t done = 0;
	*ret_eof = 0;
	while (done < size) {
		size_t want = size - done < sizeof(buf) ? size - done : sizeof(buf);
		ssize_t n = pread(fd, buf, want, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && done == 0)
			return -errno;
		if (n <= 0) {
			*ret_eof = 1; /* a process that ends while it is read: what was read counts, as with native reads */
			return 0;
		}
		wr_raw(w, buf, (size_t)n);
		done += (size_t)n;
	}
	return 0;
}

static int run_read(const struct serve_job *job, struct wr *body)
{
	_cleanup_(close_p) int fd = open_beneath(job->procfd, job->q.path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fd;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	size_t size = job->q.size < REMOTE_CHUNK ? job->q.size : REMOTE_CHUNK, head = body->n;
	int eof = 0;
	wr_u8(body, 0);
	wr_u32(body, 0);
	int rc = copy_from(fd, job->q.off, size, body, &eof);
	if (rc < 0)
		return rc;
	if (wr_done(body) == 0)
		body->p[head] = (uint8_t)eof;
	wr_put_u32(body, head + 1, (uint32_t)(body->n - head - 5));
	return 0;
}

static int run_write(const struct serve_job *job, struct wr *body)
{
	if (!job->local)
		return -EACCES;
	_cleanup_(close_p) int fd = open_beneath(job->procfd, job->q.path, O_WRONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fd;
	ssize_t n = job->q.data_n ? pwrite(fd, job->q.data, job->q.data_n, (off_t)job->q.off) : 0;
	if (n < 0)
		return -errno;
	wr_u32(body, (uint32_t)n);
	return 0;
}

/* Length of the text of dirfd/name in buf, 0 when it cannot be read; *ret_st (may be NULL) is the file's. */
static size_t text_read(int dirfd, const char *name, char *buf, size_t size, struct stat *ret_st)
{
	_cleanup_(close_p) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || (ret_st && fstat(fd, ret_st) < 0))
		return 0;
	size_t n = 0;
	while (n < size) {
		ssize_t got = read(fd, buf + n, size - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (got < 4096) /* these files are made in one piece: a short read was the last one */
			break;
	}
	return n;
}

/* Appends the process; a process that has just ended is left out. 1 when it was added. */
static int bulk_one(int procfd, uint32_t pid, char buf[4][SERVE_TEXT_MAX], struct wr *body)
{
	static const char *const names[4] = { "stat", "status", "statm", "cmdline" };
	char name[16];
	struct stat dir, file = { 0 };
	(void)snprintf(name, sizeof(name), "%u", pid); /* fits */
	_cleanup_(close_p) int fd = openat(procfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &dir) < 0)
		return 0;
	struct remote_proc p = { .pid = pid, .owner = { .uid = dir.st_uid, .gid = dir.st_gid } };
	for (size_t i = 0; i < 4; i++) {
		p.text[i] = buf[i];
		p.text_n[i] = text_read(fd, names[i], buf[i], SERVE_TEXT_MAX, i == REMOTE_T_STAT ? &file : NULL);
		if (p.text_n[i] == 0 && i != REMOTE_T_CMDLINE)
			return 0;
	}
	if (file.st_uid == dir.st_uid && file.st_gid == dir.st_gid)
		p.owner.flags |= REMOTE_PID_DUMPABLE;
	remote_proc_put(body, &p);
	return 1;
}

/* The pids that the root of the procfs lists, rising; the caller frees *ret. */
static int pids_list(int procfd, uint32_t **ret, size_t *ret_n)
{
	int fd = openat(procfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	_cleanup_(closedir_p) DIR *d = fdopendir(fd);
	if (!d) {
		int rc = -errno;
		(void)close(fd);
		return rc;
	}
	_cleanup_(free_p) uint32_t *pids = NULL;
	size_t n = 0, cap = 0;
	struct dirent *de;
	while ((de = readdir(d))) {
		uint32_t pid = remote_pid_parse(de->d_name);
		if (!pid)
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 1024;
			uint32_t *p = reallocarray(pids, cap, sizeof(*p));
			if (!p)
				return -ENOMEM;
			pids = p;
		}
		pids[n++] = pid;
	}
	if (n)
		qsort(pids, n, sizeof(*pids), by_u32);
	*ret = pids;
	pids = NULL;
	*ret_n = n;
	return 0;
}

static int run_bulk(const struct serve_job *job, struct wr *body)
{
	_cleanup_(free_p) uint32_t *pids = NULL;
	size_t n = 0;
	int rc = pids_list(job->procfd, &pids, &n);
	if (rc < 0)
		return rc;
	_cleanup_(free_p) char (*buf)[SERVE_TEXT_MAX] = malloc(4 * SERVE_TEXT_MAX);
	if (!buf)
		return -ENOMEM;
	size_t head = body->n;
	uint32_t next = 0, count = 0;
	wr_u32(body, 0);
	wr_u32(body, 0);
	for (size_t i = 0; i < n; i++) {
		if (pids[i] < job->q.pid || is_hidden(job, pids[i]))
			continue;
		if (body->n > REMOTE_BODY_MAX) {
			next = pids[i];
			break;
		}
		count += (uint32_t)bulk_one(job->procfd, pids[i], buf, body);
	}
	wr_put_u32(body, head, next);
	wr_put_u32(body, head + 4, count);
	return 0;
}

static int run_stats(const struct serve_job *job, struct wr *body)
{
	static const char *const names[REMOTE_S_COUNT] = { "stat", "meminfo", "loadavg", "uptime", "cpuinfo" };
	for (size_t i = 0; i < REMOTE_S_COUNT; i++) {
		size_t head = body->n;
		int eof;
		wr_u32(body, 0);
		if (i == REMOTE_S_CPUINFO && !(job->q.flags & REMOTE_STATS_CPUINFO))
			continue;
		_cleanup_(close_p) int fd = openat(job->procfd, names[i], O_RDONLY | O_CLOEXEC);
		int rc = fd < 0 ? -errno : copy_from(fd, 0, REMOTE_CHUNK / 2, body, &eof);
		if (rc < 0)
			return rc;
		wr_put_u32(body, head, (uint32_t)(body->n - head - 4));
	}
	return 0;
}

/* Ops that tell only what everybody may know are done as the server itself, the others as the user. */
static int run_as_user(const struct serve_job *job, struct wr *body)
{
	int (*run)(const struct serve_job *, struct wr *) = NULL;
	switch (job->q.op) {
	case REMOTE_STAT:
		run = run_stat;
		break;
	case REMOTE_LIST:
		run = run_list;
		break;
	case REMOTE_READ:
		run = run_read;
		break;
	case REMOTE_READLINK:
		run = run_readlink;
		break;
	case REMOTE_WRITE:
		run = run_write;
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (!path_allowed(job))
		return -ENOENT;
	int rc = cred_enter(&job->q.cred);
	if (rc < 0)
		return rc;
	rc = run(job, body);
	cred_leave();
	return rc;
}

void serve_run(const struct serve_job *job, struct wr *reply)
{
	remote_reply_put(reply, 0);
	int rc;
	if (job->q.op == REMOTE_BULK)
		rc = run_bulk(job, reply);
	else if (job->q.op == REMOTE_STATS)
		rc = run_stats(job, reply);
	else
		rc = run_as_user(job, reply);
	if (rc == 0)
		rc = wr_done(reply);
	if (rc == 0)
		return;
	wr_fini(reply);
	remote_reply_put(reply, rc);
}
