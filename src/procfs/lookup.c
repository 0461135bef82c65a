/* Names, attributes and links as FUSE operations: what is known is answered at once, the rest when its node has answered. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "procfs/fs.h"

enum { HOPS_MAX = 3 };

static struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static void reply_dent(struct fs *fs, fuse_req_t req, struct dent *d)
{
	struct fuse_entry_param e;
	int rc = entry_fill(fs, d, 0, &e);
	dent_fini(d);
	if (rc < 0)
		(void)fuse_reply_err(req, -rc); /* a caller that is gone needs no answer; so below */
	else if (fuse_reply_entry(req, &e) < 0)
		path_node_forget(fs, e.ino, 1);
}

/* ---- lookup ---- */

static void where_ask(struct op *op, uint16_t node, void (*answered)(struct op *op, int status, struct rd *body))
{
	struct remote_req q = { .op = REMOTE_WHERE, .pid = op->pid };
	op->node = node;
	op_ask(op, node, &q, answered);
}

/* What a node said of the pid: its owner, 1: another node is to be asked (op->node), or -errno. */
static int where_answer(struct op *op, int status, struct rd *body, struct remote_owner *ret)
{
	if (status < 0)
		return status;
	uint8_t where = rd_u8(body);
	uint16_t node = rd_u16(body);
	remote_owner_get(body, ret);
	int rc = rd_done(body);
	if (rc < 0)
		return rc;
	if (where == REMOTE_ELSEWHERE && node < TABLE_NODES && node != op->fs->self && node != op->node && ++op->hops < HOPS_MAX) {
		op->node = node;
		return 1;
	}
	return where == REMOTE_HERE ? 0 : -ENOENT;
}

static void on_where(struct op *op, int status, struct rd *body)
{
	struct remote_owner o;
	int rc = where_answer(op, status, body, &o);
	if (rc > 0) {
		where_ask(op, op->node, on_where);
		return;
	}
	if (rc < 0) {
		/* A node that cannot be asked has, for the one who looks, no such process. */
		op_err(op, rc == -EBADMSG ? -EIO : -ENOENT);
		return;
	}
	where_note(op->fs, op->pid, op->node, &o);
	struct dent d = { .ino = { .kind = INO_RPID, .node = op->node, .pid = op->pid }, .attr = { .uid = o.uid, .gid = o.gid } };
	reply_dent(op->fs, op->req, &d);
	op_done(op);
}

static void on_stat_lookup(struct op *op, int status, struct rd *body)
{
	struct remote_entry e;
	struct dent d;
	if (status == 0) {
		remote_entry_get(body, &e);
		status = rd_done(body);
	}
	if (status == 0) {
		memcpy(e.name, op->name, sizeof(e.name));
		status = entry_from_remote(op->fs, op->node, op->path, &e, &d);
	}
	if (status < 0) {
		op_err(op, status);
		return;
	}
	reply_dent(op->fs, op->req, &d);
	op_done(op);
}

static void stat_ask(struct op *op, const char *name, void (*answered)(struct op *op, int status, struct rd *body))
{
	struct remote_req q = { .op = REMOTE_STAT };
	int n = snprintf(q.path, sizeof(q.path), "%s%s%s", op->path, *op->path && *name ? "/" : "", name);
	if (n < 0 || (size_t)n >= sizeof(q.path)) {
		op_err(op, -ENAMETOOLONG);
		return;
	}
	op_cred(op);
	op_ask(op, op->node, &q, answered);
}

static void lookup_ask(struct fs *fs, fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op *op = op_new(fs, req);
	if (!op)
		return;
	uint32_t pid = parent == FUSE_ROOT_ID ? remote_pid_parse(name) : 0;
	if (pid) {
		op->pid = pid;
		where_ask(op, where_hint(fs, pid), on_where);
		return;
	}
	int rc = entry_path(fs, parent, &op->node, op->path);
	if (rc < 0) {
		op_err(op, rc);
		return;
	}
	(void)snprintf(op->name, sizeof(op->name), "%s", name); /* NAME_MAX, checked by lookup_op */
	stat_ask(op, op->name, on_stat_lookup);
}

void lookup_op(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct ino i;
	struct dent d = { 0 };
	int rc = strlen(name) > NAME_MAX ? -ENAMETOOLONG : ino_unpack(parent, &i);
	if (rc == 0)
		rc = entry_find(fs, &i, parent, name, (uint32_t)fuse_req_ctx(req)->pid, &d);
	if (rc == 0)
		reply_dent(fs, req, &d);
	else
		dent_fini(&d);
	if (rc < 0)
		(void)fuse_reply_err(req, -rc);
	if (rc > 0)
		lookup_ask(fs, req, parent, name);
}

/* ---- attributes ---- */

/* After an answer: what is known now. */
static void attr_again(struct op *op)
{
	struct stat st;
	double ttl;
	int rc = entry_attr(op->fs, op->ino, &st, &ttl);
	if (rc != 0) {
		op_err(op, rc > 0 ? -EIO : rc);
		return;
	}
	(void)fuse_reply_attr(op->req, &st, ttl);
	op_done(op);
}

static void on_where_attr(struct op *op, int status, struct rd *body)
{
	struct remote_owner o;
	int rc = where_answer(op, status, body, &o);
	if (rc != 0) {
		op_err(op, rc > 0 ? -ESTALE : rc); /* it has moved: the name leads to another number */
		return;
	}
	where_note(op->fs, op->pid, op->node, &o);
	attr_again(op);
}

static void on_stat_attr(struct op *op, int status, struct rd *body)
{
	struct remote_entry e;
	if (status == 0) {
		remote_entry_get(body, &e);
		status = rd_done(body);
	}
	struct path_node *p = path_node_find(op->fs, op->ino);
	if (status < 0 || !p) {
		op_err(op, status < 0 ? status : -ESTALE);
		return;
	}
	struct stat st = { .st_ino = op->ino, .st_mode = e.attr.mode, .st_uid = e.attr.uid, .st_gid = e.attr.gid };
	st.st_nlink = e.attr.nlink;
	st.st_size = S_ISLNK(e.attr.mode) ? (off_t)PATH_MAX - 1 : (off_t)e.attr.size;
	st.st_mtim.tv_sec = st.st_ctim.tv_sec = st.st_atim.tv_sec = e.attr.mtime;
	p->attr = e.attr;
	(void)fuse_reply_attr(op->req, &st, TTL_ATTR);
	op_done(op);
}

static void attr_ask(struct fs *fs, fuse_req_t req, fuse_ino_t v)
{
	struct op *op = op_new(fs, req);
	struct ino i;
	if (!op)
		return;
	op->ino = v;
	int rc = ino_unpack(v, &i);
	if (rc == 0 && (i.kind == INO_RPID || i.kind == INO_RFILE)) {
		op->pid = i.pid;
		op->hops = HOPS_MAX; /* its own node only */
		where_ask(op, i.node, on_where_attr);
		return;
	}
	if (rc == 0)
		rc = entry_path(fs, v, &op->node, op->path);
	if (rc < 0)
		op_err(op, rc);
	else
		stat_ask(op, "", on_stat_attr);
}

void getattr_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat st;
	double ttl;
	int rc = entry_attr(fs, v, &st, &ttl);
	if (rc == 0)
		(void)fuse_reply_attr(req, &st, ttl);
	else if (rc < 0)
		(void)fuse_reply_err(req, -rc);
	else
		attr_ask(fs, req, v);
}

/* Only what open(O_TRUNC) asks for means anything, and nothing is done for it; of another node's process nothing can be written. */
void setattr_op(fuse_req_t req, fuse_ino_t v, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct path_node *p = path_node_find(fs_of(req), v);
	if (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		(void)fuse_reply_err(req, EPERM);
	else if (!p || p->node != fs_of(req)->self)
		(void)fuse_reply_err(req, EACCES);
	else
		getattr_op(req, v, fi);
}

/* ---- links ---- */

static void on_readlink(struct op *op, int status, struct rd *body)
{
	char text[PATH_MAX];
	if (status == 0) {
		rd_str(body, text, sizeof(text));
		status = rd_done(body);
	}
	if (status < 0) {
		op_err(op, status);
		return;
	}
	(void)fuse_reply_readlink(op->req, text);
	op_done(op);
}

static void readlink_ask(struct fs *fs, fuse_req_t req, fuse_ino_t v)
{
	struct op *op = op_new(fs, req);
	if (!op)
		return;
	struct remote_req q = { .op = REMOTE_READLINK };
	int rc = entry_path(fs, v, &op->node, q.path);
	if (rc < 0) {
		op_err(op, rc);
		return;
	}
	op_cred(op);
	op_ask(op, op->node, &q, on_readlink);
}

/* .n/self and .n/thread-self where the native procfs is not mounted: the kernel would tell this server about itself. 1: not these. */
static int self_link(struct fs *fs, fuse_ino_t v, uint32_t tid, char *ret, size_t size)
{
	const struct path_node *p = path_node_find(fs, v);
	int thread = p && strcmp(p->path, "thread-self") == 0;
	if (!p || p->node != fs->self || (!thread && strcmp(p->path, "self") != 0))
		return 1;
	uint32_t tgid = fs_tgid(fs, tid);
	if (!tgid)
		return -ENOENT;
	(void)snprintf(ret, size, thread ? "%u/task/%u" : "%u", tgid, tid); /* fits */
	return 0;
}

void readlink_op(fuse_req_t req, fuse_ino_t v)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	char text[PATH_MAX];
	struct ino i;
	struct cred c = { 0 };
	int rc = ino_unpack(v, &i);
	if (rc == 0 && i.kind == INO_PATH && self_link(fs, v, (uint32_t)ctx->pid, text, sizeof(text)) == 0) {
		(void)fuse_reply_readlink(req, text);
		return;
	}
	if (rc == 0 && i.kind == INO_TEXT)
		cred_of(fs->proc_fd, ctx->pid, ctx->uid, ctx->gid, &c);
	if (rc == 0)
		rc = entry_link(fs, v, &c, text);
	if (rc == 0)
		(void)fuse_reply_readlink(req, text);
	else if (rc < 0)
		(void)fuse_reply_err(req, -rc);
	else
		readlink_ask(fs, req, v);
}
