#include "stream/export.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "stream/desc.h"
#include "stream/tty.h"

enum { REFUSED_LOG_MS = 10000, EVENTS = 64, STARVED_MAX = 128 };

/* Edges */

static void on_edge(struct xdesc *d, uint32_t events)
{
	struct xhandle *h;
	d->n_refs++;
	DL_FOREACH(d->handles, h) {
		/* Told also when it was ready before: an edge-triggered epoll of the program counts on each edge. Whoever is woken
		 * polls again and arms again. */
		if (!(h->armed & events))
			continue;
		h->armed = 0;
		(void)d->x->cfg.send(h->s->p, &(struct pmsg){ .type = PMSG_NOTIFY, .fh = h->fh, .size = events });
	}
	desc_pump(d);
	desc_unref(d, NULL);
}

static void on_epoll(uv_poll_t *p, int status, int events)
{
	struct exporter *x = p->data;
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(x->epfd, ev, EVENTS, 0);
	for (int i = 0; i < n; i++) {
		struct xdesc *d;
		uint64_t id = ev[i].data.u64;
		HASH_FIND(hh, x->descs, &id, sizeof id, d); /* an earlier one of this batch may have closed it */
		if (d)
			on_edge(d, ev[i].events);
	}
}

int exporter_new(const struct exporter_config *cfg, struct exporter **ret, struct err *e)
{
	struct exporter *x = calloc(1, sizeof *x);
	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->cfg = *cfg;
	xring_restore(x);
	if (ring_new(cfg->store, &x->ring) < 0) {
		free(x);
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (getrandom(&x->last_id, sizeof x->last_id, 0) != sizeof x->last_id)
		x->last_id = clock_ns();
	x->last_id >>= 16; /* ids of an agent before us mean nothing to us; leave room to count */
	x->epfd = epoll_create1(EPOLL_CLOEXEC);
	int rc = x->epfd < 0 ? -errno : uv_poll_init(cfg->loop, &x->poll, x->epfd);
	if (rc < 0) {
		x->epfd = close_fd(x->epfd);
		ring_free(x->ring);
		free(x);
		return err_set(e, rc, "epoll: %s", strerror(-rc));
	}
	x->poll.data = x;
	(void)uv_poll_start(&x->poll, UV_READABLE, on_epoll);
	int n = xdesc_restore_all(x);
	if (n)
		log_notice("streams: %d descriptions that other nodes use are taken over", n);
	*ret = x;
	return 0;
}

static void grants_drop(struct xdesc *d)
{
	if (!d->n_grants)
		return;
	for (size_t i = 0; i < d->n_grants; i++)
		store_free(d->x->cfg.store, d->grants[i].r);
	d->n_grants = 0;
	desc_unref(d, NULL);
}

static void on_closed(uv_handle_t *h)
{
	struct exporter *x = h->data;
	void (*closed)(void *) = x->closed;
	void *ctx = x->closed_ctx;
	x->epfd = close_fd(x->epfd);
	ring_free(x->ring);
	free(x);
	closed(ctx);
}

static void close_when_idle(uv_timer_t *t)
{
	struct exporter *x = t->data;
	if (x->n_jobs || x->descs)
		return;
	(void)uv_timer_stop(t);
	uv_close((uv_handle_t *)t, (uv_close_cb)free);
	uv_close((uv_handle_t *)&x->poll, on_closed);
}

void exporter_close(struct exporter *x, void (*closed)(void *ctx), void *ctx)
{
	struct xdesc *d, *tmp;
	assert(!x->sessions);
	x->closed = closed;
	x->closed_ctx = ctx;
	HASH_ITER(hh, x->descs, d, tmp)
		grants_drop(d);
	uv_timer_t *t = calloc(1, sizeof *t);
	if (!t)
		abort(); /* at the end of the program */
	(void)uv_timer_init(x->cfg.loop, t);
	t->data = x;
	(void)uv_timer_start(t, close_when_idle, 0, 10);
}

/* The table of descriptions and who may use them */

struct xdesc *xdesc_find(const struct exporter *x, uint64_t id)
{
	struct xdesc *d;
	HASH_FIND(hh, x->descs, &id, sizeof id, d);
	return d;
}

static struct xdesc *desc_same(const struct exporter *x, int fd)
{
	struct xdesc *d, *tmp;
	struct stat st;
	pid_t me = getpid();
	if (fstat(fd, &st) < 0)
		return NULL;
	HASH_ITER(hh, x->descs, d, tmp)
		if (d->ino == st.st_ino && d->dev == st.st_dev && syscall(SYS_kcmp, me, me, KCMP_FILE, fd, d->fd) == 0)
			return d;
	return NULL;
}

void xdesc_enter(struct exporter *x, struct xdesc *d)
{
	d->x = x;
	while (!d->id || xdesc_find(x, d->id))
		d->id = ++x->last_id;
	HASH_ADD(hh, x->descs, id, sizeof d->id, d);
}

static struct grant *grant_find(struct xdesc *d, uint16_t node)
{
	for (size_t i = 0; i < d->n_grants; i++)
		if (d->grants[i].node == node)
			return &d->grants[i];
	return NULL;
}

/* A place in the table of grants, which counts as one reference to d while it is not empty. */
static struct grant *grant_place(struct xdesc *d)
{
	struct grant *g = realloc(d->grants, (d->n_grants + 1) * sizeof *g);
	if (!g)
		return NULL;
	d->grants = g;
	if (!d->n_grants)
		d->n_refs++;
	return g + d->n_grants++;
}

static void grant_note(struct xdesc *d, struct grant *g)
{
	struct grant_rec now = { .desc = d->id, .expires_ms = g->expires_ms, .n_unused = g->n_unused, .node = g->node };
	memcpy(now.key, g->key, sizeof now.key);
	int is_new = !g->r;
	if (is_new)
		g->r = store_new(d->x->cfg.store, STORE_GRANT, sizeof *g->r);
	if (g->r)
		*g->r = now;
	if (g->r && is_new)
		store_commit(g->r);
}

int xgrant_restore(struct xdesc *d, struct grant_rec *r)
{
	struct grant *g = r->n_unused && !grant_find(d, r->node) ? grant_place(d) : NULL;
	if (!g)
		return -EINVAL;
	*g = (struct grant){ .r = r, .node = r->node, .n_unused = r->n_unused, .expires_ms = r->expires_ms };
	memcpy(g->key, r->key, sizeof g->key);
	return 0;
}

/* One more unused reference for node. */
static int grant_add(struct xdesc *d, uint16_t node, struct export_info *ret)
{
	struct grant *g = grant_find(d, node);
	if (!g) {
		uint8_t key[PMSG_KEY_SIZE];
		if (getrandom(key, sizeof key, 0) != sizeof key)
			return -EIO;
		g = grant_place(d);
		if (!g)
			return -ENOMEM;
		*g = (struct grant){ .node = node };
		memcpy(g->key, key, sizeof key);
	}
	g->n_unused++;
	g->expires_ms = clock_ms() + SPROTO_UNUSED_MS;
	grant_note(d, g);
	int fl = fcntl(d->fd, F_GETFL);
	ret->id = d->id;
	memcpy(ret->key, g->key, sizeof ret->key);
	ret->kind = d->kind;
	ret->oflags = fl < 0 ? 0 : (uint32_t)fl;
	strcpy(ret->name, d->name);
	return 0;
}

/* Uses up n references of the i-th grant; d may be gone then. */
static void grant_use(struct xdesc *d, size_t i, uint32_t n)
{
	struct grant *g = &d->grants[i];
	g->n_unused -= n;
	if (g->n_unused) {
		grant_note(d, g);
		return;
	}
	store_free(d->x->cfg.store, g->r);
	d->grants[i] = d->grants[--d->n_grants];
	if (!d->n_grants)
		desc_unref(d, NULL);
}

static void fd_drop(int *fd)
{
	*fd = close_fd(*fd);
}

int exporter_add(struct exporter *x, int fd, uint16_t node, const char *name, struct export_info *ret, struct err *e)
{
	struct xdesc *d = desc_same(x, fd);
	int is_new = !d;
	if (is_new) {
		d = calloc(1, sizeof *d);
		if (!d)
			return err_set(e, -ENOMEM, "out of memory");
		int rc = desc_init(d, fd, name, e);
		if (rc < 0) {
			free(d);
			return rc;
		}
		xdesc_enter(x, d);
		xdesc_note(d);
	}
	d->n_refs++;
	int rc = grant_add(d, node, ret);
	if (rc < 0 && is_new)
		d->fd = -1; /* stays the caller's */
	desc_unref(d, NULL);
	if (rc < 0)
		return err_set(e, rc, "%s", strerror(-rc));
	if (!is_new)
		fd_drop(&fd);
	return 0;
}

/* Constant time, so that a key cannot be found byte by byte. */
static int key_differs(const uint8_t *a, const uint8_t *b)
{
	uint8_t diff = 0;
	for (size_t i = 0; i < PMSG_KEY_SIZE; i++)
		diff |= (uint8_t)(a[i] ^ b[i]);
	return diff;
}

int exporter_unref(struct exporter *x, uint64_t id, uint16_t node)
{
	struct xdesc *d = xdesc_find(x, id);
	struct grant *g = d ? grant_find(d, node) : NULL;
	if (!g)
		return -ENOENT;
	grant_use(d, (size_t)(g - d->grants), 1);
	return 0;
}

/* The grant of node with that key; d is then counted once more. */
static struct grant *grant_check(struct exporter *x, uint64_t id, uint16_t node, const uint8_t *key, struct xdesc **ret)
{
	struct xdesc *d = xdesc_find(x, id);
	struct grant *g = d ? grant_find(d, node) : NULL;
	if (!g || key_differs(g->key, key))
		return NULL;
	d->n_refs++;
	*ret = d;
	return g;
}

int exporter_take_local(struct exporter *x, uint64_t id, const uint8_t key[static PMSG_KEY_SIZE], int *ret_fd, uint32_t *ret_kind)
{
	struct xdesc *d;
	struct grant *g = grant_check(x, id, x->cfg.self, key, &d);
	if (!g)
		return -EACCES;
	int fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0), rc = fd < 0 ? -errno : 0;
	if (rc == 0) {
		*ret_kind = d->kind;
		*ret_fd = fd;
		grant_use(d, (size_t)(g - d->grants), 1);
	}
	desc_unref(d, NULL);
	return rc;
}

void exporter_node_dead(struct exporter *x, uint16_t node)
{
	struct xdesc *d, *tmp;
	HASH_ITER(hh, x->descs, d, tmp) {
		struct grant *g = grant_find(d, node);
		if (g)
			grant_use(d, (size_t)(g - d->grants), g->n_unused);
	}
}

void exporter_tick(struct exporter *x, uint64_t now_ms)
{
	struct xdesc *d, *tmp;
	HASH_ITER(hh, x->descs, d, tmp) {
		d->n_refs++;
		for (size_t i = d->n_grants; i-- > 0;)
			if (now_ms >= d->grants[i].expires_ms)
				grant_use(d, i, d->grants[i].n_unused);
		desc_unref(d, NULL);
	}
}

/* Sessions */

int xsess_new(struct exporter *x, uint16_t node, uint64_t id, int is_restored, void *p, struct xsess **ret)
{
	struct xsess *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	s->x = x;
	s->node = node;
	s->p = p;
	s->id = id;
	DL_APPEND(x->sessions, s);
	if (is_restored)
		xsess_restore(s);
	*ret = s;
	return 0;
}

void xhandle_free(struct xhandle *h)
{
	struct xsess *s = h->s;
	store_free(s->x->cfg.store, h->r);
	HASH_DEL(s->handles, h);
	DL_DELETE(h->d->handles, h);
	desc_unref(h->d, s);
	free(h);
}

int xhandle_new(struct xsess *s, struct xdesc *d, uint64_t fh, struct xhandle_rec *r)
{
	struct xhandle *h;
	HASH_FIND(hh, s->handles, &fh, sizeof fh, h);
	if (h)
		return -EEXIST;
	if (HASH_COUNT(s->handles) >= PMSG_HANDLES_MAX)
		return -EDQUOT;
	h = calloc(1, sizeof *h);
	if (!h)
		return -ENOMEM;
	h->fh = fh;
	h->s = s;
	h->d = d;
	h->r = r;
	if (!r && (h->r = store_new(s->x->cfg.store, STORE_XHANDLE, sizeof *r))) {
		*h->r = (struct xhandle_rec){ .session = s->id, .fh = fh, .desc = d->id };
		store_commit(h->r);
	}
	d->n_refs++;
	HASH_ADD(hh, s->handles, fh, sizeof h->fh, h);
	DL_APPEND(d->handles, h);
	return 0;
}

void xsess_abandon(struct xsess *s, struct xop *op)
{
	struct xhandle *h;
	HASH_DEL(s->ops, op);
	if (op->type == PMSG_SYNC && op->is_queued) {
		DL_DELETE(s->syncs, op);
		op->is_queued = 0;
	}
	s->n_ops--;
	s->bytes -= op->charged;
	HASH_FIND(hh, s->handles, &op->fh, sizeof op->fh, h);
	if (h)
		h->bytes -= op->charged <= h->bytes ? op->charged : h->bytes;
	op->s = NULL; /* nobody to be answered */
	desc_drop(op);
}

void xsess_free(struct xsess *s)
{
	struct xop *op, *otmp;
	struct xhandle *h, *htmp;
	if (!s)
		return;
	DL_DELETE(s->x->sessions, s);
	HASH_ITER(hh, s->ops, op, otmp)
		xsess_abandon(s, op);
	HASH_ITER(hh, s->handles, h, htmp) {
		desc_pump(h->d); /* others may have waited behind ours */
		xhandle_free(h);
	}
	xsess_forget(s);
	s->is_closed = 1;
	if (!s->n_closing)
		free(s);
}

void export_close_done(struct xsess *s)
{
	struct xop *op, *tmp;
	if (--s->n_closing)
		return;
	if (s->is_closed) {
		free(s);
		return;
	}
	store_sync(s->x->cfg.store);
	DL_FOREACH_SAFE(s->syncs, op, tmp)
		xop_status(op, 0);
}

/* A peer that asks for what is not its own, or for too much: said once per while, not per request. */
static void xsess_refused(struct xsess *s, const char *what)
{
	uint64_t now = clock_ms();
	s->n_refused++;
	if (s->refused_ms && now - s->refused_ms < REFUSED_LOG_MS)
		return;
	s->refused_ms = now;
	log_warn("streams peer=%u refused=%llu: %s: answered with an error", s->node, (unsigned long long)s->n_refused, what);
}

/* One that is not wanted yet waits until it is asked for again. */
static void answer_send(struct xsess *s, const struct pmsg *m, int is_wanted)
{
	struct sess_frame *f;
	const struct exporter_config *cfg = &s->x->cfg;
	int rc = is_wanted ? cfg->send(s->p, m) : cfg->frame_new(s->p, m, &f);
	if (rc < 0)
		cfg->broken(s->p, "out of memory for an answer");
	else if (!is_wanted)
		xsess_unacked(s, f);
}

void xop_answer(struct xop *op, struct pmsg *m)
{
	struct xsess *s = op->s;
	if (s) {
		struct xhandle *h;
		HASH_DEL(s->ops, op);
		if (op->type == PMSG_SYNC && op->is_queued)
			DL_DELETE(s->syncs, op);
		s->n_ops--;
		s->bytes -= op->charged;
		HASH_FIND(hh, s->handles, &op->fh, sizeof op->fh, h);
		if (h)
			h->bytes -= op->charged <= h->bytes ? op->charged : h->bytes;
		m->type = PMSG_ANSWER;
		m->req = op->req;
		answer_send(s, m, op->is_wanted);
	}
	if (op->progress)
		store_free(op->d->x->cfg.store, op->progress);
	if (op->d)
		desc_unref(op->d, s);
	(void)close_fd(op->new_fd);
	free(op->buf);
	free(op);
}

void xop_status(struct xop *op, int status)
{
	xop_answer(op, &(struct pmsg){ .status = status });
}

static void opened_fill(struct pmsg *a, const struct xdesc *d)
{
	struct stat st;
	int fl = fcntl(d->fd, F_GETFL);
	a->id = d->id;
	a->kind = d->kind;
	a->oflags = fl < 0 ? 0 : (uint32_t)fl;
	a->name = d->name;
	a->n_name = strlen(d->name);
	if (fstat(d->fd, &st) == 0)
		desc_attr(d, &st, &a->attr);
	off_t off = d->kind == STREAM_REG ? lseek(d->fd, 0, SEEK_CUR) : 0;
	a->off = off < 0 ? 0 : off;
}

void export_reopened(struct xop *op)
{
	struct exporter *x = op->d->x;
	struct pmsg a = { 0 };
	if (op->result < 0 || !op->s) {
		xop_status(op, op->s ? (int)op->result : -ECANCELED);
		return;
	}
	struct xdesc *d = calloc(1, sizeof *d);
	int rc = d ? desc_init(d, op->new_fd, op->d->name, NULL) : -ENOMEM;
	if (rc < 0) {
		free(d);
		xop_status(op, rc);
		return;
	}
	op->new_fd = -1;
	xdesc_enter(x, d);
	xdesc_note(d);
	d->n_refs++;
	rc = xhandle_new(op->s, d, op->fh, NULL);
	if (rc == 0)
		opened_fill(&a, d);
	a.status = rc;
	struct xsess *s = op->s;
	xop_answer(op, &a);
	desc_unref(d, s);
}

static void do_attach(struct xop *op, const struct pmsg *m)
{
	struct xsess *s = op->s;
	struct xdesc *d;
	struct grant *g = grant_check(s->x, m->id, s->node, m->key, &d);
	if (!g) {
		xsess_refused(s, "a description that is not for this node, or a wrong key");
		xop_status(op, -EACCES);
		return;
	}
	struct pmsg a = { .status = xhandle_new(s, d, m->fh, NULL) };
	if (a.status == 0) {
		grant_use(d, (size_t)(g - d->grants), 1);
		opened_fill(&a, d);
	}
	xop_answer(op, &a);
	desc_unref(d, s);
}

static void do_grant(struct xop *op, const struct pmsg *m)
{
	struct export_info *info = malloc(sizeof *info);
	struct pmsg a = { .status = info ? grant_add(op->d, m->node, info) : -ENOMEM };
	if (a.status == 0) {
		a.id = info->id;
		memcpy(a.key, info->key, sizeof a.key);
		a.kind = info->kind;
		a.oflags = info->oflags;
		a.name = info->name;
		a.n_name = strlen(info->name);
	}
	xop_answer(op, &a);
	free(info);
}

static void do_sync(struct xop *op)
{
	if (!op->s->n_closing) {
		store_sync(op->s->x->cfg.store); /* the keeper's copies are closed too */
		xop_status(op, 0);
		return;
	}
	op->is_queued = 1;
	DL_APPEND(op->s->syncs, op);
}

/* A request as it came; -errno: it cannot even be answered. */
static int op_new(struct xsess *s, const struct pmsg *m, struct xop **ret)
{
	struct xop *op;
	HASH_FIND(hh, s->ops, &m->req, sizeof m->req, op);
	if (op)
		return -EEXIST;
	op = calloc(1, sizeof *op);
	if (!op)
		return -ENOMEM;
	*op = (struct xop){ .s = s, .req = m->req, .fh = m->fh, .fh2 = m->fh2, .type = m->type, .flags = m->flags, .oflags = m->oflags,
			    .size = m->size, .uid = m->uid, .gid = m->gid, .off = m->off, .len = m->len, .attr = m->attr, .new_fd = -1, .is_wanted = 1 };
	HASH_ADD(hh, s->ops, req, sizeof op->req, op);
	s->n_ops++;
	*ret = op;
	return 0;
}

static int op_charge(struct xop *op, struct xhandle *h, const struct pmsg *m)
{
	struct xsess *s = op->s;
	if (s->n_ops > PMSG_REQS_MAX || s->bytes + m->n_data > PMSG_BYTES_MAX || h->bytes + m->n_data > PMSG_DESC_BYTES_MAX)
		return -EDQUOT;
	if (m->size > PMSG_DATA_MAX && m->type == PMSG_READ)
		return -EINVAL;
	if (m->len > TTY_ARG_MAX && m->type == PMSG_IOCTL)
		return -EINVAL;
	if (!m->n_data)
		return 0;
	op->buf = malloc(m->n_data);
	if (!op->buf)
		return -ENOMEM;
	memcpy(op->buf, m->data, m->n_data);
	op->n_buf = op->charged = m->n_data;
	s->bytes += op->charged;
	h->bytes += op->charged;
	return 0;
}

static void xsess_request(struct xsess *s, const struct pmsg *m)
{
	struct xop *op;
	struct xhandle *h = NULL;
	if (xsess_again(s, m))
		return;
	int rc = op_new(s, m, &op);
	if (rc < 0) {
		s->x->cfg.broken(s->p, rc == -EEXIST ? "a request number used twice" : "out of memory");
		return;
	}
	if (m->type == PMSG_SYNC) {
		do_sync(op);
		return;
	}
	if (m->type == PMSG_ATTACH) {
		do_attach(op, m);
		return;
	}
	uint64_t fh = m->type == PMSG_REOPEN ? m->fh2 : m->fh;
	HASH_FIND(hh, s->handles, &fh, sizeof fh, h);
	if (!h) {
		xsess_refused(s, "a handle that it does not hold");
		xop_status(op, -EBADF);
		return;
	}
	op->d = h->d;
	op->d->n_refs++;
	rc = op_charge(op, h, m);
	if (rc < 0) {
		xsess_refused(s, "too much at once");
		xop_status(op, rc);
		return;
	}
	if (m->type == PMSG_GRANT)
		do_grant(op, m);
	else if (m->type == PMSG_UNGRANT)
		xop_status(op, m->id == op->d->id ? exporter_unref(s->x, m->id, m->node) : -EACCES);
	else
		desc_submit(op);
}

void xsess_message(struct xsess *s, const struct pmsg *m)
{
	struct xhandle *h;
	struct xop *op;
	switch (m->type) {
	case PMSG_RELEASE:
		HASH_FIND(hh, s->handles, &m->fh, sizeof m->fh, h);
		if (h)
			xhandle_free(h);
		return;
	case PMSG_CANCEL:
		HASH_FIND(hh, s->ops, &m->req, sizeof m->req, op);
		if (op && op->d)
			desc_cancel(op);
		return;
	case PMSG_KEEP:
		xsess_keep(s, m->data, m->n_data);
		return;
	case PMSG_RESYNCED:
		xsess_resynced(s);
		return;
	case PMSG_ANSWER:
	case PMSG_NOTIFY:
		s->x->cfg.broken(s->p, "an importer does not answer");
		return;
	default:
		xsess_request(s, m);
		return;
	}
}

void xsess_acked(struct xsess *s)
{
	struct xop *op, *tmp;
	uint64_t ids[STARVED_MAX];
	size_t n = 0;
	if (!s->is_starved)
		return;
	s->is_starved = 0;
	/* Pumping ends requests, so first collect the descriptions; those left out set is_starved again. */
	HASH_ITER(hh, s->ops, op, tmp) {
		if (op->type != PMSG_READ || !op->is_queued)
			continue;
		if (n == STARVED_MAX) {
			s->is_starved = 1;
			break;
		}
		ids[n++] = op->d->id;
	}
	for (size_t i = 0; i < n; i++) {
		struct xdesc *d = xdesc_find(s->x, ids[i]);
		if (d)
			desc_pump(d);
	}
}

json_t *exporter_stat(const struct exporter *x)
{
	struct xdesc *d, *tmp;
	struct xhandle *h;
	json_t *list = json_array();
	HASH_ITER(hh, x->descs, d, tmp) {
		json_t *nodes = json_array(), *o;
		int n = 0;
		uint32_t unused = 0;
		DL_FOREACH(d->handles, h) {
			(void)json_array_append_new(nodes, json_integer(h->s->node)); /* a short list is no harm */
			n++;
		}
		for (size_t i = 0; i < d->n_grants; i++)
			unused += d->grants[i].n_unused;
		o = json_pack("{s:I, s:i, s:s, s:i, s:o, s:i, s:I, s:I, s:i}", "id", (json_int_t)d->id, "kind", (int)d->kind, "name", d->name,
			      "handles", n, "nodes", nodes, "unused", (int)unused, "reads", (json_int_t)d->n_reads, "writes",
			      (json_int_t)d->n_writes, "refused_ioctl", (int)d->refused_ioctl);
		if (o)
			(void)json_array_append_new(list, o);
	}
	return list;
}
