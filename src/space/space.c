#include "space/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "space/gather.h"

/* What a successor must know of the space, as kept text: "init freezer_v2 cgroup". */
static int ends_keep(struct space *s)
{
	char text[320];
	int n = snprintf(text, sizeof text, "%d %d %s", s->ends.init, s->ends.freezer_v2, s->ends.cgroup);
	_cleanup_(close_p) int fd = memfd_create("pando-space", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)n) != n)
		return -EIO;
	int rc = s->cfg.keep.put(s->cfg.keep.ctx, "space", fd);
	if (rc == 0)
		rc = s->cfg.keep.put(s->cfg.keep.ctx, "zygote", s->ends.sock);
	if (rc == 0 && s->ends.fuse_fd >= 0)
		rc = s->cfg.keep.put(s->cfg.keep.ctx, "proc-fuse", s->ends.fuse_fd);
	if (rc == 0 && s->ends.proc_fd >= 0)
		rc = s->cfg.keep.put(s->cfg.keep.ctx, "proc-native", s->ends.proc_fd);
	return rc;
}

/* 1 when the predecessor's space was found again. */
static int ends_find(struct space *s)
{
	char text[320];
	_cleanup_(close_p) int fd = s->cfg.keep.take(s->cfg.keep.ctx, "space");
	_cleanup_(close_p) int sock = s->cfg.keep.take(s->cfg.keep.ctx, "zygote");
	if (fd < 0 || sock < 0)
		return 0;
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	if (n <= 0)
		return 0;
	text[n] = 0;
	int used = 0;
	if (sscanf(text, "%d %d %n", &s->ends.init, &s->ends.freezer_v2, &used) < 2 || used == 0)
		return 0;
	(void)snprintf(s->ends.cgroup, sizeof s->ends.cgroup, "%s", text + used);
	if (kill(s->ends.init, 0) < 0)
		return 0;
	s->ends.sock = take_fd(&sock);
	s->ends.is_found = 1;
	int fuse = s->cfg.keep.take(s->cfg.keep.ctx, "proc-fuse"), native = s->cfg.keep.take(s->cfg.keep.ctx, "proc-native");
	s->ends.fuse_fd = fuse < 0 ? -1 : fuse; /* a space with the native /proc alone has neither */
	s->ends.proc_fd = native < 0 ? -1 : native;
	return 1;
}

static int shared_find(struct space *s, int is_old, struct err *e)
{
	s->shared_fd = is_old ? s->cfg.keep.take(s->cfg.keep.ctx, "table") : -1;
	if (s->shared_fd >= 0 && shared_map(s->shared_fd, &s->sh, e) == 0)
		return 1;
	s->shared_fd = close_fd(s->shared_fd);
	int rc = shared_create(&s->shared_fd, e);
	if (rc == 0)
		rc = shared_map(s->shared_fd, &s->sh, e);
	if (rc == 0 && s->cfg.keep.put(s->cfg.keep.ctx, "table", s->shared_fd) < 0)
		rc = err_set(e, -EIO, "the keeper does not take the process table");
	return rc;
}

static int space_open_parts(struct space *s, struct err *e)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof path, "%s/pando-zygote", s->cfg.layout.libexec);
	s->zygote_bin = open(path, O_RDONLY | O_CLOEXEC);
	if (s->zygote_bin < 0)
		return err_set(e, -errno, "%s: %m", path);
	int rc = nspid_init(&s->ns, s->ends.init);
	if (rc < 0)
		return err_set(e, rc, "pid namespace of the space: %s", strerror(-rc));
	struct procinfo info;
	rc = procinfo_read(s->ends.init, &info);
	if (rc < 0)
		return err_set(e, rc, "pid 1 of the space: %s", strerror(-rc));
	s->ns_levels = (int)info.ns_levels;
	return 0;
}

int space_new(const struct space_config *cfg, struct space **ret, struct err *e)
{
	struct space *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "no memory");
	s->cfg = *cfg;
	s->loop = cfg->loop;
	s->links = cfg->links;
	s->self = cfg->self;
	s->zygote_bin = s->ns.ns_fd = s->shared_fd = -1;
	s->ends = (struct space_ends){ .sock = -1, .fuse_fd = -1, .proc_fd = -1 };

	int is_old = ends_find(s);
	int rc = 0;
	if (!is_old) {
		rc = space_create(&cfg->layout, &s->ends, e);
		if (rc == 0 && ends_keep(s) < 0)
			rc = err_set(e, -EIO, "the keeper does not take the space");
	}
	int has_table = rc == 0 ? shared_find(s, is_old, e) : rc;
	rc = has_table < 0 ? has_table : space_open_parts(s, e);
	if (rc == 0)
		rc = zyg_start(s, e);
	if (rc == 0)
		rc = trace_start(s, e);
	if (rc < 0) {
		free(s); /* the program ends now */
		return rc;
	}
	ghost_start(s);
	arrive_start(s);
	signal_start(s);
	if (has_table == 1) {
		table_reload(s);
		watch_reload(s);
		sessions_reload(s);
		log_notice("the space goes on: %u processes that two nodes know of", HASH_COUNT(s->procs));
	}
	*ret = s;
	return 0;
}

/* The handles that lie in s: freed with the last of them. */
static void handle_closed(uv_handle_t *h)
{
	struct space *s = h->data;
	if (--s->n_handles == 0)
		free(s);
}

static void handle_close(struct space *s, uv_handle_t *h)
{
	h->data = s;
	s->n_handles++;
	uv_close(h, handle_closed);
}

void space_free(struct space *s)
{
	if (!s)
		return;
	place_end(s);
	arrive_end(s);
	table_end(s);
	watch_end(s);
	trace_end(s);
	zyg_end(s);
	shared_unmap(s->sh);
	(void)close_fd(s->shared_fd);
	(void)close_fd(s->zygote_bin);
	(void)close_fd(s->ends.fuse_fd);
	(void)close_fd(s->ends.proc_fd);
	nspid_fini(&s->ns);
	handle_close(s, (uv_handle_t *)&s->zyg_poll);
	handle_close(s, (uv_handle_t *)&s->sigchld);
	handle_close(s, (uv_handle_t *)&s->tick);
	s->ends.sock = close_fd(s->ends.sock);
}

void space_wipe(struct space *s)
{
	/* The keeper's first: a process that waits for an answer of a /proc server that is gone ends when /dev/fuse is closed everywhere. */
	(void)s->cfg.keep.drop(s->cfg.keep.ctx, "proc-fuse");
	(void)s->cfg.keep.drop(s->cfg.keep.ctx, "proc-native");
	s->ends.fuse_fd = close_fd(s->ends.fuse_fd);
	space_destroy(&s->ends);
	(void)s->cfg.keep.drop(s->cfg.keep.ctx, "space");
	(void)s->cfg.keep.drop(s->cfg.keep.ctx, "zygote");
	(void)s->cfg.keep.drop(s->cfg.keep.ctx, "table");
	space_free(s);
}

const struct space_ends *space_ends_get(const struct space *s)
{
	return &s->ends;
}

void space_count(const struct space *s, struct space_counts *ret)
{
	const struct proc *p;
	*ret = (struct space_counts){ 0 };
	for (p = s->procs; p; p = p->hh.next) {
		if (p->r->kind == PREC_GHOST && (p->r->flags & PREC_HOME))
			ret->elsewhere++;
		if (p->r->kind == PREC_GHOST)
			ret->ghosts++;
		if (p->r->kind == PREC_BODY)
			ret->guests++;
		if (p->r->flags & PREC_SESSION)
			ret->sessions++;
	}
}

void space_each(const struct space *s, void (*fn)(void *ctx, int32_t pid, int hidden, uint16_t node), void *ctx)
{
	const struct proc *p;
	for (p = s->procs; p; p = p->hh.next) {
		if (p->r->kind == PREC_GHOST)
			fn(ctx, p->pid, 1, p->r->node);
		else if (p->r->kind == PREC_BODY)
			fn(ctx, p->pid, 0, p->r->node);
	}
}

enum space_kind space_who(const struct space *s, int32_t pid, uint16_t *ret_node)
{
	const struct proc *p;
	HASH_FIND_INT(s->procs, &pid, p);
	if (!p)
		return SPACE_NONE;
	*ret_node = p->r->node;
	if (p->r->flags & PREC_SESSION)
		return SPACE_ROOT;
	return p->r->kind == PREC_GHOST ? SPACE_GHOST : p->r->kind == PREC_BODY ? SPACE_GUEST : SPACE_NONE;
}

int space_why(struct space *s, int32_t pid, char *buf, size_t size)
{
	struct err e = { 0 };
	struct proc *p = proc_find(s, pid);
	if (p && p->r->kind == PREC_GHOST)
		return -ESRCH;
	pid_t outer = nspid_outer(&s->ns, pid);
	if (outer <= 0)
		return -ESRCH;
	buf[0] = 0;
	if (gather_check(s, outer, &e) < 0)
		(void)snprintf(buf, size, "%s", e.text);
	return 0;
}
