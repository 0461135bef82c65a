/* The zygote's socket: commands with ids, answers matched to them. */
#include "space/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

enum { ZYG_FDS = 250 };

struct zyg_wait {
	uint32_t id;
	unsigned n_left;
	zyg_done_fn done;
	void *ctx;
	UT_hash_handle hh;
};

static void answer_take(struct space *s, const struct zyg_msg *m, int fd)
{
	struct zyg_wait *w;
	HASH_FIND_INT(s->zyg_waits, &m->id, w);
	if (!w) {
		(void)close_fd(fd);
		return;
	}
	zyg_done_fn done = w->done;
	void *ctx = w->ctx;
	/* A fork that failed sends no second answer. */
	if (--w->n_left == 0 || m->result < 0) {
		HASH_DEL(s->zyg_waits, w);
		free(w);
	}
	done(ctx, m, fd);
}

static void zyg_readable(uv_poll_t *h, int status, int events)
{
	struct space *s = h->data;
	(void)status;
	(void)events;
	for (int i = 0; i < 64; i++) {
		struct zyg_msg m;
		char ctl[CMSG_SPACE(sizeof(int))];
		struct iovec iov = { &m, sizeof m };
		struct msghdr h2 = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl };
		ssize_t n = recvmsg(s->ends.sock, &h2, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0)
			return;
		if (n == 0) { /* pid 1 of the space is gone, and everything with it */
			log_error("the space has ended: its pid 1 is gone");
			(void)uv_poll_stop(h);
			return;
		}
		int fd = -1;
		struct cmsghdr *c = CMSG_FIRSTHDR(&h2);
		if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
		if (n != (ssize_t)sizeof m) {
			(void)close_fd(fd);
			continue;
		}
		if (m.op == ZYG_FORKED || m.op == ZYG_LISTENER || m.op == ZYG_KILLED || m.op == ZYG_PROC_FINISHED)
			answer_take(s, &m, fd);
		else
			(void)close_fd(fd); /* ZYG_EXITED: session roots are watched by pidfd */
	}
}

int zyg_start(struct space *s, struct err *e)
{
	int rc = uv_poll_init(s->loop, &s->zyg_poll, s->ends.sock);
	if (rc == 0) {
		s->zyg_poll.data = s;
		rc = uv_poll_start(&s->zyg_poll, UV_READABLE, zyg_readable);
	}
	return rc < 0 ? err_set(e, rc, "zygote socket: %s", uv_strerror(rc)) : 0;
}

int zyg_command(struct space *s, const struct zyg_cmd *c, const int *fds, size_t n_fds, unsigned n_answers, zyg_done_fn done, void *ctx)
{
	if (n_fds > ZYG_FDS)
		return -E2BIG;
	struct zyg_wait *w = malloc(sizeof *w);
	if (!w)
		return -ENOMEM;
	struct zyg_cmd copy = *c;
	copy.id = ++s->zyg_id;
	*w = (struct zyg_wait){ .id = copy.id, .n_left = n_answers, .done = done, .ctx = ctx };

	char ctl[CMSG_SPACE(ZYG_FDS * sizeof(int))];
	struct iovec iov = { &copy, sizeof copy };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n_fds) {
		memset(ctl, 0, sizeof ctl);
		h.msg_control = ctl;
		h.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *m = CMSG_FIRSTHDR(&h);
		m->cmsg_level = SOL_SOCKET;
		m->cmsg_type = SCM_RIGHTS;
		m->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(m), fds, n_fds * sizeof(int));
	}
	if (sendmsg(s->ends.sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		int rc = -errno;
		free(w);
		return rc;
	}
	HASH_ADD_INT(s->zyg_waits, id, w);
	return 0;
}

void zyg_end(struct space *s)
{
	struct zyg_wait *w, *tmp;
	HASH_ITER(hh, s->zyg_waits, w, tmp) {
		HASH_DEL(s->zyg_waits, w);
		free(w);
	}
}
