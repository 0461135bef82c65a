/* Sessions in which we import. Happy path: something is to be sent -> connect -> HELLO -> WELCOME -> the session runs on this connection.
 * Failures: no connection, no WELCOME, or it is lost: tried again, ever slower up to a second; WELCOME says that the home knows the session's
 * handles only: everything under way is sent again; that it knows nothing: all that was imported from there is dead. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "stream/agent_int.h"

static void on_timer(uv_timer_t *t);

static void retry_later(struct osess *o)
{
	frames_fini(&o->greet);
	o->chan = chan_close(o->chan);
	if (o->is_ended)
		return;
	(void)uv_timer_start(&o->timer, on_timer, o->delay_ms, 0);
	o->delay_ms = o->delay_ms * 2 < RETRY_MAX_MS ? o->delay_ms * 2 : RETRY_MAX_MS;
}

static void greet_lost(void *ctx, const char *why)
{
	struct osess *o = ctx;
	o->chan = NULL;
	log_debug("streams peer=%u: %s: trying again", o->node, why);
	retry_later(o);
}

static void on_open(void *ctx)
{
	struct osess *o = ctx;
	struct sess none;
	_cleanup_(wr_fini) struct wr w = { 0 };
	const struct pmsg m = { .type = PMSG_HELLO, .size = PMSG_VERSION, .node = o->a->cfg.self, .id = o->a->instance, .fh = o->r->id,
				.len = slink_received(o->link) };
	sess_init(&none);
	if (sess_control(&none, &w, &m) < 0 || chan_write(o->chan, w.p, w.n) < 0) {
		retry_later(o);
		return;
	}
	chan_flush(o->chan);
}

/* The home's answer, which decides how the session goes on. */
static void on_welcome(struct osess *o, const struct pmsg *m)
{
	int is_lost = !m->flags && o->r->is_known;
	if (is_lost && importer_has(o->a->importer, o->node))
		log_warn("streams peer=%u: it does not know our session any more: what was delegated from there is lost", o->node);
	if (is_lost) {
		o->a->ending = o->node;
		importer_peer_dead(o->a->importer, o->node);
		o->a->ending = 0;
	}
	if (is_lost || m->flags & PMSG_RESTARTED)
		slink_restart(o->link, NULL, NULL);
	o->r->is_known = 1;
	o->delay_ms = RETRY_MIN_MS;
	(void)uv_timer_stop(&o->timer);
	uint64_t has = m->flags & PMSG_RESUMED ? m->len : 0;
	if (slink_use(o->link, take_ptr(o->chan), has, NULL) < 0) {
		log_warn("streams peer=%u: the two sides do not agree on what was sent: what was delegated from there is lost", o->node);
		osess_end(o);
		return;
	}
	if (m->flags & PMSG_RESTARTED)
		importer_resync(o->a->importer, o->node);
}

static void greet_data(void *ctx, const uint8_t *p, size_t n)
{
	struct osess *o = ctx;
	struct pmsg m;
	size_t used;
	int rc = frames_first(&o->greet, p, n, GREETING_MAX, &m, &used);
	if (rc > 0)
		return;
	if (rc == 0 && (m.type != PMSG_WELCOME || m.status < 0))
		rc = m.type == PMSG_WELCOME ? m.status : -EPROTO;
	if (rc < 0) {
		log_debug("streams peer=%u: greeting: %s: trying again", o->node, strerror(-rc));
		retry_later(o);
		return;
	}
	struct frames rest = o->greet;
	struct agent *a = o->a;
	uint16_t node = o->node;
	o->greet = (struct frames){ 0 };
	on_welcome(o, &m);
	if (a->peers[node].out == o && rest.n > used)
		slink_feed(o->link, rest.p + used, rest.n - used);
	frames_fini(&rest);
}

static void osess_connect(struct osess *o)
{
	struct agent *a = o->a;
	struct err e = { 0 };
	const struct peer *p = &a->peers[o->node];
	if (o->chan || slink_is_up(o->link) || !p->addr[0] || !a->net || a->is_closing)
		return;
	struct chan_cb cb = { .ctx = o, .on_open = on_open, .on_data = greet_data, .on_close = greet_lost };
	if (a->net->connect(a->net, o->node, p->addr, &cb, &o->chan, &e) < 0) {
		log_debug("streams peer=%u: %s", o->node, e.text);
		retry_later(o);
		return;
	}
	(void)uv_timer_start(&o->timer, on_timer, GREETING_MS, 0);
}

static void on_timer(uv_timer_t *t)
{
	struct osess *o = t->data;
	if (o->chan)
		retry_later(o);
	else
		osess_connect(o);
}

void osess_address(struct osess *o)
{
	if (slink_is_up(o->link))
		return;
	o->chan = chan_close(o->chan);
	frames_fini(&o->greet);
	o->delay_ms = RETRY_MIN_MS;
	osess_connect(o);
}

static void on_msg(void *ctx, const struct pmsg *m)
{
	struct osess *o = ctx;
	if (importer_message(o->a->importer, o->node, m) == 0)
		return;
	log_warn("streams peer=%u: it sent something that makes no sense: what was delegated from there is lost", o->node);
	osess_end(o);
}

static void on_lost(void *ctx, const char *why)
{
	struct osess *o = ctx;
	log_debug("streams peer=%u: connection lost: %s", o->node, why);
	o->delay_ms = RETRY_MIN_MS;
	retry_later(o);
}

static void on_broken(void *ctx, int err, const char *why)
{
	struct osess *o = ctx;
	log_warn("streams peer=%u: %s (%s): what was delegated from there is lost", o->node, why, strerror(-err));
	osess_end(o);
}

/* Takes r. */
static struct osess *osess_new(struct agent *a, struct out_rec *r)
{
	struct osess *o = calloc(1, sizeof *o);
	if (!o)
		return NULL;
	struct slink_cb cb = { .ctx = o, .on_msg = on_msg, .on_lost = on_lost, .on_broken = on_broken };
	if (slink_new(a->group, &cb, r->id, NULL, &o->link) < 0) {
		free(o);
		return NULL;
	}
	o->a = a;
	o->r = r;
	o->node = r->node;
	o->delay_ms = RETRY_MIN_MS;
	(void)uv_timer_init(a->cfg.loop, &o->timer); /* always 0 */
	o->timer.data = o;
	a->peers[o->node].out = o;
	return o;
}

struct osess *osess_restore(struct agent *a, struct out_rec *r)
{
	return r->node && r->node <= AGENT_NODE_MAX && !a->peers[r->node].out ? osess_new(a, r) : NULL;
}

struct osess *osess_get(struct agent *a, uint16_t node)
{
	struct osess *o = a->peers[node].out;
	if (o)
		return o;
	struct out_rec *r = store_new(a->cfg.store, STORE_OUT, sizeof *r);
	if (!r)
		return NULL;
	r->id = agent_random();
	r->node = node;
	o = osess_new(a, r);
	if (!o) {
		store_free(a->cfg.store, r);
		return NULL;
	}
	store_commit(r);
	osess_connect(o);
	return o;
}

static void on_timer_closed(uv_handle_t *h)
{
	free(h->data);
}

void osess_end(struct osess *o)
{
	struct agent *a = o->a;
	if (o->is_ended)
		return;
	o->is_ended = 1;
	slink_free(take_ptr(o->link));
	o->chan = chan_close(o->chan);
	frames_fini(&o->greet);
	a->peers[o->node].out = NULL;
	store_free(a->cfg.store, o->r);
	a->ending = o->node;
	importer_peer_dead(a->importer, o->node);
	a->ending = 0;
	uv_close((uv_handle_t *)&o->timer, on_timer_closed);
}
