#include "keeper/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/log.h"

enum { STEP_MESSAGES = 256 };

int conn_open(struct conn *c, const char *who, struct store *store, const struct conn_ops *ops, void *ctx, int *ret_theirs)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	*c = (struct conn){ .sock = sv[0], .who = who, .store = store, .ops = ops, .ctx = ctx };
	*ret_theirs = sv[1];
	return 0;
}

void conn_close(struct conn *c)
{
	c->sock = close_fd(c->sock);
	wr_fini(&c->out);
	c->is_answering = 0;
}

short conn_events(const struct conn *c)
{
	return c->is_answering ? POLLOUT : POLLIN;
}

/* ---- answers ---- */

/* One at a time: it is encoded at once. */
static struct keeper_answer g_answer;

static void answer_fill(struct conn *c)
{
	const struct kept_fd *k = c->at;
	while (g_answer.n < KEEPER_BATCH && (k = store_next(c->store, k, c->prefix))) {
		(void)snprintf(g_answer.name[g_answer.n], KEEPER_NAME_SIZE, "%s", k->name);
		c->out_fds[g_answer.n++] = k->fd;
		c->at = k;
	}
	c->is_last = !k || !store_next(c->store, k, c->prefix);
}

static void answer_encode(struct conn *c, int status)
{
	g_answer.seq = c->seq;
	g_answer.status = status;
	g_answer.more = !c->is_last;
	c->n_out_fds = g_answer.n;
	wr_fini(&c->out);
	keeper_answer_encode(&c->out, &g_answer);
}

/* Makes and sends parts until the last is out or the program must read first. */
static void answer_send(struct conn *c)
{
	while (c->is_answering) {
		if (!c->out.n) {
			g_answer.n = 0;
			answer_fill(c);
			answer_encode(c, 0);
		}
		int rc = wr_done(&c->out);
		if (rc == 0)
			rc = keeper_msg_send(c->sock, c->out.p, c->out.n, c->out_fds, c->n_out_fds, MSG_DONTWAIT);
		if (rc == -EAGAIN)
			return;
		wr_fini(&c->out);
		if (rc == 0 && !c->is_last)
			continue;
		/* The program waits for the end: where that cannot be told because memory is short, its waiting ends by time. */
		c->is_answering = 0;
		if (rc < 0 && rc != -EPIPE && rc != -ECONNRESET) {
			log_error("answer to %s: %s", c->who, strerror(-rc));
			g_answer.n = 0;
			c->is_last = 1;
			answer_encode(c, rc);
			if (wr_done(&c->out) == 0)
				(void)keeper_msg_send(c->sock, c->out.p, c->out.n, NULL, 0, MSG_DONTWAIT);
			wr_fini(&c->out);
		}
	}
}

static void answer_each(struct conn *c, const struct keeper_request *r)
{
	c->is_answering = 1;
	c->seq = r->seq;
	c->at = NULL;
	memcpy(c->prefix, r->name, sizeof c->prefix);
	answer_send(c);
}

/* An answer of one part, with the name and its descriptor if fd >= 0. */
static void answer_one(struct conn *c, const struct keeper_request *r, int status, int fd)
{
	c->is_answering = 1;
	c->is_last = 1;
	c->seq = r->seq;
	g_answer.n = 0;
	if (fd >= 0) {
		memcpy(g_answer.name[0], r->name, KEEPER_NAME_SIZE);
		c->out_fds[0] = fd;
		g_answer.n = 1;
	}
	answer_encode(c, status);
	answer_send(c);
}

/* ---- requests ---- */

static void bad_message(struct conn *c, const char *why)
{
	if (!c->is_told)
		log_warn("a message of %s is thrown away: %s; more such are not told", c->who, why);
	c->is_told = 1;
}

/* Takes *fd if it keeps it. */
static void put(struct conn *c, const struct keeper_request *r, int *fd)
{
	int rc = *fd < 0 ? -EMFILE : store_put(c->store, r->name, *fd);
	if (rc == 0) {
		*fd = -1;
		return;
	}
	if (!c->refused)
		log_error("%s: \"%s\" is not kept: %s (%u are)", c->who, r->name, strerror(-rc), store_count(c->store));
	c->refused = 1;
}

static void sync_answer(struct conn *c, const struct keeper_request *r)
{
	int status = c->refused ? -EDQUOT : 0;
	c->refused = 0;
	answer_one(c, r, status, -1);
}

static void take_answer(struct conn *c, const struct keeper_request *r)
{
	int fd = store_find(c->store, r->name);
	answer_one(c, r, fd < 0 ? fd : 0, fd);
}

/* *fd: the message's descriptor or -1; it is closed by the caller if it is still there afterwards. */
static void request_do(struct conn *c, const struct keeper_request *r, int *fd)
{
	switch (r->op) {
	case KEEPER_PUT:
		put(c, r, fd);
		break;
	case KEEPER_DROP:
		store_drop(c->store, r->name);
		break;
	case KEEPER_READY:
		c->ops->on_ready(c->ctx);
		break;
	case KEEPER_TAKE:
		take_answer(c, r);
		break;
	case KEEPER_EACH:
		answer_each(c, r);
		break;
	case KEEPER_SYNC:
		sync_answer(c, r);
		break;
	case KEEPER_SPACE:
		answer_one(c, r, c->ops->on_space(c->ctx, r), -1);
		break;
	default: /* unknown; see the decoder */
		answer_one(c, r, -EOPNOTSUPP, -1);
		break;
	}
}

static void message_take(struct conn *c, const uint8_t *p, size_t n, int *fds, unsigned n_fds, int lost)
{
	static struct keeper_request r;
	int rc = keeper_request_decode(&r, p, n);
	if (rc == -EBADMSG)
		bad_message(c, "it is damaged");
	else if (n_fds > 1 || (n_fds == 1 && rc == 0 && r.op != KEEPER_PUT))
		bad_message(c, "it has too many descriptors");
	else if (rc == 0 && r.op == KEEPER_PUT && n_fds == 0 && !lost)
		bad_message(c, "it has no descriptor");
	else
		request_do(c, &r, fds);
}

void conn_step(struct conn *c, int drain)
{
	static uint8_t bytes[KEEPER_REQUEST_MAX];
	int fds[KEEPER_FDS_PER_MSG];

	if (drain && c->sock >= 0)
		(void)shutdown(c->sock, SHUT_WR); /* nobody reads answers any more: they fail at once */
	if (c->is_answering)
		answer_send(c);
	for (int i = 0; c->sock >= 0 && (drain || (i < STEP_MESSAGES && !c->is_answering)); i++) {
		unsigned n_fds;
		int lost;
		fds[0] = -1;
		int n = keeper_msg_recv(c->sock, bytes, sizeof bytes, fds, &n_fds, &lost, MSG_DONTWAIT);
		if (n == -EAGAIN)
			return;
		if (n == -EMSGSIZE) {
			bad_message(c, "it is too long");
			continue;
		}
		if (n <= 0) {
			conn_close(c);
			return;
		}
		message_take(c, bytes, (size_t)n, fds, n_fds, lost);
		for (unsigned k = 0; k < n_fds; k++)
			fds[k] = close_fd(fds[k]);
	}
}
