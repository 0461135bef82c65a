#include "dev/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dev/cg.h"
#include "dev/proc.h"

enum { HELD_MS = 500 };

static struct trial *take(struct trial **c)
{
	struct trial *r = *c;
	*c = NULL;
	return r;
}

int trial_name_check(const char *name, struct err *e)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(name);
	if (n == 0 || n > DEV_NAME_MAX || strspn(name, set) != n || strchr("._-", name[0]))
		return err_set(e, -EINVAL,
			       "\"%.40s\" is not a name of a trial cluster (at most %d of a-z A-Z 0-9 . _ -)", name,
			       DEV_NAME_MAX);
	return 0;
}

struct trial *trial_alloc(const char *name)
{
	struct trial *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->dir_fd = -1;
	(void)snprintf(c->name, sizeof c->name, "%s", name);
	(void)snprintf(c->dir, sizeof c->dir, DEV_BASE "/" DEV_PREFIX "%s", name);
	return c;
}

int trial_set_n(struct trial *c, unsigned n)
{
	if (n < 1 || n > DEV_NODES_MAX)
		return -ERANGE;
	struct dev_pair *pair = calloc((size_t)n * n, sizeof *pair);
	if (!pair)
		return -ENOMEM;
	free(c->pair);
	c->pair = pair;
	c->n = n;
	return 0;
}

void trial_free(struct trial *c)
{
	if (!c)
		return;
	(void)close_fd(c->dir_fd); /* and with it the lock */
	for (unsigned i = 0; i <= DEV_NODES_MAX; i++)
		free(c->node[i].root);
	free(c->service);
	free(c->exe);
	free(c->libexec);
	free(c->pair);
	free(c);
}

void trial_free_p(struct trial **c)
{
	trial_free(*c);
}

struct dev_pair *trial_pair(const struct trial *c, unsigned a, unsigned b)
{
	return &c->pair[(size_t)(a - 1) * c->n + (b - 1)];
}

void trial_addr(const struct trial *c, unsigned i, char ret[static 16])
{
	(void)snprintf(ret, 16, "10.%u.%u.%u", c->net_x & 255, c->net_y & 255, i & 255);
}

/* Opens the directory if it is one that we can trust: below a directory that everybody can write to, a stranger may
 * have put something of this name. */
static int dir_open(struct trial *c, struct err *e)
{
	_cleanup_(close_p) int fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "%s: %m", c->dir);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "%s: %m", c->dir);
	if (st.st_uid != geteuid() || (st.st_mode & 077))
		return err_set(e, -EPERM, "%s is not ours (uid %u, mode %03o): remove it", c->dir, st.st_uid,
			       st.st_mode & 0777);
	c->dir_fd = take_fd(&fd);
	return 0;
}

/* Is the directory still the one of that name? (It may have been removed while we waited for the lock.) */
static int dir_current(const struct trial *c)
{
	struct stat a, b;
	return fstat(c->dir_fd, &a) == 0 && lstat(c->dir, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int dir_lock(struct trial *c, int ms, struct err *e)
{
	uint64_t until = clock_ms() + (uint64_t)ms;
	unsigned step = 0;
	while (flock(c->dir_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_set(e, -errno, "lock %s: %m", c->dir);
		if (proc_left(until) == 0)
			return err_set(e, -EBUSY, "another pando dev command is at work on \"%s\"", c->name);
		proc_nap(&step);
	}
	if (!dir_current(c))
		return err_set(e, -ENOENT, "no trial cluster \"%s\"", c->name);
	c->locked = 1;
	return 0;
}

int trial_busy(const char *name)
{
	_cleanup_(trial_free_p) struct trial *c = trial_alloc(name);
	if (!c || dir_open(c, NULL) < 0)
		return 0;
	return flock(c->dir_fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static int exists_words(const char *name, struct err *e)
{
	_cleanup_(trial_free_p) struct trial *c = NULL;
	/* Children of a starter that was just killed hold its lock for a moment longer. */
	int rc = trial_load(name, HELD_MS, &c, e);
	if (rc == -EBUSY)
		return err_set(e, TRIAL_EXISTS, "\"%s\" is being started or changed by another pando dev command",
			       name);
	if (rc < 0 && rc != -ENODATA && rc != -EBADMSG)
		return rc;
	if (rc < 0 || c->starting)
		return err_set(e, TRIAL_EXISTS,
			       "an earlier start of \"%s\" was interrupted; clean up with: pando dev down --name %s",
			       name, name);
	return err_set(e, TRIAL_EXISTS,
		       "there is a trial cluster \"%s\" of %u nodes already; end it with: pando dev down --name %s",
		       name, c->n, name);
}

int trial_new(const char *name, unsigned n, struct trial **ret, struct err *e)
{
	_cleanup_(trial_free_p) struct trial *c = trial_alloc(name);
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = trial_set_n(c, n);
	if (rc < 0)
		return err_set(e, rc, "a trial cluster has 1 to %d nodes", DEV_NODES_MAX);
	if (mkdir(c->dir, 0700) < 0)
		return errno == EEXIST ? exists_words(name, e) : err_set(e, -errno, "mkdir %s: %m", c->dir);
	rc = dir_open(c, e);
	if (rc == 0)
		rc = dir_lock(c, 0, e);
	if (rc < 0) {
		(void)rmdir(c->dir); /* if it is empty, it is ours and of no use */
		return rc;
	}
	c->starting = 1;
	*ret = take(&c);
	return 0;
}

int trial_load(const char *name, int lock_ms, struct trial **ret, struct err *e)
{
	_cleanup_(trial_free_p) struct trial *c = trial_alloc(name);
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = dir_open(c, e);
	if (rc == -ENOENT)
		return err_set(e, rc, "no trial cluster \"%s\"", name);
	if (rc == 0 && lock_ms >= 0)
		rc = dir_lock(c, lock_ms, e);
	if (rc < 0)
		return rc;

	enum { JSON_MAX = 4 << 20 };
	_cleanup_(free_p) char *text = malloc(JSON_MAX);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	ssize_t size = file_read(c->dir_fd, "cluster.json", text, JSON_MAX);
	if (size < 0)
		rc = err_set(e, -ENODATA,
			     "the start or end of \"%s\" was interrupted; clean up with: pando dev down --name %s",
			     name, name);
	else
		rc = trial_decode(text, (size_t)size, c, e);
	if (rc == 0 || rc == -ENODATA || rc == -EBADMSG)
		*ret = take(&c);
	return rc;
}

int trial_save(const struct trial *c, struct err *e)
{
	_cleanup_(free_p) char *text = trial_encode(c);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	_cleanup_(close_p) int fd =
	    openat(c->dir_fd, "cluster.json.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, -errno, "%s/cluster.json.new: %m", c->dir);
	size_t n = strlen(text);
	ssize_t w = write(fd, text, n);
	if (w != (ssize_t)n)
		return err_set(e, w < 0 ? -errno : -ENOSPC, "%s/cluster.json.new: %s", c->dir,
			       strerror(w < 0 ? errno : ENOSPC));
	if (renameat(c->dir_fd, "cluster.json.new", c->dir_fd, "cluster.json") < 0)
		return err_set(e, -errno, "%s/cluster.json: %m", c->dir);
	return 0;
}

static int tree_remove(int at_fd, const char *name, dev_t dev, unsigned depth)
{
	if (unlinkat(at_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if ((errno != EISDIR && errno != EPERM) || depth > 200)
		return -errno;
	_cleanup_(close_p) int fd = openat(at_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != dev)
		return -EXDEV;
	_cleanup_(closedir_p) DIR *d = fdopendir(fd);
	if (!d)
		return -errno;
	int dfd = take_fd(&fd); /* d owns it now */
	for (struct dirent *de; (de = readdir(d));) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		int rc = tree_remove(dfd, de->d_name, dev, depth + 1);
		if (rc < 0)
			return rc;
	}
	return unlinkat(at_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int trial_remove_dir(const struct trial *c, struct err *e)
{
	struct stat st;
	if (fstat(c->dir_fd, &st) < 0)
		return err_set(e, -errno, "%s: %m", c->dir);
	int rc = 0;
	_cleanup_(closedir_p) DIR *d = opendir(c->dir);
	if (!d)
		return err_set(e, -errno, "%s: %m", c->dir);
	for (struct dirent *de; rc == 0 && (de = readdir(d));) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		rc = tree_remove(c->dir_fd, de->d_name, st.st_dev, 0);
		if (rc < 0)
			(void)err_set(e, rc, "remove %s/%s: %s", c->dir, de->d_name, strerror(-rc));
	}
	if (rc == 0 && rmdir(c->dir) < 0)
		rc = err_set(e, -errno, "rmdir %s: %m", c->dir);
	return rc;
}

/* Two numbers for a name: any spread will do. */
static unsigned name_hash(const char *name)
{
	unsigned h = 2166136261u;
	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h;
}

struct taken {
	const char *self;
	uint8_t bit[64 * 256 / 8];
};

static unsigned net_index(unsigned x, unsigned y)
{
	return (x & 63) * 256 + (y & 255);
}

static void taken_add(void *ctx, const char *name)
{
	struct taken *t = ctx;
	_cleanup_(trial_free_p) struct trial *c = NULL;
	if (strcmp(name, t->self) == 0 || trial_load(name, -1, &c, NULL) < 0)
		return;
	unsigned i = net_index(c->net_x, c->net_y);
	t->bit[i / 8] |= (uint8_t)(1u << (i % 8));
}

int trial_choose_net(struct trial *c, struct err *e)
{
	struct taken t = { .self = c->name };
	int rc = trial_each(taken_add, &t, e);
	if (rc < 0)
		return rc;
	unsigned h = name_hash(c->name);
	for (unsigned k = 0; k < 64 * 256; k++, h++) {
		unsigned i = h % (64 * 256);
		if (t.bit[i / 8] & (1u << (i % 8)))
			continue;
		c->net_x = 64 + i / 256; /* 10.64.y.0/24 to 10.127.y.0/24 */
		c->net_y = i % 256;
		return 0;
	}
	return err_set(e, -EADDRNOTAVAIL, "no address range is left for another trial cluster");
}

struct names {
	char (*v)[DEV_NAME_MAX + 1]; /* owned */
	size_t n;
	int rc;
};

static void names_add(void *ctx, const char *name)
{
	struct names *l = ctx;
	if (trial_name_check(name, NULL) < 0)
		return;
	char(*v)[DEV_NAME_MAX + 1] = realloc(l->v, (l->n + 1) * sizeof *v);
	if (!v) {
		l->rc = -ENOMEM;
		return;
	}
	l->v = v;
	(void)snprintf(l->v[l->n++], sizeof *v, "%s", name);
}

static int names_cmp(const void *a, const void *b)
{
	return strcmp(a, b);
}

int trial_each(void (*fn)(void *ctx, const char *name), void *ctx, struct err *e)
{
	struct names l = { 0 };
	_cleanup_(closedir_p) DIR *d = opendir(DEV_BASE);
	if (!d)
		return err_set(e, -errno, DEV_BASE ": %m");
	size_t skip = strlen(DEV_PREFIX);
	for (struct dirent *de; (de = readdir(d));)
		if (strncmp(de->d_name, DEV_PREFIX, skip) == 0)
			names_add(&l, de->d_name + skip);
	struct cg cg;
	if (cg_find(&cg, NULL) == 0)
		cg_each_cluster(&cg, names_add, &l);
	if (l.n)
		qsort(l.v, l.n, sizeof *l.v, names_cmp);
	for (size_t i = 0; i < l.n && l.rc == 0; i++)
		if (i == 0 || strcmp(l.v[i], l.v[i - 1]) != 0)
			fn(ctx, l.v[i]);
	free(l.v);
	return l.rc == 0 ? 0 : err_set(e, l.rc, "out of memory");
}
