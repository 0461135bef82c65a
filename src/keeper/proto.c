#include "keeper/proto.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "wire/rd.h"

void keeper_request_encode(struct wr *w, const struct keeper_request *r)
{
	wr_u8(w, r->op);
	wr_u32(w, r->seq);
	switch (r->op) {
	case KEEPER_PUT:
	case KEEPER_DROP:
	case KEEPER_TAKE:
	case KEEPER_EACH:
		wr_str(w, r->name);
		break;
	case KEEPER_SPACE:
		wr_i32(w, r->init);
		wr_u8(w, r->freezer_v2);
		wr_str(w, r->cgroup);
		wr_str(w, r->lease);
		break;
	default:
		break;
	}
}

static void space_decode(struct keeper_request *q, struct rd *r)
{
	q->init = rd_i32(r);
	q->freezer_v2 = rd_u8(r);
	rd_str(r, q->cgroup, sizeof q->cgroup);
	rd_str(r, q->lease, sizeof q->lease);
	if (q->init < 0 || q->init == 1 || q->freezer_v2 > 1 || (*q->cgroup && *q->cgroup != '/') || (*q->lease && *q->lease != '/'))
		rd_fail(r);
}

int keeper_request_decode(struct keeper_request *ret, const void *p, size_t n)
{
	struct rd r;
	rd_init(&r, p, n);
	memset(ret, 0, sizeof *ret);
	ret->op = rd_u8(&r);
	ret->seq = rd_u32(&r);
	switch (ret->op) {
	case KEEPER_PUT:
	case KEEPER_DROP:
	case KEEPER_TAKE:
		rd_str(&r, ret->name, sizeof ret->name);
		if (!*ret->name)
			rd_fail(&r);
		break;
	case KEEPER_EACH:
		rd_str(&r, ret->name, sizeof ret->name);
		break;
	case KEEPER_READY:
	case KEEPER_SYNC:
		break;
	case KEEPER_SPACE:
		space_decode(ret, &r);
		break;
	default:
		return r.bad ? -EBADMSG : -EOPNOTSUPP;
	}
	return rd_done(&r);
}

void keeper_answer_encode(struct wr *w, const struct keeper_answer *a)
{
	wr_u8(w, KEEPER_ANSWER);
	wr_u32(w, a->seq);
	wr_i32(w, a->status);
	wr_u8(w, a->more);
	wr_u32(w, a->n);
	for (uint32_t i = 0; i < a->n; i++)
		wr_str(w, a->name[i]);
}

int keeper_answer_decode(struct keeper_answer *ret, const void *p, size_t n)
{
	struct rd r;
	rd_init(&r, p, n);
	if (rd_u8(&r) != KEEPER_ANSWER)
		rd_fail(&r);
	ret->seq = rd_u32(&r);
	ret->status = rd_i32(&r);
	ret->more = rd_u8(&r);
	ret->n = rd_count(&r, KEEPER_BATCH, 4);
	for (uint32_t i = 0; i < ret->n; i++)
		rd_str(&r, ret->name[i], sizeof ret->name[i]);
	if (ret->status > 0 || ret->more > 1)
		rd_fail(&r);
	return rd_done(&r);
}

int keeper_msg_send(int sock, const void *p, size_t n, const int *fds, unsigned n_fds, int flags)
{
	union {
		struct cmsghdr h;
		char bytes[CMSG_SPACE(sizeof(int) * KEEPER_BATCH)];
	} control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > KEEPER_BATCH)
		return -EINVAL;
	if (n_fds) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		control.h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int) * n_fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.h), fds, sizeof(int) * n_fds);
	}
	ssize_t rc;
	do
		rc = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* The kernel joins nothing on such a socket, so there is one block of descriptors; more are taken all the same, and closed. */
static void fds_collect(struct msghdr *m, int *fds, unsigned *n_fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (*n_fds < KEEPER_FDS_PER_MSG)
				fds[(*n_fds)++] = fd;
			else
				(void)close_fd(fd);
		}
	}
}

int keeper_msg_recv(int sock, void *p, size_t size, int fds[static KEEPER_FDS_PER_MSG], unsigned *ret_n_fds, int *ret_lost, int flags)
{
	union {
		struct cmsghdr h;
		char bytes[CMSG_SPACE(sizeof(int) * KEEPER_FDS_PER_MSG)];
	} control;
	struct iovec iov = { .iov_base = p, .iov_len = size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };

	*ret_n_fds = 0;
	*ret_lost = 0;
	ssize_t n;
	do
		n = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	fds_collect(&m, fds, ret_n_fds);
	*ret_lost = (m.msg_flags & MSG_CTRUNC) != 0;
	if (m.msg_flags & MSG_TRUNC) {
		while (*ret_n_fds)
			(void)close_fd(fds[--*ret_n_fds]);
		return -EMSGSIZE;
	}
	return (int)n;
}
