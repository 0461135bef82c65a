#include "procfs/chan.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { FDS_MAX = 8, READ_SIZE = 64 << 10 };

struct frame {
	struct frame *next;
	size_t n, done;
	size_t n_fds;
	int fds[FDS_MAX]; /* owned */
	uint8_t p[];
};

struct chan {
	struct chan_config cfg;
	int fd;
	uv_poll_t poll;
	uv_prepare_t flush; /* active while something is queued that was not tried yet */
	unsigned handles;   /* libuv handles still open */
	int closing;        /* chan_free was called */
	int ended;          /* on_closed ran or is about to */
	struct frame *out, *out_last;
	size_t out_n;
	uint8_t *in; /* owned */
	size_t in_n, in_cap;
	int fds[FDS_MAX];
	size_t n_fds;
};

static void frame_free(struct frame *f)
{
	for (size_t i = 0; i < f->n_fds; i++)
		(void)close(f->fds[i]);
	free(f);
}

static void chan_release(uv_handle_t *h)
{
	struct chan *c = h->data;
	if (--c->handles > 0)
		return;
	for (struct frame *f = c->out, *next; f; f = next) {
		next = f->next;
		frame_free(f);
	}
	for (size_t i = 0; i < c->n_fds; i++)
		(void)close(c->fds[i]);
	(void)close(c->fd);
	free(c->in);
	free(c);
}

void chan_free(struct chan *c)
{
	if (!c || c->closing)
		return;
	c->closing = 1;
	uv_close((uv_handle_t *)&c->poll, chan_release);
	uv_close((uv_handle_t *)&c->flush, chan_release);
}

static void chan_end(struct chan *c, int error)
{
	if (c->ended || c->closing)
		return;
	c->ended = 1;
	(void)uv_poll_stop(&c->poll); /* cannot fail */
	(void)uv_prepare_stop(&c->flush);
	c->cfg.on_closed(c->cfg.ctx, error);
}

static ssize_t frame_write(struct chan *c, struct frame *f)
{
	struct iovec iov = { .iov_base = f->p + f->done, .iov_len = f->n - f->done };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} u = { 0 };
	if (f->n_fds) {
		u.h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * f->n_fds) };
		memcpy(CMSG_DATA(&u.h), f->fds, sizeof(int) * f->n_fds);
		m.msg_control = u.b;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * f->n_fds);
	}
	ssize_t n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	for (size_t i = 0; i < f->n_fds; i++)
		(void)close(f->fds[i]);
	f->n_fds = 0;
	return n;
}

/* 0: all written or the socket is full, < 0: the connection is gone. */
static int out_write(struct chan *c)
{
	while (c->out) {
		struct frame *f = c->out;
		ssize_t n = frame_write(c, f);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		f->done += (size_t)n;
		c->out_n -= (size_t)n;
		if (f->done < f->n)
			continue;
		c->out = f->next;
		if (!c->out)
			c->out_last = NULL;
		frame_free(f);
	}
	return 0;
}

static void on_poll(uv_poll_t *h, int status, int events);

static void chan_flush_now(struct chan *c)
{
	(void)uv_prepare_stop(&c->flush); /* cannot fail */
	int rc = out_write(c);
	if (rc < 0) {
		chan_end(c, rc);
		return;
	}
	rc = uv_poll_start(&c->poll, c->out ? UV_READABLE | UV_WRITABLE : UV_READABLE, on_poll);
	if (rc < 0)
		chan_end(c, rc);
}

static void on_prepare(uv_prepare_t *h)
{
	chan_flush_now(h->data);
}

void chan_send_queued(struct chan *c)
{
	/* An error is left to the poll callback, so that on_closed never runs within a call of the owner's. */
	if (!c->closing && !c->ended)
		(void)out_write(c);
}

static void out_add(struct chan *c, struct frame *f)
{
	if (c->out_last)
		c->out_last->next = f;
	else
		c->out = f;
	c->out_last = f;
	c->out_n += f->n;
}

int chan_send(struct chan *c, const void *p, size_t n, const int *fds, size_t n_fds)
{
	if (c->closing || c->ended)
		return -EPIPE;
	if (n == 0 || n > c->cfg.frame_max || n_fds > FDS_MAX)
		return -EMSGSIZE;
	if (c->out_n + n > c->cfg.queue_max) {
		(void)shutdown(c->fd, SHUT_RDWR); /* the poll callback sees the end */
		return -ENOBUFS;
	}
	struct frame *f = malloc(sizeof(*f) + 4 + n);
	if (!f)
		return -ENOMEM;
	*f = (struct frame){ .n = 4 + n };
	for (size_t i = 0; i < 4; i++)
		f->p[i] = (uint8_t)(n >> (8 * i));
	memcpy(f->p + 4, p, n);
	for (size_t i = 0; i < n_fds; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			int rc = -errno;
			frame_free(f);
			return rc;
		}
		f->fds[f->n_fds++] = fd;
	}
	out_add(c, f);
	(void)uv_prepare_start(&c->flush, on_prepare); /* cannot fail with a callback */
	return 0;
}

static void fds_keep(struct chan *c, struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
			if (c->n_fds < FDS_MAX)
				c->fds[c->n_fds++] = fd;
			else
				(void)close(fd);
		}
	}
}

size_t chan_take_fds(struct chan *c, int *ret_fds, size_t n)
{
	if (n > c->n_fds)
		n = c->n_fds;
	memcpy(ret_fds, c->fds, n * sizeof(int));
	memmove(c->fds, c->fds + n, (c->n_fds - n) * sizeof(int));
	c->n_fds -= n;
	return n;
}

static int in_room(struct chan *c)
{
	if (c->in_cap - c->in_n >= READ_SIZE)
		return 0;
	size_t cap = c->in_cap ? c->in_cap * 2 : READ_SIZE * 2;
	uint8_t *p = realloc(c->in, cap);
	if (!p)
		return -ENOMEM;
	c->in = p;
	c->in_cap = cap;
	return 0;
}

/* Bytes read, 0 at the end of file, -errno. */
static ssize_t in_read(struct chan *c)
{
	int rc = in_room(c);
	if (rc < 0)
		return rc;
	struct iovec iov = { .iov_base = c->in + c->in_n, .iov_len = c->in_cap - c->in_n };
	char control[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	fds_keep(c, &m);
	c->in_n += (size_t)n;
	return n;
}

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Hands out the whole frames that are there. */
static int frames_out(struct chan *c)
{
	size_t at = 0;
	int rc = 0;
	while (c->in_n - at >= 4 && !c->closing) {
		size_t n = le32(c->in + at);
		if (n == 0 || n > c->cfg.frame_max) {
			rc = -EMSGSIZE;
			break;
		}
		if (c->in_n - at - 4 < n)
			break;
		c->cfg.on_frame(c->cfg.ctx, c->in + at + 4, n);
		at += 4 + n;
	}
	memmove(c->in, c->in + at, c->in_n - at);
	c->in_n -= at;
	if (c->in_n == 0 && c->in_cap > 4 * READ_SIZE) {
		free(c->in);
		c->in = NULL;
		c->in_cap = 0;
	}
	return rc;
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct chan *c = h->data;
	if (status < 0) {
		chan_end(c, status);
		return;
	}
	if (events & UV_WRITABLE)
		chan_flush_now(c);
	if (!(events & UV_READABLE) || c->closing || c->ended)
		return;

	/* A few rounds at most, so that others on the loop have their turn. */
	for (int i = 0; i < 16 && !c->closing && !c->ended; i++) {
		ssize_t n = in_read(c);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return;
		int rc = n > 0 ? frames_out(c) : (int)n;
		if (n <= 0 || rc < 0) {
			chan_end(c, rc);
			return;
		}
	}
}

int chan_new(const struct chan_config *cfg, int fd, struct chan **ret)
{
	_cleanup_(close_p) int sock = fd;
	struct chan *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->cfg = *cfg;
	int rc = uv_poll_init(cfg->loop, &c->poll, sock);
	if (rc < 0) {
		free(c);
		return rc;
	}
	c->fd = take_fd(&sock);
	c->poll.data = c;
	(void)uv_prepare_init(cfg->loop, &c->flush); /* always 0 */
	c->flush.data = c;
	c->handles = 2;
	rc = uv_poll_start(&c->poll, UV_READABLE, on_poll);
	if (rc < 0) {
		chan_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}
