/* What the exporter takes over from the agent that was killed before it, and sessions that start anew: descriptions (held by the keeper),
 * references, handles, answers that were not acknowledged, and how far writes were. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stream/desc.h"
#include "wire/rd.h"

enum { FD_NAME = 64 };

static void fd_name(uint64_t id, char ret[static FD_NAME])
{
	(void)snprintf(ret, FD_NAME, "streams.x.%llx", (unsigned long long)id);
}

/* Descriptions */

void xdesc_note(struct xdesc *d)
{
	char name[FD_NAME];
	size_t n = strlen(d->name) + 1;
	fd_name(d->id, name);
	d->r = store_new(d->x->cfg.store, STORE_DESC, sizeof *d->r + n);
	if (!d->r)
		return;
	d->r->id = d->id;
	d->r->kind = d->kind;
	memcpy(d->r->name, d->name, n);
	if (store_put_fd(d->x->cfg.store, name, d->fd) < 0)
		log_warn("streams: the keeper does not take a descriptor: %s would be lost with this process", d->name);
	store_commit(d->r);
}

void xdesc_forget(struct xdesc *d)
{
	char name[FD_NAME];
	if (!d->r)
		return;
	store_free(d->x->cfg.store, d->r);
	fd_name(d->id, name);
	store_drop_fd(d->x->cfg.store, name);
}

struct restore {
	struct exporter *x;
	struct xsess *s;
	int n;
};

static void desc_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	struct xdesc_rec *r = p;
	char name[FD_NAME];
	struct err e = { 0 };
	fd_name(r->id, name);
	_cleanup_(close_p) int fd = store_take_fd(c->x->cfg.store, name);
	struct xdesc *d = fd >= 0 ? calloc(1, sizeof *d) : NULL;
	if (!d || desc_init(d, fd, r->name, &e) < 0) {
		log_warn("streams: the description of %.100s is lost: %s", r->name, e.text);
		free(d);
		store_free(c->x->cfg.store, r);
		store_drop_fd(c->x->cfg.store, name);
		return;
	}
	(void)take_fd(&fd);
	d->id = r->id;
	d->r = r;
	d->n_refs = 1; /* until exporter_tidy */
	xdesc_enter(c->x, d);
	c->n++;
}

static void grant_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	struct grant_rec *r = p;
	struct xdesc *d = xdesc_find(c->x, r->desc);
	if (!d || xgrant_restore(d, r) < 0)
		store_free(c->x->cfg.store, r);
}

int xdesc_restore_all(struct exporter *x)
{
	struct restore c = { .x = x };
	store_each(x->cfg.store, STORE_DESC, desc_restore, &c);
	store_each(x->cfg.store, STORE_GRANT, grant_restore, &c);
	x->is_restored = c.n > 0;
	return c.n;
}

/* Records of sessions that are not there any more. */
static int is_session(const struct exporter *x, uint64_t id)
{
	struct xsess *s;
	DL_FOREACH(x->sessions, s)
		if (s->id == id)
			return 1;
	return 0;
}

static void handle_tidy(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	const struct xhandle_rec *r = p;
	if (!is_session(c->x, r->session))
		store_free(c->x->cfg.store, p);
}

static void progress_tidy(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	const struct progress_rec *r = p;
	if (!is_session(c->x, r->session))
		store_free(c->x->cfg.store, p);
}

static void frame_tidy(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	const struct sess_frame *f = p;
	if (!is_session(c->x, f->owner))
		store_free(c->x->cfg.store, p);
}

void exporter_tidy(struct exporter *x)
{
	struct restore c = { .x = x };
	struct xdesc *d, *tmp;
	store_each(x->cfg.store, STORE_XHANDLE, handle_tidy, &c);
	store_each(x->cfg.store, STORE_PROGRESS, progress_tidy, &c);
	store_each(x->cfg.store, STORE_FRAME, frame_tidy, &c);
	if (!x->is_restored)
		return;
	x->is_restored = 0;
	HASH_ITER(hh, x->descs, d, tmp)
		desc_unref(d, NULL);
}

/* Sessions */

static void handle_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	struct xhandle_rec *r = p;
	if (r->session != c->s->id)
		return;
	struct xdesc *d = xdesc_find(c->x, r->desc);
	if (!d || xhandle_new(c->s, d, r->fh, r) < 0)
		store_free(c->x->cfg.store, r);
}

static void frame_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	struct sess_frame *f = p;
	if (f->owner == c->s->id && n == sizeof *f + f->n)
		xsess_unacked(c->s, f);
}

static void progress_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	struct progress_rec *r = p;
	if (r->session != c->s->id)
		return;
	struct xprogress *x = calloc(1, sizeof *x);
	if (!x) {
		store_free(c->x->cfg.store, r);
		return;
	}
	x->r = r;
	LL_PREPEND(c->s->progress, x);
}

void xsess_restore(struct xsess *s)
{
	struct restore c = { .x = s->x, .s = s };
	store_each(s->x->cfg.store, STORE_XHANDLE, handle_restore, &c);
	store_each(s->x->cfg.store, STORE_FRAME, frame_restore, &c);
	store_each(s->x->cfg.store, STORE_PROGRESS, progress_restore, &c);
}

void xsess_restart(struct xsess *s)
{
	struct xop *op, *tmp;
	HASH_ITER(hh, s->ops, op, tmp)
		op->is_wanted = 0;
}

void xsess_unacked(struct xsess *s, struct sess_frame *f)
{
	struct xresult *r, *old;
	uint64_t req = sess_frame_req(f);
	if (sess_frame_type(f) != PMSG_ANSWER || !(r = calloc(1, sizeof *r))) {
		s->x->cfg.frame_free(s->p, f);
		return;
	}
	HASH_FIND(hh, s->results, &req, sizeof req, old);
	if (old) { /* not possible but by a wrong importer */
		HASH_DEL(s->results, old);
		s->x->cfg.frame_free(s->p, old->f);
		free(old);
	}
	r->req = req;
	r->f = f;
	HASH_ADD(hh, s->results, req, sizeof r->req, r);
}

static void results_drop(struct xsess *s)
{
	struct xresult *r, *tmp;
	HASH_ITER(hh, s->results, r, tmp) {
		HASH_DEL(s->results, r);
		s->x->cfg.frame_free(s->p, r->f);
		free(r);
	}
}

void xsess_forget(struct xsess *s)
{
	struct xprogress *p, *tmp;
	results_drop(s);
	LL_FOREACH_SAFE(s->progress, p, tmp) {
		store_free(s->x->cfg.store, p->r);
		free(p);
	}
	s->progress = NULL;
}

void xsess_keep(struct xsess *s, const uint8_t *p, size_t n)
{
	struct xhandle *h, *tmp;
	struct rd r;
	HASH_ITER(hh, s->handles, h, tmp)
		h->is_kept = 0;
	rd_init(&r, p, n);
	while (r.n && !r.bad) {
		uint64_t fh = rd_u64(&r);
		HASH_FIND(hh, s->handles, &fh, sizeof fh, h);
		if (h)
			h->is_kept = 1;
	}
	HASH_ITER(hh, s->handles, h, tmp)
		if (!h->is_kept)
			xhandle_free(h);
}

void xsess_resynced(struct xsess *s)
{
	struct xop *op, *tmp;
	struct xhandle *h, *htmp;
	HASH_ITER(hh, s->ops, op, tmp) {
		if (op->is_wanted)
			continue;
		xsess_abandon(s, op);
	}
	xsess_forget(s);
	HASH_ITER(hh, s->handles, h, htmp)
		desc_pump(h->d);
}

int xsess_again(struct xsess *s, const struct pmsg *m)
{
	struct xop *op;
	struct xresult *r;
	HASH_FIND(hh, s->ops, &m->req, sizeof m->req, op);
	if (op && !op->is_wanted && op->type == m->type) {
		op->is_wanted = 1;
		op->fh = m->fh; /* of REOPEN: the importer has taken another number */
		return 1;
	}
	HASH_FIND(hh, s->results, &m->req, sizeof m->req, r);
	if (!r)
		return 0;
	HASH_DEL(s->results, r);
	log_debug("streams: request %llx comes again: it was answered", (unsigned long long)m->req);
	/* What was opened again for it is released already. */
	int is_good = m->type != PMSG_REOPEN;
	if (is_good)
		s->x->cfg.frame_send(s->p, r->f);
	else
		s->x->cfg.frame_free(s->p, r->f);
	free(r);
	return is_good;
}

void xop_progress(struct xop *op)
{
	struct xprogress *p, *tmp;
	if (!op->s)
		return;
	LL_FOREACH_SAFE(op->s->progress, p, tmp) {
		if (p->r->req != op->req)
			continue;
		LL_DELETE(op->s->progress, p);
		op->progress = p->r;
		free(p);
		log_debug("streams: request %llx comes again: %llu bytes were done", (unsigned long long)op->req,
			  (unsigned long long)op->progress->n_done);
		if (op->type == PMSG_WRITE)
			op->n_done = op->progress->n_done <= op->n_buf ? (size_t)op->progress->n_done : 0;
		return;
	}
	op->progress = store_new(op->d->x->cfg.store, STORE_PROGRESS, sizeof *op->progress);
	if (!op->progress)
		return;
	op->progress->session = op->s->id;
	op->progress->req = op->req;
	op->progress->before = -1;
	store_commit(op->progress);
}

/* The record of a call that had begun has a place in the file. Whether it was done shows by the offset (unmoved: no) and, for a write, by
 * what stands there since: only an equal piece, written by another holder of the description within the same moment, could deceive. */
static size_t write_was_done(const struct xop *op, int64_t from, int64_t to)
{
	size_t n = op->n_buf;
	if (to - from < (int64_t)n || to - from > (int64_t)n + PMSG_DATA_MAX)
		return 0;
	size_t room = (size_t)(to - from);
	_cleanup_(free_p) uint8_t *p = malloc(room);
	ssize_t got = p ? pread(op->d->fd, p, room, from) : -1;
	return got >= (ssize_t)n && memmem(p, (size_t)got, op->buf, n) ? n : 0;
}

size_t xop_was_done(struct xop *op)
{
	const struct progress_rec *r = op->progress;
	struct stat st;
	int fd = op->d->fd, fl = fcntl(fd, F_GETFL);
	if (!r || r->before < 0)
		return 0;
	int64_t now = op->type == PMSG_WRITE && fl >= 0 && fl & O_APPEND ? (fstat(fd, &st) == 0 ? st.st_size : -1) : lseek(fd, 0, SEEK_CUR);
	if (now <= r->before)
		return 0;
	if (op->type == PMSG_WRITE)
		return write_was_done(op, r->before, now);
	size_t n = now - r->before < (int64_t)op->size ? (size_t)(now - r->before) : op->size;
	ssize_t got = pread(fd, op->buf, n, r->before);
	return got > 0 ? (size_t)got : 0;
}

/* The operation in the ring */

struct ring_find {
	const struct ring_slot *slot;
	struct progress_rec *progress;
	int is_answered;
};

static void ring_progress(void *ctx, void *p, size_t n)
{
	struct ring_find *f = ctx;
	struct progress_rec *r = p;
	if (r->session == f->slot->session && r->req == f->slot->req)
		f->progress = r;
}

static void ring_frame(void *ctx, void *p, size_t n)
{
	struct ring_find *f = ctx;
	const struct sess_frame *r = p;
	if (r->owner == f->slot->session && sess_frame_type(r) == PMSG_ANSWER && sess_frame_req(r) == f->slot->req)
		f->is_answered = 1;
}

void xring_restore(struct exporter *x)
{
	int64_t res = 0;
	struct ring_find f = { .slot = ring_before(x->cfg.store, &res) };
	if (f.slot)
		log_debug("streams: killed within a %s, result %lld", f.slot->is_write ? "write" : "read", (long long)res);
	if (!f.slot || res < 0)
		return;
	if (f.slot->is_write) {
		store_each(x->cfg.store, STORE_PROGRESS, ring_progress, &f);
		if (f.progress)
			f.progress->n_done = f.slot->base + (uint64_t)res;
		return;
	}
	store_each(x->cfg.store, STORE_FRAME, ring_frame, &f);
	if (f.is_answered)
		return;
	const struct sess s = { .owner = f.slot->session, .store = x->cfg.store };
	const struct pmsg m = { .type = PMSG_ANSWER, .req = f.slot->req, .data = f.slot->data, .n_data = (size_t)res };
	struct sess_frame *frame; /* found by its session among those of the store */
	if (sess_frame_new(&s, &m, &frame) < 0)
		log_warn("streams: out of memory for what was read last: %lld bytes are lost", (long long)res);
}
