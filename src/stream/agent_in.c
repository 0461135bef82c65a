/* Sessions in which we export. Happy path: a member connects -> HELLO -> WELCOME -> the session runs on this connection. Failures: no HELLO in
 * time, or not a good one: the connection is closed; the connection is lost: the session waits for another; the importer breaks the rules or
 * comes with another session: the session ends, and what it held is released. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "stream/agent_int.h"

void greeting_free(struct greeting *g)
{
	g->chan = chan_close(g->chan);
	frames_fini(&g->frames);
	DL_DELETE(g->a->greetings, g);
	free(g);
}

static void on_msg(void *ctx, const struct pmsg *m)
{
	struct isess *i = ctx;
	if (!i->is_broken)
		xsess_message(i->x, m);
}

static void on_acked(void *ctx)
{
	struct isess *i = ctx;
	if (!i->is_broken)
		xsess_acked(i->x);
}

static void on_lost(void *ctx, const char *why)
{
	const struct isess *i = ctx;
	log_debug("streams importer=%u: connection lost: %s", i->node, why);
}

static void on_broken(void *ctx, int err, const char *why)
{
	struct isess *i = ctx;
	log_warn("streams importer=%u: %s (%s): its session ends", i->node, why, strerror(-err));
	isess_broken(i, why);
}

/* Takes r. */
static struct isess *isess_new(struct agent *a, struct in_rec *r, int is_restored)
{
	struct isess *i = calloc(1, sizeof *i);
	if (!i)
		return NULL;
	struct slink_cb cb = { .ctx = i, .on_msg = on_msg, .on_acked = on_acked, .on_lost = on_lost, .on_broken = on_broken };
	i->a = a;
	i->r = r;
	i->node = r->node;
	i->instance = r->instance;
	i->is_restored = is_restored;
	if (slink_new(a->group, &cb, r->id, a->cfg.store, &i->link) < 0 ||
	    xsess_new(a->exporter, i->node, r->id, is_restored, i, &i->x) < 0) {
		slink_free(i->link);
		free(i);
		return NULL;
	}
	a->peers[i->node].in = i;
	return i;
}

struct isess *isess_restore(struct agent *a, struct in_rec *r)
{
	return r->node && r->node <= AGENT_NODE_MAX && !a->peers[r->node].in ? isess_new(a, r, 1) : NULL;
}

void isess_end(struct isess *i)
{
	struct agent *a = i->a;
	xsess_free(i->x);
	slink_free(i->link);
	a->peers[i->node].in = NULL;
	store_free(a->cfg.store, i->r);
	free(i);
}

/* The session for a HELLO: a known one, or a new one in the place of any other of that node. */
static struct isess *isess_for(struct agent *a, uint16_t node, const struct pmsg *hello, uint32_t *ret_flags)
{
	struct isess *i = a->peers[node].in;
	if (i && (i->r->id != hello->fh || i->is_broken)) {
		isess_end(i);
		i = NULL;
	}
	if (i) {
		int anew = i->is_restored || i->instance != hello->id;
		*ret_flags = anew ? PMSG_RESTARTED : PMSG_RESUMED;
		return i;
	}
	*ret_flags = 0;
	struct in_rec *r = store_new(a->cfg.store, STORE_IN, sizeof *r);
	if (!r)
		return NULL;
	*r = (struct in_rec){ .id = hello->fh, .instance = hello->id, .node = node };
	i = isess_new(a, r, 0);
	if (i)
		store_commit(r);
	else
		store_free(a->cfg.store, r);
	return i;
}

static void frame_left(void *ctx, struct sess_frame *f)
{
	struct isess *i = ctx;
	xsess_unacked(i->x, f);
}

static void welcome(struct isess *i, struct chan *c, uint32_t flags, const struct pmsg *hello)
{
	struct pmsg m = { .type = PMSG_WELCOME, .id = i->a->instance, .flags = flags };
	if (flags & PMSG_RESTARTED) {
		slink_restart(i->link, frame_left, i);
		xsess_restart(i->x);
		i->is_restored = 0;
		i->instance = i->r->instance = hello->id;
	}
	m.len = slink_received(i->link);
	int rc = slink_use(i->link, c, flags & PMSG_RESUMED ? hello->len : 0, &m);
	if (rc < 0) {
		log_warn("streams importer=%u: the two sides do not agree on what was sent: its session ends", i->node);
		isess_broken(i, "numbers");
	}
}

static void on_hello(struct greeting *g, const struct pmsg *m, size_t used)
{
	struct agent *a = g->a;
	uint32_t flags;
	uint16_t node = m->node;
	if (m->type != PMSG_HELLO || m->size != PMSG_VERSION || !node || node > AGENT_NODE_MAX || node == a->cfg.self ||
	    (g->chan->node && g->chan->node != node) || !a->peers[node].is_member) {
		log_warn("streams from=%s: no good greeting: refused", g->chan->from);
		greeting_free(g);
		return;
	}
	struct isess *i = isess_for(a, node, m, &flags);
	if (!i) {
		log_warn("streams importer=%u: out of memory for its session", node);
		greeting_free(g);
		return;
	}
	welcome(i, take_ptr(g->chan), flags, m);
	struct frames rest = g->frames;
	g->frames = (struct frames){ 0 };
	greeting_free(g);
	if (!i->is_broken && rest.n > used)
		slink_feed(i->link, rest.p + used, rest.n - used);
	frames_fini(&rest);
}

static void greet_data(void *ctx, const uint8_t *p, size_t n)
{
	struct greeting *g = ctx;
	struct pmsg m;
	size_t used;
	int rc = frames_first(&g->frames, p, n, GREETING_MAX, &m, &used);
	if (rc > 0)
		return;
	if (rc < 0) {
		log_warn("streams from=%s: no good greeting: refused", g->chan->from);
		greeting_free(g);
		return;
	}
	on_hello(g, &m, used);
}

static void greet_lost(void *ctx, const char *why)
{
	struct greeting *g = ctx;
	g->chan = NULL;
	greeting_free(g);
}

void agent_accept(void *ctx, struct chan *c)
{
	struct agent *a = ctx;
	struct greeting *g = a->is_closing ? NULL : calloc(1, sizeof *g);
	if (!g) {
		c = chan_close(c);
		return;
	}
	g->a = a;
	g->chan = c;
	g->until_ms = clock_ms() + GREETING_MS;
	c->cb = (struct chan_cb){ .ctx = g, .on_data = greet_data, .on_close = greet_lost };
	DL_APPEND(a->greetings, g);
}

int isess_send(void *p, const struct pmsg *m)
{
	return slink_send(((struct isess *)p)->link, m);
}

size_t isess_backlog(void *p)
{
	return slink_backlog(((struct isess *)p)->link);
}

static void on_reap(uv_timer_t *t)
{
	struct agent *a = t->data;
	for (unsigned n = 1; n <= AGENT_NODE_MAX; n++)
		if (a->peers[n].in && a->peers[n].in->is_broken)
			isess_end(a->peers[n].in);
}

/* Not now: the exporter is just using it. */
void isess_broken(void *p, const char *why)
{
	struct isess *i = p;
	if (!i->is_broken)
		log_debug("streams importer=%u: %s", i->node, why);
	i->is_broken = 1;
	slink_cut(i->link);
	(void)uv_timer_start(&i->a->reap, on_reap, 0, 0); /* cannot fail with a callback */
}

int isess_frame_new(void *p, const struct pmsg *m, struct sess_frame **ret)
{
	return slink_frame_new(((struct isess *)p)->link, m, ret);
}

void isess_frame_send(void *p, struct sess_frame *f)
{
	slink_frame_send(((struct isess *)p)->link, f);
}

void isess_frame_free(void *p, struct sess_frame *f)
{
	slink_frame_free(((struct isess *)p)->link, f);
}
