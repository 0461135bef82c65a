/* Open files: the merged figures, and files of other nodes' processes. A file is a text that is fetched when it is opened (so that a
 * refusal comes from open, as it does natively), given out in pieces, and fetched again when it is read from its start once more, as
 * top does. mem and pagemap are no texts: each read is passed on. Files of other nodes are read only. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "procfs/fs.h"
#include "procfs/serve.h"

static struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static struct file *file_find(struct fs *fs, uint64_t fh)
{
	struct file *f;
	HASH_FIND(hh, fs->files, &fh, sizeof(fh), f);
	return f;
}

static struct file *file_new(struct fs *fs, fuse_ino_t v, uint64_t fh)
{
	struct file *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->fs = fs;
	f->ino = v;
	f->fh = fh ? fh : ++fs->next_fh;
	HASH_ADD(hh, fs->files, fh, sizeof(f->fh), f);
	return f;
}

static void file_free(void *data)
{
	struct file *f = data;
	HASH_DEL(f->fs->files, f);
	wr_fini(&f->buf);
	free(f);
}

/* ---- contents ---- */

/* What an operation on an open file does once there is content: answers open, or a read. */
static void file_ready(struct op *op, struct file *f, int rc);

/* A file of a process that everybody may read, out of a snapshot. 0 when it is there. */
static int content_snap(struct op *op, struct file *f, uint16_t node, const char *path)
{
	static const char *const names[5] = { "stat", "status", "statm", "cmdline", "comm" };
	const char *rest;
	uint32_t pid = remote_path_pid(path, &rest);
	size_t which = 0;
	while (which < 5 && strcmp(rest, names[which]) != 0)
		which++;
	const struct remote_proc *p = pid && which < 5 && node != op->fs->self ? snap_for(op->fs, op->tid, node, pid) : NULL;
	if (!p)
		return -ENOENT;
	size_t text = which == 4 ? REMOTE_T_STAT : which;
	if (p->text_n[text] >= SERVE_TEXT_MAX)
		return -ENOENT;
	if (which == 4)
		snap_comm(p->text[text], p->text_n[text], &f->buf);
	else if (which == REMOTE_T_STAT && op->cred.uid != 0 && !snap_may_trace(p, op->cred.uid, op->cred.gid))
		snap_stat_masked(p->text[text], p->text_n[text], &f->buf);
	else
		wr_raw(&f->buf, p->text[text], p->text_n[text]);
	f->eof = 1;
	return wr_done(&f->buf);
}

static void on_read(struct op *op, int status, struct rd *body)
{
	struct file *f = file_find(op->fs, op->fh);
	uint8_t eof = rd_u8(body);
	size_t n;
	const uint8_t *p = rd_bytes(body, REMOTE_CHUNK, &n);
	if (status == 0)
		status = rd_done(body);
	if (status == 0 && f) {
		wr_fini(&f->buf); /* what another thread's read has fetched meanwhile */
		f->base = op->off;
		wr_raw(&f->buf, p, n);
		f->eof = eof;
		status = wr_done(&f->buf);
	}
	file_ready(op, f, status);
}

/* Asks the node for a piece of the file. */
static void content_ask(struct op *op, struct file *f, off_t off, uint32_t size)
{
	struct remote_req q = { .op = REMOTE_READ, .off = (uint64_t)off, .size = size };
	uint16_t node;
	int rc = entry_path(op->fs, f->ino, &node, q.path);
	if (rc < 0) {
		file_ready(op, f, rc);
		return;
	}
	if (!f->has_cred) {
		op_cred(op);
		f->cred = op->cred;
		f->has_cred = 1;
	}
	op->cred = f->cred;
	op_ask(op, node, &q, on_read);
}

static void on_figures(struct op *op)
{
	struct file *f = file_find(op->fs, op->fh);
	struct ino i;
	int rc = f ? ino_unpack(f->ino, &i) : -ESTALE;
	if (rc == 0) {
		wr_fini(&f->buf); /* what another thread's read has fetched meanwhile */
		gather_text(op->fs, (enum remote_stats_file)i.id, 0, &f->buf);
		f->eof = 1;
		rc = wr_done(&f->buf);
	}
	file_ready(op, f, rc);
}

static void content_global(struct op *op, struct file *f, enum remote_stats_file which)
{
	uint32_t features = fs_features(op->fs, op->tid);
	int local = (features & PROCFS_F_LOCAL_PROC) || (which == REMOTE_S_CPUINFO && !(features & PROCFS_F_CLUSTER_CPUS));
	if (!local) {
		op_gather(op, GATHER_FIGURES, which == REMOTE_S_CPUINFO, on_figures);
		return;
	}
	gather_text(op->fs, which, 1, &f->buf);
	f->eof = 1;
	file_ready(op, f, wr_done(&f->buf));
}

/* Fetches the text from off on, then file_ready runs. */
static void content_fetch(struct op *op, struct file *f, off_t off, uint32_t size)
{
	char path[REMOTE_PATH_MAX];
	uint16_t node;
	struct ino i;
	int rc = ino_unpack(f->ino, &i);
	wr_fini(&f->buf);
	f->base = off;
	f->eof = 0;
	if (rc == 0 && i.kind == INO_GLOBAL) {
		f->base = 0;
		content_global(op, f, (enum remote_stats_file)i.id);
		return;
	}
	if (rc == 0)
		rc = entry_path(op->fs, f->ino, &node, path);
	if (rc < 0) {
		file_ready(op, f, rc);
		return;
	}
	if (off == 0 && !f->pass && content_snap(op, f, node, path) == 0)
		file_ready(op, f, 0);
	else
		content_ask(op, f, off, size);
}

/* ---- operations ---- */

/* Whether reads of that file have to be passed on: not a text, and too large to be fetched. */
static int is_pass(struct fs *fs, fuse_ino_t v)
{
	char path[REMOTE_PATH_MAX];
	uint16_t node;
	if (entry_path(fs, v, &node, path) < 0)
		return 0;
	const char *name = strrchr(path, '/');
	name = name ? name + 1 : path;
	return remote_path_pid(path, NULL) && (strcmp(name, "mem") == 0 || strcmp(name, "pagemap") == 0);
}

static void reply_slice(fuse_req_t req, const struct file *f, size_t size, off_t off)
{
	size_t at = off > f->base ? (size_t)(off - f->base) : 0;
	size_t n = at < f->buf.n ? f->buf.n - at : 0;
	(void)fuse_reply_buf(req, n ? (const char *)f->buf.p + at : NULL, n < size ? n : size); /* a caller that is gone needs no answer */
}

static void file_ready(struct op *op, struct file *f, int rc)
{
	if (!f && rc == 0)
		rc = -ESTALE;
	if (rc < 0) {
		op_err(op, rc);
		return;
	}
	if (op->size) {
		f->used = 1;
		reply_slice(op->req, f, op->size, op->off);
	} else {
		op->fi.fh = f->fh;
		op->fi.direct_io = 1;
		if (fuse_reply_open(op->req, &op->fi) == 0)
			op->data = NULL; /* it stays open */
	}
	op_done(op);
}

/* open of a local file for writing: whether the caller may is found out by writing nothing. */
static void on_write_open(struct op *op, int status, struct rd *body)
{
	file_ready(op, file_find(op->fs, op->fh), status);
}

static void open_write(struct op *op, struct file *f)
{
	struct remote_req q = { .op = REMOTE_WRITE };
	uint16_t node;
	int rc = entry_path(op->fs, f->ino, &node, q.path);
	if (rc == 0 && node != op->fs->self)
		rc = -EACCES;
	if (rc < 0) {
		file_ready(op, f, rc);
		return;
	}
	op_cred(op);
	f->cred = op->cred;
	f->has_cred = 1;
	op_ask(op, node, &q, on_write_open);
}

void open_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct ino i;
	int rc = ino_unpack(v, &i);
	int write = (fi->flags & O_ACCMODE) != O_RDONLY;
	if (rc == 0 && i.kind != INO_GLOBAL && i.kind != INO_PATH && i.kind != INO_RFILE)
		rc = -EINVAL;
	if (rc == 0 && write && i.kind == INO_GLOBAL)
		rc = -EACCES;
	struct op *op = rc < 0 ? NULL : op_new(fs, req);
	if (rc < 0)
		(void)fuse_reply_err(req, -rc);
	if (!op)
		return;
	struct file *f = file_new(fs, v, 0);
	if (!f) {
		op_err(op, -ENOMEM);
		return;
	}
	op->ino = v;
	op->fh = f->fh;
	op->fi = *fi;
	op->data = f; /* until it is open */
	op->data_free = file_free;
	f->pass = is_pass(fs, v);
	if (write)
		open_write(op, f);
	else
		content_fetch(op, f, 0, f->pass ? 0 : REMOTE_CHUNK);
}

void read_op(fuse_req_t req, fuse_ino_t v, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct file *f = file_find(fs, fi->fh);
	int known = f != NULL;
	if (!f)
		f = file_new(fs, v, fi->fh); /* opened through an earlier server */
	if (!f) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	if (!known)
		f->pass = is_pass(fs, v);
	off_t end = f->base + (off_t)f->buf.n;
	int again = !known || f->pass || (off == 0 && f->used) || off < f->base || (off >= end && !f->eof);
	if (!again) {
		f->used = 1;
		reply_slice(req, f, size, off);
		return;
	}
	struct op *op = op_new(fs, req);
	if (!op)
		return;
	op->ino = v;
	op->fh = f->fh;
	op->size = size;
	op->off = off;
	content_fetch(op, f, off, f->pass ? (uint32_t)size : REMOTE_CHUNK);
}

static void on_write(struct op *op, int status, struct rd *body)
{
	uint32_t n = rd_u32(body);
	if (status == 0)
		status = rd_done(body);
	if (status < 0) {
		op_err(op, status);
		return;
	}
	(void)fuse_reply_write(op->req, n);
	op_done(op);
}

void write_op(fuse_req_t req, fuse_ino_t v, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct op *op = op_new(fs, req);
	if (!op)
		return;
	const struct file *f = file_find(fs, fi->fh);
	struct remote_req q = { .op = REMOTE_WRITE, .off = (uint64_t)off, .data = (const uint8_t *)buf, .data_n = size };
	int rc = entry_path(fs, v, &op->node, q.path);
	if (rc == 0 && op->node != fs->self)
		rc = -EACCES;
	if (rc < 0) {
		op_err(op, rc);
		return;
	}
	if (f && f->has_cred)
		op->cred = f->cred;
	else
		op_cred(op);
	op_ask(op, op->node, &q, on_write);
}

void release_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi)
{
	struct file *f = file_find(fs_of(req), fi->fh);
	if (f)
		file_free(f);
	(void)fuse_reply_err(req, 0); /* nobody waits for it */
}

void file_fini(struct fs *fs)
{
	struct file *f, *tmp;
	HASH_ITER(hh, fs->files, f, tmp)
	file_free(f);
}
