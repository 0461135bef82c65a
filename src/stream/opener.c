#include "stream/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "stream/fuse_dev.h"
#include "stream/import_own.h"

enum opener_op { OP_OPEN, OP_FORGET, OP_STAT, OP_IDENT };

enum { SEND_BUFFER = 1 << 20 };

/* To the child and back, within one program: no wire format. */
struct opener_req {
	uint64_t id, parent;
	int64_t off;
	uint32_t op, index;
	int32_t flags;
	char path[NAMES_PATH_MAX];
};

struct opener_res {
	uint64_t id, value;
	int32_t result;
};

struct call {
	uint64_t id;
	opener_fn done;
	void *ctx;
	struct opener_req *held; /* owned: waits for room in the socket */
	int held_fd;             /* owned */
	int got_fd;              /* owned: came before the end of the call */
	struct call *prev, *next;
};

struct opener {
	uv_poll_t poll;
	int sock; /* owned */
	int dev, mnt;
	pid_t pid;
	uint64_t last_id;
	struct call *calls; /* in order */
	void (*gone)(void *ctx);
	void *gone_ctx;
};

/* One message with at most one descriptor. */
static int msg_send(int sock, const void *p, size_t n, int fd)
{
	union {
		const void *in;
		void *out;
	} u = { .in = p };
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c = { 0 };
	struct iovec v = { u.out, n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	if (fd >= 0) {
		m.msg_control = c.buf;
		m.msg_controllen = sizeof c.buf;
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(h), &fd, sizeof fd);
	}
	ssize_t rc;
	do
		rc = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static ssize_t msg_recv(int sock, void *p, size_t n, int *ret_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c;
	struct iovec v = { p, n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof c.buf };
	ssize_t rc;
	do
		rc = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (rc < 0 && errno == EINTR);
	*ret_fd = -1;
	struct cmsghdr *h = rc >= 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS && h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(h), sizeof *ret_fd);
	return rc < 0 ? -errno : rc;
}

/* The child. Only system calls: the program may have had threads. */

static int child_open(int mnt, const struct opener_req *q, int *ret_fd)
{
	int sub = -1;
	if (q->index) {
		char dir[16];
		(void)snprintf(dir, sizeof dir, "~%u", q->index);
		/* A mount of its own, so that the link text does not show the directory. Kernels before 6.15 refuse that for a mount that is
		 * attached nowhere: then it shows. */
		sub = open_tree(mnt, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		if (sub < 0)
			sub = openat(mnt, dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (sub < 0)
			return -errno;
		mnt = sub;
	}
	/* O_DIRECT makes splice and sendfile read through us, not through the page cache by the size we claim. */
	int fd = openat(mnt, q->path, q->flags | O_DIRECT | O_CLOEXEC | O_NOCTTY);
	int rc = fd < 0 ? -errno : 0;
	(void)close_fd(sub);
	if (rc == 0 && q->off && lseek(fd, q->off, SEEK_SET) < 0) {
		rc = -errno;
		(void)close(fd);
		fd = -1;
	}
	*ret_fd = fd;
	return rc;
}

static void child_serve(int sock, int dev, int mnt, const struct opener_req *q, int fd)
{
	struct opener_res res = { .id = q->id };
	struct statx sx;
	int out = -1;
	switch ((enum opener_op)q->op) {
	case OP_OPEN:
		res.result = child_open(mnt, q, &out);
		break;
	case OP_FORGET:
		res.result = fuse_dev_notify_inval_entry(dev, q->parent, q->path);
		break;
	case OP_STAT:
		res.result = statx(mnt, q->path, AT_STATX_FORCE_SYNC, STATX_SIZE, &sx) < 0 ? -errno : 0;
		break;
	case OP_IDENT:
		res.result = ioctl(fd, IMPORT_IDENT, &res.value) < 0 ? -errno : 0;
		break;
	default:
		res.result = -ENOSYS;
		break;
	}
	/* The call ends when our own copy is closed: else a barrier might not see the last close of a file. When nobody listens, the next
	 * receive says so. */
	if (out >= 0) {
		(void)msg_send(sock, &res, sizeof res, out);
		(void)close_fd(out);
	}
	(void)msg_send(sock, &res, sizeof res, -1);
}

static void child_close_others(int sock, int dev, int mnt)
{
	int keep[3] = { sock, dev, mnt };
	int from = 3;
	for (;;) {
		int next = -1;
		for (int i = 0; i < 3; i++)
			if (keep[i] >= from && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			break;
		if (next > from)
			(void)close_range((unsigned)from, (unsigned)next - 1, 0);
		from = next + 1;
	}
	(void)close_range((unsigned)from, ~0u, 0);
}

static void child_main(int sock, int dev, int mnt)
{
	static struct opener_req q;
	int fd;
	(void)prctl(PR_SET_NAME, "pando-opener");
	(void)signal(SIGTERM, SIG_IGN); /* it ends with its socket */
	(void)signal(SIGINT, SIG_IGN);
	child_close_others(sock, dev, mnt);
	(void)fcntl(sock, F_SETFL, 0); /* our end of the pair alone */
	for (;;) {
		ssize_t n = msg_recv(sock, &q, sizeof q, &fd);
		if (n <= 0)
			_exit(0);
		if (n >= (ssize_t)offsetof(struct opener_req, path)) {
			q.path[sizeof q.path - 1] = 0;
			child_serve(sock, dev, mnt, &q, fd);
		}
		if (fd >= 0)
			(void)close(fd);
	}
}

static int child_start(struct opener *o)
{
	int pair[2], size = SEND_BUFFER;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size); /* less room only makes calls wait here */
	pid_t pid = fork();
	if (pid < 0) {
		int rc = -errno;
		(void)close(pair[0]);
		(void)close(pair[1]);
		return rc;
	}
	if (pid == 0)
		child_main(pair[1], o->dev, o->mnt);
	(void)close(pair[1]);
	(void)fcntl(pair[0], F_SETFL, O_NONBLOCK);
	o->sock = pair[0];
	o->pid = pid;
	return 0;
}

/* The parent */

static void call_end(struct opener *o, struct call *c, int result, uint64_t value)
{
	int fd = c->got_fd;
	DL_DELETE(o->calls, c);
	free(c->held);
	(void)close_fd(c->held_fd);
	if (c->done)
		c->done(c->ctx, result, value, fd);
	else
		(void)close_fd(fd);
	free(c);
}

static void on_poll(uv_poll_t *p, int status, int events);

static void poll_want(struct opener *o)
{
	struct call *c;
	int events = UV_READABLE;
	DL_FOREACH(o->calls, c)
		if (c->held)
			events |= UV_WRITABLE;
	(void)uv_poll_start(&o->poll, events, on_poll);
}

static void held_send(struct opener *o)
{
	struct call *c, *tmp;
	DL_FOREACH_SAFE(o->calls, c, tmp) {
		if (!c->held)
			continue;
		size_t n = offsetof(struct opener_req, path) + strlen(c->held->path) + 1;
		int rc = msg_send(o->sock, c->held, n, c->held_fd);
		if (rc < 0)
			break; /* no room now, or the child is gone, which is told by its end of the socket */
		free(c->held);
		c->held = NULL;
		c->held_fd = close_fd(c->held_fd);
	}
	poll_want(o);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct opener *o = p->data;
	if (events & UV_WRITABLE)
		held_send(o);
	for (;;) {
		struct opener_res res;
		int fd;
		ssize_t n = msg_recv(o->sock, &res, sizeof res, &fd);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			(void)uv_poll_stop(&o->poll);
			o->gone(o->gone_ctx);
			return;
		}
		struct call *c = o->calls;
		if (n != sizeof res || !c || c->id != res.id) {
			(void)close_fd(fd);
			continue;
		}
		if (fd >= 0) {
			(void)close_fd(c->got_fd);
			c->got_fd = fd;
			continue;
		}
		call_end(o, c, res.result, res.value);
	}
}

int opener_new(uv_loop_t *loop, int dev, int mnt, void (*gone)(void *ctx), void *ctx, struct opener **ret, struct err *e)
{
	struct opener *o = calloc(1, sizeof *o);
	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	o->dev = dev;
	o->mnt = mnt;
	o->gone = gone;
	o->gone_ctx = ctx;
	int rc = child_start(o);
	if (rc < 0) {
		free(o);
		return err_set(e, rc, "start the opener: %s", strerror(-rc));
	}
	rc = uv_poll_init(loop, &o->poll, o->sock);
	if (rc < 0) {
		(void)close_fd(o->sock);
		free(o);
		return err_set(e, rc, "watch the opener: %s", uv_strerror(rc));
	}
	o->poll.data = o;
	poll_want(o);
	*ret = o;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	struct opener *o = h->data;
	(void)close_fd(o->sock);
	(void)waitpid(o->pid, NULL, WNOHANG); /* else when this program ends */
	free(o);
}

void opener_close(struct opener *o)
{
	if (!o)
		return;
	while (o->calls)
		call_end(o, o->calls, -ECANCELED, 0);
	(void)shutdown(o->sock, SHUT_RDWR);
	uv_close((uv_handle_t *)&o->poll, on_closed);
}

pid_t opener_pid(const struct opener *o)
{
	return o->pid;
}

/* Takes q; fd is borrowed. */
static int call_begin(struct opener *o, struct opener_req *q, int fd, opener_fn done, void *ctx)
{
	struct call *c = calloc(1, sizeof *c);
	int held_fd = c && fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (!c || (fd >= 0 && held_fd < 0)) {
		free(c);
		free(q);
		return -ENOMEM;
	}
	q->id = c->id = ++o->last_id;
	c->got_fd = -1;
	c->done = done;
	c->ctx = ctx;
	c->held = q;
	c->held_fd = held_fd;
	DL_APPEND(o->calls, c);
	/* Sent now, unless earlier ones wait. */
	held_send(o);
	return 0;
}

static struct opener_req *req_new(enum opener_op op, const char *path)
{
	if (strlen(path) >= NAMES_PATH_MAX)
		return NULL;
	struct opener_req *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->op = op;
	strcpy(q->path, path);
	return q;
}

int opener_open(struct opener *o, unsigned index, const char *path, int flags, int64_t off, opener_fn done, void *ctx)
{
	struct opener_req *q = req_new(OP_OPEN, path);
	if (!q)
		return -ENOMEM;
	q->index = index;
	q->flags = flags;
	q->off = off;
	return call_begin(o, q, -1, done, ctx);
}

int opener_forget(struct opener *o, uint64_t parent, const char *name)
{
	struct opener_req *q = req_new(OP_FORGET, name);
	if (!q)
		return -ENOMEM;
	q->parent = parent;
	return call_begin(o, q, -1, NULL, NULL);
}

int opener_stat(struct opener *o, const char *path)
{
	struct opener_req *q = req_new(OP_STAT, path);
	return q ? call_begin(o, q, -1, NULL, NULL) : -ENOMEM;
}

int opener_ident(struct opener *o, int fd, opener_fn done, void *ctx)
{
	struct opener_req *q = req_new(OP_IDENT, "");
	return q ? call_begin(o, q, fd, done, ctx) : -ENOMEM;
}
