#include "stream/desc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <termios.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "stream/tty.h"

/* A session whose importer does not take its answers gets no more data read for it: the bytes stay in the pipe. */
enum { BACKLOG_MAX = 32 << 20 };

/* The FUSE client splits what spans more than 256 pages and goes on reading after a full answer, which must not block. */
enum { STREAM_READ_MAX = PMSG_DATA_MAX - 8192 };

#define WATCH_EVENTS \
	(EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLRDNORM | EPOLLWRNORM | EPOLLRDBAND | EPOLLWRBAND)

static struct xop *op_of(struct job *j)
{
	return (struct xop *)j;
}

/* Kind and end of a description */

static int kind_find(int fd, const struct stat *st, const char *link, enum stream_kind *ret, struct err *e)
{
	struct termios t;
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFBLK:
		*ret = STREAM_REG;
		return 0;
	case S_IFIFO:
		*ret = STREAM_PIPE;
		return 0;
	case S_IFCHR:
		*ret = tcgetattr(fd, &t) == 0 ? STREAM_TTY : STREAM_CHR;
		return 0;
	case S_IFSOCK:
		return err_set(e, -EOPNOTSUPP, "a socket cannot be used from another node through a stand-in");
	case S_IFDIR:
		return err_set(e, -EOPNOTSUPP, "a directory is opened again by its path, not delegated");
	default:
		break;
	}
	if (strcmp(link, "anon_inode:[eventfd]") == 0) {
		*ret = STREAM_EVENTFD;
		return 0;
	}
	return err_set(e, -EOPNOTSUPP, "%s cannot be used from another node", link);
}

/* A pipe of a kernel that refuses RWF_NOWAIT for pipes: a second description of it, in non-blocking mode, of our own. */
static void pipe_reopen(struct xdesc *d)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", d->fd);
	d->nb_fd = open(path, (d->is_writable ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
}

static void how_demote(struct xdesc *d, int dir)
{
	if (d->how[dir] == HOW_NOWAIT && d->kind == STREAM_PIPE && d->is_readable != d->is_writable) {
		pipe_reopen(d);
		d->how[dir] = d->nb_fd >= 0 ? HOW_REOPENED : HOW_THREAD;
		return;
	}
	d->how[dir] = HOW_THREAD;
}

int desc_init(struct xdesc *d, int fd, const char *name, struct err *e)
{
	struct stat st;
	char path[64], link[PMSG_NAME_MAX];
	int fl = fcntl(fd, F_GETFL);
	if (fl < 0 || fstat(fd, &st) < 0)
		return err_set(e, -errno, "fstat: %m");
	if (fl & O_PATH)
		return err_set(e, -EOPNOTSUPP, "an O_PATH descriptor cannot be delegated");
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, link, sizeof link - 1);
	if (n < 0)
		return err_set(e, -errno, "readlink %s: %m", path);
	link[n] = 0;
	int rc = kind_find(fd, &st, link, &d->kind, e);
	if (rc < 0)
		return rc;
	d->name = strndup(*name ? name : link, PMSG_NAME_MAX - 1);
	if (!d->name)
		return err_set(e, -ENOMEM, "out of memory");
	d->is_readable = (fl & O_ACCMODE) != O_WRONLY;
	d->is_writable = (fl & O_ACCMODE) != O_RDONLY;
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	d->fd = fd;
	d->nb_fd = -1;
	return 0;
}

int desc_is_nonblocking(const struct xdesc *d)
{
	int fl = fcntl(d->fd, F_GETFL);
	return fl >= 0 && (fl & O_NONBLOCK);
}

static struct pmsg_time time_of(const struct timespec *t)
{
	return (struct pmsg_time){ .sec = t->tv_sec, .nsec = (uint32_t)t->tv_nsec };
}

void desc_attr(const struct xdesc *d, const struct stat *st, struct pmsg_attr *ret)
{
	*ret = (struct pmsg_attr){
		.ino = st->st_ino,
		.size = d->kind == STREAM_REG ? (uint64_t)st->st_size : 0,
		.blocks = (uint64_t)st->st_blocks,
		.atime = time_of(&st->st_atim),
		.mtime = time_of(&st->st_mtim),
		.ctime = time_of(&st->st_ctim),
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.blksize = (uint32_t)st->st_blksize,
	};
}

void desc_watch(struct xdesc *d)
{
	if (d->epoll_state)
		return;
	/* Edge-triggered and registered once, for all: re-arming per request gave either storms or lost edges. */
	struct epoll_event ev = { .events = WATCH_EVENTS | EPOLLET, .data.u64 = d->id };
	d->epoll_state = epoll_ctl(d->x->epfd, EPOLL_CTL_ADD, d->fd, &ev) == 0 ? 1 : -1;
}

/* Closing: what may wait (a file on a network, a terminal that drains) is closed in the pool. */

struct closer {
	struct job job;
	struct exporter *x;
	struct xsess *s;
	int fd;
};

static void closer_run(struct job *j)
{
	struct closer *c = (struct closer *)j;
	c->fd = close_fd(c->fd);
}

static void closer_done(struct job *j)
{
	struct closer *c = (struct closer *)j;
	c->x->n_jobs--;
	if (c->s)
		export_close_done(c->s);
	free(c);
}

static void close_slowly(struct exporter *x, struct xsess *s, int fd)
{
	struct closer *c = calloc(1, sizeof *c);
	if (c) {
		*c = (struct closer){ .job = { .run = closer_run, .done = closer_done }, .x = x, .s = s, .fd = fd };
		if (work_pool(x->cfg.work, &c->job) == 0) {
			x->n_jobs++;
			if (s)
				s->n_closing++;
			return;
		}
	}
	free(c);
	(void)close_fd(fd); /* rather wait here than leak it */
}

void desc_unref(struct xdesc *d, struct xsess *s)
{
	if (--d->n_refs)
		return;
	HASH_DEL(d->x->descs, d);
	xdesc_forget(d);
	if (d->epoll_state == 1)
		(void)epoll_ctl(d->x->epfd, EPOLL_CTL_DEL, d->fd, NULL);
	d->nb_fd = close_fd(d->nb_fd);
	if (d->kind == STREAM_PIPE || d->kind == STREAM_EVENTFD)
		(void)close_fd(d->fd);
	else
		close_slowly(d->x, s, d->fd);
	free(d->grants);
	free(d->name);
	free(d);
}

/* Jobs */

static void op_finish_io(struct xop *op, ssize_t n);

/* Notes where the shared offset is before the call, so that the next agent can see whether it had an effect. */
static void file_io_note(const struct xop *op)
{
	int fd = op->d->fd, fl = fcntl(fd, F_GETFL);
	int appends = op->type == PMSG_WRITE && fl >= 0 && fl & O_APPEND;
	struct stat st;
	int64_t at = -1;
	if (!op->progress)
		return;
	if (!appends)
		at = lseek(fd, 0, SEEK_CUR);
	else if (fstat(fd, &st) == 0)
		at = st.st_size;
	op->progress->is_read = op->type == PMSG_READ;
	op->progress->before = at;
}

static void run_file_io(struct xop *op)
{
	int fd = op->d->fd, positional = op->flags & PMSG_POSITIONAL;
	ssize_t n;
	size_t was = positional ? 0 : xop_was_done(op);
	if (was) {
		op->result = (int64_t)was;
		return;
	}
	if (op->flags & PMSG_SEEK && lseek(fd, op->off, SEEK_SET) < 0) {
		op->result = -errno;
		return;
	}
	if (!positional)
		file_io_note(op);
	if (op->type == PMSG_READ)
		n = positional ? pread(fd, op->buf, op->size, op->off) : read(fd, op->buf, op->size);
	else
		n = positional ? pwrite(fd, op->buf, op->n_buf, op->off) : write(fd, op->buf, op->n_buf);
	op->result = n < 0 ? -errno : n;
	if (n > 0 && op->progress)
		op->progress->n_done = (uint64_t)n;
}

/* Interruptible: a signal ends it with -EINTR. */
static void run_stream_io(struct xop *op)
{
	ssize_t n = op->type == PMSG_READ ? read(op->d->fd, op->buf, op->size)
					  : write(op->d->fd, op->buf + op->n_done, op->n_buf - op->n_done);
	op->result = n < 0 ? -errno : n;
}

static void run_setattr(struct xop *op)
{
	int fd = op->d->fd, rc = 0;
	const struct pmsg_attr *a = &op->attr;
	if (op->flags & PMSG_SET_SIZE)
		rc = ftruncate(fd, (off_t)a->size);
	if (rc == 0 && op->flags & PMSG_SET_OWNER)
		rc = fchown(fd, a->uid, a->gid);
	if (rc == 0 && op->flags & PMSG_SET_MODE)
		rc = fchmod(fd, a->mode & 07777);
	if (rc == 0 && op->flags & (PMSG_SET_ATIME | PMSG_SET_MTIME)) {
		struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
		if (op->flags & PMSG_SET_ATIME)
			t[0] = (struct timespec){ a->atime.sec, op->flags & PMSG_SET_ATIME_NOW ? UTIME_NOW : (long)a->atime.nsec };
		if (op->flags & PMSG_SET_MTIME)
			t[1] = (struct timespec){ a->mtime.sec, op->flags & PMSG_SET_MTIME_NOW ? UTIME_NOW : (long)a->mtime.nsec };
		rc = futimens(fd, t);
	}
	op->result = rc < 0 ? -errno : 0;
}

static void run_stat(struct xop *op)
{
	struct stat st;
	if (fstat(op->d->fd, &st) < 0) {
		op->result = -errno;
		return;
	}
	desc_attr(op->d, &st, &op->attr);
}

static void run_reopen(struct xop *op)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", op->d->fd);
	int keep = O_ACCMODE | O_APPEND | O_NONBLOCK | O_TRUNC | O_SYNC | O_DSYNC;
	op->new_fd = open(path, ((int)op->oflags & keep) | O_CLOEXEC | O_NOCTTY);
	op->result = op->new_fd < 0 ? -errno : 0;
}

static void op_run(struct job *j)
{
	struct xop *op = op_of(j);
	int fd = op->d->fd;
	off_t off;
	switch (op->type) {
	case PMSG_READ:
	case PMSG_WRITE:
		if (op->d->kind == STREAM_REG)
			run_file_io(op);
		else
			run_stream_io(op);
		break;
	case PMSG_GETATTR:
		run_stat(op);
		break;
	case PMSG_SETATTR:
		run_setattr(op);
		if (op->result == 0)
			run_stat(op);
		break;
	case PMSG_FSYNC:
		op->result = (op->flags ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
		break;
	case PMSG_FALLOCATE:
		op->result = fallocate(fd, (int)op->flags, op->off, (off_t)op->len) < 0 ? -errno : 0;
		break;
	case PMSG_LSEEK:
		off = lseek(fd, op->off, (int)op->flags);
		op->result = off < 0 ? -errno : off;
		break;
	case PMSG_FLOCK:
		op->result = flock(fd, (int)op->flags) < 0 ? -errno : 0;
		break;
	case PMSG_IOCTL:
		op->result = tty_ioctl_run(fd, op->size, (uint64_t)op->off, op->buf);
		break;
	case PMSG_REOPEN:
		run_reopen(op);
		break;
	default:
		op->result = -ENOSYS;
		break;
	}
}

static void answer_job(struct xop *op)
{
	struct pmsg a = { .status = op->result < 0 ? (int32_t)op->result : 0 };
	if (op->type == PMSG_LSEEK && op->result >= 0)
		a.off = op->result;
	if (op->type == PMSG_IOCTL && op->result >= 0) {
		a.off = op->result;
		a.data = op->buf;
		a.n_data = (size_t)op->len;
	}
	if ((op->type == PMSG_GETATTR || op->type == PMSG_SETATTR) && op->result >= 0)
		a.attr = op->attr;
	xop_answer(op, &a);
}

static void op_job_done(struct job *j)
{
	struct xop *op = op_of(j);
	struct xdesc *d = op->d;
	d->x->n_jobs--;
	op->is_running = 0;
	if (op->type == PMSG_REOPEN) {
		export_reopened(op);
		return;
	}
	if (op->type != PMSG_READ && op->type != PMSG_WRITE) {
		answer_job(op);
		return;
	}
	int dir = d->kind == STREAM_REG || op->type == PMSG_READ ? DIR_READ : DIR_WRITE;
	d->n_refs++; /* the answer may drop the last one */
	if (op->is_queued)
		d->is_busy[dir] = 0;
	op_finish_io(op, (ssize_t)op->result);
	desc_pump(d);
	desc_unref(d, NULL);
}

/* Starts the job of op. A failure answers it. */
static int op_start(struct xop *op, int in_thread)
{
	struct exporter *x = op->d->x;
	op->job.run = op_run;
	op->job.done = op_job_done;
	op->job.keep_caps = op->type == PMSG_REOPEN;
	int rc = in_thread ? work_thread(x->cfg.work, &op->job) : work_pool(x->cfg.work, &op->job);
	if (rc < 0)
		return rc;
	op->is_running = 1;
	x->n_jobs++;
	return 0;
}

static void submit_job(struct xop *op, int in_thread)
{
	int rc = op_start(op, in_thread);
	if (rc < 0)
		xop_status(op, rc);
}

/* Reading and writing */

static void op_dequeue(struct xop *op, int dir)
{
	if (op->is_queued)
		DL_DELETE(op->d->queue[dir], op);
	op->is_queued = 0;
}

static int dir_of(const struct xop *op)
{
	return op->d->kind == STREAM_REG || op->type == PMSG_READ ? DIR_READ : DIR_WRITE;
}

static void answer_read(struct xop *op, const uint8_t *p, size_t n)
{
	op_dequeue(op, dir_of(op));
	op->d->n_reads++;
	xop_answer(op, &(struct pmsg){ .data = p, .n_data = n });
}

/* A write ends with what was done, or with the error when nothing was. A broken pipe is told beside a partial count, because
 * the writer gets SIGPIPE in both cases. */
static void answer_write(struct xop *op, int error)
{
	op_dequeue(op, dir_of(op));
	op->d->n_writes++;
	struct pmsg a = { .status = op->n_done ? (int32_t)op->n_done : error };
	if (error == -EPIPE && op->d->kind == STREAM_PIPE)
		a.flags = PMSG_SIGPIPE;
	xop_answer(op, &a);
}

/* The end of a step of a read or write in a job: n as of the system call. */
static void op_finish_io(struct xop *op, ssize_t n)
{
	if (op->type == PMSG_READ && n >= 0) {
		answer_read(op, op->buf, (size_t)n);
		return;
	}
	if (op->type == PMSG_WRITE && n >= 0) {
		op->n_done += (size_t)n;
		if (op->progress)
			op->progress->n_done = op->n_done;
		if (op->n_done == op->n_buf || op->d->kind == STREAM_REG || op->is_cancelled)
			answer_write(op, op->n_done ? 0 : -EINTR);
		return; /* otherwise the rest is tried again */
	}
	if (n == -EINTR && !op->is_cancelled && op->d->kind != STREAM_REG)
		return;
	if (n == -EAGAIN && op->d->kind != STREAM_REG && !op->is_cancelled && !desc_is_nonblocking(op->d))
		return; /* it was in non-blocking mode when the call was made */
	if (op->is_cancelled && n == -EAGAIN)
		n = -EINTR;
	if (op->type == PMSG_WRITE) {
		answer_write(op, (int)n);
		return;
	}
	op_dequeue(op, dir_of(op));
	xop_status(op, (int)n);
}

static int is_ready(const struct xdesc *d, int dir)
{
	struct pollfd p = { .fd = d->fd, .events = dir == DIR_READ ? POLLIN : POLLOUT };
	return d->epoll_state < 0 || poll(&p, 1, 0) != 0;
}

enum step { STEP_WAIT, STEP_DONE, STEP_AGAIN };

static enum step try_thread(struct xop *op, int dir)
{
	struct xdesc *d = op->d;
	if (!is_ready(d, dir)) {
		if (!desc_is_nonblocking(d))
			return STEP_WAIT;
		op_finish_io(op, -EAGAIN);
		return STEP_DONE;
	}
	if (op->type == PMSG_READ && !op->buf)
		op->buf = malloc(op->size ? op->size : 1);
	int rc = op->buf ? op_start(op, 1) : -ENOMEM;
	if (rc < 0) {
		op_dequeue(op, dir);
		xop_status(op, rc);
		return STEP_DONE;
	}
	d->is_busy[dir] = 1;
	return STEP_WAIT;
}

/* The caller notes the result, then calls ring_noted. */
static ssize_t io_nowait(const struct xop *op, int dir)
{
	const struct xdesc *d = op->d;
	int reopened = d->how[dir] == HOW_REOPENED;
	if (d->kind == STREAM_EVENTFD && dir == DIR_WRITE)
		return -EOPNOTSUPP; /* it has no write without waiting; the ring would say EAGAIN for ever */
	struct ring_io io = { .fd = reopened ? d->nb_fd : d->fd, .is_write = dir == DIR_WRITE, .nowait = !reopened,
			      .session = op->s ? op->s->id : 0, .req = op->req, .base = op->n_done };
	io.p = dir == DIR_WRITE ? op->buf + op->n_done : NULL;
	io.n = dir == DIR_WRITE ? op->n_buf - op->n_done : op->size;
	return ring_do(d->x->ring, &io);
}

/* One attempt at the first request of a queue. */
static enum step try_stream(struct xop *op, int dir)
{
	struct xdesc *d = op->d;
	if (op->type == PMSG_READ && op->s && d->x->cfg.backlog(op->s->p) > BACKLOG_MAX) {
		op->s->is_starved = 1;
		return STEP_WAIT;
	}
	if (d->how[dir] == HOW_THREAD)
		return try_thread(op, dir);
	struct exporter *x = d->x;
	ssize_t n = io_nowait(op, dir);
	enum step step = STEP_DONE;
	if (n == -EOPNOTSUPP)
		how_demote(d, dir);
	if (n == -EOPNOTSUPP || n == -EINTR)
		step = STEP_AGAIN;
	else if (n == -EAGAIN && !desc_is_nonblocking(d))
		step = STEP_WAIT;
	else if (n >= 0 && dir == DIR_READ)
		answer_read(op, ring_room(x->ring), (size_t)n);
	else
		op_finish_io(op, n);
	ring_noted(x->ring);
	if (n > 0 && dir == DIR_WRITE && d->queue[dir] == op)
		step = STEP_AGAIN;
	return step;
}

static void pump_dir(struct xdesc *d, int dir)
{
	while (d->queue[dir] && !d->is_busy[dir]) {
		struct xop *op = d->queue[dir];
		if (d->kind != STREAM_REG) {
			if (try_stream(op, dir) == STEP_WAIT)
				return;
			continue;
		}
		int rc = op_start(op, 0);
		if (rc < 0) {
			op_dequeue(op, dir);
			xop_status(op, rc);
			continue;
		}
		d->is_busy[dir] = 1;
	}
}

void desc_pump(struct xdesc *d)
{
	d->n_refs++;
	pump_dir(d, DIR_READ);
	pump_dir(d, DIR_WRITE);
	desc_unref(d, NULL);
}

static void submit_io(struct xop *op)
{
	struct xdesc *d = op->d;
	int dir = dir_of(op);
	if (op->type == PMSG_READ ? !d->is_readable : !d->is_writable) {
		xop_status(op, -EBADF);
		return;
	}
	if (d->kind != STREAM_REG && op->flags & PMSG_POSITIONAL) {
		xop_status(op, -ESPIPE);
		return;
	}
	if (d->kind == STREAM_REG) {
		if (op->type == PMSG_READ && !(op->buf = malloc(op->size ? op->size : 1))) {
			xop_status(op, -ENOMEM);
			return;
		}
		if (op->flags & PMSG_POSITIONAL) {
			submit_job(op, 0);
			return;
		}
	} else {
		desc_watch(d); /* before the first attempt, so that no edge is lost after it */
		if (op->type == PMSG_READ && op->size > STREAM_READ_MAX)
			op->size = STREAM_READ_MAX;
	}
	DL_APPEND(d->queue[dir], op);
	op->is_queued = 1;
	if (op->type == PMSG_WRITE || d->kind == STREAM_REG)
		xop_progress(op);
	if (op->type == PMSG_WRITE && op->n_done && (op->n_done == op->n_buf || d->kind == STREAM_REG)) {
		answer_write(op, 0); /* it had been done */
		return;
	}
	desc_pump(d);
}

static void submit_poll(struct xop *op)
{
	struct xdesc *d = op->d;
	struct xhandle *h;
	desc_watch(d);
	if (d->kind == STREAM_REG || d->epoll_state < 0) {
		xop_answer(op, &(struct pmsg){ .flags = op->size & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) });
		return;
	}
	HASH_FIND(hh, op->s->handles, &op->fh, sizeof op->fh, h);
	if (h && op->flags & PMSG_POLL_ARM)
		h->armed |= op->size | POLLERR | POLLHUP;
	struct pollfd p = { .fd = d->fd, .events = (short)op->size };
	int rc = poll(&p, 1, 0);
	if (rc < 0)
		xop_status(op, -errno);
	else
		xop_answer(op, &(struct pmsg){ .flags = rc ? (uint16_t)p.revents : 0 });
}

static void submit_fcntl(struct xop *op)
{
	int fd = op->d->fd, rc;
	switch (op->type) {
	case PMSG_GETFL:
		rc = fcntl(fd, F_GETFL);
		if (rc >= 0) {
			xop_answer(op, &(struct pmsg){ .oflags = (uint32_t)rc });
			return;
		}
		break;
	case PMSG_SETFL:
		rc = fcntl(fd, F_GETFL);
		if (rc >= 0) {
			int mask = O_NONBLOCK | O_APPEND;
			rc = fcntl(fd, F_SETFL, (rc & ~mask) | ((int)op->oflags & mask));
		}
		break;
	case PMSG_PIPESZ:
	default:
		rc = op->flags ? fcntl(fd, F_SETPIPE_SZ, (int)op->off) : fcntl(fd, F_GETPIPE_SZ);
		if (rc >= 0) {
			xop_answer(op, &(struct pmsg){ .off = rc });
			return;
		}
		break;
	}
	struct xdesc *d = op->d;
	d->n_refs++;
	xop_status(op, rc < 0 ? -errno : 0);
	desc_pump(d); /* blocking or not may have changed for those who wait */
	desc_unref(d, NULL);
}

static void submit_ioctl(struct xop *op)
{
	struct tty_ioctl io;
	int rc = tty_ioctl_find(op->size, &io);
	if (rc == 0 && (io.in != op->n_buf || io.out != op->len))
		rc = -EINVAL;
	uint8_t *p = rc == 0 ? realloc(op->buf, TTY_ARG_MAX) : NULL;
	if (rc == 0 && !p)
		rc = -ENOMEM;
	if (rc < 0) {
		op->d->refused_ioctl = op->size;
		xop_status(op, rc);
		return;
	}
	op->buf = p;
	memset(op->buf + op->n_buf, 0, TTY_ARG_MAX - op->n_buf);
	submit_job(op, 1);
}

void desc_submit(struct xop *op)
{
	switch (op->type) {
	case PMSG_READ:
	case PMSG_WRITE:
		submit_io(op);
		break;
	case PMSG_POLL:
		submit_poll(op);
		break;
	case PMSG_GETFL:
	case PMSG_SETFL:
	case PMSG_PIPESZ:
		submit_fcntl(op);
		break;
	case PMSG_GETATTR:
		if (op->d->kind == STREAM_REG) {
			submit_job(op, 0);
		} else {
			run_stat(op);
			answer_job(op);
		}
		break;
	case PMSG_IOCTL:
		submit_ioctl(op);
		break;
	case PMSG_FLOCK:
	case PMSG_REOPEN:
		submit_job(op, 1);
		break;
	default:
		submit_job(op, 0);
		break;
	}
}

void desc_cancel(struct xop *op)
{
	if (op->is_cancelled)
		return;
	op->is_cancelled = 1;
	if (op->is_running) {
		work_cancel(&op->job); /* no effect in the pool: what is there ends soon by itself */
		return;
	}
	if (op->is_queued && op->d->kind == STREAM_REG && op->s) {
		op->is_cancelled = 0; /* files are not interruptible, as natively */
		return;
	}
	if (op->is_queued) {
		struct xdesc *d = op->d;
		d->n_refs++;
		op_finish_io(op, -EINTR);
		desc_pump(d);
		desc_unref(d, NULL);
	}
}

void desc_drop(struct xop *op)
{
	op->is_cancelled = 1;
	if (op->is_running) {
		work_cancel(&op->job);
		return;
	}
	if (op->d)
		op_dequeue(op, dir_of(op));
	xop_status(op, -ECANCELED);
}
