#include "space/fake-links.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"

enum { FAKE_NODES = 8, FAKE_TYPES = 700 };

enum item_kind { ITEM_MSG, ITEM_CALL, ITEM_ANSWER, ITEM_EXPORTED, ITEM_IMPORTED, ITEM_DONE };

struct item {
	enum item_kind kind;
	uint16_t from, to, type;
	uint64_t call; /* its id */
	int status;
	uint8_t *p; /* owned */
	size_t n;
	uint64_t due_ms, turn;
	void *arg;
	union {
		void (*exported)(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16]);
		void (*imported)(void *arg, int status, int fd);
		void (*done)(void *arg, int status);
	} fn;
	uint64_t id;
	int fd;
	struct item *prev, *next;
};

struct call {
	uint64_t id, deadline_ms;
	uint16_t from, to;
	links_done_fn done;
	void *ctx;
	struct call *prev, *next;
};

struct export {
	uint64_t id;
	uint16_t at, node;
	int fd;
	struct export *prev, *next;
};

struct fake_node {
	struct fake_net *net; /* first: fake_streams */
	uint16_t self;
};

struct links {
	struct fake_net *net;
	uint16_t self;
	struct {
		links_msg_fn msg;
		links_call_fn call;
		void *ctx;
	} on[FAKE_TYPES];
};

struct links_call_req {
	struct fake_net *net;
	uint16_t from, at, type;
	uint64_t id;
};

struct fake_net {
	uv_loop_t *loop;
	uv_timer_t timer;
	void (*up)(void *ctx, uint16_t at, uint16_t node);
	void *ctx;
	struct links *links[FAKE_NODES];
	struct fake_node nodes[FAKE_NODES];
	struct item *items;
	struct call *calls;
	struct export *exports;
	uint64_t next_id, turn, n_delivered;
	uint64_t down_until[FAKE_NODES][FAKE_NODES]; /* a < b; 0: up */
	struct fake_fault fault;
	unsigned n_fault;
	int has_fault, has_faulted, export_status;
};

static void on_timer(uv_timer_t *t);

int fake_net_new(uv_loop_t *loop, void (*up)(void *ctx, uint16_t at, uint16_t node), void *ctx, struct fake_net **ret)
{
	struct fake_net *net = calloc(1, sizeof *net);
	if (!net)
		return -ENOMEM;
	net->loop = loop;
	net->up = up;
	net->ctx = ctx;
	int rc = uv_timer_init(loop, &net->timer);
	net->timer.data = net;
	*ret = net;
	return rc;
}

static void net_closed(uv_handle_t *h)
{
	struct fake_net *net = h->data;
	struct item *it, *tmp;
	struct call *c, *ctmp;
	struct export *x, *xtmp;
	DL_FOREACH_SAFE(net->items, it, tmp) {
		free(it->p);
		free(it);
	}
	DL_FOREACH_SAFE(net->calls, c, ctmp)
		free(c);
	DL_FOREACH_SAFE(net->exports, x, xtmp) {
		(void)close_fd(x->fd);
		free(x);
	}
	for (unsigned i = 0; i < FAKE_NODES; i++)
		free(net->links[i]);
	free(net);
}

void fake_net_free(struct fake_net *net)
{
	uv_close((uv_handle_t *)&net->timer, net_closed);
}

struct links *fake_links_new(struct fake_net *net, uint16_t self)
{
	assert(self < FAKE_NODES);
	struct links *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->net = net;
	l->self = self;
	net->links[self] = l;
	return l;
}

/* ---- links that are down ---- */

static uint64_t *down_of(struct fake_net *net, uint16_t a, uint16_t b)
{
	return a < b ? &net->down_until[a][b] : &net->down_until[b][a];
}

static struct item *item_put(struct fake_net *net, const struct item *from)
{
	struct item *it = malloc(sizeof *it);
	assert(it);
	*it = *from;
	it->turn = net->turn;
	DL_APPEND(net->items, it);
	(void)uv_timer_start(&net->timer, on_timer, 0, 0);
	return it;
}

static void answer_put(struct fake_net *net, uint64_t call, int status)
{
	(void)item_put(net, &(struct item){ .kind = ITEM_ANSWER, .call = call, .status = status });
}

void fake_net_cut(struct fake_net *net, uint16_t a, uint16_t b, uint32_t ms)
{
	*down_of(net, a, b) = clock_ms() + ms;
	struct item *it, *tmp;
	DL_FOREACH_SAFE(net->items, it, tmp) {
		if (it->kind > ITEM_ANSWER || !((it->from == a && it->to == b) || (it->from == b && it->to == a)))
			continue;
		DL_DELETE(net->items, it);
		free(it->p);
		free(it);
	}
	struct call *c;
	DL_FOREACH(net->calls, c)
		if ((c->from == a && c->to == b) || (c->from == b && c->to == a))
			answer_put(net, c->id, -ECONNRESET);
	(void)uv_timer_start(&net->timer, on_timer, 0, 0);
}

static void links_mend(struct fake_net *net)
{
	for (uint16_t a = 0; a < FAKE_NODES; a++) {
		for (uint16_t b = a; b < FAKE_NODES; b++) {
			if (!net->down_until[a][b] || clock_ms() < net->down_until[a][b])
				continue;
			net->down_until[a][b] = 0;
			net->up(net->ctx, a, b);
			net->up(net->ctx, b, a);
		}
	}
}

/* ---- faults ---- */

void fake_net_fault(struct fake_net *net, const struct fake_fault *f)
{
	net->has_fault = f != NULL;
	net->has_faulted = 0;
	net->n_fault = 0;
	if (f)
		net->fault = *f;
}

int fake_net_has_faulted(const struct fake_net *net)
{
	return net->has_faulted;
}

/* Whether it is this one's turn; counts. */
static int fault_hits(struct fake_net *net, const struct item *it)
{
	const struct fake_fault *f = &net->fault;
	if (!net->has_fault || it->kind > ITEM_ANSWER || (f->of_answer != 0) != (it->kind == ITEM_ANSWER))
		return 0;
	if (f->type && f->type != it->type)
		return 0;
	if (++net->n_fault != f->nth)
		return 0;
	net->has_fault = 0;
	net->has_faulted = 1;
	return 1;
}

/* ---- delivery ---- */

static void call_end(struct fake_net *net, const struct item *it)
{
	struct call *c;
	DL_FOREACH(net->calls, c)
		if (c->id == it->call)
			break;
	if (!c)
		return;
	DL_DELETE(net->calls, c);
	c->done(c->ctx, it->status, it->p, it->n);
	free(c);
}

static void item_deliver(struct fake_net *net, struct item *it)
{
	struct links *l = net->links[it->to];
	switch (it->kind) {
	case ITEM_MSG:
		net->n_delivered++;
		if (l && l->on[it->type].msg)
			l->on[it->type].msg(l->on[it->type].ctx, it->from, it->p, it->n);
		return;
	case ITEM_CALL: {
		net->n_delivered++;
		struct links_call_req *req = malloc(sizeof *req);
		assert(req);
		*req = (struct links_call_req){ net, it->from, it->to, it->type, it->call };
		if (l && l->on[it->type].call)
			l->on[it->type].call(l->on[it->type].ctx, it->from, it->p, it->n, req);
		else
			links_answer(req, -ENOSYS, NULL, 0);
		return;
	}
	case ITEM_ANSWER:
		call_end(net, it);
		return;
	case ITEM_EXPORTED: {
		uint8_t key[16] = { 7 };
		it->fn.exported(it->arg, it->status, it->from, it->id, key);
		return;
	}
	case ITEM_IMPORTED:
		it->fn.imported(it->arg, it->status, it->fd);
		return;
	case ITEM_DONE:
		it->fn.done(it->arg, it->status);
		return;
	}
}

/* One that came before in the same direction and is not due yet holds this one up. */
static int item_waits(const struct fake_net *net, const struct item *it)
{
	if (it->due_ms > clock_ms())
		return 1;
	for (const struct item *o = net->items; o != it; o = o->next)
		if (it->kind <= ITEM_ANSWER && o->kind <= ITEM_ANSWER && o->from == it->from && o->to == it->to && o->due_ms > clock_ms())
			return 1;
	return 0;
}

static struct item *item_next(struct fake_net *net)
{
	struct item *it;
	DL_FOREACH(net->items, it)
		if (it->turn < net->turn && !item_waits(net, it))
			return it;
	return NULL;
}

static void calls_expire(struct fake_net *net)
{
	struct call *c;
	DL_FOREACH(net->calls, c) {
		if (c->deadline_ms <= clock_ms()) {
			c->deadline_ms = UINT64_MAX;
			answer_put(net, c->id, -ETIMEDOUT);
		}
	}
}

static void timer_next(struct fake_net *net)
{
	struct item *it;
	int is_now = 0, is_later = net->calls != NULL;
	DL_FOREACH(net->items, it) {
		if (item_waits(net, it))
			is_later = 1;
		else
			is_now = 1;
	}
	for (unsigned a = 0; a < FAKE_NODES; a++)
		for (unsigned b = 0; b < FAKE_NODES; b++)
			is_later |= net->down_until[a][b] != 0;
	if (is_now || is_later)
		(void)uv_timer_start(&net->timer, on_timer, is_now ? 0 : 5, 0);
}

static void on_timer(uv_timer_t *t)
{
	struct fake_net *net = t->data;
	net->turn++;
	links_mend(net);
	calls_expire(net);
	for (struct item *it = item_next(net); it; it = item_next(net)) {
		if (fault_hits(net, it)) {
			if (net->fault.what == FAKE_DELAY) {
				it->due_ms = clock_ms() + net->fault.ms;
				continue;
			}
			if (net->fault.what == FAKE_CUT) {
				fake_net_cut(net, it->from, it->to, net->fault.ms);
				continue; /* it is gone */
			}
			struct item copy = *it;
			DL_DELETE(net->items, it);
			free(it);
			item_deliver(net, &copy);
			fake_net_cut(net, copy.from, copy.to, net->fault.ms);
			free(copy.p);
			continue;
		}
		DL_DELETE(net->items, it);
		item_deliver(net, it);
		free(it->p);
		free(it);
	}
	timer_next(net);
}

int fake_net_is_quiet(const struct fake_net *net)
{
	return !net->items && !net->calls;
}

uint64_t fake_net_count(const struct fake_net *net)
{
	return net->n_delivered;
}

/* ---- transport/links.h ---- */

int links_is_up(const struct links *l, uint16_t node)
{
	return node < FAKE_NODES && l->net->links[node] && *down_of(l->net, l->self, node) == 0;
}

static void *copy_of(const void *p, size_t n)
{
	void *c = malloc(n + 1);
	assert(c);
	if (n)
		memcpy(c, p, n);
	return c;
}

int links_send(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n)
{
	if (!links_is_up(l, node))
		return -ENOTCONN;
	(void)item_put(l->net, &(struct item){ .kind = ITEM_MSG, .from = l->self, .to = node, .type = type, .p = copy_of(p, n), .n = n });
	return 0;
}

int links_call(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n, uint32_t timeout_ms, links_done_fn done, void *ctx)
{
	struct fake_net *net = l->net;
	if (!links_is_up(l, node))
		return -ENOTCONN;
	struct call *c = malloc(sizeof *c);
	assert(c);
	*c = (struct call){ .id = ++net->next_id, .deadline_ms = clock_ms() + timeout_ms, .from = l->self, .to = node, .done = done, .ctx = ctx };
	DL_APPEND(net->calls, c);
	(void)item_put(net, &(struct item){ .kind = ITEM_CALL, .from = l->self, .to = node, .type = type, .call = c->id, .p = copy_of(p, n), .n = n });
	return 0;
}

void links_answer(struct links_call_req *req, int32_t status, const void *p, size_t n)
{
	struct fake_net *net = req->net;
	if (*down_of(net, req->from, req->at) == 0)
		(void)item_put(net, &(struct item){ .kind = ITEM_ANSWER, .from = req->at, .to = req->from, .type = req->type, .call = req->id,
						    .status = status, .p = copy_of(p, n), .n = n });
	free(req);
}

void links_handle(struct links *l, uint16_t type, links_msg_fn fn, void *ctx)
{
	assert(type < FAKE_TYPES);
	l->on[type].msg = fn;
	l->on[type].ctx = ctx;
}

void links_handle_call(struct links *l, uint16_t type, links_call_fn fn, void *ctx)
{
	assert(type < FAKE_TYPES);
	l->on[type].call = fn;
	l->on[type].ctx = ctx;
}

/* ---- streams ---- */

static int stream_export(void *ctx, int fd, uint16_t node, void (*done)(void *arg, int status, uint16_t at, uint64_t id, const uint8_t key[16]),
			 void *arg)
{
	struct fake_node *me = ctx;
	struct fake_net *net = me->net;
	struct item it = { .kind = ITEM_EXPORTED, .from = me->self, .status = net->export_status, .arg = arg, .fn.exported = done };
	if (net->export_status == 0) {
		struct export *x = malloc(sizeof *x);
		assert(x);
		*x = (struct export){ .id = ++net->next_id, .at = me->self, .node = node, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3) };
		assert(x->fd >= 0);
		DL_APPEND(net->exports, x);
		it.id = x->id;
	}
	(void)item_put(net, &it);
	return 0;
}

static struct export *export_find(struct fake_net *net, uint16_t at, uint64_t id, uint16_t node)
{
	struct export *x;
	DL_FOREACH(net->exports, x)
		if (x->id == id && x->at == at && x->node == node)
			return x;
	return NULL;
}

static int stream_unexport(void *ctx, uint16_t at, uint64_t id, uint16_t node)
{
	struct fake_node *me = ctx;
	struct export *x = export_find(me->net, at, id, node);
	if (!x)
		return -ENOENT; /* it was imported: what the importer does with it is its business */
	DL_DELETE(me->net->exports, x);
	(void)close_fd(x->fd);
	free(x);
	return 0;
}

static int stream_import(void *ctx, uint16_t at, uint64_t id, const uint8_t key[16], uint32_t flags, void (*done)(void *arg, int status, int fd),
			 void *arg)
{
	struct fake_node *me = ctx;
	(void)flags;
	struct export *x = key[0] == 7 ? export_find(me->net, at, id, me->self) : NULL;
	struct item it = { .kind = ITEM_IMPORTED, .status = x ? 0 : -ENOENT, .fd = x ? x->fd : -1, .arg = arg, .fn.imported = done };
	if (x) {
		DL_DELETE(me->net->exports, x);
		free(x);
	}
	(void)item_put(me->net, &it);
	return 0;
}

static int stream_barrier(void *ctx, void (*done)(void *arg, int status), void *arg)
{
	struct fake_node *me = ctx;
	(void)item_put(me->net, &(struct item){ .kind = ITEM_DONE, .arg = arg, .fn.done = done });
	return 0;
}

struct space_streams fake_streams(struct fake_net *net, uint16_t self)
{
	net->nodes[self] = (struct fake_node){ net, self };
	return (struct space_streams){ &net->nodes[self], stream_export, stream_unexport, stream_import, stream_barrier };
}

unsigned fake_streams_left(const struct fake_net *net)
{
	unsigned n = 0;
	for (const struct export *x = net->exports; x; x = x->next)
		n++;
	return n;
}

void fake_streams_fail(struct fake_net *net, int status)
{
	net->export_status = status;
}
