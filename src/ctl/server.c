#include "ctl/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "ctl/chan.h"
#include "ctl/peer.h"

/* A connection's life: open -> closing (reads nothing more; sends what is queued, at most LINGER_MS) -> ended (on_close has run,
 * its loop handles close; then it is freed). An end is never brought about within a call of the user of this module: those only
 * start the timer. */

enum {
	CONNS_USER = 1024,
	CONNS_TOTAL = 4096,
	CONN_REQS = 16,
	USER_BYTES = 32 << 20, /* of requests */
	BYTE_COST = 64, /* bytes of memory of a parsed byte, at the worst ("{}," takes 200 for 3) */
	USER_OUT = 64 << 20,  /* bytes of answers and events that wait for all clients of a user */
	OUT_PAUSE = 256 << 10, /* with more that waits for it, a client's requests have to wait too */
	LINGER_MS = 5000,
	UNFINISHED_MS = 10000, /* from the beginning of a message to its end */
	ACCEPTS_PER_TURN = 32,
	ACCEPT_PAUSE_MS = 100, /* after a failed accept: no descriptors left */
};

/* What one uid makes us keep. Counted over all its connections and requests; freed with the last of them. */
struct user {
	uid_t uid;
	unsigned refs, conns;
	size_t bytes, out; /* of requests, and of what waits to be sent */
	struct ctl_server *server; /* NULL once that is gone */
	UT_hash_handle hh;
};

struct handler {
	const char *name; /* borrowed */
	ctl_fn fn;
	void *ctx;
	UT_hash_handle hh;
};

struct ctl_server {
	uv_loop_t *loop;
	int fd; /* owned: listens */
	uv_poll_t poll;
	uv_timer_t pause;
	char *path; /* owned */
	struct stat bound; /* the socket file that is ours */
	struct handler *handlers;
	struct user *users;
	struct ctl_conn *conns;
	unsigned n_conns, max_user, max_total;
	uint64_t unfinished_ms;
	unsigned n_handles; /* loop handles not yet closed, of the server and of its connections */
	void (*closed)(void *ctx);
	void *closed_ctx;
	uint64_t said_ms; /* when the last refusal was logged */
	unsigned unsaid;
};

enum conn_state { CONN_OPEN, CONN_CLOSING, CONN_ENDED };

struct ctl_conn {
	struct ctl_conn *prev, *next;
	struct ctl_server *server;
	enum conn_state state;
	struct chan chan;
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned n_handles;
	struct ctl_peer peer;
	struct user *user;
	size_t charged, out_charged; /* for unfinished messages, and for what waits to be sent */
	int is_unfinished; /* a message has begun: the timer waits for its end */
	int is_paused;     /* messages that came may wait in chan for room */
	struct ctl_req *reqs;
	unsigned n_reqs;
	void (*on_close)(void *ctx, struct ctl_conn *conn);
	void *on_close_ctx;
};

struct ctl_req {
	struct ctl_req *prev, *next;
	struct ctl_conn *conn; /* NULL: gone */
	struct ctl_peer peer;  /* its own copy: the connection may go first */
	struct user *user;
	size_t charged;
	struct ctl_msg msg;
};

/* ---- users ---- */

static struct user *user_get(struct ctl_server *s, uid_t uid)
{
	struct user *u = NULL;
	HASH_FIND(hh, s->users, &uid, sizeof uid, u);
	if (!u) {
		u = calloc(1, sizeof *u);
		if (!u)
			return NULL;
		u->uid = uid;
		u->server = s;
		HASH_ADD(hh, s->users, uid, sizeof u->uid, u);
	}
	u->refs++;
	return u;
}

static void user_put(struct user *u)
{
	if (--u->refs > 0)
		return;
	if (u->server)
		HASH_DELETE(hh, u->server->users, u);
	free(u);
}

/* ---- connections ---- */

static void conn_watch(struct ctl_conn *c);

static void handle_gone(struct ctl_server *s)
{
	if (--s->n_handles > 0)
		return;
	struct handler *h, *tmp;
	HASH_ITER(hh, s->handlers, h, tmp) {
		HASH_DEL(s->handlers, h);
		free(h);
	}
	struct user *u, *u_tmp;
	HASH_ITER(hh, s->users, u, u_tmp) {
		HASH_DEL(s->users, u);
		u->server = NULL;
	}
	void (*closed)(void *ctx) = s->closed;
	void *ctx = s->closed_ctx;
	free(s->path);
	free(s);
	if (closed)
		closed(ctx);
}

static void conn_handle_closed(uv_handle_t *h)
{
	struct ctl_conn *c = h->data;
	struct ctl_server *s = c->server;
	if (--c->n_handles == 0) {
		chan_fini(&c->chan);
		free(c);
	}
	handle_gone(s);
}

static void conn_charge(struct ctl_conn *c, size_t bytes)
{
	c->user->bytes += bytes - c->charged;
	c->charged = bytes;
}

static void conn_charge_out(struct ctl_conn *c)
{
	c->user->out += c->chan.out_n - c->out_charged;
	c->out_charged = c->chan.out_n;
}

static void conn_end(struct ctl_conn *c)
{
	if (c->state == CONN_ENDED)
		return;
	c->state = CONN_ENDED;
	(void)uv_poll_stop(&c->poll);
	struct ctl_req *r, *tmp;
	DL_FOREACH_SAFE(c->reqs, r, tmp) {
		DL_DELETE(c->reqs, r);
		r->conn = NULL;
	}
	if (c->on_close)
		c->on_close(c->on_close_ctx, c);
	(void)shutdown(c->chan.fd, SHUT_RDWR); /* a peer that shares the socket learns it now; a dead one is fine too */
	conn_charge(c, 0);
	c->user->out -= c->out_charged;
	c->user->conns--;
	user_put(c->user);
	ctl_peer_fini(&c->peer);
	DL_DELETE(c->server->conns, c);
	c->server->n_conns--;
	uv_close((uv_handle_t *)&c->poll, conn_handle_closed);
	uv_close((uv_handle_t *)&c->timer, conn_handle_closed);
}

static void conn_timer(uv_timer_t *t)
{
	conn_end(t->data);
}

/* Ends on a later turn: within ms, earlier when everything has been sent. */
static void conn_closing(struct ctl_conn *c, uint64_t ms)
{
	if (c->state == CONN_ENDED)
		return;
	c->state = CONN_CLOSING;
	(void)uv_timer_start(&c->timer, conn_timer, ms, 0); /* fails only without a callback */
	if (ms > 0)
		conn_watch(c);
}

static int conn_has_room(const struct ctl_conn *c)
{
	return c->n_reqs < CONN_REQS && c->chan.out_n < OUT_PAUSE;
}

static void conn_resume(uv_timer_t *t);

/* Puts what waits into the socket. Never ends the connection itself. */
static void conn_flush(struct ctl_conn *c)
{
	int rc = chan_flush(&c->chan);
	conn_charge_out(c);
	if (rc < 0) {
		conn_closing(c, 0);
	} else if (rc == 0 && (c->state == CONN_CLOSING || (c->chan.eof && c->n_reqs == 0 && !c->is_paused))) {
		conn_closing(c, 0);
	} else {
		/* Room was made: messages that were read but left waiting for it are next. The poll does not tell of those. */
		if (c->state == CONN_OPEN && c->is_paused && conn_has_room(c))
			(void)uv_timer_start(&c->timer, conn_resume, 0, 0); /* fails only without a callback */
		conn_watch(c);
	}
}

static int conn_send(struct ctl_conn *c, json_t *json, const int *fds, size_t n_fds)
{
	if (c->state != CONN_OPEN)
		return -ECONNRESET;
	if (c->user->out > USER_OUT)
		return -ENOBUFS;
	int rc = chan_put(&c->chan, json, fds, n_fds);
	if (rc < 0)
		return rc;
	conn_flush(c);
	return 0;
}

static json_t *failure_json(int code, const char *at, const char *words)
{
	json_t *j = json_pack("{s:b, s:i, s:o*}", "ok", 0, "errno", code < 0 ? -code : code, "error",
			      ctl_json_text(words, strlen(words), 1024));
	if (j && at)
		(void)json_object_set_new(j, "at", json_string(at)); /* without memory the answer says less */
	return j;
}

static void refuse_log(struct ctl_server *s, const struct ctl_peer *p, const char *why)
{
	uint64_t now = clock_ms();
	if (s->said_ms && now - s->said_ms < 1000) {
		s->unsaid++;
		return;
	}
	log_warn("control socket: pid=%d uid=%u: %s; connection closed (%u more like this not logged)", p->pid, p->uid, why, s->unsaid);
	s->said_ms = now;
	s->unsaid = 0;
}

/* The peer broke the rules: tell it, and close. */
static void conn_refuse(struct ctl_conn *c, int rc)
{
	const char *why = rc == -EBADMSG    ? "malformed message"
			  : rc == -EMSGSIZE ? "message too long"
			  : rc == -EDQUOT   ? "too much unanswered of this user"
			  : rc == -EMFILE   ? "no room for the descriptors that came along"
			  : rc == -ETIMEDOUT ? "a message was begun and not finished"
					    : strerror(-rc);
	refuse_log(c->server, &c->peer, why);
	json_t *j = failure_json(rc, NULL, why);
	if (j && chan_put(&c->chan, j, NULL, 0) == 0)
		(void)chan_flush(&c->chan); /* as far as it goes: the peer is at fault */
	json_decref(j);
	c->chan.in_at = c->chan.in_n = 0; /* nothing of it is looked at any more */
	conn_closing(c, c->chan.out ? LINGER_MS : 0);
}

static void req_free(struct ctl_req *r)
{
	if (r->conn) {
		DL_DELETE(r->conn->reqs, r);
		r->conn->n_reqs--;
	}
	r->user->bytes -= r->charged;
	user_put(r->user);
	ctl_peer_fini(&r->peer);
	ctl_msg_fini(&r->msg);
	free(r);
}

static int req_new(struct ctl_conn *c, struct ctl_msg *m, struct ctl_req **ret)
{
	size_t cost = m->n_bytes * BYTE_COST + m->n_fds * 4096;
	if (c->user->bytes + cost > USER_BYTES)
		return -EDQUOT;
	struct ctl_req *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	int rc = ctl_peer_copy(&c->peer, &r->peer);
	if (rc < 0) {
		free(r);
		return rc;
	}
	r->msg = *m;
	*m = (struct ctl_msg){};
	r->conn = c;
	r->user = c->user;
	r->user->refs++;
	r->charged = cost;
	r->user->bytes += cost;
	DL_APPEND(c->reqs, r);
	c->n_reqs++;
	*ret = r;
	return 0;
}

static int msg_dispatch(struct ctl_conn *c, struct ctl_msg *m)
{
	json_t *id = json_object_get(m->json, "id");
	const char *cmd = json_string_value(json_object_get(m->json, "cmd"));
	if (!cmd || (id && !json_is_integer(id)))
		return -EBADMSG;

	struct ctl_req *r = NULL;
	int rc = req_new(c, m, &r);
	if (rc < 0)
		return rc;
	struct handler *h = NULL;
	HASH_FIND_STR(c->server->handlers, cmd, h);
	if (h)
		h->fn(h->ctx, r);
	else
		ctl_fail(r, ENOSYS, "this pandod knows no request \"%.40s\"", cmd);
	return 0;
}

static void conn_unfinished(uv_timer_t *t)
{
	conn_refuse(t->data, -ETIMEDOUT);
}

/* A message that has begun must come to its end: a connection can be kept open by a descriptor of its own other end that came with one,
 * so that its end is never seen. is_new: it is another one than before. */
static void conn_time(struct ctl_conn *c, int is_new)
{
	int is_unfinished = !c->is_paused && !c->chan.eof && chan_held(&c->chan) > 0;
	if (is_unfinished && (is_new || !c->is_unfinished))
		(void)uv_timer_start(&c->timer, conn_unfinished, c->server->unfinished_ms, 0); /* fails only without a callback */
	else if (!is_unfinished && c->is_unfinished)
		(void)uv_timer_stop(&c->timer); /* always 0 */
	c->is_unfinished = is_unfinished;
}

static void conn_read(struct ctl_conn *c)
{
	int had = 0;
	int fill = chan_fill(&c->chan);
	if (fill < 0 && fill != -EAGAIN) {
		if (fill == -EBADMSG || fill == -EMFILE)
			conn_refuse(c, fill);
		else
			conn_closing(c, 0);
		return;
	}
	c->is_paused = 0;
	while (c->state == CONN_OPEN) {
		_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
		c->is_paused = !conn_has_room(c);
		if (c->is_paused)
			break;
		int rc = chan_next(&c->chan, &m);
		had += rc > 0;
		if (rc > 0)
			rc = msg_dispatch(c, &m);
		else if (rc == 0)
			break;
		if (rc < 0) {
			conn_refuse(c, rc);
			return;
		}
	}
	if (c->state != CONN_OPEN)
		return;
	conn_time(c, had);
	conn_charge(c, chan_held(&c->chan) * BYTE_COST);
	if (c->user->bytes > USER_BYTES)
		conn_refuse(c, -EDQUOT);
	else
		conn_flush(c); /* also sees an end of the stream without requests under way */
}

static void conn_event(uv_poll_t *p, int status, int events)
{
	struct ctl_conn *c = p->data;
	if (status < 0) {
		conn_end(c);
		return;
	}
	if (c->state == CONN_OPEN && (events & (UV_READABLE | UV_DISCONNECT)) && !c->chan.eof)
		conn_read(c);
	else if (c->state != CONN_ENDED)
		conn_flush(c);
}

static void conn_watch(struct ctl_conn *c)
{
	int events = c->chan.out ? UV_WRITABLE : 0;
	if (c->state == CONN_OPEN && !c->chan.eof && conn_has_room(c))
		events |= UV_READABLE;
	if (c->state == CONN_ENDED)
		return;
	if (uv_poll_start(&c->poll, events, conn_event) < 0)
		conn_closing(c, 0);
}

static void conn_resume(uv_timer_t *t)
{
	struct ctl_conn *c = t->data;
	if (c->state == CONN_OPEN)
		conn_read(c);
}

/* ---- accepting ---- */

static void conn_start(struct ctl_server *s, int fd, const struct ctl_peer *peer, struct user *u)
{
	struct ctl_conn *c = calloc(1, sizeof *c);
	if (!c || chan_init(&c->chan, fd, CTL_REQUEST_MAX) < 0 || uv_poll_init(s->loop, &c->poll, fd) < 0) {
		struct ctl_peer p = *peer;
		ctl_peer_fini(&p);
		user_put(u);
		free(c);
		(void)close_fd(fd);
		return;
	}
	(void)uv_timer_init(s->loop, &c->timer); /* always 0 */
	c->poll.data = c->timer.data = c;
	c->n_handles = 2;
	s->n_handles += 2;
	c->server = s;
	c->peer = *peer;
	c->user = u;
	u->conns++;
	DL_APPEND(s->conns, c);
	s->n_conns++;
	conn_watch(c);
}

/* Too many: one line that says so, if the socket takes it at once (it does: it is empty). */
static void conn_too_many(struct ctl_server *s, int fd, const struct ctl_peer *p)
{
	static const char line[] = "{\"ok\":false,\"errno\":11,\"error\":\"too many connections to the control socket\"}\n";
	refuse_log(s, p, "too many connections");
	(void)send(fd, line, sizeof line - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void accepted(struct ctl_server *s, int fd)
{
	struct ctl_peer peer;
	struct user *u = NULL;
	if (ctl_peer_read(fd, &peer) == 0)
		u = user_get(s, peer.uid);
	if (!u) {
		ctl_peer_fini(&peer);
		(void)close_fd(fd);
		return;
	}
	if (u->conns >= s->max_user || s->n_conns >= s->max_total) {
		conn_too_many(s, fd, &peer);
		ctl_peer_fini(&peer);
		user_put(u);
		(void)close_fd(fd);
		return;
	}
	conn_start(s, fd, &peer, u);
}

static void server_event(uv_poll_t *p, int status, int events);

static void server_resume(uv_timer_t *t)
{
	struct ctl_server *s = t->data;
	(void)uv_poll_start(&s->poll, UV_READABLE, server_event); /* it was started before with the same */
}

static void server_event(uv_poll_t *p, int status, int events)
{
	struct ctl_server *s = p->data;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			accepted(s, fd);
			continue;
		}
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		log_warn("control socket: accept: %m; trying again in %d ms", ACCEPT_PAUSE_MS);
		(void)uv_poll_stop(&s->poll);
		(void)uv_timer_start(&s->pause, server_resume, ACCEPT_PAUSE_MS, 0);
		return;
	}
}

/* ---- server ---- */

/* Binds beside the name and renames over it: at no moment is there no socket. */
static int server_bind(struct ctl_server *s, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int n = snprintf(sa.sun_path, sizeof sa.sun_path, "%s.%d", s->path, getpid());
	if (n < 0 || (size_t)n >= sizeof sa.sun_path)
		return err_set(e, -ENAMETOOLONG, "%s: too long for a socket", s->path);
	if (unlink(sa.sun_path) < 0 && errno != ENOENT)
		return err_set(e, -errno, "unlink %s: %m", sa.sun_path);
	if (bind(s->fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		return err_set(e, -errno, "bind %s: %m", sa.sun_path);
	if (chmod(sa.sun_path, 0666) < 0 || listen(s->fd, 512) < 0 || stat(sa.sun_path, &s->bound) < 0 ||
	    rename(sa.sun_path, s->path) < 0) {
		int rc = err_set(e, -errno, "listen on %s: %m", s->path);
		(void)unlink(sa.sun_path);
		return rc;
	}
	return 0;
}

int ctl_server_new(uv_loop_t *loop, const char *path, struct ctl_server **ret, struct err *e)
{
	struct ctl_server *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "control socket: no memory");
	s->loop = loop;
	s->max_user = CONNS_USER;
	s->max_total = CONNS_TOTAL;
	s->unfinished_ms = UNFINISHED_MS;
	s->path = strdup(path);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc = 0;
	if (!s->path || s->fd < 0)
		rc = err_set(e, s->path ? -errno : -ENOMEM, "control socket: %m");
	if (rc == 0)
		rc = server_bind(s, e);
	if (rc == 0) {
		rc = uv_poll_init(loop, &s->poll, s->fd);
		if (rc < 0)
			(void)err_set(e, rc, "control socket: %s", uv_strerror(rc));
	}
	if (rc < 0) {
		(void)close_fd(s->fd);
		free(s->path);
		free(s);
		return rc;
	}
	(void)uv_timer_init(loop, &s->pause);
	s->poll.data = s->pause.data = s;
	s->n_handles = 2;
	server_resume(&s->pause);
	*ret = s;
	return 0;
}

void ctl_server_limits(struct ctl_server *s, unsigned per_user, unsigned total)
{
	s->max_user = per_user ? per_user : CONNS_USER;
	s->max_total = total ? total : CONNS_TOTAL;
}

void ctl_server_patience(struct ctl_server *s, unsigned unfinished_ms)
{
	s->unfinished_ms = unfinished_ms ? unfinished_ms : UNFINISHED_MS;
}

void ctl_handle(struct ctl_server *s, const char *name, ctl_fn fn, void *ctx)
{
	struct handler *h = NULL;
	HASH_FIND_STR(s->handlers, name, h);
	if (h) {
		h->fn = fn;
		h->ctx = ctx;
		return;
	}
	h = calloc(1, sizeof *h);
	if (!h) {
		log_error("control socket: no memory for the handler of %s; it stays unknown", name);
		return;
	}
	h->name = name;
	h->fn = fn;
	h->ctx = ctx;
	HASH_ADD_KEYPTR(hh, s->handlers, h->name, strlen(h->name), h);
}

static void server_handle_closed(uv_handle_t *h)
{
	handle_gone(h->data);
}

void ctl_server_close(struct ctl_server *s, void (*closed)(void *ctx), void *ctx)
{
	s->closed = closed;
	s->closed_ctx = ctx;
	struct stat st;
	if (lstat(s->path, &st) == 0 && st.st_dev == s->bound.st_dev && st.st_ino == s->bound.st_ino)
		(void)unlink(s->path);
	struct ctl_conn *c, *tmp;
	DL_FOREACH_SAFE(s->conns, c, tmp) {
		(void)chan_flush(&c->chan); /* what the socket takes at once */
		conn_end(c);
	}
	(void)uv_poll_stop(&s->poll);
	s->fd = close_fd(s->fd);
	uv_close((uv_handle_t *)&s->poll, server_handle_closed);
	uv_close((uv_handle_t *)&s->pause, server_handle_closed);
}

/* ---- requests ---- */

json_t *ctl_req_json(const struct ctl_req *req)
{
	return req->msg.json;
}

const struct ctl_peer *ctl_req_peer(const struct ctl_req *req)
{
	return &req->peer;
}

struct ctl_conn *ctl_req_conn(const struct ctl_req *req)
{
	return req->conn && req->conn->state == CONN_OPEN ? req->conn : NULL;
}

size_t ctl_req_n_fds(const struct ctl_req *req)
{
	return req->msg.n_fds;
}

int ctl_req_take_fd(struct ctl_req *req, size_t i)
{
	return i < req->msg.n_fds ? take_fd(&req->msg.fds[i]) : -1;
}

/* An answer that cannot be sent as it is (too long, no descriptors left): the client gets to know why. */
static int conn_send_failure(struct ctl_conn *c, json_t *answer, int rc)
{
	json_t *j = failure_json(rc, NULL, rc == -EMSGSIZE ? "the answer is too long for the control socket" : strerror(-rc));
	json_t *id = json_object_get(answer, "id");
	if (j && id)
		(void)json_object_set(j, "id", id); /* without it the client gives up: as good */
	rc = j ? conn_send(c, j, NULL, 0) : -ENOMEM;
	json_decref(j);
	return rc;
}

/* Sends an answer that is complete but for "id", and frees the request. */
static void req_finish(struct ctl_req *req, json_t *json, const int *fds, size_t n_fds)
{
	struct ctl_conn *c = ctl_req_conn(req);
	json_t *id = json_object_get(req->msg.json, "id");
	if (!json || (id && json_object_set(json, "id", id) < 0)) {
		json_decref(json);
		json = NULL;
	}
	req_free(req);
	if (c) {
		int rc = json ? conn_send(c, json, fds, n_fds) : -ENOMEM;
		if (rc < 0 && rc != -ECONNRESET)
			rc = conn_send_failure(c, json, rc);
		if (rc < 0) {
			log_debug("control socket: pid=%d: answer not sent: %s", c->peer.pid, strerror(-rc));
			conn_closing(c, 0);
		}
	}
	json_decref(json);
}

void ctl_answer_fds(struct ctl_req *req, json_t *json, const int *fds, size_t n_fds)
{
	if (!json || json_object_set_new(json, "ok", json_true()) < 0) {
		json_decref(json);
		ctl_fail(req, ENOMEM, "no memory for the answer");
		return;
	}
	req_finish(req, json, fds, n_fds);
}

void ctl_answer(struct ctl_req *req, json_t *json)
{
	ctl_answer_fds(req, json, NULL, 0);
}

static void fail_v(struct ctl_req *req, int code, const char *at, const char *fmt, va_list ap)
{
	char words[512];
	(void)vsnprintf(words, sizeof words, fmt, ap);
	req_finish(req, failure_json(code, at, words), NULL, 0);
}

void ctl_fail(struct ctl_req *req, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail_v(req, code, NULL, fmt, ap);
	va_end(ap);
}

void ctl_fail_at(struct ctl_req *req, int code, const char *at, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fail_v(req, code, at, fmt, ap);
	va_end(ap);
}

int ctl_req_int(struct ctl_req *req, const char *key, json_int_t min, json_int_t max, json_int_t def, json_int_t *ret)
{
	json_t *v = json_object_get(req->msg.json, key);
	json_int_t n = v ? json_integer_value(v) : def;
	if (v && (!json_is_integer(v) || n < min || n > max)) {
		ctl_fail(req, EINVAL, "%s: not a whole number from %lld to %lld", key, (long long)min, (long long)max);
		return -EINVAL;
	}
	*ret = n;
	return 0;
}

int ctl_req_bool(struct ctl_req *req, const char *key, int def, int *ret)
{
	json_t *v = json_object_get(req->msg.json, key);
	if (v && !json_is_boolean(v)) {
		ctl_fail(req, EINVAL, "%s: neither true nor false", key);
		return -EINVAL;
	}
	*ret = v ? json_is_true(v) : def;
	return 0;
}

int ctl_req_str(struct ctl_req *req, const char *key, const char *def, const char **ret)
{
	json_t *v = json_object_get(req->msg.json, key);
	if (v && !json_is_string(v)) {
		ctl_fail(req, EINVAL, "%s: not a string", key);
		return -EINVAL;
	}
	*ret = v ? json_string_value(v) : def;
	return 0;
}

/* ---- connections, for handlers ---- */

int ctl_event(struct ctl_conn *conn, json_t *json, const int *fds, size_t n_fds)
{
	int rc = json ? conn_send(conn, json, fds, n_fds) : -ENOMEM;
	json_decref(json);
	if (rc < 0 && rc != -ECONNRESET)
		conn_closing(conn, 0); /* it has missed something: better no connection than a wrong picture */
	return rc;
}

size_t ctl_conn_queued(const struct ctl_conn *conn)
{
	return conn->chan.out_n;
}

const struct ctl_peer *ctl_conn_peer(const struct ctl_conn *conn)
{
	return &conn->peer;
}

void ctl_conn_on_close(struct ctl_conn *conn, void (*fn)(void *ctx, struct ctl_conn *conn), void *ctx)
{
	conn->on_close = fn;
	conn->on_close_ctx = ctx;
}

void ctl_conn_close(struct ctl_conn *conn)
{
	if (conn->state == CONN_OPEN)
		conn_closing(conn, conn->chan.out ? LINGER_MS : 0);
}
