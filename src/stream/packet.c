#include "stream/packet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

union fd_space {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static void head_drop(struct packet_queue *q)
{
	struct packet *p = q->head;
	q->head = p->next;
	if (!q->head)
		q->tail = NULL;
	q->n--;
	wr_fini(&p->w);
	(void)close_fd(p->fd);
	free(p);
}

void packet_queue_fini(struct packet_queue *q)
{
	while (q->head)
		head_drop(q);
}

int packet_add(struct packet_queue *q, struct wr *w, int fd)
{
	struct packet *p = calloc(1, sizeof *p);
	if (!p || wr_done(w) < 0) {
		free(p);
		wr_fini(w);
		(void)close_fd(fd);
		return -ENOMEM;
	}
	p->w = *w;
	*w = (struct wr){ 0 };
	p->fd = fd;
	if (q->tail)
		q->tail->next = p;
	else
		q->head = p;
	q->tail = p;
	q->n++;
	return 0;
}

static int packet_send(int sock, const struct packet *p)
{
	union fd_space c = { .buf = { 0 } };
	struct iovec v = { p->w.p, p->w.n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	if (p->fd >= 0) {
		m.msg_control = c.buf;
		m.msg_controllen = sizeof c.buf;
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof p->fd);
		memcpy(CMSG_DATA(h), &p->fd, sizeof p->fd);
	}
	ssize_t n;
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int packet_flush(struct packet_queue *q, int sock)
{
	while (q->head) {
		int rc = packet_send(sock, q->head);
		if (rc == -EAGAIN || rc == -ENOBUFS || rc == -ETOOMANYREFS)
			return 1;
		if (rc < 0)
			return rc;
		head_drop(q);
	}
	return 0;
}

/* Those that came are ours from the first moment: more than the one that may come are closed. The kernel hands out as many as fit into the
 * room for them, which is rounded up. 0, or -EBADMSG. */
static int fds_take(struct msghdr *m, int *ret_fd)
{
	int rc = m->msg_flags & MSG_CTRUNC ? -EBADMSG : 0;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t n = h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS ? (h->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			if (*ret_fd >= 0) {
				(void)close(fd);
				rc = -EBADMSG;
			} else {
				*ret_fd = fd;
			}
		}
	}
	if (rc < 0)
		*ret_fd = close_fd(*ret_fd);
	return rc;
}

ssize_t packet_recv(int sock, uint8_t *p, size_t n, int *ret_fd)
{
	union fd_space c;
	struct iovec v = { p, n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof c.buf };
	ssize_t rc;
	*ret_fd = -1;
	do
		rc = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	int fds = fds_take(&m, ret_fd);
	if (fds < 0)
		return fds;
	if (m.msg_flags & MSG_TRUNC) {
		*ret_fd = close_fd(*ret_fd);
		return -EMSGSIZE;
	}
	return rc;
}
