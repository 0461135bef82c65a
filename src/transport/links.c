/* See links_int.h for who does what. */
#include "transport/links_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* ---- time ---- */

static void timer_cb(uv_timer_t *h);

static void arm(struct links *l)
{
	uint64_t next = deadlines_next(&l->deadlines);
	if (next >= l->armed_ms || l->closing)
		return; /* when it fires too early it looks again */
	uint64_t now = clock_ms();
	l->armed_ms = next;
	(void)uv_timer_start(&l->timer, timer_cb, next > now ? next - now : 0, 0); /* fails without a callback only */
}

static void timer_cb(uv_timer_t *h)
{
	struct links *l = h->data;
	struct deadline *d;
	uint64_t now = clock_ms();

	l->armed_ms = UINT64_MAX;
	while (!l->closing && (d = deadlines_due(&l->deadlines, now)))
		d->fn(d);
	arm(l);
}

int links_after(struct links *l, struct deadline *d, uint64_t after_ms)
{
	int rc = deadline_set(&l->deadlines, d, clock_ms() + after_ms);
	if (rc == 0)
		arm(l);
	return rc;
}

/* ---- turns of the loop ---- */

/* Just before the loop waits: what was sent during the turn and not flushed goes out, several messages in one packet. */
static void prepare_cb(uv_prepare_t *h)
{
	struct links *l = h->data;
	l->turn++;
	while (l->dirty) {
		struct conn *c = l->dirty;
		DL_DELETE2(l->dirty, c, dirty_prev, dirty_next);
		c->dirty = 0;
		tls_flush(c->t);
	}
}

static void idle_cb(uv_idle_t *h);

void links_kick(struct links *l)
{
	if (!uv_is_closing((uv_handle_t *)&l->idle))
		(void)uv_idle_start(&l->idle, idle_cb); /* fails without a callback only */
}

void links_settle(struct links *l)
{
	if (l->settling)
		return;
	l->settling = 1;
	while (l->lost) {
		struct conn *c = l->lost;
		LL_DELETE2(l->lost, c, lost_next);
		if (c->was_up && !l->closing)
			l->cfg.on_down(l->cfg.ctx, c->node, c->why);
		link_calls_end(l, &c->calls, l->closing ? -ECANCELED : -ECONNRESET);
		link_conn_settled(c);
	}
	l->settling = 0;
}

int links_local(struct links *l, uint16_t type, uint64_t call, const void *head, size_t head_n, const void *p, size_t n, int must)
{
	if (!must && l->local_n + n > LINK_QUEUE_MAX)
		return -ENOBUFS;
	struct local *m = malloc(sizeof *m + head_n + n);
	if (!m)
		return -ENOMEM;
	*m = (struct local){ .type = type, .call = call, .n = head_n + n };
	if (head_n)
		memcpy(m->p, head, head_n);
	if (n)
		memcpy(m->p + head_n, p, n);
	if (l->local)
		l->local_last->next = m;
	else
		l->local = m;
	l->local_last = m;
	l->local_n += m->n;
	links_kick(l);
	return 0;
}

/* Delivers what was queued to self before this turn; what the handlers queue waits for the next one. */
static void local_deliver(struct links *l)
{
	struct local *list = l->local;
	l->local = l->local_last = NULL;
	while (list) {
		struct local *m = list;
		list = m->next;
		l->local_n -= m->n;
		if (!l->closing)
			link_call_dispatch(l, NULL, l->cfg.self, &(struct frame){ .type = m->type, .call = m->call, .p = m->p, .n = m->n });
		free(m);
	}
}

static void handle_closed(uv_handle_t *h)
{
	links_release(h->data);
}

static void idle_cb(uv_idle_t *h)
{
	struct links *l = h->data;
	links_settle(l);
	local_deliver(l);
	if (l->closing) {
		links_settle(l); /* closed by a handler just now: nobody else will */
		link_calls_end(l, &l->self_calls, -ECANCELED);
		uv_close((uv_handle_t *)&l->idle, handle_closed);
		uv_close((uv_handle_t *)&l->prepare, handle_closed);
		uv_close((uv_handle_t *)&l->timer, handle_closed);
	} else if (!l->lost && !l->local) {
		(void)uv_idle_stop(&l->idle); /* always 0 */
	}
}

/* ---- refusals ---- */

void links_refused(struct links *l, const struct sockaddr *sa, const char *from, const char *why)
{
	unsigned skipped;
	char text[320];
	if (l->closing || !gate_may_log(l->gate, sa, clock_ms(), &skipped))
		return;
	if (skipped)
		(void)snprintf(text, sizeof text, "%s (and %u more of this address, not shown)", why, skipped);
	else
		(void)snprintf(text, sizeof text, "%s", why);
	if (l->cfg.on_refused)
		l->cfg.on_refused(l->cfg.ctx, from, text);
	else
		log_warn("link with %s refused: %s", from, text);
}

/* ---- the object ---- */

static void links_free(struct links *l)
{
	gate_free(l->gate);
	SSL_CTX_free(l->server);
	SSL_CTX_free(l->client);
	deadlines_fini(&l->deadlines);
	free(l->handlers);
	free(l);
}

void links_release(struct links *l)
{
	assert(l->n_open);
	if (--l->n_open)
		return;
	void (*closed)(void *ctx) = l->closed;
	void *ctx = l->closed_ctx;
	links_free(l);
	if (closed)
		closed(ctx);
}

int links_new(const struct links_config *cfg, struct links **ret, struct err *e)
{
	if (cfg->self < 1 || cfg->self > NODE_MAX || cfg->self != pki_node(cfg->pki))
		return err_set(e, -EINVAL, "node %u has the certificate of node %u", cfg->self, pki_node(cfg->pki));
	struct links *l = calloc(1, sizeof *l);
	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->cfg = *cfg;
	l->armed_ms = UINT64_MAX;
	if (!l->cfg.heartbeat_ms)
		l->cfg.heartbeat_ms = LINK_HEARTBEAT_MS;

	int rc;
	if (l->cfg.heartbeat_ms < FRAME_HEARTBEAT_MIN_MS || l->cfg.heartbeat_ms > FRAME_HEARTBEAT_MAX_MS)
		rc = err_set(e, -EINVAL, "heartbeat of %u ms is not in %d..%d", l->cfg.heartbeat_ms, FRAME_HEARTBEAT_MIN_MS,
			     FRAME_HEARTBEAT_MAX_MS);
	else if (gate_new(LINK_PER_SOURCE, LINK_HALF_OPEN, &l->gate) < 0)
		rc = err_set(e, -ENOMEM, "out of memory");
	else if ((rc = pki_server_ctx(cfg->pki, PKI_USE_LINK, &l->server, e)) == 0)
		rc = pki_client_ctx(cfg->pki, PKI_USE_LINK, &l->client, e);
	if (rc < 0) {
		links_free(l);
		return rc;
	}
	/* None of these fails. */
	(void)uv_timer_init(cfg->loop, &l->timer);
	(void)uv_idle_init(cfg->loop, &l->idle);
	(void)uv_prepare_init(cfg->loop, &l->prepare);
	(void)uv_prepare_start(&l->prepare, prepare_cb);
	uv_unref((uv_handle_t *)&l->prepare);
	l->timer.data = l->idle.data = l->prepare.data = l;
	l->n_open = 3;
	*ret = l;
	return 0;
}

int links_listen(struct links *l, const char *addr, struct err *e)
{
	struct link_listener *ll = calloc(1, sizeof *ll);
	if (!ll)
		return err_set(e, -ENOMEM, "out of memory");
	ll->l = l;
	int rc = listener_open(l->cfg.loop, addr, link_conn_accept, l, &ll->ls, e);
	if (rc < 0) {
		free(ll);
		return rc;
	}
	l->n_open++;
	LL_PREPEND(l->listeners, ll);
	return 0;
}

uint16_t links_port(const struct links *l)
{
	return l->listeners ? listener_port(l->listeners->ls) : 0;
}

static struct handler *handler_of(struct links *l, uint16_t type)
{
	assert(type >= FRAME_TYPE_USER);
	if (type >= l->n_handlers) {
		size_t n = (size_t)type + 1;
		struct handler *h = realloc(l->handlers, n * sizeof *h);
		assert(h); /* at start only */
		memset(h + l->n_handlers, 0, (n - l->n_handlers) * sizeof *h);
		l->handlers = h;
		l->n_handlers = n;
	}
	return &l->handlers[type];
}

void links_handle(struct links *l, uint16_t type, links_msg_fn fn, void *ctx)
{
	struct handler *h = handler_of(l, type);
	h->msg = fn;
	h->msg_ctx = ctx;
}

void links_handle_call(struct links *l, uint16_t type, links_call_fn fn, void *ctx)
{
	struct handler *h = handler_of(l, type);
	h->call = fn;
	h->call_ctx = ctx;
}

int links_is_up(const struct links *l, uint16_t node)
{
	return !l->closing && (node == l->cfg.self || link_of(l, node));
}

size_t links_queued(const struct links *l, uint16_t node)
{
	struct conn *c = link_of(l, node);
	if (node == l->cfg.self)
		return l->local_n;
	return c ? tls_queued(c->t) : 0;
}

int links_send(struct links *l, uint16_t node, uint16_t type, const void *p, size_t n)
{
	assert(type >= FRAME_TYPE_USER);
	if (n > LINK_MSG_MAX)
		return -EMSGSIZE;
	if (l->closing)
		return -ENOTCONN;
	if (node == l->cfg.self)
		return links_local(l, type, 0, NULL, 0, p, n, 0);
	struct conn *c = link_of(l, node);
	if (!c)
		return -ENOTCONN;
	return link_conn_send(c, type, 0, NULL, 0, p, n, LINK_QUEUE_MAX);
}

static void listener_closed(void *ctx)
{
	struct link_listener *ll = ctx;
	struct links *l = ll->l;
	free(ll);
	links_release(l);
}

void links_close(struct links *l, void (*closed)(void *ctx), void *ctx)
{
	struct link_listener *ll, *ll_next;
	struct conn *c, *c_next;

	assert(!l->closing);
	l->closing = 1;
	l->closed = closed;
	l->closed_ctx = ctx;
	LL_FOREACH_SAFE(l->listeners, ll, ll_next)
		listener_close(ll->ls, listener_closed, ll);
	l->listeners = NULL;
	DL_FOREACH_SAFE(l->conns, c, c_next) {
		if (c->state == CONN_UP)
			tls_flush(c->t);
		link_conn_lose(c, "closing");
	}
	for (unsigned i = 1; i <= NODE_MAX; i++) {
		if (l->peers[i])
			link_peer_free(l->peers[i]);
		l->peers[i] = NULL;
	}
	link_call_reqs_forget_self(l);
	(void)uv_timer_stop(&l->timer); /* always 0 */
	links_kick(l);
}
