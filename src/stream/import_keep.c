/* What the importer takes over from the agent that was killed before it: the file system, its names, the imports and the open files. The
 * requests that were under way stay with the kernel, which sends them again when asked to (from Linux 6.9). Older kernels cannot: there each
 * request that waits is noted, and the next agent ends it so that the system call is made again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stream/import_int.h"

static const char name_dev[] = "streams.fuse", name_mnt[] = "streams.mount";

struct keep_meta {
	uint32_t has_resend;
	uint32_t is_known; /* INIT was answered */
};

struct keep_find {
	struct importer *im;
	struct keep_meta *meta;
	int n_lost;
};

static void meta_found(void *ctx, void *p, size_t n)
{
	struct keep_find *f = ctx;
	if (n == sizeof *f->meta)
		f->meta = p;
}

static struct keep_meta *meta_get(struct importer *im)
{
	struct keep_find f = { .im = im };
	store_each(im->cfg.store, STORE_META, meta_found, &f);
	return f.meta;
}

int import_keep_open(struct importer *im, struct err *e)
{
	struct store *store = im->cfg.store;
	struct keep_meta *meta = meta_get(im);
	im->dev = meta && meta->is_known ? store_take_fd(store, name_dev) : -1;
	im->mnt = im->dev >= 0 ? store_take_fd(store, name_mnt) : -1;
	if (im->mnt >= 0) {
		im->has_resend = (int)meta->has_resend;
		return 0;
	}
	im->dev = close_fd(im->dev);
	/* Records about files that are gone mean nothing; those of the exporter stay good. */
	static const enum store_type mine[] = { STORE_IMPORT, STORE_NAME, STORE_HANDLE, STORE_PENDING };
	for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
		store_drop_all(store, mine[i]);
	int rc = fuse_dev_mount(&im->dev, &im->mnt, e);
	if (rc < 0)
		return rc;
	if (!meta && (meta = store_new(store, STORE_META, sizeof *meta)))
		store_commit(meta);
	if (meta)
		meta->is_known = 0;
	if (store_put_fd(store, name_dev, im->dev) < 0 || store_put_fd(store, name_mnt, im->mnt) < 0)
		log_warn("streams: the keeper does not take the file system: delegated files end with this process");
	return 0;
}

void import_keep_init(struct importer *im, int has_resend)
{
	struct keep_meta *meta = meta_get(im);
	im->has_resend = has_resend;
	if (!meta)
		return;
	meta->has_resend = (uint32_t)has_resend;
	meta->is_known = 1;
}

static void import_restore(void *ctx, void *p, size_t n)
{
	struct keep_find *f = ctx;
	struct importer *im = f->im;
	struct import_rec *r = p;
	struct fnode *node = names_get(im->names, r->nodeid);
	struct imp_peer *peer = peer_get(im, r->peer);
	struct import *imp = node && !node->is_dir && !node->file && peer ? import_of(im, peer, r) : NULL;
	if (!imp) {
		store_free(im->cfg.store, r);
		f->n_lost++;
		return;
	}
	imp->node = node;
	imp->n_refs = 1; /* until all handles are there */
	node->file = imp;
	/* As if something had been sent: a barrier has to ask. */
	peer->n_sent = 1;
}

static void handle_restore(void *ctx, void *p, size_t n)
{
	struct keep_find *f = ctx;
	struct importer *im = f->im;
	struct ihandle_rec *r = p;
	struct import *imp;
	HASH_FIND(hh, im->imports, &r->import, sizeof r->import, imp);
	struct ihandle *h = imp ? calloc(1, sizeof *h) : NULL;
	if (!h) {
		store_free(im->cfg.store, r);
		f->n_lost++;
		return;
	}
	h->fh = r->fh;
	h->r = r;
	h->imp = imp;
	imp->n_refs++;
	HASH_ADD(hh, im->handles, fh, sizeof h->fh, h);
	DL_APPEND(imp->handles, h);
}

static void pending_end(void *ctx, void *p, size_t n)
{
	struct keep_find *f = ctx;
	struct pending_rec *r = p;
	(void)restart_answer(f->im->restart, r->pid, r->unique);
	store_free(f->im->cfg.store, r);
}

int import_keep_restore(struct importer *im, struct err *e)
{
	struct keep_find f = { .im = im };
	struct import *imp, *tmp;
	store_each(im->cfg.store, STORE_IMPORT, import_restore, &f);
	store_each(im->cfg.store, STORE_HANDLE, handle_restore, &f);
	HASH_ITER(hh, im->imports, imp, tmp)
		import_unref(imp);
	names_tidy(im->names);
	store_each(im->cfg.store, STORE_PENDING, pending_end, &f);
	unsigned left = HASH_COUNT(im->handles);
	if (left || f.n_lost)
		log_notice("streams: %u delegated files are taken over, %d records fit nowhere", left, f.n_lost);
	return 0;
}

void import_keep_resend(struct importer *im)
{
	if (!im->has_resend)
		return;
	int rc = fuse_dev_notify_resend(im->dev);
	if (rc < 0)
		log_warn("streams: the kernel does not send its requests again: %s: some programs may wait for ever", strerror(-rc));
	import_fs_drain(im);
}

int import_keep_is_known(const struct importer *im, uint64_t unique)
{
	struct ireq *r;
	HASH_FIND(hh_unique, im->uniques, &unique, sizeof unique, r);
	return r || import_ioctl_has(im, unique);
}
