#include "keeper/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/procinfo.h"
#include "wire/rd.h"

static const char magic[8] = { 'P', 'A', 'N', 'D', 'O', 'K', 'R', '1' };

/* Zeros where there is none. */
static void boot_read(char ret[static RECORD_BOOT])
{
	memset(ret, 0, RECORD_BOOT);
	_cleanup_(close_p) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, ret, RECORD_BOOT) != RECORD_BOOT)
		memset(ret, 0, RECORD_BOOT);
}

static void task_encode(struct wr *w, const struct record_task *t)
{
	wr_i32(w, t->pid);
	wr_u64(w, t->start);
}

static struct record_task task_decode(struct rd *r)
{
	struct record_task t = { .pid = rd_i32(r) };
	t.start = rd_u64(r);
	if (t.pid < 0 || t.pid == 1)
		rd_fail(r);
	return t;
}

void record_encode(struct wr *w, const struct record *r)
{
	wr_raw(w, magic, sizeof magic);
	wr_raw(w, r->boot, sizeof r->boot);
	wr_u32(w, r->n_children);
	for (unsigned i = 0; i < r->n_children; i++)
		task_encode(w, &r->child[i]);
	task_encode(w, &r->init);
	wr_u8(w, r->freezer_v2);
	wr_str(w, r->cgroup);
}

int record_decode(struct record *ret, const void *p, size_t n)
{
	struct rd r;
	rd_init(&r, p, n);
	memset(ret, 0, sizeof *ret);
	const uint8_t *m = rd_raw(&r, sizeof magic);
	if (!m || memcmp(m, magic, sizeof magic) != 0)
		return -EBADMSG;
	const uint8_t *boot = rd_raw(&r, RECORD_BOOT);
	if (boot)
		memcpy(ret->boot, boot, RECORD_BOOT);
	ret->n_children = rd_count(&r, RECORD_CHILDREN, 12);
	for (unsigned i = 0; i < ret->n_children; i++)
		ret->child[i] = task_decode(&r);
	ret->init = task_decode(&r);
	ret->freezer_v2 = rd_u8(&r);
	rd_str(&r, ret->cgroup, sizeof ret->cgroup);
	if (ret->freezer_v2 > 1 || (*ret->cgroup && *ret->cgroup != '/'))
		rd_fail(&r);
	return rd_done(&r);
}

static int path_make(char ret[static PATH_MAX], const char *dir, const char *name, struct err *e)
{
	if ((size_t)snprintf(ret, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "%s/%s: path too long", dir, name);
	return 0;
}

int record_write(const char *run_dir, struct record *r, struct err *e)
{
	char path[PATH_MAX], tmp[PATH_MAX];
	int rc = path_make(path, run_dir, "keeper.record", e);
	if (rc == 0)
		rc = path_make(tmp, run_dir, "keeper.record.new", e);
	if (rc < 0)
		return rc;
	if (!r->n_children && !r->init.pid && !*r->cgroup)
		return unlink(path) < 0 && errno != ENOENT ? err_set(e, -errno, "remove %s: %m", path) : 0;

	_cleanup_(wr_fini) struct wr w = { 0 };
	boot_read(r->boot);
	record_encode(&w, r);
	if (wr_done(&w) < 0)
		return err_set(e, -ENOMEM, "%s: no memory", path);
	_cleanup_(close_p) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", tmp);
	if (write(fd, w.p, w.n) != (ssize_t)w.n)
		return err_set(e, -EIO, "write %s: %m", tmp);
	if (rename(tmp, path) < 0)
		return err_set(e, -errno, "rename %s: %m", tmp);
	return 0;
}

int record_read(const char *run_dir, struct record *ret, struct err *e)
{
	char path[PATH_MAX], boot[RECORD_BOOT];
	uint8_t bytes[RECORD_MAX];
	int rc = path_make(path, run_dir, "keeper.record", e);
	if (rc < 0)
		return rc;
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", path);
	ssize_t n = read(fd, bytes, sizeof bytes);
	if (n < 0)
		return err_set(e, -errno, "read %s: %m", path);
	if (record_decode(ret, bytes, (size_t)n) < 0)
		return err_set(e, -EBADMSG, "%s: damaged", path);
	boot_read(boot);
	if (memcmp(boot, ret->boot, sizeof boot) != 0)
		return err_set(e, -ENOENT, "%s: of another run of the machine", path);
	return 0;
}

struct record_task record_task_of(pid_t pid)
{
	struct procinfo info;
	if (pid <= 0 || procinfo_stat(pid, &info) < 0)
		return (struct record_task){ 0 };
	return (struct record_task){ .pid = pid, .start = info.start_ticks };
}
