#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stream/import_int.h"
#include "stream/import_own.h"

enum { FOREVER_S = 1 << 30, LOCAL_FLAGS = O_NONBLOCK | O_APPEND };

/* One request of the kernel: its head and what follows. */
struct fs_req {
	struct fuse_in_header h;
	const uint8_t *p;
	size_t n;
};

/* Copies a fixed argument out of the request. The kernel is trusted, but not to be of our version. */
static int arg(const struct fs_req *q, void *to, size_t n)
{
	if (q->n < n)
		return -EINVAL;
	memcpy(to, q->p, n);
	return 0;
}

static void reply(struct importer *im, const struct fs_req *q, int error, const void *p, size_t n)
{
	(void)fuse_dev_reply(im->dev, q->h.unique, error, p, n); /* -ENOENT: nobody waits any more */
}

/* Attributes */

static void attr_fill(const struct import *imp, const struct pmsg_attr *a, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
		.ino = a->ino,
		.size = import_size(imp),
		.blocks = a->blocks,
		.atime = (uint64_t)a->atime.sec,
		.mtime = (uint64_t)a->mtime.sec,
		.ctime = (uint64_t)a->ctime.sec,
		.atimensec = a->atime.nsec,
		.mtimensec = a->mtime.nsec,
		.ctimensec = a->ctime.nsec,
		/* Always a regular file: for another type the kernel would open its own FIFO or device. */
		.mode = S_IFREG | (a->mode & 07777),
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.blksize = a->blksize,
	};
}

static void dir_attr(const struct fnode *f, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){ .ino = f->nodeid, .mode = S_IFDIR | 0555, .nlink = 2, .blksize = 4096 };
}

static struct import *node_import(const struct importer *im, uint64_t nodeid)
{
	struct fnode *f = names_get(im->names, nodeid);
	return f && !f->is_dir ? f->file : NULL;
}

static void fs_lookup(struct importer *im, const struct fs_req *q)
{
	const char *name = (const char *)q->p;
	struct fnode *f = q->n && memchr(q->p, 0, q->n) ? names_lookup(im->names, q->h.nodeid, name) : NULL;
	if (!f) {
		reply(im, q, -ENOENT, NULL, 0);
		return;
	}
	struct fuse_entry_out out = { .nodeid = f->nodeid, .generation = 1, .entry_valid = FOREVER_S };
	if (f->is_dir)
		dir_attr(f, &out.attr);
	else
		attr_fill(f->file, &((struct import *)f->file)->r->attr, &out.attr);
	f->r->n_lookup++;
	if (fuse_dev_reply(im->dev, q->h.unique, 0, &out, sizeof out) < 0)
		names_forget(im->names, out.nodeid, 1);
}

static void fs_forget(struct importer *im, const struct fs_req *q)
{
	struct fuse_forget_in in;
	if (arg(q, &in, sizeof in) == 0)
		names_forget(im->names, q->h.nodeid, in.nlookup);
}

static void fs_batch_forget(struct importer *im, const struct fs_req *q)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one one;
	if (arg(q, &in, sizeof in) < 0)
		return;
	for (uint32_t i = 0; i < in.count && sizeof in + (i + 1) * sizeof one <= q->n; i++) {
		memcpy(&one, q->p + sizeof in + i * sizeof one, sizeof one);
		names_forget(im->names, one.nodeid, one.nlookup);
	}
}

/* Passing on */

void import_dead_answer(const struct import *imp, uint16_t type, uint32_t flags, struct pmsg *ret)
{
	*ret = (struct pmsg){ .type = PMSG_ANSWER, .status = -EIO };
	if (type == PMSG_READ && (imp->kind == STREAM_PIPE || imp->kind == STREAM_TTY)) {
		ret->status = 0; /* end of file */
	} else if (type == PMSG_WRITE && imp->kind == STREAM_PIPE) {
		ret->status = -EPIPE;
		ret->flags = PMSG_SIGPIPE;
	} else if (type == PMSG_POLL) {
		ret->status = 0;
		ret->flags = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLHUP | POLLERR;
	} else if (type == PMSG_GETATTR) {
		ret->status = 0;
		ret->attr = imp->r->attr;
	}
}

/* Answers the kernel's request h with a made-up answer of the home. */
static void answer_here(struct importer *im, const struct fuse_in_header *h, const struct pmsg *m, const struct pmsg *a)
{
	struct ireq r = { .unique = h->unique, .opcode = h->opcode, .pid = h->pid, .nodeid = h->nodeid, .fh = m->fh,
			  .type = m->type };
	import_fs_answer(im, &r, a);
}

struct ireq *import_fs_forward(struct importer *im, const struct fuse_in_header *h, struct import *imp, struct pmsg *m)
{
	struct ireq *r;
	if (imp->is_dead) {
		struct pmsg a;
		import_dead_answer(imp, m->type, 0, &a);
		answer_here(im, h, m, &a);
		return NULL;
	}
	int rc = ireq_send(im, imp->peer, m, h, &r);
	if (rc < 0) {
		(void)fuse_dev_reply(im->dev, h->unique, rc == -EHOSTUNREACH ? -EIO : rc, NULL, 0);
		return NULL;
	}
	return r;
}

static struct ireq *forward(struct importer *im, const struct fs_req *q, struct import *imp, struct pmsg *m)
{
	return import_fs_forward(im, &q->h, imp, m);
}

/* The program changed O_NONBLOCK or O_APPEND of its file: the kernel tells with the next request only. */
static void flags_follow(struct importer *im, struct ihandle *h, uint32_t flags)
{
	struct ireq *r;
	uint32_t now = flags & LOCAL_FLAGS;
	if (h->imp->kind != STREAM_REG)
		now &= ~(uint32_t)O_APPEND;
	if (now == h->r->last_flags)
		return;
	h->r->last_flags = now;
	struct pmsg m = { .type = PMSG_SETFL, .fh = h->fh, .oflags = now };
	if (!h->imp->is_dead && ireq_send(im, h->imp->peer, &m, NULL, &r) == 0)
		r->done = import_ignore;
}

static void fs_getattr(struct importer *im, const struct fs_req *q)
{
	struct fuse_getattr_in in;
	struct fnode *f = names_get(im->names, q->h.nodeid);
	struct fuse_attr_out out = { .attr_valid = 0 };
	if (!f || arg(q, &in, sizeof in) < 0) {
		reply(im, q, -ESTALE, NULL, 0);
		return;
	}
	struct import *imp = f->is_dir ? NULL : f->file;
	if (!imp) {
		dir_attr(f, &out.attr);
		reply(im, q, f->is_dir ? 0 : -ESTALE, &out, sizeof out);
		return;
	}
	struct ihandle *h = in.getattr_flags & FUSE_GETATTR_FH ? ihandle_find(im, in.fh) : imp->handles;
	/* Of others than files only the size could change, and that is made up. */
	if (imp->kind != STREAM_REG || !h || imp->is_dead) {
		attr_fill(imp, &imp->r->attr, &out.attr);
		reply(im, q, 0, &out, sizeof out);
		return;
	}
	(void)forward(im, q, imp, &(struct pmsg){ .type = PMSG_GETATTR, .fh = h->fh });
}

/* A handle of the import through which its file can be changed. */
static struct ihandle *writable_handle(const struct import *imp)
{
	struct ihandle *h;
	DL_FOREACH(imp->handles, h)
		if ((h->r->oflags & O_ACCMODE) != O_RDONLY)
			return h;
	return NULL;
}

static void fs_setattr(struct importer *im, const struct fs_req *q)
{
	struct fuse_setattr_in in;
	struct import *imp = node_import(im, q->h.nodeid);
	if (!imp || arg(q, &in, sizeof in) < 0) {
		reply(im, q, -EPERM, NULL, 0);
		return;
	}
	struct ihandle *h = in.valid & FATTR_FH ? ihandle_find(im, in.fh) : imp->handles;
	if (in.valid & FATTR_SIZE && !(in.valid & FATTR_FH))
		h = writable_handle(imp);
	if (!h) {
		reply(im, q, -EACCES, NULL, 0);
		return;
	}
	struct pmsg m = { .type = PMSG_SETATTR, .fh = h->fh, .attr = { .size = in.size, .mode = in.mode, .uid = UINT32_MAX,
								       .gid = UINT32_MAX } };
	if (in.valid & FATTR_SIZE)
		m.flags |= PMSG_SET_SIZE;
	if (in.valid & FATTR_MODE)
		m.flags |= PMSG_SET_MODE;
	if (in.valid & (FATTR_UID | FATTR_GID))
		m.flags |= PMSG_SET_OWNER;
	if (in.valid & FATTR_UID)
		m.attr.uid = in.uid;
	if (in.valid & FATTR_GID)
		m.attr.gid = in.gid;
	if (in.valid & FATTR_ATIME)
		m.flags |= PMSG_SET_ATIME | (in.valid & FATTR_ATIME_NOW ? PMSG_SET_ATIME_NOW : 0);
	if (in.valid & FATTR_MTIME)
		m.flags |= PMSG_SET_MTIME | (in.valid & FATTR_MTIME_NOW ? PMSG_SET_MTIME_NOW : 0);
	m.attr.atime = (struct pmsg_time){ (int64_t)in.atime, in.atimensec };
	m.attr.mtime = (struct pmsg_time){ (int64_t)in.mtime, in.mtimensec };
	(void)forward(im, q, imp, &m);
}

/* Opening */

static int reply_open(struct importer *im, uint64_t unique, const struct ihandle *h)
{
	struct fuse_open_out out = { .fh = h->fh, .open_flags = import_fopen_flags(h->imp, h->r->is_stream) };
	return fuse_dev_reply(im->dev, unique, 0, &out, sizeof out);
}

static void handle_drop(struct importer *im, struct ihandle *h)
{
	if (!h->imp->is_dead)
		peer_tell(im, h->imp->peer, &(struct pmsg){ .type = PMSG_RELEASE, .fh = h->fh });
	ihandle_free(h);
}

static void fs_open(struct importer *im, const struct fs_req *q)
{
	struct fuse_open_in in;
	struct open_job *o;
	struct import *imp = node_import(im, q->h.nodeid);
	if (!imp || arg(q, &in, sizeof in) < 0) {
		reply(im, q, imp ? -EINVAL : -ESTALE, NULL, 0);
		return;
	}
	DL_FOREACH(im->opens, o) {
		if ((pid_t)q->h.pid != opener_pid(im->opener) || o->imp != imp || !o->handle)
			continue; /* the opener does one after the other: the first is it */
		o->handle->r->last_flags = in.flags & LOCAL_FLAGS;
		if (reply_open(im, q->h.unique, o->handle) == 0)
			o->handle = NULL; /* the kernel's now */
		return;
	}
	if (!imp->handles) {
		reply(im, q, -ESTALE, NULL, 0);
		return;
	}
	/* A program opens /proc/PID/fd/N: a new description of the same file, at its home. */
	struct ihandle *h = ihandle_new(imp, 0);
	if (!h) {
		reply(im, q, -ENOMEM, NULL, 0);
		return;
	}
	int readable = (in.flags & O_ACCMODE) != O_WRONLY;
	h->r->oflags = in.flags;
	h->r->last_flags = in.flags & (imp->kind == STREAM_REG ? LOCAL_FLAGS : O_NONBLOCK);
	h->r->is_stream = imp->kind != STREAM_REG || !readable;
	struct pmsg m = { .type = PMSG_REOPEN, .fh = h->fh, .oflags = in.flags, .uid = q->h.uid, .gid = q->h.gid };
	for (struct ihandle *other = imp->handles; other; other = other->next)
		if (other != h)
			m.fh2 = other->fh;
	if (!forward(im, q, imp, &m) && (h = ihandle_find(im, m.fh)))
		ihandle_free(h);
}

/* O_TRUNC made the kernel believe in an empty file; with a made-up size that must not stay (see import_size). */
static void size_restore(struct importer *im, const struct import *imp)
{
	char path[NAMES_PATH_MAX];
	if (names_path(imp->node, 0, path) == 0)
		(void)opener_stat(im->opener, path); /* out of memory: writers wait for each other */
}

static void answer_reopen(struct importer *im, const struct ireq *r, const struct pmsg *a)
{
	struct ihandle *h = ihandle_find(im, r->fh);
	if (!h)
		return;
	if (a->status < 0) {
		ihandle_free(h); /* the error was replied */
		return;
	}
	h->r->export_id = a->id;
	struct import *imp = h->imp;
	store_commit(h->r); /* before the kernel has it */
	if (r->is_gone || reply_open(im, r->unique, h) < 0) {
		handle_drop(im, h);
		return;
	}
	if (h->r->oflags & O_TRUNC && imp->kind != STREAM_REG)
		size_restore(im, imp);
}

static void fs_release(struct importer *im, const struct fs_req *q)
{
	struct fuse_release_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (h)
		handle_drop(im, h);
	reply(im, q, 0, NULL, 0);
}

/* Reading and writing */

/* Where a request of the kernel shall be done. Requests from the page cache (mmap) carry no lock owner and say where. Others follow the
 * shared offset; if the kernel's own position is not where reads and writes alone would have moved it, the program has sought. */
static uint32_t position(const struct ihandle *h, int from_cache, uint64_t offset)
{
	if (from_cache)
		return PMSG_POSITIONAL;
	if (h->r->is_stream || h->r->is_trapped || (int64_t)offset == h->r->expect)
		return 0;
	return PMSG_SEEK;
}

static void fs_read(struct importer *im, const struct fs_req *q)
{
	struct fuse_read_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (!h) {
		reply(im, q, -EBADF, NULL, 0);
		return;
	}
	int from_cache = !(in.read_flags & FUSE_READ_LOCKOWNER);
	if (from_cache && h->r->is_stream) {
		reply(im, q, -EINVAL, NULL, 0); /* splice past us: the caller falls back to read */
		return;
	}
	if (!from_cache)
		flags_follow(im, h, in.flags);
	struct pmsg m = { .type = PMSG_READ, .fh = h->fh, .size = in.size < PMSG_DATA_MAX ? in.size : PMSG_DATA_MAX,
			  .off = (int64_t)in.offset, .flags = position(h, from_cache, in.offset) };
	struct ireq *r = forward(im, q, h->imp, &m);
	if (r)
		r->off = from_cache ? -1 : (int64_t)in.offset;
}

static void fs_write(struct importer *im, const struct fs_req *q)
{
	struct fuse_write_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (!h || in.size > q->n - sizeof in || in.size > PMSG_DATA_MAX) {
		reply(im, q, h ? -EINVAL : -EBADF, NULL, 0);
		return;
	}
	int from_cache = (in.write_flags & FUSE_WRITE_CACHE) != 0;
	if (!from_cache)
		flags_follow(im, h, in.flags);
	struct pmsg m = { .type = PMSG_WRITE, .fh = h->fh, .off = (int64_t)in.offset, .flags = position(h, from_cache, in.offset),
			  .data = q->p + sizeof in, .n_data = in.size };
	struct ireq *r = forward(im, q, h->imp, &m);
	if (r)
		r->off = from_cache ? -1 : (int64_t)in.offset;
}

static void expect_move(struct importer *im, const struct ireq *r, int64_t n)
{
	struct ihandle *h = ihandle_find(im, r->fh);
	if (h && r->off >= 0)
		h->r->expect = r->off + n;
}

static void answer_write(struct importer *im, const struct ireq *r, const struct pmsg *a)
{
	/* The kernel raises SIGPIPE only for its own pipes; the signal must be there when the call returns. */
	if (a->flags & PMSG_SIGPIPE && r->pid) {
		(void)syscall(SYS_tkill, (pid_t)r->pid, SIGPIPE);
		im->n_sigpipes++;
	}
	if (a->status < 0) {
		(void)fuse_dev_reply(im->dev, r->unique, a->status, NULL, 0);
		return;
	}
	expect_move(im, r, a->status);
	struct fuse_write_out out = { .size = (uint32_t)a->status };
	(void)fuse_dev_reply(im->dev, r->unique, 0, &out, sizeof out);
}

/* Poll */

void import_fs_notify(struct importer *im, struct ihandle *h)
{
	if (!h->r->has_kh)
		return;
	im->n_notifies++;
	(void)fuse_dev_notify_poll(im->dev, h->r->kh); /* nobody may poll any more */
}

static void fs_poll(struct importer *im, const struct fs_req *q)
{
	struct fuse_poll_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (!h) {
		reply(im, q, -EBADF, NULL, 0);
		return;
	}
	if (h->imp->kind == STREAM_REG) {
		struct fuse_poll_out out = { .revents = in.events & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) };
		reply(im, q, 0, &out, sizeof out);
		return;
	}
	h->r->kh = in.kh;
	h->r->has_kh = 1;
	(void)forward(im, q, h->imp, &(struct pmsg){ .type = PMSG_POLL, .fh = h->fh, .size = in.events,
						     .flags = in.flags & FUSE_POLL_SCHEDULE_NOTIFY ? PMSG_POLL_ARM : 0 });
}

static void fs_ioctl(struct importer *im, const struct fs_req *q)
{
	import_ioctl(im, &q->h, q->p, q->n);
}

/* The rest */

static void fs_lock(struct importer *im, const struct fs_req *q)
{
	struct fuse_lk_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (!h || !(in.lk_flags & FUSE_LK_FLOCK) || q->h.opcode == FUSE_GETLK) {
		reply(im, q, h ? -ENOSYS : -EBADF, NULL, 0);
		return;
	}
	int op = in.lk.type == F_RDLCK ? LOCK_SH : in.lk.type == F_WRLCK ? LOCK_EX : LOCK_UN;
	if (q->h.opcode == FUSE_SETLK)
		op |= LOCK_NB;
	(void)forward(im, q, h->imp, &(struct pmsg){ .type = PMSG_FLOCK, .fh = h->fh, .flags = (uint32_t)op });
}

static void fs_fsync(struct importer *im, const struct fs_req *q)
{
	struct fuse_fsync_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (h)
		(void)forward(im, q, h->imp, &(struct pmsg){ .type = PMSG_FSYNC, .fh = h->fh, .flags = in.fsync_flags & 1 });
	else
		reply(im, q, -EBADF, NULL, 0);
}

static void fs_fallocate(struct importer *im, const struct fs_req *q)
{
	struct fuse_fallocate_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (h)
		(void)forward(im, q, h->imp, &(struct pmsg){ .type = PMSG_FALLOCATE, .fh = h->fh, .flags = in.mode,
							     .off = (int64_t)in.offset, .len = in.length });
	else
		reply(im, q, -EBADF, NULL, 0);
}

static void fs_lseek(struct importer *im, const struct fs_req *q)
{
	struct fuse_lseek_in in;
	struct ihandle *h = arg(q, &in, sizeof in) == 0 ? ihandle_find(im, in.fh) : NULL;
	if (h) /* SEEK_DATA and SEEK_HOLE only: the kernel does the others alone */
		(void)forward(im, q, h->imp, &(struct pmsg){ .type = PMSG_LSEEK, .fh = h->fh, .flags = in.whence,
							     .off = (int64_t)in.offset });
	else
		reply(im, q, -EBADF, NULL, 0);
}

static void fs_init(struct importer *im, const struct fs_req *q)
{
	struct fuse_init_in in = { 0 };
	size_t n = q->n < sizeof in ? q->n : sizeof in;
	memcpy(&in, q->p, n);
	int has_resend;
	int rc = fuse_dev_reply_init(im->dev, q->h.unique, &in, n, &has_resend);
	import_keep_init(im, has_resend);
	if (rc < 0)
		log_error("streams: the kernel's FUSE (%u.%u) does not go with ours: %s: no descriptors can be delegated to this node",
			  in.major, in.minor, strerror(-rc));
}

static void fs_statfs(struct importer *im, const struct fs_req *q)
{
	struct fuse_statfs_out out = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };
	reply(im, q, 0, &out, sizeof out);
}

static void fs_interrupt(struct importer *im, const struct fs_req *q)
{
	struct fuse_interrupt_in in;
	if (arg(q, &in, sizeof in) == 0)
		ireq_interrupt(im, in.unique & ~FUSE_DEV_UNIQUE_RESEND);
}

static void fs_request(struct importer *im, const struct fs_req *q)
{
	static void (*const table[])(struct importer *, const struct fs_req *) = {
		[FUSE_LOOKUP] = fs_lookup,
		[FUSE_FORGET] = fs_forget,
		[FUSE_BATCH_FORGET] = fs_batch_forget,
		[FUSE_GETATTR] = fs_getattr,
		[FUSE_SETATTR] = fs_setattr,
		[FUSE_OPEN] = fs_open,
		[FUSE_RELEASE] = fs_release,
		[FUSE_READ] = fs_read,
		[FUSE_WRITE] = fs_write,
		[FUSE_POLL] = fs_poll,
		[FUSE_IOCTL] = fs_ioctl,
		[FUSE_GETLK] = fs_lock,
		[FUSE_SETLK] = fs_lock,
		[FUSE_SETLKW] = fs_lock,
		[FUSE_FSYNC] = fs_fsync,
		[FUSE_FALLOCATE] = fs_fallocate,
		[FUSE_LSEEK] = fs_lseek,
		[FUSE_INIT] = fs_init,
		[FUSE_STATFS] = fs_statfs,
		[FUSE_INTERRUPT] = fs_interrupt,
	};
	im->n_requests++;
	if (q->h.opcode < sizeof table / sizeof *table && table[q->h.opcode])
		table[q->h.opcode](im, q);
	else
		reply(im, q, -ENOSYS, NULL, 0); /* FLUSH among them: then the kernel never waits for us in close */
}

void import_fs_drain(struct importer *im)
{
	for (;;) {
		ssize_t n = read(im->dev, im->buf, FUSE_DEV_BUF_SIZE);
		if (n < 0 && (errno == EINTR || errno == ENOENT))
			continue; /* ENOENT: the request was taken back */
		if (n < 0 && errno != EAGAIN && !im->is_closing) {
			(void)uv_poll_stop(&im->poll);
			im->cfg.failed(im->cfg.ctx, "the fuse file system is gone");
		}
		if (n < (ssize_t)sizeof(struct fuse_in_header))
			return;
		struct fs_req q;
		memcpy(&q.h, im->buf, sizeof q.h);
		q.p = im->buf + sizeof q.h;
		q.n = (size_t)n - sizeof q.h;
		int is_again = (q.h.unique & FUSE_DEV_UNIQUE_RESEND) != 0;
		q.h.unique &= ~FUSE_DEV_UNIQUE_RESEND;
		if (!is_again || q.h.opcode == FUSE_INTERRUPT || !import_keep_is_known(im, q.h.unique))
			fs_request(im, &q);
	}
}

void import_fs_again(struct importer *im, const struct ireq *r)
{
	if (restart_answer(im->restart, r->pid, r->unique) < 0)
		(void)fuse_dev_reply(im->dev, r->unique, -EINTR, NULL, 0);
}

static void answer_error(struct importer *im, const struct ireq *r, int status)
{
	if (status == -EINTR && r->is_interrupted && restart_answer(im->restart, r->pid, r->unique) == 0)
		return;
	/* What a home may say and no program expects: */
	if (status == -EHOSTDOWN || status < -511)
		status = -EIO;
	(void)fuse_dev_reply(im->dev, r->unique, status, NULL, 0);
}

static void answer_attr(struct importer *im, const struct ireq *r, const struct pmsg *a)
{
	struct import *imp = node_import(im, r->nodeid);
	struct fuse_attr_out out = { .attr_valid = 0 };
	if (!imp) {
		(void)fuse_dev_reply(im->dev, r->unique, -ESTALE, NULL, 0);
		return;
	}
	imp->r->attr = a->attr;
	attr_fill(imp, &a->attr, &out.attr);
	(void)fuse_dev_reply(im->dev, r->unique, 0, &out, sizeof out);
}

static void answer_lseek(struct importer *im, const struct ireq *r, const struct pmsg *a)
{
	struct fuse_lseek_out out = { .offset = (uint64_t)a->off };
	struct ihandle *h = ihandle_find(im, r->fh);
	if (h)
		h->r->expect = a->off;
	(void)fuse_dev_reply(im->dev, r->unique, 0, &out, sizeof out);
}

void import_fs_answer(struct importer *im, struct ireq *r, const struct pmsg *a)
{
	struct fuse_poll_out poll_out = { .revents = a->flags };
	if (!r->is_gone && a->status < 0 && r->type != PMSG_WRITE)
		answer_error(im, r, a->status);
	else if (!r->is_gone && r->type == PMSG_WRITE && a->status == -EINTR)
		answer_error(im, r, a->status);
	if (r->type == PMSG_REOPEN) {
		answer_reopen(im, r, a);
		return;
	}
	if (r->is_gone || (a->status < 0 && (r->type != PMSG_WRITE || a->status == -EINTR)))
		return;
	switch (r->type) {
	case PMSG_READ:
		expect_move(im, r, (int64_t)a->n_data);
		(void)fuse_dev_reply(im->dev, r->unique, 0, a->data, a->n_data);
		break;
	case PMSG_WRITE:
		answer_write(im, r, a);
		break;
	case PMSG_GETATTR:
	case PMSG_SETATTR:
		answer_attr(im, r, a);
		break;
	case PMSG_POLL:
		(void)fuse_dev_reply(im->dev, r->unique, 0, &poll_out, sizeof poll_out);
		break;
	case PMSG_LSEEK:
		answer_lseek(im, r, a);
		break;
	case PMSG_IOCTL:
		import_ioctl_answered(im, r, a);
		break;
	default:
		(void)fuse_dev_reply(im->dev, r->unique, 0, NULL, 0);
		break;
	}
}
