/* Happy path: connect -> HELLO -> PEER ... PEERS_END -> requests and answers. Failures: no agent: tried again every RETRY_MS; the agent has no
 * membership yet (-ENOENT) or cannot listen: HELLO again later; the connection ends: imports fail, the rest is sent again on the next one. */
#include "stream/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stream/packet.h"
#include "stream/proto.h"

enum { RETRY_MS = 50, RETRY_HELLO_MS = 500, STAT_MS = 5000, NODES = 128, STAT_BYTES_MAX = 16 << 20 };

enum client_state { CL_AWAY, CL_HELLO, CL_UP };

struct call {
	uint64_t tag;
	uint16_t type;
	struct sproto_msg *m; /* owned; to be sent (again) */
	int fd;               /* owned: of EXPORT */
	union {
		void (*export)(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16]);
		void (*import)(void *arg, int status, int fd);
		void (*status)(void *arg, int status);
		void (*stat)(void *arg, int status, const json_t *stat);
	} done;               /* NULL: nobody waits */
	void *arg;
	UT_hash_handle hh;    /* by tag; in the order they were made */
};

struct streams_client {
	struct streams_client_config cfg;
	char path[sizeof ((struct sockaddr_un *)NULL)->sun_path];
	char addr[SPROTO_ADDR_MAX];
	enum client_state state;
	int fd;               /* owned, -1 */
	uv_poll_t *poll;      /* owned; NULL without a connection */
	uv_timer_t retry, stat;
	struct packet_queue out;
	struct call *calls;   /* hash */
	uint64_t last_tag, hello_tag, instance;
	char *peers[NODES + 1]; /* owned */
	int peers_known, is_stat_asked, is_closing;
	unsigned n_handles;
	struct streams_counts counts;
};

static void client_lost(struct streams_client *c, const char *why);
static void on_poll(uv_poll_t *p, int status, int events);

/* Calls */

static void call_free(struct streams_client *c, struct call *k)
{
	HASH_DEL(c->calls, k);
	(void)close_fd(k->fd);
	free(k->m);
	free(k);
}

/* Ends k without an answer of the agent. */
static void call_fail(struct streams_client *c, struct call *k, int status)
{
	static const uint8_t none[16];
	struct call now = *k;
	call_free(c, k);
	if (now.type == SPROTO_EXPORT && now.done.export)
		now.done.export(now.arg, status, 0, 0, none);
	else if (now.type == SPROTO_IMPORT && now.done.import)
		now.done.import(now.arg, status, -1);
	else if (now.type == SPROTO_STAT && now.done.stat)
		now.done.stat(now.arg, status, NULL);
	else if (now.type == SPROTO_BARRIER && now.done.status)
		now.done.status(now.arg, status);
}

static void want(struct streams_client *c, int writable)
{
	(void)uv_poll_start(c->poll, UV_READABLE | (writable ? UV_WRITABLE : 0), on_poll);
}

static void flush(struct streams_client *c)
{
	int rc = packet_flush(&c->out, c->fd);
	if (rc >= 0)
		want(c, rc);
	/* else reading tells, on the next turn: nothing is ended within a call of our user */
}

static int call_send(struct streams_client *c, struct call *k)
{
	struct wr w = { 0 };
	_cleanup_(close_p) int fd = k->fd >= 0 ? fcntl(k->fd, F_DUPFD_CLOEXEC, 3) : -1;
	if (k->fd >= 0 && fd < 0)
		return -errno;
	k->m->tag = k->tag;
	if (sproto_request_encode(&w, k->m) < 0) {
		wr_fini(&w);
		return -ENOMEM;
	}
	return packet_add(&c->out, &w, take_fd(&fd));
}

/* A call with an empty message. */
static struct call *call_new(struct streams_client *c, uint16_t type)
{
	struct call *k = c->is_closing ? NULL : calloc(1, sizeof *k);
	struct sproto_msg *m = k ? calloc(1, sizeof *m) : NULL;
	if (!m) {
		free(k);
		return NULL;
	}
	*k = (struct call){ .tag = ++c->last_tag, .type = type, .m = m, .fd = -1 };
	m->type = type;
	HASH_ADD(hh, c->calls, tag, sizeof k->tag, k);
	return k;
}

/* Sends k now, or when the agent is there. */
static int call_begin(struct streams_client *c, struct call *k)
{
	if (c->state != CL_UP)
		return 0;
	int rc = call_send(c, k);
	if (rc < 0) {
		call_free(c, k);
		return rc;
	}
	flush(c);
	return 0;
}

/* Connecting */

static void on_poll_closed(uv_handle_t *h)
{
	free(h);
}

static void connection_drop(struct streams_client *c)
{
	if (c->poll) {
		(void)uv_poll_stop(c->poll);
		uv_close((uv_handle_t *)c->poll, on_poll_closed);
		c->poll = NULL;
	}
	c->fd = close_fd(c->fd);
	packet_queue_fini(&c->out);
	c->state = CL_AWAY;
}

static void on_retry(uv_timer_t *t);

static void client_lost(struct streams_client *c, const char *why)
{
	struct call *k, *tmp;
	int was_up = c->state == CL_UP;
	connection_drop(c);
	(void)uv_timer_start(&c->retry, on_retry, was_up ? 0 : RETRY_MS, 0);
	if (!was_up)
		return;
	c->is_stat_asked = 0;
	c->counts.up = 0;
	c->counts.restarts++;
	log_notice("streams: the agent is away: %s: connecting again", why);
	if (c->cfg.changed)
		c->cfg.changed(c->cfg.ctx, 0, why);
	uint64_t last = c->last_tag; /* those made by the callbacks wait */
	HASH_ITER(hh, c->calls, k, tmp)
		if ((k->type == SPROTO_IMPORT || k->type == SPROTO_STAT) && k->tag <= last)
			call_fail(c, k, -EAGAIN);
}

/* A request without an answer that matters. */
static int tell(struct streams_client *c, uint16_t type, uint16_t node, const char *addr)
{
	struct wr w = { 0 };
	_cleanup_(free_p) struct sproto_msg *m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	m->type = type;
	m->tag = ++c->last_tag;
	m->version = SPROTO_VERSION;
	m->node = node;
	(void)snprintf(m->addr, sizeof m->addr, "%s", addr ? addr : "");
	if (type == SPROTO_HELLO)
		c->hello_tag = m->tag;
	if (sproto_request_encode(&w, m) < 0) {
		wr_fini(&w);
		return -ENOMEM;
	}
	return packet_add(&c->out, &w, -1);
}

static void hello_send(struct streams_client *c)
{
	if (tell(c, SPROTO_HELLO, c->cfg.self, c->addr) < 0)
		client_lost(c, "out of memory");
	else
		flush(c);
}

static int connect_now(struct streams_client *c)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	strcpy(sa.sun_path, c->path);
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		return -errno;
	uv_poll_t *p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	int rc = uv_poll_init(c->cfg.loop, p, fd);
	if (rc < 0) {
		free(p);
		return rc;
	}
	p->data = c;
	c->poll = p;
	c->fd = take_fd(&fd);
	c->state = CL_HELLO;
	want(c, 0);
	return 0;
}

static void on_retry(uv_timer_t *t)
{
	struct streams_client *c = t->data;
	if (c->state == CL_AWAY && connect_now(c) < 0)
		(void)uv_timer_start(&c->retry, on_retry, RETRY_MS, 0);
	else if (c->state == CL_HELLO)
		hello_send(c);
}

/* The agent answers: tell it who is there, then all that waits. */
static void client_up(struct streams_client *c, const struct sproto_msg *m)
{
	struct call *k, *tmp;
	int rc = 0;
	c->state = CL_UP;
	c->counts.up = 1;
	c->instance = m->instance;
	for (unsigned n = 1; n <= NODES && rc == 0; n++)
		if (c->peers[n])
			rc = tell(c, SPROTO_PEER, (uint16_t)n, c->peers[n]);
	if (rc == 0 && c->peers_known)
		rc = tell(c, SPROTO_PEERS_END, 0, NULL);
	HASH_ITER(hh, c->calls, k, tmp)
		if (rc == 0)
			rc = call_send(c, k);
	if (rc < 0) {
		client_lost(c, strerror(-rc));
		return;
	}
	flush(c);
	if (c->cfg.changed)
		c->cfg.changed(c->cfg.ctx, 1, m->addr);
}

static void hello_answered(struct streams_client *c, const struct sproto_msg *m, int status)
{
	if (status == 0) {
		client_up(c, m);
		return;
	}
	if (status != -ENOENT) /* it is only waiting for this machine to join */
		log_warn("streams: the agent says: %s: asking again", m->text);
	(void)uv_timer_start(&c->retry, on_retry, RETRY_HELLO_MS, 0);
}

/* Answers */

static json_t *stat_read(int fd)
{
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > STAT_BYTES_MAX)
		return NULL;
	_cleanup_(free_p) char *text = malloc((size_t)st.st_size);
	if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size)
		return NULL;
	return json_loadb(text, (size_t)st.st_size, JSON_REJECT_DUPLICATES, NULL);
}

static void call_answered(struct streams_client *c, struct call *k, int status, const struct sproto_msg *m, int fd)
{
	struct call now = *k;
	json_t *stat;
	call_free(c, k);
	switch (now.type) {
	case SPROTO_EXPORT:
		if (status < 0)
			log_debug("streams: export: %s", m->text);
		now.done.export(now.arg, status, m->home, m->id, m->key);
		break;
	case SPROTO_IMPORT:
		if (status == 0 && fd < 0)
			status = -EPROTO;
		now.done.import(now.arg, status, status < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3));
		break;
	case SPROTO_BARRIER:
		now.done.status(now.arg, status);
		break;
	case SPROTO_STAT:
		stat = status < 0 ? NULL : stat_read(fd);
		now.done.stat(now.arg, status < 0 ? status : stat ? 0 : -EBADMSG, stat);
		json_decref(stat);
		break;
	default:
		break;
	}
}

static int packet_take(struct streams_client *c, const uint8_t *p, size_t n, int fd)
{
	static struct sproto_msg m; /* large; one thread */
	struct rd r;
	uint64_t tag;
	int32_t status;
	struct call *k;
	rd_init(&r, p, n);
	int rc = sproto_answer_head(&r, &tag, &status);
	if (rc < 0 || status > 0)
		return -EBADMSG;
	if (c->state == CL_HELLO && tag == c->hello_tag) {
		rc = sproto_answer_decode(&r, SPROTO_HELLO, &m);
		if (rc == 0)
			hello_answered(c, &m, status);
		return rc;
	}
	HASH_FIND(hh, c->calls, &tag, sizeof tag, k);
	if (!k)
		return 0; /* of a request whose answer does not matter */
	rc = sproto_answer_decode(&r, k->type, &m);
	if (rc == 0)
		call_answered(c, k, status, &m, fd);
	return rc;
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	static uint8_t buf[SPROTO_MSG_MAX];
	struct streams_client *c = p->data;
	if (events & UV_WRITABLE)
		flush(c);
	while (c->poll == p) {
		_cleanup_(close_p) int fd = -1;
		ssize_t n = packet_recv(c->fd, buf, sizeof buf, &fd);
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			client_lost(c, n ? strerror((int)-n) : "it has ended");
			return;
		}
		if (packet_take(c, buf, (size_t)n, fd) < 0 && c->poll == p) {
			client_lost(c, "a damaged answer");
			return;
		}
	}
}

/* Life */

static void counts_take(void *arg, int status, const json_t *stat)
{
	struct streams_client *c = arg;
	c->is_stat_asked = 0;
	if (status < 0)
		return;
	c->counts.exports = (uint32_t)json_array_size(json_object_get(stat, "exports"));
	c->counts.imports = (uint32_t)json_array_size(json_object_get(json_object_get(stat, "imports"), "imports"));
}

static void on_stat(uv_timer_t *t)
{
	struct streams_client *c = t->data;
	if (c->state == CL_UP && !c->is_stat_asked && streams_stat(c, counts_take, c) == 0)
		c->is_stat_asked = 1;
}

int streams_client_new(const struct streams_client_config *cfg, struct streams_client **ret, struct err *e)
{
	struct streams_client *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->cfg = *cfg;
	c->fd = -1;
	if ((size_t)snprintf(c->path, sizeof c->path, "%s/streams.sock", cfg->run_dir) >= sizeof c->path ||
	    (size_t)snprintf(c->addr, sizeof c->addr, "%s", cfg->addr ? cfg->addr : "") >= sizeof c->addr) {
		free(c);
		return err_set(e, -ENAMETOOLONG, "%s: too long for a socket", cfg->run_dir);
	}
	c->cfg.run_dir = c->cfg.addr = NULL;
	(void)uv_timer_init(cfg->loop, &c->retry); /* always 0 */
	(void)uv_timer_init(cfg->loop, &c->stat);
	c->retry.data = c->stat.data = c;
	c->n_handles = 2;
	uv_unref((uv_handle_t *)&c->stat);
	(void)uv_timer_start(&c->retry, on_retry, 0, 0);
	(void)uv_timer_start(&c->stat, on_stat, STAT_MS, STAT_MS);
	*ret = c;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	struct streams_client *c = h->data;
	if (--c->n_handles)
		return;
	for (unsigned n = 1; n <= NODES; n++)
		free(c->peers[n]);
	free(c);
}

void streams_client_close(struct streams_client *c)
{
	if (!c)
		return;
	c->is_closing = 1;
	connection_drop(c);
	while (c->calls)
		call_fail(c, c->calls, -ECANCELED);
	uv_close((uv_handle_t *)&c->retry, on_closed);
	uv_close((uv_handle_t *)&c->stat, on_closed);
}

int streams_client_is_up(const struct streams_client *c)
{
	return c->state == CL_UP;
}

void streams_counts(const struct streams_client *c, struct streams_counts *ret)
{
	*ret = c->counts;
}

/* Members */

int streams_peer_up(struct streams_client *c, uint16_t node, const char *addr)
{
	if (!node || node > NODES || node == c->cfg.self)
		return 0;
	char *copy = strdup(addr);
	if (!copy)
		return -ENOMEM;
	free(c->peers[node]);
	c->peers[node] = copy;
	if (c->state != CL_UP)
		return 0;
	int rc = tell(c, SPROTO_PEER, node, addr);
	flush(c);
	return rc;
}

void streams_peer_down(struct streams_client *c, uint16_t node)
{
	if (!node || node > NODES)
		return;
	free(c->peers[node]);
	c->peers[node] = NULL;
	if (c->state != CL_UP)
		return; /* its absence is told by PEERS_END */
	(void)tell(c, SPROTO_PEER_DEAD, node, NULL); /* out of memory: told with the next connection */
	flush(c);
}

void streams_peers_known(struct streams_client *c)
{
	if (c->peers_known)
		return;
	c->peers_known = 1;
	if (c->state != CL_UP)
		return;
	(void)tell(c, SPROTO_PEERS_END, 0, NULL); /* as above */
	flush(c);
}

/* Requests */

int streams_export_fd(void *client, int fd, uint16_t node,
		      void (*done)(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16]), void *arg)
{
	struct streams_client *c = client;
	struct call *k = call_new(c, SPROTO_EXPORT);
	if (!k)
		return -ENOMEM;
	k->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (k->fd < 0) {
		int rc = -errno;
		call_free(c, k);
		return rc;
	}
	k->m->node = node;
	k->done.export = done;
	k->arg = arg;
	return call_begin(c, k);
}

int streams_unexport(void *client, uint16_t at, uint64_t id, uint16_t node)
{
	struct streams_client *c = client;
	struct call *k = call_new(c, SPROTO_UNEXPORT);
	if (!k)
		return -ENOMEM;
	k->m->home = at;
	k->m->id = id;
	k->m->node = node;
	return call_begin(c, k);
}

int streams_import_fd(void *client, uint16_t at, uint64_t id, const uint8_t key[16], uint32_t flags,
		      void (*done)(void *arg, int status, int fd), void *arg)
{
	struct streams_client *c = client;
	struct call *k = call_new(c, SPROTO_IMPORT);
	if (!k)
		return -ENOMEM;
	(void)flags;
	k->m->home = at;
	k->m->id = id;
	memcpy(k->m->key, key, sizeof k->m->key);
	k->done.import = done;
	k->arg = arg;
	return call_begin(c, k);
}

int streams_barrier(void *client, void (*done)(void *arg, int status), void *arg)
{
	struct streams_client *c = client;
	struct call *k = call_new(c, SPROTO_BARRIER);
	if (!k)
		return -ENOMEM;
	k->done.status = done;
	k->arg = arg;
	return call_begin(c, k);
}

int streams_stat(struct streams_client *c, void (*done)(void *arg, int status, const json_t *stat), void *arg)
{
	struct call *k = call_new(c, SPROTO_STAT);
	if (!k)
		return -ENOMEM;
	k->done.stat = done;
	k->arg = arg;
	return call_begin(c, k);
}
