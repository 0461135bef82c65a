#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/cleanup.h"
#include "image/fileid-int.h"

/* Two ticks of the coarsest clock that kernels stamp files by (HZ=100), and some more. */
#define FRESH_NS INT64_C(50000000)

int fileid_open_at(int root_fd, const char *cwd, const char *path)
{
	char full[2 * FILEID_PATH_MAX];
	if (path[0] != '/') {
		if ((size_t)snprintf(full, sizeof full, "%s/%s", cwd ? cwd : "", path) >= sizeof full)
			return -ENAMETOOLONG;
		path = full;
	}
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof how);
	return fd < 0 ? -errno : (int)fd;
}

static int64_t ns_of(const struct statx_timestamp *t)
{
	if (t->tv_sec > INT64_MAX / 1000000000 - 1 || t->tv_sec < INT64_MIN / 1000000000 + 1)
		return t->tv_sec; /* beyond the years 1677 to 2262: still a number that differs when the time does */
	return t->tv_sec * 1000000000 + t->tv_nsec;
}

int fileid_stat_fd(int fd, struct fileid_stat *ret)
{
	struct statx x;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS, &x) < 0)
		return -errno;
	*ret = (struct fileid_stat){
		.ino = x.stx_ino,
		.size = x.stx_size,
		.mtime_ns = ns_of(&x.stx_mtime),
		.ctime_ns = ns_of(&x.stx_ctime),
		.dev_major = x.stx_dev_major,
		.dev_minor = x.stx_dev_minor,
		.mode = x.stx_mode,
		.uid = x.stx_uid,
		.gid = x.stx_gid,
	};
	return 0;
}

int fileid_stat_at(int root_fd, const char *cwd, const char *path, struct fileid_stat *ret)
{
	int fd = fileid_open_at(root_fd, cwd, path);
	if (fd < 0)
		return fd;
	int rc = fileid_stat_fd(fd, ret);
	(void)close(fd);
	return rc;
}

bool fileid_stat_same(const struct fileid_stat *a, const struct fileid_stat *b)
{
	return a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       a->dev_major == b->dev_major && a->dev_minor == b->dev_minor && a->mode == b->mode && a->uid == b->uid &&
	       a->gid == b->gid;
}

int fileid_reopen(int path_fd)
{
	char path[32];
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", path_fd);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

int fileid_origin_of(int root_fd, int fd, char *ret, size_t size)
{
	char link[32], root[FILEID_PATH_MAX];
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", root_fd);
	ssize_t n = readlink(link, root, sizeof root - 1);
	if (n < 0)
		return -errno;
	root[n] = 0;
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, ret, size - 1);
	if (n < 0)
		return -errno;
	ret[n] = 0;
	size_t r = strlen(root);
	if (strcmp(root, "/") != 0 && strncmp(ret, root, r) == 0 && ret[r] == '/')
		memmove(ret, ret + r, strlen(ret + r) + 1);
	char *slash = strrchr(ret, '/');
	if (!slash)
		return -ENOENT;
	slash[slash == ret] = 0;
	return 0;
}

int64_t fileid_now_ns(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts); /* the clock of file times; cannot fail */
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

bool fileid_stat_fresh(const struct fileid_stat *st, int64_t now_ns)
{
	return st->ctime_ns > now_ns - FRESH_NS;
}

int fileid_hash_file(int root_fd, const char *path, const struct fileid_stat *st, uint64_t ret_hash[static 2])
{
	struct fileid_stat now;
	_cleanup_(close_p) int at = fileid_open_at(root_fd, NULL, path);
	if (at < 0)
		return at;
	int rc = fileid_stat_fd(at, &now);
	if (rc < 0)
		return rc;
	if (!S_ISREG(now.mode) || !fileid_stat_same(&now, st))
		return -ESTALE;
	_cleanup_(close_p) int fd = fileid_reopen(at);
	if (fd < 0)
		return fd;

	enum { CHUNK = 256 * 1024 };
	_cleanup_(free_p) void *buf = malloc(CHUNK);
	XXH3_state_t *x = XXH3_createState();
	ssize_t n = buf && x ? 1 : -1;
	if (n < 0)
		rc = -ENOMEM;
	else
		(void)XXH3_128bits_reset(x); /* cannot fail for a state that is there */
	while (!rc && (n = read(fd, buf, CHUNK)) > 0)
		(void)XXH3_128bits_update(x, buf, (size_t)n);
	if (!rc && n < 0)
		rc = -errno;
	XXH128_hash_t h = rc ? (XXH128_hash_t){ 0 } : XXH3_128bits_digest(x);
	(void)XXH3_freeState(x);
	if (!rc)
		rc = fileid_stat_fd(fd, &now);
	if (!rc && !fileid_stat_same(&now, st))
		rc = -ESTALE;
	if (!rc) {
		ret_hash[0] = h.low64;
		ret_hash[1] = h.high64;
	}
	return rc;
}
