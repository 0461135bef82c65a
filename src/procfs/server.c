/* Happy path: a server connects and says HELLO; it is given the space (when there is one) and the table (when it is ready), then each
 * change as it is told. Failure modes: the server dies or talks nonsense (its connection is dropped, calls of others to it end with
 * -EAGAIN, its own calls are forgotten; it connects again); a second server connects (the newer one wins); the server hangs (calls to
 * it end after 5 s; what is told to it queues up to QUEUE_MAX, then it is dropped). */
#include "procfs/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "procfs/chan.h"
#include "procfs/proto.h"

enum {
	SERVE_MS = 5000,         /* longest wait for an answer of our server */
	SERVE_PER_NODE_MAX = 64, /* questions of one node under way */
	QUEUE_MAX = 64 << 20,
	TICK_MS = 250,
	PIDS_PER_FRAME = 1024,
};

struct serve {
	uint64_t id;
	uint16_t from;
	uint64_t until_ms;
	int status; /* set when it is to end at the next tick of the loop without an answer */
	procfs_served_fn done;
	void *ctx;
	struct serve *prev, *next;
};

struct procfs_server {
	struct procfs_server_config cfg;
	struct table table;
	int ready, closing;
	int fds[PROTO_FDS]; /* owned copies; -1 */
	int listen_fd;
	uv_poll_t listen_poll;
	uv_timer_t tick; /* runs while serves are under way */
	unsigned handles;
	struct chan *client; /* owned; NULL */
	int client_pid;
	int client_hello; /* said HELLO */
	uint32_t client_epoch; /* upper half of tokens: calls of an earlier server are nobody's */
	uint64_t next_id;
	struct serve *serves;
	unsigned n_serves[TABLE_NODES];
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void send_frame(struct procfs_server *s, struct wr *w, const int *fds, size_t n_fds)
{
	int rc = wr_done(w);
	if (rc == 0)
		rc = chan_send(s->client, w->p, w->n, fds, n_fds);
	if (rc < 0 && rc != -EPIPE)
		log_debug("procfs: to server pid=%d: %s", s->client_pid, strerror(-rc));
}

/* Whether increments go to the server: it has the whole table. */
static int told(const struct procfs_server *s)
{
	return s->client && s->client_hello && s->ready;
}

static void send_space(struct procfs_server *s)
{
	if (!s->client || !s->client_hello || s->fds[0] < 0)
		return;
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_space_put(&w, s->cfg.self);
	send_frame(s, &w, s->fds, PROTO_FDS);
}

static void send_plain(struct procfs_server *s, uint8_t type)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_plain_put(&w, type);
	send_frame(s, &w, NULL, 0);
}

static void send_node(struct procfs_server *s, uint16_t node)
{
	const struct table_node *n = &s->table.nodes[node];
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_node_put(&w, node, n->present ? n->name : NULL, n->up);
	send_frame(s, &w, NULL, 0);
}

static void send_slot(struct procfs_server *s, uint32_t slot)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_slot_put(&w, slot, s->table.slots[slot]);
	send_frame(s, &w, NULL, 0);
}

static void send_features(struct procfs_server *s, uint32_t pid, uint32_t flags)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_features_put(&w, pid, flags);
	send_frame(s, &w, NULL, 0);
}

static void send_pids(struct procfs_server *s, const struct procfs_pid *p, size_t n)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_pids_put(&w, p, n);
	send_frame(s, &w, NULL, 0);
}

static void send_table(struct procfs_server *s)
{
	if (!told(s))
		return;
	send_plain(s, PROTO_RESET);
	for (uint16_t i = 1; i < TABLE_NODES; i++)
		if (s->table.nodes[i].present)
			send_node(s, i);
	for (uint32_t i = 0; i < TABLE_SLOTS; i++)
		send_slot(s, i);

	struct procfs_pid batch[PIDS_PER_FRAME];
	size_t n = 0;
	for (struct table_pid *p = s->table.pids; p; p = p->hh.next) {
		batch[n++] = p->p;
		if (n == PIDS_PER_FRAME) {
			send_pids(s, batch, n);
			n = 0;
		}
	}
	if (n)
		send_pids(s, batch, n);

	send_features(s, 0, s->table.features_default);
	for (struct table_features *f = s->table.features; f; f = f->hh.next)
		send_features(s, f->pid, f->flags);
	send_plain(s, PROTO_SYNCED);
}

static void serve_end(struct procfs_server *s, struct serve *v, int status, const uint8_t *p, size_t n)
{
	DL_DELETE(s->serves, v);
	s->n_serves[v->from]--;
	v->done(v->ctx, status, p, n);
	free(v);
}

static void client_drop(struct procfs_server *s)
{
	if (!s->client)
		return;
	int pid = s->client_pid, was_there = s->client_hello;
	chan_free(s->client);
	s->client = NULL;
	s->client_hello = 0;
	struct serve *v, *tmp;
	DL_FOREACH_SAFE(s->serves, v, tmp)
	serve_end(s, v, s->closing ? -ECANCELED : -EAGAIN, NULL, 0);
	if (was_there && s->cfg.on_client && !s->closing)
		s->cfg.on_client(s->cfg.ctx, 0, pid);
}

static void on_closed(void *ctx, int error)
{
	struct procfs_server *s = ctx;
	log_debug("procfs: server pid=%d left: %s", s->client_pid, error ? strerror(-error) : "end of file");
	client_drop(s);
}

static void on_req(struct procfs_server *s, const struct proto_call *q)
{
	if (q->node == 0 || q->node >= TABLE_NODES || q->id > UINT32_MAX)
		return;
	uint64_t token = (uint64_t)s->client_epoch << 32 | q->id;
	int rc = s->cfg.call(s->cfg.ctx, q->node, q->p, q->n, q->timeout_ms, token);
	if (rc < 0)
		procfs_server_call_done(s, token, rc, NULL, 0);
}

static void on_served(struct procfs_server *s, const struct proto_call *a)
{
	struct serve *v;
	DL_SEARCH_SCALAR(s->serves, v, id, a->id);
	if (v)
		serve_end(s, v, a->status > 0 ? -EBADMSG : a->status, a->p, a->n);
}

static int on_hello(struct procfs_server *s, struct rd *r)
{
	uint16_t version;
	int rc = proto_hello_get(r, &version);
	if (rc < 0)
		return rc;
	if (version != PROTO_VERSION)
		return -EPROTONOSUPPORT;
	if (s->client_hello)
		return -EBADMSG;
	s->client_hello = 1;
	send_space(s);
	send_table(s);
	if (s->cfg.on_client)
		s->cfg.on_client(s->cfg.ctx, 1, s->client_pid);
	return 0;
}

static void on_frame(void *ctx, const uint8_t *p, size_t n)
{
	struct procfs_server *s = ctx;
	struct chan *client = s->client;
	struct rd r;
	rd_init(&r, p, n);
	uint8_t type = rd_u8(&r);
	struct proto_call c;
	int rc;
	if (type == PROTO_HELLO) {
		rc = on_hello(s, &r);
	} else if (type == PROTO_REQ || type == PROTO_SERVED) {
		rc = s->client_hello ? proto_call_get(&r, &c) : -EBADMSG;
		if (rc == 0 && type == PROTO_REQ)
			on_req(s, &c);
		else if (rc == 0)
			on_served(s, &c);
	} else {
		rc = -EBADMSG;
	}
	if (rc < 0 && s->client == client) {
		log_debug("procfs: server pid=%d: frame type=%u: %s", s->client_pid, type, strerror(-rc));
		client_drop(s);
	}
}

static void client_take(struct procfs_server *s, int fd)
{
	struct ucred u;
	socklen_t len = sizeof(u);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0 || u.uid != 0) {
		(void)close(fd);
		return;
	}
	client_drop(s);
	struct chan_config cfg = {
		.loop = s->cfg.loop, .frame_max = PROTO_FRAME_MAX, .queue_max = QUEUE_MAX, .ctx = s, .on_frame = on_frame, .on_closed = on_closed,
	};
	int rc = chan_new(&cfg, fd, &s->client);
	if (rc < 0) {
		log_debug("procfs: connection: %s", strerror(-rc));
		return;
	}
	s->client_pid = u.pid;
	s->client_epoch++;
}

static void on_listen(uv_poll_t *h, int status, int events)
{
	struct procfs_server *s = h->data;
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		client_take(s, fd);
}

static int listen_open(const char *run_dir, int *ret_fd, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int n = snprintf(a.sun_path, sizeof(a.sun_path), "%s/procfs.sock", run_dir);
	if (n < 0 || (size_t)n >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s/procfs.sock: too long for a socket", run_dir);
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %m");
	if (unlink(a.sun_path) < 0 && errno != ENOENT)
		return err_set(e, -errno, "unlink %s: %m", a.sun_path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return err_set(e, -errno, "bind %s: %m", a.sun_path);
	if (chmod(a.sun_path, 0600) < 0 || listen(fd, 4) < 0)
		return err_set(e, -errno, "listen %s: %m", a.sun_path);
	*ret_fd = take_fd(&fd);
	return 0;
}

int procfs_server_new(const struct procfs_server_config *cfg, struct procfs_server **ret, struct err *e)
{
	_cleanup_(close_p) int fd = -1;
	int rc = listen_open(cfg->run_dir, &fd, e);
	if (rc < 0)
		return rc;
	struct procfs_server *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "%m");
	s->cfg = *cfg;
	s->cfg.run_dir = NULL;
	table_init(&s->table);
	for (size_t i = 0; i < PROTO_FDS; i++)
		s->fds[i] = -1;
	rc = uv_poll_init(cfg->loop, &s->listen_poll, fd);
	if (rc < 0) {
		free(s);
		return err_set(e, rc, "procfs.sock: %s", uv_strerror(rc));
	}
	s->listen_fd = take_fd(&fd);
	s->listen_poll.data = s;
	(void)uv_timer_init(cfg->loop, &s->tick); /* always 0 */
	s->tick.data = s;
	s->handles = 2;
	rc = uv_poll_start(&s->listen_poll, UV_READABLE, on_listen);
	if (rc < 0) {
		procfs_server_close(s, NULL, NULL);
		return err_set(e, rc, "procfs.sock: %s", uv_strerror(rc));
	}
	*ret = s;
	return 0;
}

void procfs_server_space_gone(struct procfs_server *s)
{
	for (size_t i = 0; i < PROTO_FDS; i++)
		s->fds[i] = close_fd(s->fds[i]);
}

int procfs_server_space(struct procfs_server *s, int fuse_fd, int proc_fd, int journal_fd, struct err *e)
{
	int from[PROTO_FDS] = { [PROTO_FD_FUSE] = fuse_fd, [PROTO_FD_PROC] = proc_fd, [PROTO_FD_JOURNAL] = journal_fd };
	procfs_server_space_gone(s);
	for (size_t i = 0; i < PROTO_FDS; i++) {
		s->fds[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 0);
		if (s->fds[i] < 0) {
			int rc = err_set(e, -errno, "descriptors of the space's /proc: %m");
			procfs_server_space_gone(s);
			return rc;
		}
	}
	send_space(s);
	return 0;
}

void procfs_server_ready(struct procfs_server *s)
{
	if (s->ready)
		return;
	s->ready = 1;
	send_table(s);
}

int procfs_server_node(struct procfs_server *s, uint16_t node, const char *name, int up)
{
	int rc = table_node_set(&s->table, node, name, up);
	if (rc == 0 && told(s))
		send_node(s, node);
	return rc;
}

void procfs_server_node_gone(struct procfs_server *s, uint16_t node)
{
	(void)procfs_server_node(s, node, NULL, 0); /* a bad id was never there */
}

int procfs_server_slot(struct procfs_server *s, uint32_t slot, uint16_t node)
{
	int rc = table_slot_set(&s->table, slot, node);
	if (rc == 0 && told(s))
		send_slot(s, slot);
	return rc;
}

int procfs_server_pid(struct procfs_server *s, const struct procfs_pid *p)
{
	int rc = table_pid_set(&s->table, p);
	if (rc == 0 && told(s))
		send_pids(s, p, 1);
	return rc;
}

void procfs_server_pid_gone(struct procfs_server *s, uint32_t pid)
{
	if (!table_pid_get(&s->table, pid))
		return;
	table_pid_del(&s->table, pid);
	if (!told(s))
		return;
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_pids_gone_put(&w, &pid, 1);
	send_frame(s, &w, NULL, 0);
}

void procfs_server_features_default(struct procfs_server *s, uint32_t flags)
{
	s->table.features_default = flags;
	if (told(s))
		send_features(s, 0, flags);
}

int procfs_server_features(struct procfs_server *s, uint32_t pid, uint32_t flags)
{
	if (pid == 0)
		return -EINVAL;
	int rc = table_features_set(&s->table, pid, flags);
	if (rc == 0 && told(s))
		send_features(s, pid, flags);
	return rc;
}

void procfs_server_features_gone(struct procfs_server *s, uint32_t pid)
{
	table_features_del(&s->table, pid);
	if (!told(s))
		return;
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_features_gone_put(&w, pid);
	send_frame(s, &w, NULL, 0);
}

void procfs_server_flush(struct procfs_server *s)
{
	if (s->client)
		chan_send_queued(s->client);
}

void procfs_server_call_done(struct procfs_server *s, uint64_t token, int status, const void *p, size_t n)
{
	if (!s->client || token >> 32 != s->client_epoch)
		return;
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct proto_call c = { .id = (uint32_t)token, .status = status < 0 ? status : 0, .p = p, .n = status < 0 ? 0 : n };
	proto_call_put(&w, PROTO_REPLY, &c);
	send_frame(s, &w, NULL, 0);
}

static void on_tick(uv_timer_t *h)
{
	struct procfs_server *s = h->data;
	uint64_t now = clock_ms();
	struct serve *v, *tmp;
	DL_FOREACH_SAFE(s->serves, v, tmp)
	{
		if (v->status < 0)
			serve_end(s, v, v->status, NULL, 0);
		else if (now >= v->until_ms)
			serve_end(s, v, -ETIMEDOUT, NULL, 0);
	}
	if (!s->serves)
		(void)uv_timer_stop(h); /* cannot fail */
}

/* 0, or why the question cannot go to the server. */
static int serve_send(struct procfs_server *s, const struct serve *v, const void *p, size_t n)
{
	if (!s->client || !s->client_hello)
		return -EAGAIN;
	if (s->n_serves[v->from] > SERVE_PER_NODE_MAX)
		return -EDQUOT;
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct proto_call c = { .id = v->id, .node = v->from, .p = p, .n = n };
	proto_call_put(&w, PROTO_SERVE, &c);
	int rc = wr_done(&w);
	return rc < 0 ? rc : chan_send(s->client, w.p, w.n, NULL, 0);
}

void procfs_server_serve(struct procfs_server *s, uint16_t from, const void *p, size_t n, procfs_served_fn done, void *ctx)
{
	struct serve *v = calloc(1, sizeof(*v));
	if (!v || from >= TABLE_NODES) {
		/* No memory to answer later: the only case in which done runs within the call. */
		free(v);
		done(ctx, from >= TABLE_NODES ? -EINVAL : -ENOMEM, NULL, 0);
		return;
	}
	*v = (struct serve){ .id = ++s->next_id, .from = from, .until_ms = clock_ms() + SERVE_MS, .done = done, .ctx = ctx };
	s->n_serves[from]++;
	DL_APPEND(s->serves, v);
	v->status = serve_send(s, v, p, n);
	if (v->status < 0)
		(void)uv_timer_start(&s->tick, on_tick, 0, TICK_MS); /* cannot fail with a callback */
	else if (!uv_is_active((uv_handle_t *)&s->tick))
		(void)uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
}

static void on_handle_closed(uv_handle_t *h)
{
	struct procfs_server *s = h->data;
	if (--s->handles > 0)
		return;
	(void)close(s->listen_fd);
	procfs_server_space_gone(s);
	table_fini(&s->table);
	if (s->closed)
		s->closed(s->closed_ctx);
	free(s);
}

void procfs_server_close(struct procfs_server *s, void (*closed)(void *ctx), void *ctx)
{
	s->closing = 1;
	s->closed = closed;
	s->closed_ctx = ctx;
	client_drop(s);
	struct serve *v, *tmp;
	DL_FOREACH_SAFE(s->serves, v, tmp)
	serve_end(s, v, -ECANCELED, NULL, 0);
	uv_close((uv_handle_t *)&s->listen_poll, on_handle_closed);
	uv_close((uv_handle_t *)&s->tick, on_handle_closed);
}
