#include "image/exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "stub/proto.h"

void exec_image_fini(struct exec_image *im)
{
	for (uint32_t i = 0; i < im->n_fds; i++)
		free(im->fds[i].path);
	free(im->fds);
	free(im->path);
	free(im->cwd);
	free(im->args);
	free(im->groups);
	free(im->files);
	*im = (struct exec_image){ 0 };
}

static void fd_encode(const struct exec_fd *f, struct wr *w)
{
	wr_u32(w, f->number);
	wr_u8(w, f->kind);
	wr_u32(w, f->flags);
	wr_str(w, f->path);
	wr_u64(w, f->offset);
	wr_u64(w, f->dev);
	wr_u64(w, f->ino);
	wr_u64(w, f->size);
	wr_u16(w, f->node);
	wr_u64(w, f->id);
	wr_raw(w, f->key, sizeof f->key);
	wr_u8(w, f->same_as);
	wr_u32(w, f->alias);
}

void exec_image_encode(const struct exec_image *im, struct wr *w)
{
	wr_u16(w, EXEC_IMAGE_VERSION);
	wr_i32(w, im->pid);
	wr_i32(w, im->ppid);
	wr_i32(w, im->pgid);
	wr_i32(w, im->sid);
	wr_u16(w, im->home);
	wr_u8(w, im->leads_session);
	wr_u8(w, im->leads_group);
	wr_u8(w, im->parent_leads_group);
	wr_i32(w, im->parent_pgid);
	wr_i32(w, im->parent_sid);
	wr_str(w, im->path);
	wr_str(w, im->cwd);
	wr_u32(w, im->argc);
	wr_u32(w, im->envc);
	wr_bytes(w, im->args, im->args_n);
	for (int i = 0; i < 3; i++)
		wr_u32(w, im->uid[i]);
	for (int i = 0; i < 3; i++)
		wr_u32(w, im->gid[i]);
	wr_u32(w, im->n_groups);
	for (uint32_t i = 0; i < im->n_groups; i++)
		wr_u32(w, im->groups[i]);
	wr_u64(w, im->cap_effective);
	wr_u64(w, im->cap_permitted);
	wr_u64(w, im->cap_inheritable);
	wr_u64(w, im->cap_bounding);
	wr_u64(w, im->cap_ambient);
	wr_u32(w, im->securebits);
	wr_u32(w, im->no_new_privs);
	wr_u32(w, im->umask);
	wr_u32(w, im->personality);
	wr_i32(w, im->nice);
	wr_i32(w, im->oom_score_adj);
	wr_i32(w, im->pdeath_signal);
	wr_u64(w, im->sig_blocked);
	wr_u64(w, im->sig_ignored);
	for (int i = 0; i < EXEC_RLIMITS; i++) {
		wr_u64(w, im->rlimit[i][0]);
		wr_u64(w, im->rlimit[i][1]);
	}
	for (int i = 0; i < 16; i++)
		wr_u64(w, im->cpus[i]);
	wr_u64(w, im->features);
	wr_u32(w, im->n_fds);
	for (uint32_t i = 0; i < im->n_fds; i++)
		fd_encode(&im->fds[i], w);
	wr_bytes(w, im->files, im->files_n);
}

/* A string of at most max bytes without a NUL within, allocated. */
static char *str_take(struct rd *r, size_t max)
{
	size_t n;
	const uint8_t *p = rd_bytes(r, max, &n);
	if (memchr(p, 0, n)) {
		rd_fail(r);
		n = 0;
	}
	char *s = malloc(n + 1);
	if (!s) {
		rd_fail(r);
		return NULL;
	}
	memcpy(s, p, n);
	s[n] = 0;
	return s;
}

static void fd_decode(struct rd *r, struct exec_fd *f)
{
	f->number = rd_u32(r);
	f->kind = rd_u8(r);
	f->flags = rd_u32(r);
	f->path = str_take(r, EXEC_PATH_MAX);
	f->offset = rd_u64(r);
	f->dev = rd_u64(r);
	f->ino = rd_u64(r);
	f->size = rd_u64(r);
	f->node = rd_u16(r);
	f->id = rd_u64(r);
	const uint8_t *key = rd_raw(r, sizeof f->key);
	if (key)
		memcpy(f->key, key, sizeof f->key);
	f->same_as = rd_u8(r);
	f->alias = rd_u32(r);
	if (f->kind < EXEC_FD_REOPEN || f->kind > EXEC_FD_TTY || f->number >= (1u << 20))
		rd_fail(r);
}

/* argc + envc strings, each ended by NUL, and nothing else. */
static int args_are_whole(const struct exec_image *im)
{
	uint64_t n = 0;
	for (size_t i = 0; i < im->args_n; i++)
		n += im->args[i] == 0;
	return n == (uint64_t)im->argc + im->envc && (im->args_n == 0 || im->args[im->args_n - 1] == 0);
}

static void lists_decode(struct rd *r, struct exec_image *im)
{
	im->n_fds = 0;
	uint32_t n = rd_count(r, EXEC_FDS_MAX, 60);
	im->fds = calloc(n + 1, sizeof *im->fds);
	if (!im->fds) {
		rd_fail(r);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		im->n_fds = i + 1;
		fd_decode(r, &im->fds[i]);
	}
	size_t k;
	const uint8_t *p = rd_bytes(r, 1 << 20, &k);
	im->files = malloc(k + 1);
	if (!im->files) {
		rd_fail(r);
		return;
	}
	memcpy(im->files, p, k);
	im->files_n = k;
}

static void numbers_decode(struct rd *r, struct exec_image *im)
{
	for (int i = 0; i < 3; i++)
		im->uid[i] = rd_u32(r);
	for (int i = 0; i < 3; i++)
		im->gid[i] = rd_u32(r);
	im->n_groups = rd_count(r, EXEC_GROUPS_MAX, 4);
	im->groups = calloc(im->n_groups + 1, sizeof *im->groups);
	if (!im->groups) {
		rd_fail(r);
		im->n_groups = 0;
	}
	for (uint32_t i = 0; i < im->n_groups; i++)
		im->groups[i] = rd_u32(r);
	im->cap_effective = rd_u64(r);
	im->cap_permitted = rd_u64(r);
	im->cap_inheritable = rd_u64(r);
	im->cap_bounding = rd_u64(r);
	im->cap_ambient = rd_u64(r);
	im->securebits = rd_u32(r);
	im->no_new_privs = rd_u32(r);
	im->umask = rd_u32(r);
	im->personality = rd_u32(r);
	im->nice = rd_i32(r);
	im->oom_score_adj = rd_i32(r);
	im->pdeath_signal = rd_i32(r);
	im->sig_blocked = rd_u64(r);
	im->sig_ignored = rd_u64(r);
	for (int i = 0; i < EXEC_RLIMITS; i++) {
		im->rlimit[i][0] = rd_u64(r);
		im->rlimit[i][1] = rd_u64(r);
	}
	for (int i = 0; i < 16; i++)
		im->cpus[i] = rd_u64(r);
	im->features = rd_u64(r);
}

int exec_image_decode(const uint8_t *p, size_t n, struct exec_image *ret, struct err *e)
{
	struct exec_image im = { 0 };
	struct rd r;

	*ret = im;
	rd_init(&r, p, n);
	uint16_t version = rd_u16(&r);
	if (version != EXEC_IMAGE_VERSION)
		return err_set(e, -EBADMSG, "exec image: version %u, this node knows %d", version, EXEC_IMAGE_VERSION);
	im.pid = rd_i32(&r);
	im.ppid = rd_i32(&r);
	im.pgid = rd_i32(&r);
	im.sid = rd_i32(&r);
	im.home = rd_u16(&r);
	im.leads_session = rd_u8(&r);
	im.leads_group = rd_u8(&r);
	im.parent_leads_group = rd_u8(&r);
	im.parent_pgid = rd_i32(&r);
	im.parent_sid = rd_i32(&r);
	im.path = str_take(&r, EXEC_PATH_MAX);
	im.cwd = str_take(&r, EXEC_PATH_MAX);
	im.argc = rd_u32(&r);
	im.envc = rd_u32(&r);
	size_t k;
	const uint8_t *args = rd_bytes(&r, EXEC_ARGS_MAX, &k);
	im.args = malloc(k + 1);
	if (im.args) {
		memcpy(im.args, args, k);
		im.args_n = k;
	} else {
		rd_fail(&r);
	}
	numbers_decode(&r, &im);
	lists_decode(&r, &im);
	if (rd_done(&r) < 0 || im.pid <= 0 || im.sid <= 0 || im.pgid <= 0 || !args_are_whole(&im)) {
		exec_image_fini(&im);
		return err_set(e, -EBADMSG, "exec image: %zu bytes that do not decode", n);
	}
	*ret = im;
	return 0;
}

/* Offsets of `count` strings that start at data offset `at`; returns the offset after them. */
static uint32_t offsets_write(struct wr *w, const char *strings, uint32_t count, uint32_t at)
{
	for (uint32_t i = 0; i < count; i++) {
		wr_u64(w, at);
		uint32_t n = (uint32_t)strlen(strings) + 1;
		strings += n;
		at += n;
	}
	wr_u64(w, 0);
	return at;
}

static void body_fill(const struct exec_image *im, int ctty, struct stub_body *b)
{
	b->n_fds = im->n_fds;
	b->n_groups = im->n_groups;
	memcpy(b->uid, im->uid, sizeof b->uid);
	memcpy(b->gid, im->gid, sizeof b->gid);
	memcpy(b->groups, im->groups, im->n_groups * sizeof b->groups[0]);
	b->cap_effective = im->cap_effective;
	b->cap_permitted = im->cap_permitted;
	b->cap_inheritable = im->cap_inheritable;
	b->cap_bounding = im->cap_bounding;
	b->cap_ambient = im->cap_ambient;
	b->securebits = im->securebits;
	b->no_new_privs = im->no_new_privs;
	b->umask = im->umask;
	b->nice = im->nice;
	b->personality = im->personality;
	b->pgid = im->leads_group ? -1 : im->pgid;
	b->ctty = ctty;
	b->pdeath_signal = im->pdeath_signal;
	b->blocked = im->sig_blocked;
	b->ignored = im->sig_ignored;
	memcpy(b->cpus, im->cpus, sizeof b->cpus);
	memcpy(b->rlimit, im->rlimit, sizeof b->rlimit);
	b->oom_score_adj = im->oom_score_adj;
}

int exec_image_body(const struct exec_image *im, int ctty, int *ret_fd, uint32_t *ret_size, struct err *e)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct stub_body b = { 0 };

	body_fill(im, ctty, &b);
	uint32_t head = (uint32_t)sizeof b;
	b.argv = head;
	b.envp = b.argv + (im->argc + 1) * 8;
	uint32_t strings = b.envp + (im->envc + 1) * 8;
	wr_raw(&w, &b, sizeof b);
	const char *env = im->args;
	for (uint32_t i = 0; i < im->argc; i++)
		env += strlen(env) + 1;
	uint32_t at = offsets_write(&w, im->args, im->argc, strings);
	(void)offsets_write(&w, env, im->envc, at);
	wr_raw(&w, im->args, im->args_n);
	b.path = (uint32_t)w.n;
	wr_raw(&w, im->path, strlen(im->path) + 1);
	b.cwd = im->cwd && *im->cwd ? (uint32_t)w.n : 0;
	if (b.cwd)
		wr_raw(&w, im->cwd, strlen(im->cwd) + 1);
	while (w.n & 7)
		wr_u8(&w, 0);
	b.size = (uint32_t)w.n;
	for (uint32_t i = 0; i < im->n_fds; i++) /* the numbers, for processes without a filter (zygote: plain_run) */
		wr_u32(&w, im->fds[i].number);
	if (wr_done(&w) < 0)
		return err_set(e, -ENOMEM, "exec image of pid %d: no memory", im->pid);
	memcpy(w.p, &b, sizeof b);

	_cleanup_(close_p) int fd = memfd_create("pando-body", MFD_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "memfd_create: %m");
	if (write(fd, w.p, w.n) != (ssize_t)w.n)
		return err_set(e, -EIO, "writing the exec image of pid %d: %m", im->pid);
	*ret_fd = take_fd(&fd);
	*ret_size = b.size;
	return 0;
}
