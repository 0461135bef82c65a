#include "stream/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stream/import_int.h"

/* Room below the home's limits for requests of our own, which are never held back. */
enum { REQS_WINDOW = PMSG_REQS_MAX - 256 };

/* Requests */

struct imp_peer *peer_get(struct importer *im, uint16_t node)
{
	struct imp_peer *p;
	HASH_FIND(hh, im->peers, &node, sizeof node, p);
	if (p)
		return p;
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->node = node;
	HASH_ADD(hh, im->peers, node, sizeof p->node, p);
	return p;
}

static int peer_send(struct importer *im, struct imp_peer *p, const struct pmsg *m)
{
	int rc = im->cfg.send(im->cfg.ctx, p->node, m);
	if (rc == 0)
		p->n_sent++;
	return rc;
}

void peer_tell(struct importer *im, struct imp_peer *p, const struct pmsg *m)
{
	/* It fails when the home is dead, which then has nothing to be told, or without memory: the home then keeps a handle
	 * until the session ends. */
	if (peer_send(im, p, m) == -ENOMEM)
		log_warn("streams peer=%u: out of memory for a message: a file stays open there", p->node);
}

static int is_within_window(const struct ireq *r, const struct ihandle *h)
{
	const struct imp_peer *p = r->peer;
	return p->n_reqs < REQS_WINDOW && p->bytes + r->charged <= PMSG_BYTES_MAX &&
	       (!h || h->bytes + r->charged <= PMSG_DESC_BYTES_MAX);
}

static void ireq_count(struct ireq *r, struct ihandle *h)
{
	r->is_sent = r->is_counted = 1;
	r->peer->n_reqs++;
	r->peer->bytes += r->charged;
	if (h)
		h->bytes += r->charged;
}

static void ireq_uncount(struct importer *im, struct ireq *r)
{
	struct ihandle *h = ihandle_find(im, r->fh);
	if (!r->is_counted)
		return;
	r->is_counted = 0;
	r->peer->n_reqs--;
	r->peer->bytes -= r->charged;
	if (h)
		h->bytes -= r->charged <= h->bytes ? r->charged : h->bytes;
}

static void held_free(struct ireq *r);

/* r waits no longer to be sent. */
static void held_drop(struct ireq *r)
{
	if (r->is_sent)
		return;
	DL_DELETE(r->peer->held, r);
	held_free(r);
	r->is_sent = 1;
}

/* Keeps a copy of m. */
static int ireq_copy(struct ireq *r, const struct pmsg *m)
{
	r->held = *m;
	r->held.data = NULL;
	if (m->n_data) {
		uint8_t *copy = malloc(m->n_data);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, m->data, m->n_data);
		r->held.data = copy;
	}
	return 0;
}

static void ireq_unlist(struct importer *im, struct ireq *r)
{
	HASH_DEL(im->reqs, r);
	if (r->unique)
		HASH_DELETE(hh_unique, im->uniques, r);
	store_free(im->cfg.store, r->pending);
	r->pending = NULL;
}

static void held_free(struct ireq *r)
{
	union {
		const uint8_t *in;
		void *out;
	} data = { .in = r->held.data }; /* our own copy */
	free(data.out);
	r->held.data = NULL;
}

static void ireq_free(struct ireq *r)
{
	held_free(r);
	free(r);
}

/* A kernel that cannot send its requests again: the next agent must know which it has to end. */
static void pending_note(struct importer *im, struct ireq *r)
{
	if (im->has_resend || !r->unique)
		return;
	r->pending = store_new(im->cfg.store, STORE_PENDING, sizeof *r->pending);
	if (!r->pending)
		return;
	*r->pending = (struct pending_rec){ .unique = r->unique, .pid = r->pid };
	store_commit(r->pending);
}

int ireq_send(struct importer *im, struct imp_peer *peer, struct pmsg *m, const struct fuse_in_header *h, struct ireq **ret)
{
	struct ireq *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	struct ihandle *fh = ihandle_find(im, m->fh);
	*r = (struct ireq){ .req = h ? h->unique : ++im->last_req, .peer = peer, .fh = m->fh, .type = m->type, .charged = m->n_data };
	m->req = r->req;
	if (h) {
		r->unique = h->unique;
		r->opcode = h->opcode;
		r->pid = h->pid;
		r->nodeid = h->nodeid;
	}
	int waits = h && !is_within_window(r, fh);
	int rc = waits || !h ? ireq_copy(r, m) : 0; /* ours may have to be sent again, the kernel's come again by themselves */
	if (rc == 0 && waits) {
		DL_APPEND(peer->held, r);
	} else if (rc == 0 && (rc = peer_send(im, peer, m)) == 0) {
		ireq_count(r, fh);
	}
	if (rc < 0) {
		ireq_free(r);
		return rc;
	}
	HASH_ADD(hh, im->reqs, req, sizeof r->req, r);
	if (r->unique)
		HASH_ADD(hh_unique, im->uniques, unique, sizeof r->unique, r);
	pending_note(im, r);
	*ret = r;
	return 0;
}

void ireq_own(struct importer *im, struct imp_peer *peer, struct pmsg *m,
	      void (*done)(void *ctx, struct ireq *r, const struct pmsg *a), void *ctx)
{
	struct ireq *r;
	int rc = ireq_send(im, peer, m, NULL, &r);
	if (rc < 0) {
		done(ctx, NULL, &(struct pmsg){ .type = PMSG_ANSWER, .status = rc });
		return;
	}
	r->done = done;
	r->ctx = ctx;
}

/* Ends r, which is off the lists, with answer a. */
static void ireq_finish(struct importer *im, struct ireq *r, const struct pmsg *a)
{
	if (r->done)
		r->done(r->ctx, r, a);
	else
		import_fs_answer(im, r, a); /* also when the kernel waits no more: what was opened must be closed */
	ireq_free(r);
}

static void held_release(struct importer *im, struct imp_peer *p)
{
	while (p->held) {
		struct ireq *r = p->held;
		struct ihandle *h = ihandle_find(im, r->fh);
		if (!is_within_window(r, h))
			return;
		int rc = peer_send(im, p, &r->held);
		held_drop(r);
		if (rc == 0) {
			ireq_count(r, h);
			continue;
		}
		ireq_unlist(im, r);
		ireq_finish(im, r, &(struct pmsg){ .type = PMSG_ANSWER, .status = rc });
	}
}

static int on_answer(struct importer *im, uint16_t node, const struct pmsg *m)
{
	struct ireq *r;
	HASH_FIND(hh, im->reqs, &m->req, sizeof m->req, r);
	if (!r || r->peer->node != node || !r->is_counted)
		return -EPROTO;
	struct imp_peer *p = r->peer;
	ireq_uncount(im, r);
	ireq_unlist(im, r);
	ireq_finish(im, r, m);
	held_release(im, p);
	return 0;
}

int importer_message(struct importer *im, uint16_t node, const struct pmsg *m)
{
	struct ihandle *h;
	switch (m->type) {
	case PMSG_ANSWER:
		return on_answer(im, node, m);
	case PMSG_NOTIFY:
		h = ihandle_find(im, m->fh);
		if (h && h->imp->peer->node == node)
			import_fs_notify(im, h);
		return 0;
	default:
		return -EPROTO;
	}
}

void ireq_interrupt(struct importer *im, uint64_t unique)
{
	struct ireq *r;
	HASH_FIND(hh_unique, im->uniques, &unique, sizeof unique, r);
	if (!r || r->is_interrupted)
		return; /* answered meanwhile */
	r->is_interrupted = 1;
	if (!r->is_sent) {
		held_drop(r);
		ireq_unlist(im, r);
		ireq_finish(im, r, &(struct pmsg){ .type = PMSG_ANSWER, .status = -EINTR });
		return;
	}
	peer_tell(im, r->peer, &(struct pmsg){ .type = PMSG_CANCEL, .req = r->req });
	/* Someone who is being killed does not wait for a connection to come back. */
	if (!im->cfg.is_connected(im->cfg.ctx, r->peer->node) && restart_is_dying(r->pid)) {
		(void)fuse_dev_reply(im->dev, r->unique, -EINTR, NULL, 0);
		r->is_gone = 1;
	}
}

/* Handles and imports */

struct ihandle *ihandle_find(const struct importer *im, uint64_t fh)
{
	struct ihandle *h;
	HASH_FIND(hh, im->handles, &fh, sizeof fh, h);
	return h;
}

struct ihandle *ihandle_new(struct import *imp, uint64_t fh)
{
	struct importer *im = imp->im;
	struct ihandle *h = calloc(1, sizeof *h);
	struct ihandle_rec *r = h ? store_new(im->cfg.store, STORE_HANDLE, sizeof *r) : NULL;
	if (!r) {
		free(h);
		return NULL;
	}
	r->fh = h->fh = fh ? fh : ++im->last_fh;
	r->import = imp->id;
	r->export_id = imp->r->export_id;
	r->oflags = imp->r->oflags;
	h->r = r;
	h->imp = imp;
	imp->n_refs++;
	HASH_ADD(hh, im->handles, fh, sizeof h->fh, h);
	DL_APPEND(imp->handles, h);
	return h;
}

void ihandle_free(struct ihandle *h)
{
	struct import *imp = h->imp;
	HASH_DEL(imp->im->handles, h);
	DL_DELETE(imp->handles, h);
	store_free(imp->im->cfg.store, h->r);
	free(h);
	import_unref(imp);
}

void import_unref(struct import *imp)
{
	struct importer *im = imp->im;
	if (--imp->n_refs)
		return;
	HASH_DEL(im->imports, imp);
	struct fnode *f = imp->node ? names_retire(im->names, imp->node) : NULL;
	/* The kernel keeps names of closed files until it is told to forget them. */
	if (f && !im->is_closing)
		(void)opener_forget(im->opener, f->parent->nodeid, f->name); /* memory pressure makes it forget as well */
	store_free(im->cfg.store, imp->r);
	free(imp);
}

uint32_t import_fopen_flags(const struct import *imp, int is_stream)
{
	/* Never FOPEN_NONSEEKABLE: it keeps the position's lock, and who waits for a blocked reader's lock cannot be killed. */
	return FOPEN_DIRECT_IO | FOPEN_NOFLUSH | FOPEN_PARALLEL_DIRECT_WRITES | (is_stream ? FOPEN_STREAM : 0);
}

uint64_t import_size(const struct import *imp)
{
	if (imp->kind == STREAM_REG)
		return imp->r->attr.size;
	/* A write beyond the end is done under the inode's lock, where a second writer could not be killed: so the end is far.
	 * Readers are better off with an empty file than with one of 2^62 bytes. */
	return (imp->r->oflags & O_ACCMODE) != O_RDONLY ? 1ull << 62 : 0;
}

static struct import *import_find(const struct importer *im, const struct imp_peer *p, uint64_t export_id)
{
	struct import *imp, *tmp;
	HASH_ITER(hh, im->imports, imp, tmp)
		if (imp->peer == p && imp->r->export_id == export_id && !imp->is_dead)
			return imp;
	return NULL;
}

struct import *import_of(struct importer *im, struct imp_peer *p, struct import_rec *r)
{
	struct import *imp = calloc(1, sizeof *imp);
	if (!imp)
		return NULL;
	*imp = (struct import){ .im = im, .peer = p, .r = r, .id = r->id, .kind = (enum stream_kind)r->kind };
	HASH_ADD(hh, im->imports, id, sizeof imp->id, imp);
	return imp;
}

/* A new one for what node said about its export. */
static int import_make(struct importer *im, struct imp_peer *p, const struct pmsg *a, struct import **ret)
{
	char name[PMSG_NAME_MAX];
	unsigned index;
	(void)snprintf(name, sizeof name, "%.*s", (int)a->n_name, a->n_name ? a->name : "");
	struct import_rec *r = store_new(im->cfg.store, STORE_IMPORT, sizeof *r);
	if (!r)
		return -ENOMEM;
	*r = (struct import_rec){ .id = (uint64_t)p->node << 48 | (++im->last_import & 0xffffffffffff),
				  .export_id = a->id,
				  .kind = a->kind,
				  .oflags = a->oflags,
				  .peer = p->node,
				  .attr = a->attr };
	struct import *imp = import_of(im, p, r);
	if (!imp) {
		store_free(im->cfg.store, r);
		return -ENOMEM;
	}
	imp->n_refs = 1;
	int rc = names_add(im->names, name, imp, &imp->node, &index);
	if (rc < 0) {
		import_unref(imp);
		return rc;
	}
	r->index = index;
	r->nodeid = imp->node->nodeid;
	store_commit(r);
	*ret = imp;
	return 0;
}

/* Counted once for the caller. */
static int import_get(struct importer *im, struct imp_peer *p, const struct pmsg *a, struct import **ret)
{
	struct import *imp = import_find(im, p, a->id);
	if (!imp)
		return import_make(im, p, a, ret);
	imp->n_refs++;
	*ret = imp;
	return 0;
}

/* Opening: by the opener, because the kernel asks us about it. */

static void open_job_free(struct open_job *o)
{
	if (o->handle) { /* the kernel's open never came */
		if (!o->imp->is_dead)
			peer_tell(o->im, o->imp->peer, &(struct pmsg){ .type = PMSG_RELEASE, .fh = o->handle->fh });
		ihandle_free(o->handle);
	}
	import_unref(o->imp);
	free(o);
}

static void open_done(void *ctx, int result, uint64_t value, int fd)
{
	struct open_job *o = ctx;
	struct import_result res = { .status = result, .fd = fd, .id = o->imp->id, .kind = o->imp->kind };
	DL_DELETE(o->im->opens, o);
	o->done(o->ctx, &res);
	open_job_free(o);
}

/* What importer_import waits for: the answer to ATTACH. */
struct import_start {
	struct importer *im;
	struct imp_peer *peer;
	uint64_t fh;
	uint32_t flags;
	import_fn done;
	void *ctx;
};

static int open_begin(struct import_start *s, const struct pmsg *a)
{
	struct importer *im = s->im;
	struct import *imp;
	int rc = import_get(im, s->peer, a, &imp);
	if (rc < 0)
		return rc;
	struct open_job *o = calloc(1, sizeof *o);
	struct ihandle *h = o ? ihandle_new(imp, s->fh) : NULL; /* the number that the home knows */
	if (!h) {
		free(o);
		import_unref(imp);
		return -ENOMEM;
	}
	struct ihandle_rec *r = h->r;
	r->is_trapped = (s->flags & SPROTO_TRAPPED) != 0;
	int readable = (a->oflags & O_ACCMODE) != O_WRONLY;
	r->is_stream = imp->kind != STREAM_REG || (!readable && !r->is_trapped);
	int keep = O_ACCMODE | O_NONBLOCK | (imp->kind == STREAM_REG ? O_APPEND : 0);
	int64_t off = r->is_stream ? 0 : a->off;
	r->expect = off;
	store_commit(r);
	*o = (struct open_job){ .im = im, .imp = imp /* our reference goes along */, .handle = h, .done = s->done, .ctx = s->ctx };
	char path[NAMES_PATH_MAX];
	rc = names_path(imp->node, imp->r->index, path);
	if (rc == 0)
		rc = opener_open(im->opener, imp->r->index, path, (int)a->oflags & keep, off, open_done, o);
	if (rc < 0) {
		ihandle_free(h);
		o->handle = NULL;
		open_job_free(o);
		return rc;
	}
	DL_APPEND(im->opens, o);
	return 0;
}

static void on_attached(void *ctx, struct ireq *r, const struct pmsg *a)
{
	struct import_start *s = ctx;
	int rc = a->status;
	if (rc == 0 && (a->kind < STREAM_REG || a->kind > STREAM_TTY))
		rc = -EPROTO;
	if (rc == 0)
		rc = open_begin(s, a);
	if (rc < 0) {
		if (a->status == 0)
			peer_tell(s->im, s->peer, &(struct pmsg){ .type = PMSG_RELEASE, .fh = s->fh });
		s->done(s->ctx, &(struct import_result){ .status = rc, .fd = -1 });
	}
	free(s);
}

int importer_import(struct importer *im, uint16_t node, uint64_t id, const uint8_t key[static PMSG_KEY_SIZE], uint32_t flags,
		    import_fn done, void *ctx)
{
	struct imp_peer *p = peer_get(im, node);
	struct import_start *s = p ? calloc(1, sizeof *s) : NULL;
	struct ireq *r;
	if (!s)
		return -ENOMEM;
	*s = (struct import_start){ .im = im, .peer = p, .fh = ++im->last_fh, .flags = flags, .done = done, .ctx = ctx };
	struct pmsg m = { .type = PMSG_ATTACH, .fh = s->fh, .id = id };
	memcpy(m.key, key, sizeof m.key);
	int rc = ireq_send(im, p, &m, NULL, &r);
	if (rc < 0) {
		free(s);
		return rc;
	}
	r->done = on_attached;
	r->ctx = s;
	return 0;
}

int importer_has(const struct importer *im, uint16_t node)
{
	struct import *imp, *tmp;
	HASH_ITER(hh, im->imports, imp, tmp)
		if (imp->peer->node == node && !imp->is_dead)
			return 1;
	return 0;
}

/* Starting anew with a home */

/* The kernel's requests to p are no longer under way: they come again. */
static void reqs_forget(struct importer *im, struct imp_peer *p)
{
	struct ireq *r, *tmp;
	HASH_ITER(hh, im->reqs, r, tmp) {
		if (r->peer != p)
			continue;
		r->is_counted = 0; /* all counts of this peer begin anew */
		if (!r->unique)
			continue;
		if (!r->is_sent)
			DL_DELETE(p->held, r);
		ireq_unlist(im, r);
		struct ihandle *h = r->type == PMSG_REOPEN ? ihandle_find(im, r->fh) : NULL;
		if (h)
			ihandle_free(h);
		if (!r->is_gone && !im->has_resend)
			import_fs_again(im, r);
		ireq_free(r);
	}
}

static void handles_tell(struct importer *im, struct imp_peer *p)
{
	struct ihandle *h, *htmp;
	struct ireq *r, *rtmp;
	_cleanup_(wr_fini) struct wr w = { 0 };
	HASH_ITER(hh, im->handles, h, htmp) {
		if (h->imp->peer != p || h->imp->is_dead)
			continue;
		h->bytes = 0;
		wr_u64(&w, h->fh);
	}
	HASH_ITER(hh, im->reqs, r, rtmp)
		if (r->peer == p && r->type == PMSG_ATTACH)
			wr_u64(&w, r->fh);
	if (wr_done(&w) == 0)
		peer_tell(im, p, &(struct pmsg){ .type = PMSG_KEEP, .data = w.p, .n_data = w.n });
}

static void own_send_again(struct importer *im, struct imp_peer *p)
{
	struct ireq *r, *tmp;
	HASH_ITER(hh, im->reqs, r, tmp) {
		if (r->peer != p || r->unique)
			continue;
		if (peer_send(im, p, &r->held) == 0)
			ireq_count(r, ihandle_find(im, r->fh));
	}
}

void importer_resync(struct importer *im, uint16_t node)
{
	struct imp_peer *p = peer_get(im, node);
	struct ihandle *h, *tmp;
	if (!p)
		return; /* out of memory, and so nothing is imported from there */
	restart_flush(im->restart);
	reqs_forget(im, p);
	p->n_reqs = p->bytes = 0;
	handles_tell(im, p);
	own_send_again(im, p);
	import_keep_resend(im);
	peer_tell(im, p, &(struct pmsg){ .type = PMSG_RESYNCED });
	HASH_ITER(hh, im->handles, h, tmp)
		if (h->imp->peer == p)
			import_fs_notify(im, h); /* an edge may have been lost */
}

/* Death */

static void reqs_end(struct importer *im, const struct imp_peer *p)
{
	struct ireq *r, *tmp, *list = NULL;
	HASH_ITER(hh, im->reqs, r, tmp) {
		if (r->peer != p)
			continue;
		held_drop(r);
		ireq_uncount(im, r);
		ireq_unlist(im, r);
		DL_APPEND(list, r);
	}
	DL_FOREACH_SAFE(list, r, tmp) {
		struct ihandle *h = ihandle_find(im, r->fh);
		struct pmsg a = { .status = -EHOSTDOWN };
		DL_DELETE(list, r);
		if (h && !r->done)
			import_dead_answer(h->imp, r->type, 0, &a);
		a.type = PMSG_ANSWER;
		ireq_finish(im, r, &a);
	}
}

void importer_peer_dead(struct importer *im, uint16_t node)
{
	struct import *imp, *itmp;
	struct ihandle *h;
	struct imp_peer *p;
	HASH_FIND(hh, im->peers, &node, sizeof node, p);
	if (!p)
		return;
	HASH_ITER(hh, im->imports, imp, itmp)
		if (imp->peer == p)
			imp->is_dead = 1;
	reqs_end(im, p);
	p->n_synced = p->n_sent;
	HASH_ITER(hh, im->imports, imp, itmp)
		if (imp->peer == p)
			DL_FOREACH(imp->handles, h)
				import_fs_notify(im, h);
}

/* Life of the importer */

static void on_readable(uv_poll_t *p, int status, int events)
{
	import_fs_drain(p->data); /* also while closing: opens of our own wait for it */
}

static void importer_clean(struct importer *im)
{
	struct ihandle *h, *htmp;
	struct imp_peer *p, *ptmp;
	HASH_ITER(hh, im->handles, h, htmp)
		ihandle_free(h);
	HASH_ITER(hh, im->peers, p, ptmp) {
		HASH_DEL(im->peers, p);
		free(p);
	}
	names_free(im->names);
	restart_close(im->restart);
	(void)close_fd(im->dev);
	(void)close_fd(im->mnt);
	free(im->buf);
	free(im);
}

static void on_opener_gone(void *ctx)
{
	struct importer *im = ctx;
	if (!im->is_closing)
		im->cfg.failed(im->cfg.ctx, "the opener has ended");
}

static int importer_start(struct importer *im, struct err *e)
{
	im->buf = malloc(FUSE_DEV_BUF_SIZE);
	if (!im->buf)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = import_keep_open(im, e);
	if (rc == 0 && names_new(im->cfg.store, &im->names) < 0)
		rc = err_set(e, -ENOMEM, "out of memory");
	/* Before there is any thread of ours. */
	if (rc == 0)
		rc = opener_new(im->cfg.loop, im->dev, im->mnt, on_opener_gone, im, &im->opener, e);
	if (rc == 0)
		rc = restart_new(im->dev, &im->restart, e);
	if (rc == 0)
		rc = import_keep_restore(im, e);
	if (rc == 0 && fuse_dev_number(im->mnt, &im->st_dev) < 0)
		rc = err_set(e, -errno, "statx of the fuse file system: %m");
	if (rc == 0 && (rc = uv_poll_init(im->cfg.loop, &im->poll, im->dev)) < 0)
		(void)err_set(e, rc, "watch /dev/fuse: %s", uv_strerror(rc));
	return rc;
}

int importer_new(const struct importer_config *cfg, struct importer **ret, struct err *e)
{
	struct importer *im = calloc(1, sizeof *im);
	if (!im)
		return err_set(e, -ENOMEM, "out of memory");
	im->cfg = *cfg;
	im->dev = im->mnt = -1;
	im->last_fh = im->last_import = cfg->generation << 32;
	im->last_req = 1ull << 63 | cfg->generation << 32;
	int rc = importer_start(im, e);
	if (rc < 0) {
		im->is_closing = 1;
		opener_close(im->opener);
		importer_clean(im);
		return rc;
	}
	im->poll.data = im;
	(void)uv_poll_start(&im->poll, UV_READABLE, on_readable);
	import_keep_resend(im); /* what the agent before us had taken */
	*ret = im;
	return 0;
}

static void on_gone(uv_handle_t *handle)
{
	struct importer *im = handle->data;
	void (*closed)(void *) = im->closed;
	void *ctx = im->closed_ctx;
	importer_clean(im);
	closed(ctx);
}

static void close_when_idle(uv_timer_t *t)
{
	struct importer *im = t->data;
	if (im->n_jobs || im->opens)
		return;
	(void)uv_timer_stop(t);
	opener_close(im->opener);
	uv_close((uv_handle_t *)t, (uv_close_cb)free);
	uv_close((uv_handle_t *)&im->poll, on_gone);
}

void importer_close(struct importer *im, void (*closed)(void *ctx), void *ctx)
{
	struct imp_peer *p, *tmp;
	im->is_closing = 1;
	im->closed = closed;
	im->closed_ctx = ctx;
	HASH_ITER(hh, im->peers, p, tmp)
		importer_peer_dead(im, p->node);
	uv_timer_t *t = calloc(1, sizeof *t);
	if (!t)
		abort(); /* at the end of the program */
	(void)uv_timer_init(im->cfg.loop, t);
	t->data = im;
	(void)uv_timer_start(t, close_when_idle, 0, 10);
}

json_t *importer_stat(const struct importer *im)
{
	struct import *imp, *tmp;
	struct ihandle *h;
	uint64_t turned, plain;
	json_t *list = json_array();
	HASH_ITER(hh, im->imports, imp, tmp) {
		int n = 0;
		DL_COUNT(imp->handles, h, n);
		json_t *o = json_pack("{s:I, s:i, s:I, s:i, s:s, s:i, s:b}", "id", (json_int_t)imp->id, "home", (int)imp->peer->node, "export",
				      (json_int_t)imp->r->export_id, "kind", (int)imp->kind, "name", imp->node->name, "handles", n, "dead",
				      imp->is_dead);
		if (o)
			(void)json_array_append_new(list, o);
	}
	restart_counts(im->restart, &turned, &plain);
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "imports", list, "requests", (json_int_t)im->n_requests, "waiting",
			 (json_int_t)HASH_COUNT(im->reqs), "notifies", (json_int_t)im->n_notifies, "restarts", (json_int_t)turned,
			 "interrupts", (json_int_t)plain);
}
