/* Open directories. A list is made when the directory is opened (and again when it is read from the start): of what is known, after
 * the nodes were asked for their processes (the root), or by asking the node whose directory it is. A position in the root is that
 * of a pid, in others that of the entry, so that reading goes on where it was after this server was started again. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "procfs/fs.h"
#include "procfs/serve.h"

enum { COOKIE_PID = 1 << 20, ENTRIES_MAX = 1 << 20 };

static struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- lists ---- */

static void dirh_free(void *data)
{
	struct dirh *d = data;
	for (size_t i = 0; i < d->n; i++)
		dent_fini(&d->v[i]);
	free(d->v);
	for (size_t i = 0; i < TABLE_NODES; i++)
		snap_unref(d->snaps[i]);
	free(d);
}

static struct dirh *dirh_new(struct fs *fs, fuse_ino_t v, uint32_t tid)
{
	struct dirh *d = calloc(1, sizeof(*d));
	if (d)
		*d = (struct dirh){ .fs = fs, .ino = v, .tid = tid, .opened_ms = clock_ms() };
	return d;
}

/* Adds *e (moved). */
static int dirh_add(struct dirh *d, struct dent *e)
{
	if (d->n == d->cap) {
		size_t cap = d->cap ? d->cap * 2 : 64;
		struct dent *v = cap > ENTRIES_MAX ? NULL : reallocarray(d->v, cap, sizeof(*v));
		if (!v) {
			dent_fini(e);
			return -ENOMEM;
		}
		d->v = v;
		d->cap = cap;
	}
	int numbered = e->ino.kind == INO_PID || e->ino.kind == INO_RPID || e->ino.kind == INO_NPID;
	e->cookie = numbered ? COOKIE_PID + e->ino.pid : d->n + 1;
	d->v[d->n++] = *e;
	*e = (struct dent){ 0 };
	return 0;
}

static int add_named(struct dirh *d, struct ino ino, const char *name)
{
	struct dent e = { .ino = ino, .name = strdup(name) };
	return e.name ? dirh_add(d, &e) : -ENOMEM;
}

static int add_dots(struct dirh *d)
{
	int rc = add_named(d, (struct ino){ .kind = INO_ROOT }, ".");
	return rc < 0 ? rc : add_named(d, (struct ino){ .kind = INO_ROOT }, "..");
}

/* A process that may be listed, of several sources: the lowest rank is believed. */
struct seen {
	uint32_t pid;
	uint16_t node; /* 0: here */
	uint16_t rank;
	uint32_t uid, gid;
};

struct seens {
	struct seen *v; /* owned */
	size_t n, cap;
};

static int seen_add(struct seens *s, struct seen e)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 1024;
		struct seen *v = reallocarray(s->v, cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = e;
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static int seen_local(struct fs *fs, struct seens *s)
{
	int fd = openat(fs->proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	_cleanup_(closedir_p) DIR *dir = fdopendir(fd);
	if (!dir) {
		int rc = -errno;
		(void)close(fd);
		return rc;
	}
	struct dirent *de;
	while ((de = readdir(dir))) {
		uint32_t pid = remote_pid_parse(de->d_name);
		if (!pid || table_pid_get(&fs->table, pid))
			continue;
		int rc = seen_add(s, (struct seen){ .pid = pid });
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int node_up(const struct fs *fs, uint16_t node)
{
	return node != fs->self && fs->table.nodes[node].present && fs->table.nodes[node].up;
}

/* What pandod told: as its node says, if it says something. */
static int seen_told(struct fs *fs, const struct dirh *d, struct seens *s)
{
	for (const struct table_pid *t = fs->table.pids; t; t = t->hh.next) {
		const struct procfs_pid *p = &t->p;
		if (p->kind != PROCFS_REMOTE || p->tgid != p->pid || !node_up(fs, p->node))
			continue;
		const struct remote_proc *q = d->snaps[p->node] ? snap_find(d->snaps[p->node], p->pid) : NULL;
		struct seen e = { .pid = p->pid, .node = p->node, .rank = 1, .uid = q ? q->owner.uid : p->uid, .gid = q ? q->owner.gid : p->gid };
		int rc = seen_add(s, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int seen_snaps(const struct dirh *d, struct seens *s)
{
	for (uint16_t i = 1; i < TABLE_NODES; i++) {
		const struct snap *snap = d->snaps[i];
		for (size_t k = 0; snap && k < snap->n_procs; k++) {
			const struct remote_proc *q = &snap->procs[k];
			struct seen e = { .pid = q->pid, .node = i, .rank = 2, .uid = q->owner.uid, .gid = q->owner.gid };
			int rc = seen_add(s, e);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static void take_snaps(struct fs *fs, struct dirh *d)
{
	uint64_t now = clock_ms();
	for (uint16_t i = 1; i < TABLE_NODES; i++) {
		struct snap *s = fs->peers[i].snap;
		if (s && node_up(fs, i) && now - s->taken_ms < SNAP_LIST_MS)
			d->snaps[i] = snap_ref(s);
	}
}

/* Adds the processes, each once. only_node: those of one node as links (.nodes/NAME), 0: all. */
static int add_procs(struct fs *fs, struct dirh *d, int local_only, uint16_t only_node)
{
	struct seens s = { 0 };
	int rc = seen_local(fs, &s);
	if (rc == 0 && !local_only)
		rc = seen_told(fs, d, &s);
	if (rc == 0 && !local_only)
		rc = seen_snaps(d, &s);
	if (rc == 0 && s.n)
		qsort(s.v, s.n, sizeof(*s.v), by_pid);
	for (size_t i = 0; rc == 0 && i < s.n; i++) {
		const struct seen *e = &s.v[i];
		uint16_t node = e->node ? e->node : fs->self;
		if ((i && s.v[i - 1].pid == e->pid) || (only_node && node != only_node))
			continue;
		struct dent n = { .ino = { .kind = e->node ? INO_RPID : INO_PID, .node = e->node, .pid = e->pid },
				  .attr = { .uid = e->uid, .gid = e->gid } };
		if (only_node)
			n.ino = (struct ino){ .kind = INO_NPID, .node = only_node, .pid = e->pid };
		rc = dirh_add(d, &n);
	}
	free(s.v);
	return rc;
}

static int list_root(struct fs *fs, struct dirh *d, int local_only)
{
	const struct native_names *names = native_root(fs);
	int rc = add_dots(d);
	if (rc == 0 && !local_only)
		rc = add_named(d, (struct ino){ .kind = INO_NODES }, ".nodes");
	for (size_t i = 0; rc == 0 && i < names->n; i++) {
		struct dent e;
		struct ino root = { .kind = INO_ROOT };
		if (entry_find(fs, &root, FUSE_ROOT_ID, names->v[i].name, 0, &e) == 0)
			rc = add_named(d, e.ino, names->v[i].name);
		dent_fini(&e);
	}
	if (!local_only)
		take_snaps(fs, d);
	return rc < 0 ? rc : add_procs(fs, d, local_only, 0);
}

static int list_local(struct fs *fs, struct dirh *d, const struct ino *self)
{
	char path[16];
	(void)snprintf(path, sizeof(path), "%u", self->pid); /* fits */
	int fd = openat(fs->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	_cleanup_(closedir_p) DIR *dir = fdopendir(fd);
	if (!dir) {
		int rc = -errno;
		(void)close(fd);
		return rc;
	}
	int rc = add_dots(d);
	struct dirent *de;
	while (rc == 0 && (de = readdir(dir))) {
		struct dent e;
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (entry_find(fs, self, d->ino, de->d_name, 0, &e) == 0)
			rc = add_named(d, e.ino, de->d_name);
		dent_fini(&e);
	}
	return rc;
}

static int list_nodes(struct fs *fs, struct dirh *d)
{
	int rc = add_dots(d);
	for (uint16_t i = 1; rc == 0 && i < TABLE_NODES; i++)
		if (fs->table.nodes[i].present)
			rc = add_named(d, (struct ino){ .kind = INO_NODE, .node = i }, fs->table.nodes[i].name);
	return rc;
}

/* ---- opening ---- */

static void emit(struct fs *fs, fuse_req_t req, struct dirh *d, size_t size, off_t off, int plus);

static void dirh_keep(struct fs *fs, struct dirh *d, uint64_t fh)
{
	d->fh = fh;
	HASH_ADD(hh, fs->dirs, fh, sizeof(d->fh), d);
	if (d->ino == FUSE_ROOT_ID)
		DL_PREPEND2(fs->scans, d, by_tid_prev, by_tid_next);
}

static void dirh_drop(struct fs *fs, struct dirh *d)
{
	HASH_DEL(fs->dirs, d);
	if (d->ino == FUSE_ROOT_ID)
		DL_DELETE2(fs->scans, d, by_tid_prev, by_tid_next);
	dirh_free(d);
}

static struct dirh *dirh_find(struct fs *fs, uint64_t fh)
{
	struct dirh *d;
	HASH_FIND(hh, fs->dirs, &fh, sizeof(fh), d);
	return d;
}

/* The list of op->data is complete: the directory is open, or reading goes on in it. */
static void built(struct op *op, int rc)
{
	struct fs *fs = op->fs;
	struct dirh *d = op->data;
	if (rc < 0) {
		op_err(op, rc);
		return;
	}
	op->data = NULL;
	if (op->size) {
		struct dirh *old = dirh_find(fs, op->fh);
		if (old)
			dirh_drop(fs, old);
		d->read = 1;
		dirh_keep(fs, d, op->fh);
		emit(fs, op->req, d, op->size, op->off, op->plus);
	} else {
		dirh_keep(fs, d, ++fs->next_fh);
		op->fi.fh = d->fh;
		if (fuse_reply_open(op->req, &op->fi) < 0)
			dirh_drop(fs, d);
	}
	op_done(op);
}

static void list_ask(struct op *op, uint64_t from);

static int list_known(struct op *op, const struct ino *self, const struct remote_entry *e, struct dent *ret)
{
	int rc = entry_find(op->fs, self, op->ino, e->name, op->tid, ret);
	if (rc == 0 && ret->ino.node != self->node)
		rc = -ESTALE;
	if (rc == 0) {
		ret->attr = e->attr;
		ret->name = strdup(e->name);
		rc = ret->name ? 0 : -ENOMEM;
	}
	if (rc != 0)
		dent_fini(ret);
	return rc;
}

static void on_list(struct op *op, int status, struct rd *body)
{
	struct dirh *d = op->data;
	uint64_t next = rd_u64(body);
	uint32_t n = rd_count(body, ENTRIES_MAX, REMOTE_ENTRY_MIN);
	struct ino i;
	int rc = ino_unpack(op->ino, &i), of_node = rc == 0 && i.kind == INO_NODE;
	for (uint32_t k = 0; status == 0 && k < n; k++) {
		struct remote_entry e;
		struct dent ent;
		remote_entry_get(body, &e);
		if (body->bad)
			break;
		if (of_node && !serve_is_global(e.name)) /* this node tells itself all it has */
			continue;
		/* What every process has gets the number that a lookup gives it. */
		if (rc == 0 && i.kind == INO_RPID && !S_ISLNK(e.attr.mode) && list_known(op, &i, &e, &ent) == 0)
			status = dirh_add(d, &ent);
		else if (entry_from_remote(op->fs, op->node, op->path, &e, &ent) == 0)
			status = dirh_add(d, &ent);
	}
	if (status == 0)
		status = rd_done(body);
	if (status == 0 && next && n) {
		list_ask(op, next);
		return;
	}
	if (status == 0 && of_node) {
		take_snaps(op->fs, d);
		status = add_procs(op->fs, d, 0, i.node);
	}
	built(op, status);
}

static void list_ask(struct op *op, uint64_t from)
{
	struct remote_req q = { .op = REMOTE_LIST, .off = from };
	memcpy(q.path, op->path, sizeof(q.path));
	op_ask(op, op->node, &q, on_list);
}

static void on_root_gathered(struct op *op)
{
	built(op, list_root(op->fs, op->data, 0));
}

static void on_node_gathered(struct op *op)
{
	list_ask(op, 0);
}

static void build_remote(struct op *op, enum ino_kind kind)
{
	int rc = entry_path(op->fs, op->ino, &op->node, op->path);
	if (rc == 0)
		rc = add_dots(op->data);
	if (rc < 0) {
		op_err(op, rc);
		return;
	}
	op_cred(op);
	if (kind == INO_NODE)
		op_gather(op, GATHER_PROCS, 0, on_node_gathered);
	else
		list_ask(op, 0);
}

/* Makes the list of op->ino, then built() runs. */
static void build(struct op *op)
{
	struct fs *fs = op->fs;
	struct ino i;
	int rc = ino_unpack(op->ino, &i);
	op->data = rc < 0 ? NULL : dirh_new(fs, op->ino, op->tid);
	op->data_free = dirh_free;
	if (!op->data) {
		op_err(op, rc < 0 ? rc : -ENOMEM);
		return;
	}
	switch (i.kind) {
	case INO_ROOT:
		if (fs_features(fs, op->tid) & PROCFS_F_LOCAL_PROC)
			built(op, list_root(fs, op->data, 1));
		else
			op_gather(op, GATHER_PROCS, 0, on_root_gathered);
		return;
	case INO_PID:
		built(op, list_local(fs, op->data, &i));
		return;
	case INO_NODES:
		built(op, list_nodes(fs, op->data));
		return;
	case INO_NODE:
	case INO_RPID:
	case INO_RFILE:
	case INO_NDIR:
	case INO_SYS:
	case INO_PATH:
		build_remote(op, i.kind);
		return;
	case INO_CONST:
	case INO_GLOBAL:
	case INO_LINK:
	case INO_TEXT:
	case INO_NPID:
	case INO_KINDS:
		break;
	}
	op_err(op, -ENOTDIR);
}

void opendir_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi)
{
	struct op *op = op_new(fs_of(req), req);
	if (!op)
		return;
	op->ino = v;
	op->fi = *fi;
	build(op);
}

void releasedir_op(fuse_req_t req, fuse_ino_t v, struct fuse_file_info *fi)
{
	struct dirh *d = dirh_find(fs_of(req), fi->fh);
	if (d)
		dirh_drop(fs_of(req), d);
	(void)fuse_reply_err(req, 0); /* nobody waits for it */
}

/* ---- reading ---- */

static mode_t dent_type(const struct dent *e)
{
	switch (e->ino.kind) {
	case INO_ROOT:
	case INO_PID:
	case INO_RPID:
	case INO_NODES:
	case INO_NODE:
	case INO_NDIR:
	case INO_SYS:
		return S_IFDIR;
	case INO_GLOBAL:
		return S_IFREG;
	case INO_RFILE:
	case INO_PATH:
		return e->attr.mode & S_IFMT;
	case INO_CONST:
	case INO_LINK:
	case INO_TEXT:
	case INO_NPID:
	case INO_KINDS:
		break;
	}
	return S_IFLNK;
}

/* Adds the entry at p; 0 when it does not fit, else its size; -ENOENT: it is gone. */
static ssize_t emit_one(struct fs *fs, fuse_req_t req, const struct dent *e, char *p, size_t size, int plus)
{
	char num[16];
	const char *name = e->name;
	if (!name) {
		(void)snprintf(num, sizeof(num), "%u", e->ino.pid); /* fits */
		name = num;
	}
	struct fuse_entry_param ent = { 0 };
	int dot = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
	ent.attr.st_ino = dot || e->ino.kind == INO_PATH ? UINT32_MAX : ino_pack(&e->ino); /* the kernel's "not known" */
	ent.attr.st_mode = dent_type(e);
	if (!plus) {
		size_t n = fuse_add_direntry(req, p, size, name, &ent.attr, (off_t)e->cookie);
		return n > size ? 0 : (ssize_t)n;
	}
	if (!dot) {
		int rc = entry_fill(fs, e, 1, &ent);
		if (rc < 0)
			return rc == -ENOENT ? rc : 0;
	}
	size_t n = fuse_add_direntry_plus(req, p, size, name, &ent, (off_t)e->cookie);
	if (n <= size)
		return (ssize_t)n;
	path_node_forget(fs, ent.ino, 1);
	return 0;
}

/* First entry behind the position. */
static size_t dirh_seek(const struct dirh *d, off_t off)
{
	size_t lo = 0, hi = d->n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (d->v[mid].cookie <= (uint64_t)off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void emit(struct fs *fs, fuse_req_t req, struct dirh *d, size_t size, off_t off, int plus)
{
	_cleanup_(free_p) char *buf = malloc(size);
	if (!buf) {
		(void)fuse_reply_err(req, ENOMEM);
		return;
	}
	size_t used = 0;
	for (size_t i = dirh_seek(d, off); i < d->n; i++) {
		ssize_t n = emit_one(fs, req, &d->v[i], buf + used, size - used, plus);
		if (n == -ENOENT)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	(void)fuse_reply_buf(req, buf, used);
}

static void read_list(fuse_req_t req, fuse_ino_t v, size_t size, off_t off, struct fuse_file_info *fi, int plus)
{
	struct fs *fs = fs_of(req);
	struct dirh *d = dirh_find(fs, fi->fh);
	/* From the start again: rewinddir shows what is new. */
	int again = d && off == 0 && d->read;
	if (d && !again) {
		d->read = 1;
		emit(fs, req, d, size, off, plus);
		return;
	}
	struct op *op = op_new(fs, req);
	if (!op)
		return;
	op->ino = v;
	op->fh = fi->fh;
	op->size = size;
	op->off = off;
	op->plus = plus;
	build(op);
}

void readdir_op(fuse_req_t req, fuse_ino_t v, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_list(req, v, size, off, fi, 0);
}

void readdirplus_op(fuse_req_t req, fuse_ino_t v, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_list(req, v, size, off, fi, 1);
}

void dir_fini(struct fs *fs)
{
	struct dirh *d, *tmp;
	HASH_ITER(hh, fs->dirs, d, tmp)
	dirh_drop(fs, d);
}
