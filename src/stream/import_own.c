#include "stream/import_own.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/rmem.h"
#include "stream/tty.h"

void import_ignore(void *ctx, struct ireq *r, const struct pmsg *a)
{
}

int importer_is_ours(const struct importer *im, int fd)
{
	/* fstat would ask us, and we are the one who asks. */
	dev_t dev;
	return fuse_dev_number(fd, &dev) == 0 && dev == im->st_dev;
}

/* Finding the handle behind a descriptor: an ioctl that comes back to us with the handle's number. */

struct ident {
	struct importer *im;
	int rc;
	void (*then)(struct ident *i, struct ihandle *h); /* h NULL: not there (i->rc says why); frees i */
	void *ctx;
};

static void ident_done(void *ctx, int result, uint64_t value, int fd)
{
	struct ident *i = ctx;
	struct ihandle *h = result >= 0 ? ihandle_find(i->im, value) : NULL;
	(void)close_fd(fd);
	i->rc = result;
	if (!h && result >= 0)
		i->rc = -EBADF;
	if (h && h->imp->is_dead) {
		h = NULL;
		i->rc = -EIO;
	}
	i->then(i, h);
}

static int ident_begin(struct importer *im, int fd, struct ident *i)
{
	i->im = im;
	return opener_ident(im->opener, fd, ident_done, i);
}

/* References for third nodes */

struct regrant {
	struct ident ident; /* first */
	uint16_t node;
	regrant_fn done;
	struct regrant_result res;
};

static void on_granted(void *ctx, struct ireq *r, const struct pmsg *a)
{
	struct regrant *g = ctx;
	g->res.status = a->status;
	if (a->status == 0) {
		g->res.id = a->id;
		memcpy(g->res.key, a->key, sizeof g->res.key);
		g->res.kind = a->kind;
		g->res.oflags = a->oflags;
		if (a->n_name)
			memcpy(g->res.name, a->name, a->n_name);
	}
	g->done(g->ident.ctx, &g->res);
	free(g);
}

static void regrant_then(struct ident *i, struct ihandle *h)
{
	struct regrant *g = (struct regrant *)i;
	if (!h) {
		g->res.status = i->rc;
		g->done(i->ctx, &g->res);
		free(g);
		return;
	}
	g->res.home = h->imp->peer->node;
	ireq_own(i->im, h->imp->peer, &(struct pmsg){ .type = PMSG_GRANT, .fh = h->fh, .node = g->node }, on_granted, g);
}

int importer_regrant(struct importer *im, int fd, uint16_t node, regrant_fn done, void *ctx)
{
	struct regrant *g = calloc(1, sizeof *g);
	if (!g)
		return -ENOMEM;
	g->ident.then = regrant_then;
	g->ident.ctx = ctx;
	g->node = node;
	g->done = done;
	int rc = ident_begin(im, fd, &g->ident);
	if (rc < 0)
		free(g);
	return rc;
}

int importer_ungrant(struct importer *im, uint16_t home, uint64_t id, uint16_t node)
{
	struct ihandle *h, *tmp;
	HASH_ITER(hh, im->handles, h, tmp) {
		if (h->r->export_id != id || h->imp->peer->node != home || h->imp->is_dead)
			continue;
		ireq_own(im, h->imp->peer, &(struct pmsg){ .type = PMSG_UNGRANT, .fh = h->fh, .id = id, .node = node }, import_ignore,
			 NULL);
		return 0;
	}
	return -ENOENT;
}

/* What the kernel does not pass on */

struct desc_op {
	struct ident ident; /* first */
	struct desc_copy {
		struct job job; /* first */
		struct desc_op *op;
	} copy;             /* to or from the caller's memory */
	uint32_t op, whence, size, pid;
	int64_t off;
	struct raddr addr;
	uint64_t fh;
	uint8_t *buf;       /* owned: PREAD, PWRITE */
	int64_t value;
	desc_fn done;
};

static void desc_op_end(struct desc_op *d, int64_t value)
{
	d->done(d->ident.ctx, value);
	free(d->buf);
	free(d);
}

static struct desc_op *desc_of_copy(struct job *j)
{
	return ((struct desc_copy *)j)->op;
}

static void desc_copied_out(struct job *j)
{
	struct desc_op *d = desc_of_copy(j);
	d->ident.im->n_jobs--;
	desc_op_end(d, d->value);
}

static void desc_copy_out(struct job *j)
{
	struct desc_op *d = desc_of_copy(j);
	int rc = rmem_write((pid_t)d->pid, d->addr, d->buf, (size_t)d->value);
	if (rc < 0)
		d->value = rc;
}

/* What was read goes into the memory of the program that asked. */
static void desc_deliver(struct desc_op *d, const struct pmsg *a)
{
	d->buf = malloc(a->n_data ? a->n_data : 1);
	d->value = (int64_t)a->n_data;
	if (!d->buf || !a->n_data) {
		desc_op_end(d, d->buf ? 0 : -ENOMEM);
		return;
	}
	memcpy(d->buf, a->data, a->n_data);
	d->copy = (struct desc_copy){ .job = { .run = desc_copy_out, .done = desc_copied_out }, .op = d };
	int rc = work_pool(d->ident.im->cfg.work, &d->copy.job);
	if (rc < 0)
		desc_op_end(d, rc);
	else
		d->ident.im->n_jobs++;
}

static void on_desc_answer(void *ctx, struct ireq *r, const struct pmsg *a)
{
	struct desc_op *d = ctx;
	int32_t n = 0;
	if (a->status < 0) {
		desc_op_end(d, a->status);
		return;
	}
	switch (d->op) {
	case SPROTO_DESC_PREAD:
		desc_deliver(d, a);
		return;
	case SPROTO_DESC_PWRITE:
		desc_op_end(d, a->status);
		return;
	case SPROTO_DESC_GETFL:
		desc_op_end(d, a->oflags);
		return;
	case SPROTO_DESC_FIONREAD:
		if (a->n_data == sizeof n)
			memcpy(&n, a->data, sizeof n);
		desc_op_end(d, n);
		return;
	default:
		desc_op_end(d, a->off);
		return;
	}
}

static void desc_send(struct desc_op *d, struct imp_peer *p, struct pmsg *m)
{
	m->fh = d->fh;
	ireq_own(d->ident.im, p, m, on_desc_answer, d);
}

static void desc_copied_in(struct job *j)
{
	struct desc_op *d = desc_of_copy(j);
	struct ihandle *h = ihandle_find(d->ident.im, d->fh);
	d->ident.im->n_jobs--;
	if (d->value < 0 || !h) {
		desc_op_end(d, h ? d->value : -EBADF);
		return;
	}
	desc_send(d, h->imp->peer, &(struct pmsg){ .type = PMSG_WRITE, .off = d->off, .flags = PMSG_POSITIONAL, .data = d->buf,
						   .n_data = d->size });
}

static void desc_copy_in(struct job *j)
{
	struct desc_op *d = desc_of_copy(j);
	d->value = rmem_read((pid_t)d->pid, d->addr, d->buf, d->size);
}

static void desc_fetch(struct desc_op *d)
{
	d->buf = malloc(d->size ? d->size : 1);
	d->copy = (struct desc_copy){ .job = { .run = desc_copy_in, .done = desc_copied_in }, .op = d };
	int rc = d->buf ? work_pool(d->ident.im->cfg.work, &d->copy.job) : -ENOMEM;
	if (rc < 0)
		desc_op_end(d, rc);
	else
		d->ident.im->n_jobs++;
}

static void desc_then(struct ident *i, struct ihandle *h)
{
	struct desc_op *d = (struct desc_op *)i;
	if (!h) {
		desc_op_end(d, i->rc);
		return;
	}
	d->fh = h->fh;
	struct imp_peer *p = h->imp->peer;
	switch (d->op) {
	case SPROTO_DESC_LSEEK:
		desc_send(d, p, &(struct pmsg){ .type = PMSG_LSEEK, .off = d->off, .flags = d->whence });
		return;
	case SPROTO_DESC_GETFL:
		desc_send(d, p, &(struct pmsg){ .type = PMSG_GETFL });
		return;
	case SPROTO_DESC_SETFL:
		desc_send(d, p, &(struct pmsg){ .type = PMSG_SETFL, .oflags = (uint32_t)d->off });
		return;
	case SPROTO_DESC_FIONREAD:
		desc_send(d, p, &(struct pmsg){ .type = PMSG_IOCTL, .size = FIONREAD, .len = 4 });
		return;
	case SPROTO_DESC_GETPIPE_SZ:
	case SPROTO_DESC_SETPIPE_SZ:
		desc_send(d, p, &(struct pmsg){ .type = PMSG_PIPESZ, .flags = d->op == SPROTO_DESC_SETPIPE_SZ, .off = d->off });
		return;
	case SPROTO_DESC_PREAD:
		desc_send(d, p, &(struct pmsg){ .type = PMSG_READ, .size = d->size, .off = d->off, .flags = PMSG_POSITIONAL });
		return;
	case SPROTO_DESC_PWRITE:
		desc_fetch(d);
		return;
	default:
		desc_op_end(d, -EINVAL);
		return;
	}
}

int importer_desc(struct importer *im, int fd, const struct sproto_msg *m, desc_fn done, void *ctx)
{
	if ((m->op == SPROTO_DESC_PREAD || m->op == SPROTO_DESC_PWRITE) && (m->size > PMSG_DATA_MAX || m->off < 0))
		return -EINVAL;
	struct desc_op *d = calloc(1, sizeof *d);
	if (!d)
		return -ENOMEM;
	*d = (struct desc_op){ .ident = { .then = desc_then, .ctx = ctx }, .op = m->op, .whence = m->whence, .size = m->size,
			       .pid = m->pid, .off = m->off, .addr = { m->mem }, .done = done };
	int rc = ident_begin(im, fd, &d->ident);
	if (rc < 0)
		free(d);
	return rc;
}

/* Barriers */

struct barrier {
	unsigned n_waiting; /* SYNCs not answered, and one while they are sent */
	void (*done)(void *ctx, int status);
	void *ctx;
};

struct barrier_sync {
	struct barrier *b;
	struct imp_peer *peer;
	uint64_t n_sent; /* what the answer says is done */
};

static void barrier_step(struct barrier *b)
{
	if (--b->n_waiting)
		return;
	b->done(b->ctx, 0);
	free(b);
}

static void on_synced(void *ctx, struct ireq *r, const struct pmsg *a)
{
	struct barrier_sync *s = ctx;
	/* A dead home counts as done: nothing of what was sent there matters any more. */
	if (a->status == 0 && s->n_sent > s->peer->n_synced)
		s->peer->n_synced = s->n_sent;
	barrier_step(s->b);
	free(s);
}

static void barrier_peer(struct importer *im, struct barrier *b, struct imp_peer *p)
{
	struct barrier_sync *s = p->n_sent == p->n_synced ? NULL : calloc(1, sizeof *s);
	if (!s)
		return; /* out of memory: rather an early answer than none */
	*s = (struct barrier_sync){ .b = b, .peer = p, .n_sent = p->n_sent + 1 };
	b->n_waiting++;
	ireq_own(im, p, &(struct pmsg){ .type = PMSG_SYNC }, on_synced, s);
}

static int is_wanted(const struct importer *im, const struct imp_peer *p, const uint64_t *ids, uint32_t n_ids)
{
	for (uint32_t i = 0; i < n_ids; i++)
		if (ids[i] >> 48 == p->node)
			return 1;
	return n_ids == 0;
}

int importer_barrier(struct importer *im, const uint64_t *ids, uint32_t n_ids, void (*done)(void *ctx, int status), void *ctx)
{
	struct imp_peer *p, *tmp;
	struct barrier *b = calloc(1, sizeof *b);
	if (!b)
		return -ENOMEM;
	*b = (struct barrier){ .n_waiting = 1, .done = done, .ctx = ctx };
	/* The releases of a process that has ended are in the kernel's queue by now. */
	import_fs_drain(im);
	HASH_ITER(hh, im->peers, p, tmp)
		if (is_wanted(im, p, ids, n_ids))
			barrier_peer(im, b, p);
	barrier_step(b);
	return 0;
}
