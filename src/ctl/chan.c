#include "ctl/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"

/* How descriptors find their message: the k-th group of at most FDS_PER_SEND travels with the k-th byte of the line, each group by a
 * sendmsg of its own. The kernel hands a group out with the byte it was sent with, and never merges two groups into one recvmsg. So
 * when the line feed of a message has been read, so have all its descriptors, and none of the next message before its first byte. What
 * the sender says in "fds" is then checked against what is there. */

enum {
	FDS_PER_SEND = 253, /* SCM_MAX_FD */
	READ_SIZE = 64 << 10,
};

struct chan_out {
	struct chan_out *prev, *next;
	int *fds; /* owned */
	size_t n_fds, fds_sent;
	size_t n, sent;
	char text[];
};

static void fds_close(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fds[i] = close_fd(fds[i]);
}

void ctl_msg_fini(struct ctl_msg *m)
{
	json_decref(m->json);
	fds_close(m->fds, m->n_fds);
	free(m->fds);
	*m = (struct ctl_msg){};
}

/* Length of the UTF-8 character at p (no surrogates, nothing over-long), 0 when it is none. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	static const struct {
		unsigned char mask, lead;
		unsigned min;
	} forms[] = { { 0x80, 0, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };

	for (size_t k = 0; k < 4; k++) {
		if ((p[0] & forms[k].mask) != forms[k].lead)
			continue;
		if (k + 1 > n)
			return 0;
		unsigned v = p[0] & (unsigned char)~forms[k].mask;
		for (size_t i = 1; i <= k; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return 0;
			v = v << 6 | (p[i] & 0x3f);
		}
		return v < forms[k].min || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff) ? 0 : k + 1;
	}
	return 0;
}

json_t *ctl_json_text(const char *bytes, size_t n, size_t max)
{
	if (n > max)
		n = max;
	_cleanup_(free_p) char *text = malloc(n + 1);
	if (!text)
		return NULL;
	const unsigned char *p = (const unsigned char *)bytes;
	for (size_t i = 0; i < n;) {
		size_t k = p[i] < 0x20 || p[i] == 0x7f ? 0 : utf8_len(p + i, n - i);
		if (k == 0)
			text[i] = '?';
		else
			memcpy(text + i, p + i, k);
		i += k ? k : 1;
	}
	return json_stringn_nocheck(text, n);
}

int chan_init(struct chan *c, int fd, size_t in_max)
{
	*c = (struct chan){ .fd = fd, .in_max = in_max };
	int fl = fcntl(fd, F_GETFL);
	if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static void out_free(struct chan_out *o)
{
	fds_close(o->fds, o->n_fds);
	free(o->fds);
	free(o);
}

void chan_fini(struct chan *c)
{
	struct chan_out *o, *tmp;
	DL_FOREACH_SAFE(c->out, o, tmp)
	{
		DL_DELETE(c->out, o);
		out_free(o);
	}
	fds_close(c->fds, c->n_fds);
	free(c->fds);
	free(c->in);
	(void)close_fd(c->fd);
	*c = (struct chan){ .fd = -1 };
}

static int fds_reserve(struct chan *c, size_t more)
{
	if (c->n_fds + more > CTL_FDS_MAX + FDS_PER_SEND) /* one message's, and the first group of the next */
		return -EBADMSG;
	if (c->n_fds + more <= c->fds_cap)
		return 0;
	size_t cap = c->n_fds + more + 8;
	int *p = realloc(c->fds, cap * sizeof *p);
	if (!p)
		return -ENOMEM;
	c->fds = p;
	c->fds_cap = cap;
	return 0;
}

/* Takes the descriptors out of a received header; they are ours from the first moment, so all are closed on a failure. */
static int fds_take(struct chan *c, struct msghdr *mh)
{
	int rc = mh->msg_flags & MSG_CTRUNC ? -EMFILE : 0;
	for (struct cmsghdr *cm = CMSG_FIRSTHDR(mh); cm; cm = CMSG_NXTHDR(mh, cm)) {
		if (cm->cmsg_level != SOL_SOCKET || cm->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (cm->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[FDS_PER_SEND];
		if (n > FDS_PER_SEND)
			n = FDS_PER_SEND; /* more than the kernel ever sends */
		memcpy(fds, CMSG_DATA(cm), n * sizeof(int));
		if (rc == 0)
			rc = fds_reserve(c, n);
		if (rc < 0) {
			fds_close(fds, n);
			continue;
		}
		memcpy(c->fds + c->n_fds, fds, n * sizeof(int));
		c->n_fds += n;
	}
	return rc;
}

static int in_reserve(struct chan *c, size_t more)
{
	if (c->in_at > 0 && (c->in_at == c->in_n || c->in_n + more > c->in_cap)) {
		memmove(c->in, c->in + c->in_at, c->in_n - c->in_at);
		c->in_n -= c->in_at;
		c->in_at = 0;
	}
	if (c->in_n + more <= c->in_cap)
		return 0;
	size_t cap = c->in_cap ? c->in_cap * 2 : 4096;
	while (cap < c->in_n + more)
		cap *= 2;
	char *p = realloc(c->in, cap);
	if (!p)
		return -ENOMEM;
	c->in = p;
	c->in_cap = cap;
	return 0;
}

int chan_fill(struct chan *c)
{
	static const size_t first = 4096;
	size_t held = c->in_n - c->in_at;
	size_t want = held < first ? first : READ_SIZE; /* most messages are short: do not hold 64 KiB for each connection */
	if (held > c->in_max)
		return 0; /* chan_next will refuse it */
	int rc = in_reserve(c, want);
	if (rc < 0)
		return rc;

	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * FDS_PER_SEND)];
	} ctl;
	struct iovec iov = { c->in + c->in_n, want };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof ctl.buf };
	ssize_t n = recvmsg(c->fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	rc = fds_take(c, &mh);
	if (rc < 0)
		return rc;
	if (n == 0) {
		c->eof = 1;
		return CHAN_EOF;
	}
	c->in_n += (size_t)n;
	return 0;
}

static int msg_parse(struct chan *c, const char *line, size_t n, struct ctl_msg *ret)
{
	_cleanup_(ctl_msg_fini) struct ctl_msg m = { .n_bytes = n + 1 };
	m.json = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(m.json))
		return -EBADMSG;

	json_t *fds = json_object_get(m.json, "fds");
	if (fds) {
		json_int_t want = json_integer_value(fds);
		if (!json_is_integer(fds) || want < 0 || want > CTL_FDS_MAX || (size_t)want > c->n_fds)
			return -EBADMSG;
		m.n_fds = (size_t)want;
	}
	if (m.n_fds > 0) {
		m.fds = malloc(m.n_fds * sizeof *m.fds);
		if (!m.fds) {
			m.n_fds = 0;
			return -ENOMEM;
		}
		memcpy(m.fds, c->fds, m.n_fds * sizeof *m.fds);
		c->n_fds -= m.n_fds;
		memmove(c->fds, c->fds + m.n_fds, c->n_fds * sizeof *c->fds);
	}
	*ret = m;
	m = (struct ctl_msg){};
	return 1;
}

int chan_next(struct chan *c, struct ctl_msg *ret)
{
	size_t held = c->in_n - c->in_at;
	if (held == 0)
		return c->n_fds > 0 ? -EBADMSG : 0;

	const char *line = c->in + c->in_at;
	const char *end = memchr(line + c->in_seen, '\n', held - c->in_seen);
	if (!end) {
		c->in_seen = held;
		return held >= c->in_max ? -EMSGSIZE : 0;
	}
	size_t n = (size_t)(end - line);
	if (n >= c->in_max)
		return -EMSGSIZE;
	int rc = msg_parse(c, line, n, ret);
	c->in_at += n + 1;
	c->in_seen = 0;
	if (c->in_at == c->in_n) {
		c->in_at = c->in_n = 0;
		if (c->in_cap > READ_SIZE) { /* a long message was here: give the memory back */
			free(c->in);
			c->in = NULL;
			c->in_cap = 0;
		}
	}
	return rc;
}

size_t chan_held(const struct chan *c)
{
	return c->in_n - c->in_at + c->n_fds * 64;
}

static int fds_dup(struct chan_out *o, const int *fds, size_t n_fds)
{
	if (n_fds == 0)
		return 0;
	o->fds = malloc(n_fds * sizeof *o->fds);
	if (!o->fds)
		return -ENOMEM;
	for (size_t i = 0; i < n_fds; i++) {
		o->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (o->fds[i] < 0)
			return -errno;
		o->n_fds = i + 1;
	}
	return 0;
}

int chan_put(struct chan *c, json_t *json, const int *fds, size_t n_fds)
{
	if (n_fds > CTL_FDS_MAX)
		return -EMSGSIZE;
	int rc = n_fds > 0 ? json_object_set_new(json, "fds", json_integer((json_int_t)n_fds)) : 0;
	if (rc < 0)
		return -ENOMEM;
	if (n_fds == 0)
		(void)json_object_del(json, "fds"); /* fails when it is not there: fine */

	const size_t flags = JSON_COMPACT;
	size_t n = json_dumpb(json, NULL, 0, flags);
	if (n == 0)
		return -ENOMEM;
	if (n + 1 > CTL_LINE_MAX)
		return -EMSGSIZE;
	if (c->out_n + n + 1 > CTL_QUEUE_MAX)
		return -ENOBUFS;

	struct chan_out *o = calloc(1, sizeof *o + n + 1);
	if (!o)
		return -ENOMEM;
	(void)json_dumpb(json, o->text, n, flags); /* the size was asked above */
	o->text[n] = '\n';
	o->n = n + 1;
	rc = fds_dup(o, fds, n_fds);
	if (rc < 0) {
		out_free(o);
		return rc;
	}
	DL_APPEND(c->out, o);
	c->out_n += o->n;
	return 0;
}

/* One sendmsg: a group of descriptors with one byte, or all remaining bytes when no descriptors are left. */
static ssize_t out_send(int fd, const struct chan_out *o, size_t *ret_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int) * FDS_PER_SEND)];
	} ctl;
	size_t n_fds = o->n_fds - o->fds_sent;
	if (n_fds > FDS_PER_SEND)
		n_fds = FDS_PER_SEND;
	union {
		const char *in;
		char *out;
	} text = { .in = o->text + o->sent }; /* iovec has no const */
	struct iovec iov = { text.out, n_fds > 0 ? 1 : o->n - o->sent };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n_fds > 0) {
		memset(&ctl, 0, sizeof ctl);
		mh.msg_control = ctl.buf;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cm), o->fds + o->fds_sent, sizeof(int) * n_fds);
	}
	*ret_fds = n_fds;
	return sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int chan_flush(struct chan *c)
{
	while (c->out) {
		struct chan_out *o = c->out;
		size_t n_fds = 0;
		ssize_t n = out_send(c->fd, o, &n_fds);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return CHAN_MORE;
		if (n < 0)
			return -errno;
		fds_close(o->fds + o->fds_sent, n_fds);
		o->fds_sent += n_fds;
		o->sent += (size_t)n;
		c->out_n -= (size_t)n;
		if (o->sent == o->n) {
			DL_DELETE(c->out, o);
			out_free(o);
		}
	}
	return 0;
}
