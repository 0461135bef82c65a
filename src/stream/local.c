/* Happy path: a connection of root -> HELLO -> PEER ... PEERS_END -> requests, each answered once. Failures: somebody else connects: closed; a
 * bad packet: the connection is closed; it is closed while requests are under way: their answers are dropped, what they opened is closed. */
#include "stream/local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stream/packet.h"

enum { QUEUE_MAX = 4096, BACKLOG = 16 };

static const char listener_name[] = "streams.local";

struct conn {
	struct local *l;
	uv_poll_t poll;
	int fd;            /* owned */
	unsigned n_refs;   /* requests under way, and one while it is open */
	int is_closed;
	struct packet_queue out;
	struct conn *prev, *next;
};

struct local {
	struct local_config cfg;
	uv_poll_t poll;
	int fd;            /* owned */
	struct conn *conns;
	struct sproto_msg in; /* the request that is being handled: large */
};

/* A request under way. */
struct request {
	struct conn *c;  /* counted */
	uint64_t tag;
	uint16_t type;
	int fd;          /* owned: of DESC */
};

static void conn_unref(struct conn *c)
{
	if (--c->n_refs)
		return;
	packet_queue_fini(&c->out);
	free(c);
}

static void on_conn_closed(uv_handle_t *h)
{
	struct conn *c = h->data;
	c->fd = close_fd(c->fd);
	conn_unref(c);
}

static void conn_close(struct conn *c)
{
	if (c->is_closed)
		return;
	c->is_closed = 1;
	DL_DELETE(c->l->conns, c);
	uv_close((uv_handle_t *)&c->poll, on_conn_closed);
}

static void on_conn(uv_poll_t *p, int status, int events);

static void conn_flush(struct conn *c)
{
	int rc = packet_flush(&c->out, c->fd);
	if (rc < 0)
		conn_close(c);
	else
		(void)uv_poll_start(&c->poll, UV_READABLE | (rc ? UV_WRITABLE : 0), on_conn);
}

/* Sends answer m with fd (taken, or -1). */
static void conn_answer(struct conn *c, const struct sproto_msg *m, int fd)
{
	struct wr w = { 0 };
	if (c->is_closed || sproto_answer_encode(&w, m) < 0) {
		wr_fini(&w);
		(void)close_fd(fd);
		return;
	}
	if (c->out.n >= QUEUE_MAX || packet_add(&c->out, &w, fd) < 0) {
		log_warn("streams: pandod does not take its answers: its connection is closed");
		conn_close(c);
		return;
	}
	conn_flush(c);
}

static struct request *request_new(struct conn *c, const struct sproto_msg *m)
{
	struct request *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	*r = (struct request){ .c = c, .tag = m->tag, .type = m->type, .fd = -1 };
	c->n_refs++;
	return r;
}

/* Ends r with *m, whose tag and type are filled in. */
static void request_end(struct request *r, struct sproto_msg *m, int fd)
{
	m->type = r->type;
	m->tag = r->tag;
	conn_answer(r->c, m, fd);
	(void)close_fd(r->fd);
	conn_unref(r->c);
	free(r);
}

static void request_status(struct request *r, int status, const char *text)
{
	struct sproto_msg *m = calloc(1, sizeof *m);
	if (!m) { /* the other side is told by the end of the connection */
		conn_close(r->c);
		conn_unref(r->c);
		(void)close_fd(r->fd);
		free(r);
		return;
	}
	m->status = status;
	(void)snprintf(m->text, sizeof m->text, "%s", text ? text : status < 0 ? strerror(-status) : "");
	request_end(r, m, -1);
	free(m);
}

static void on_exported(void *ctx, const struct agent_export_result *x)
{
	struct request *r = ctx;
	struct sproto_msg *m = x->status < 0 ? NULL : calloc(1, sizeof *m);
	if (!m) {
		request_status(r, x->status < 0 ? x->status : -ENOMEM, x->text[0] ? x->text : NULL);
		return;
	}
	m->home = x->home;
	m->id = x->info.id;
	m->kind = x->info.kind;
	m->oflags = x->info.oflags;
	memcpy(m->key, x->info.key, sizeof m->key);
	(void)snprintf(m->name, sizeof m->name, "%s", x->info.name);
	request_end(r, m, -1);
	free(m);
}

static void on_imported(void *ctx, const struct import_result *x)
{
	struct request *r = ctx;
	struct sproto_msg *m = x->status < 0 ? NULL : calloc(1, sizeof *m);
	if (!m) {
		(void)close_fd(x->fd);
		request_status(r, x->status < 0 ? x->status : -ENOMEM, NULL);
		return;
	}
	m->id = x->id;
	m->kind = x->kind;
	request_end(r, m, x->fd);
	free(m);
}

static void on_barrier(void *ctx, int status)
{
	request_status(ctx, status, NULL);
}

static void on_desc(void *ctx, int64_t value)
{
	struct request *r = ctx;
	struct sproto_msg *m = value < 0 ? NULL : calloc(1, sizeof *m);
	if (!m) {
		request_status(r, value < 0 ? (int)value : -ENOMEM, NULL);
		return;
	}
	m->value = value;
	request_end(r, m, -1);
	free(m);
}

static void do_stat(struct agent *a, struct request *r)
{
	json_t *o = agent_stat(a);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	int fd = text ? memfd_create("streams-stat", MFD_CLOEXEC) : -1;
	json_decref(o);
	struct sproto_msg *m = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? calloc(1, sizeof *m) : NULL;
	free(text);
	if (!m) {
		(void)close_fd(fd);
		request_status(r, -ENOMEM, NULL);
		return;
	}
	request_end(r, m, fd);
	free(m);
}

static void do_hello(struct local *l, struct agent *a, struct request *r)
{
	const struct sproto_msg *q = &l->in;
	struct err e = { 0 };
	if (q->version != SPROTO_VERSION) {
		request_status(r, -EPROTONOSUPPORT, "another version of pandod");
		return;
	}
	if (q->node && q->node != agent_self(a)) {
		request_status(r, -EEXIST, "the certificate here is of another node");
		return;
	}
	if (q->addr[0] && !agent_listening(a)[0]) {
		int rc = agent_listen(a, q->addr, &e);
		if (rc < 0) {
			request_status(r, rc, e.text);
			return;
		}
	}
	agent_peers_begin(a);
	struct sproto_msg *m = calloc(1, sizeof *m);
	if (!m) {
		request_status(r, -ENOMEM, NULL);
		return;
	}
	m->instance = agent_instance(a);
	m->node = agent_self(a);
	(void)snprintf(m->addr, sizeof m->addr, "%s", agent_listening(a));
	request_end(r, m, -1);
	free(m);
}

/* Passes the request l->in on; fd is taken. */
static void request_do(struct local *l, struct agent *a, struct request *r, int fd)
{
	const struct sproto_msg *q = &l->in;
	int rc = 0;
	if ((q->type == SPROTO_EXPORT || q->type == SPROTO_DESC) != (fd >= 0)) {
		(void)close_fd(fd);
		request_status(r, -EBADF, NULL);
		return;
	}
	switch ((enum sproto_type)q->type) {
	case SPROTO_HELLO:
		do_hello(l, a, r);
		return;
	case SPROTO_PEER:
		agent_peer(a, q->node, q->addr);
		break;
	case SPROTO_PEER_DEAD:
		agent_peer_dead(a, q->node);
		break;
	case SPROTO_PEERS_END:
		agent_peers_end(a);
		break;
	case SPROTO_EXPORT:
		agent_export(a, fd, q->node, q->name, on_exported, r);
		return;
	case SPROTO_UNEXPORT:
		rc = agent_unexport(a, q->home, q->id, q->node);
		break;
	case SPROTO_IMPORT:
		agent_import(a, q->home, q->id, q->key, q->flags, on_imported, r);
		return;
	case SPROTO_BARRIER:
		rc = importer_barrier(agent_importer(a), q->ids, q->n_ids, on_barrier, r);
		if (rc == 0)
			return;
		break;
	case SPROTO_STAT:
		do_stat(a, r);
		return;
	case SPROTO_DESC:
		r->fd = fd;
		rc = importer_desc(agent_importer(a), fd, q, on_desc, r);
		if (rc == 0)
			return;
		break;
	case SPROTO_LAST:
	case SPROTO_ANSWER:
	default:
		rc = -EINVAL;
		break;
	}
	request_status(r, rc, NULL);
}

static void packet_take(struct conn *c, const uint8_t *p, size_t n, int fd)
{
	struct local *l = c->l;
	struct agent *a;
	struct rd rd;
	struct err e = { 0 };
	rd_init(&rd, p, n);
	struct request *r = sproto_request_decode(&rd, &l->in) == 0 ? request_new(c, &l->in) : NULL;
	if (!r) {
		log_warn("streams: a damaged request: its connection is closed");
		(void)close_fd(fd);
		conn_close(c);
		return;
	}
	int rc = l->cfg.agent(l->cfg.ctx, &a, &e);
	if (rc < 0) {
		(void)close_fd(fd);
		request_status(r, rc, e.text);
		return;
	}
	request_do(l, a, r, fd);
}

static void on_conn(uv_poll_t *poll, int status, int events)
{
	static uint8_t buf[SPROTO_MSG_MAX];
	struct conn *c = poll->data;
	if (events & UV_WRITABLE)
		conn_flush(c);
	c->n_refs++;
	for (int i = 0; i < 32 && !c->is_closed; i++) {
		int fd;
		ssize_t n = packet_recv(c->fd, buf, sizeof buf, &fd);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			conn_close(c);
			break;
		}
		packet_take(c, buf, (size_t)n, fd);
	}
	conn_unref(c);
}

static void conn_add(struct local *l, int fd)
{
	struct ucred u;
	socklen_t len = sizeof u;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0 || u.uid != 0) {
		log_warn("streams: a connection that is not root's is refused");
		(void)close(fd);
		return;
	}
	struct conn *c = calloc(1, sizeof *c);
	if (!c || uv_poll_init(l->cfg.loop, &c->poll, fd) < 0) {
		free(c);
		(void)close(fd);
		return;
	}
	c->l = l;
	c->fd = fd;
	c->poll.data = c;
	c->n_refs = 1;
	DL_APPEND(l->conns, c);
	(void)uv_poll_start(&c->poll, UV_READABLE, on_conn);
}

static void on_listener(uv_poll_t *p, int status, int events)
{
	struct local *l = p->data;
	for (;;) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		conn_add(l, fd);
	}
}

/* Whether fd is the socket that path leads to. */
static int is_at(int fd, const char *path)
{
	struct sockaddr_un sa = { 0 };
	socklen_t len = sizeof sa;
	struct stat st;
	return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && sa.sun_family == AF_UNIX && strcmp(sa.sun_path, path) == 0 &&
	       stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int listener_make(const char *path, int *ret_fd, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof sa.sun_path)
		return err_set(e, -ENAMETOOLONG, "%s: too long for a socket", path);
	strcpy(sa.sun_path, path);
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %m");
	(void)unlink(path); /* of an agent before us */
	/* fchmod before bind: it is never open to others, not even for a moment. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || listen(fd, BACKLOG) < 0)
		return err_set(e, -errno, "listen at %s: %m", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

int local_new(const struct local_config *cfg, struct local **ret, struct err *e)
{
	struct local *l = calloc(1, sizeof *l);
	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->cfg = *cfg;
	l->fd = store_take_fd(cfg->store, listener_name);
	if (l->fd >= 0 && !is_at(l->fd, cfg->path))
		l->fd = close_fd(l->fd);
	int rc = 0;
	if (l->fd < 0) {
		rc = listener_make(cfg->path, &l->fd, e);
		if (rc == 0)
			(void)store_put_fd(cfg->store, listener_name, l->fd); /* without it pandod waits a little longer */
	}
	if (rc == 0 && (rc = uv_poll_init(cfg->loop, &l->poll, l->fd)) < 0)
		(void)err_set(e, rc, "watch %s: %s", cfg->path, uv_strerror(rc));
	if (rc < 0) {
		(void)close_fd(l->fd);
		free(l);
		return rc;
	}
	l->poll.data = l;
	(void)uv_poll_start(&l->poll, UV_READABLE, on_listener);
	*ret = l;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	struct local *l = h->data;
	(void)close_fd(l->fd);
	free(l);
}

void local_close(struct local *l)
{
	while (l->conns)
		conn_close(l->conns);
	uv_close((uv_handle_t *)&l->poll, on_closed);
}
