#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "stream/agent_int.h"

enum { TICK_MS = 250 };

uint64_t agent_random(void)
{
	uint64_t v = 0;
	if (getrandom(&v, sizeof v, 0) != sizeof v || !v)
		v = clock_ns();
	return v;
}

static void on_tick(uv_timer_t *t)
{
	struct agent *a = t->data;
	struct greeting *g, *tmp;
	uint64_t now = clock_ms();
	for (unsigned n = 1; n <= AGENT_NODE_MAX; n++) {
		if (a->peers[n].out)
			slink_tick(a->peers[n].out->link, now, SILENT_MS);
		if (a->peers[n].in)
			slink_tick(a->peers[n].in->link, now, SILENT_MS);
	}
	DL_FOREACH_SAFE(a->greetings, g, tmp)
		if (now > g->until_ms)
			greeting_free(g);
	exporter_tick(a->exporter, now);
}

/* For the importer */

static int on_send(void *ctx, uint16_t node, const struct pmsg *m)
{
	struct agent *a = ctx;
	if (!node || node > AGENT_NODE_MAX || node == a->ending)
		return -EHOSTUNREACH;
	if (!a->peers[node].is_member && !a->peers[node].out)
		return -EHOSTUNREACH;
	struct osess *o = osess_get(a, node);
	return o ? slink_send(o->link, m) : -ENOMEM;
}

static int on_connected(void *ctx, uint16_t node)
{
	const struct agent *a = ctx;
	return node <= AGENT_NODE_MAX && a->peers[node].out && slink_is_up(a->peers[node].out->link);
}

static void on_failed(void *ctx, const char *why)
{
	struct agent *a = ctx;
	(void)snprintf(a->failed, sizeof a->failed, "%s", why);
	log_error("streams: %s: ending, to be started again", why);
	uv_stop(a->cfg.loop);
}

const char *agent_failed(const struct agent *a)
{
	return a->failed[0] ? a->failed : NULL;
}

/* What the store has */

struct restore {
	struct agent *a;
	struct agent_rec *me;
};

static void me_found(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	if (n == sizeof *c->me)
		c->me = p;
}

static int me_restore(struct agent *a, struct err *e)
{
	struct restore c = { .a = a };
	store_each(a->cfg.store, STORE_AGENT, me_found, &c);
	if (c.me && c.me->node != a->cfg.self) {
		log_notice("streams: this was node %u and is node %u now: what was delegated before is lost", c.me->node, a->cfg.self);
		store_wipe(a->cfg.store);
		c.me = NULL;
	}
	if (!c.me) {
		c.me = store_new(a->cfg.store, STORE_AGENT, sizeof *c.me);
		if (!c.me)
			return err_set(e, -ENOMEM, "no room for records");
		c.me->node = a->cfg.self;
		store_commit(c.me);
	}
	a->me = c.me;
	a->generation = ++c.me->generation;
	return 0;
}

static void peer_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	struct peer_rec *r = p;
	struct peer *to = r->node && r->node <= AGENT_NODE_MAX ? &c->a->peers[r->node] : NULL;
	if (!to || to->r) {
		store_free(c->a->cfg.store, r);
		return;
	}
	to->r = r;
	to->is_member = 1;
	(void)snprintf(to->addr, sizeof to->addr, "%s", r->addr);
}

/* As before, until pandod tells otherwise: what is delegated goes on without it. */
static void peers_resume(struct agent *a)
{
	struct err e = { 0 };
	if (a->me->addr[0] && a->net->listen(a->net, a->me->addr, agent_accept, a, &e) < 0)
		log_warn("streams: %s: waiting for pandod to tell where to listen", e.text);
	for (unsigned n = 1; n <= AGENT_NODE_MAX; n++)
		if (a->peers[n].out)
			osess_address(a->peers[n].out);
}

static void out_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	if (n != sizeof(struct out_rec) || !osess_restore(c->a, p))
		store_free(c->a->cfg.store, p);
}

static void in_restore(void *ctx, void *p, size_t n)
{
	struct restore *c = ctx;
	if (n != sizeof(struct in_rec) || !isess_restore(c->a, p))
		store_free(c->a->cfg.store, p);
}

static int parts_start(struct agent *a, struct err *e)
{
	struct restore c = { .a = a };
	struct exporter_config xc = { .loop = a->cfg.loop, .work = a->work, .store = a->cfg.store, .self = a->cfg.self, .send = isess_send,
				      .backlog = isess_backlog, .broken = isess_broken, .frame_new = isess_frame_new,
				      .frame_send = isess_frame_send, .frame_free = isess_frame_free };
	struct importer_config ic = { .loop = a->cfg.loop, .work = a->work, .store = a->cfg.store, .generation = a->generation, .ctx = a,
				      .send = on_send, .is_connected = on_connected, .failed = on_failed };
	int rc = exporter_new(&xc, &a->exporter, e);
	if (rc < 0)
		return rc;
	store_each(a->cfg.store, STORE_PEER, peer_restore, &c);
	store_each(a->cfg.store, STORE_IN, in_restore, &c);
	exporter_tidy(a->exporter);
	store_each(a->cfg.store, STORE_OUT, out_restore, &c);
	rc = importer_new(&ic, &a->importer, e);
	if (rc == 0)
		rc = a->cfg.net(a->cfg.ctx, a, &a->net, e);
	if (rc == 0)
		peers_resume(a);
	return rc;
}

int agent_new(const struct agent_config *cfg, struct agent **ret, struct err *e)
{
	struct agent *a = calloc(1, sizeof *a);
	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	a->cfg = *cfg;
	a->instance = agent_random();
	int rc = me_restore(a, e);
	if (rc == 0)
		rc = work_new(cfg->loop, &a->work, e);
	if (rc == 0 && (rc = slink_group_new(cfg->loop, &a->group)) < 0)
		(void)err_set(e, rc, "out of memory");
	if (rc < 0) {
		free(a);
		return rc;
	}
	(void)uv_timer_init(cfg->loop, &a->tick); /* always 0 */
	(void)uv_timer_init(cfg->loop, &a->reap);
	a->tick.data = a->reap.data = a;
	rc = parts_start(a, e);
	if (rc < 0)
		return rc; /* the program ends: nothing of a is worth to be undone */
	(void)uv_timer_start(&a->tick, on_tick, TICK_MS, TICK_MS);
	*ret = a;
	return 0;
}

static void part_closed(struct agent *a)
{
	if (--a->n_closing)
		return;
	void (*closed)(void *) = a->closed;
	void *ctx = a->closed_ctx;
	free(a);
	closed(ctx);
}

static void handle_closed(uv_handle_t *h)
{
	part_closed(h->data);
}

static void exporter_closed(void *ctx)
{
	struct agent *a = ctx;
	work_close(a->work);
	uv_close((uv_handle_t *)&a->tick, handle_closed);
	uv_close((uv_handle_t *)&a->reap, handle_closed);
}

static void importer_closed(void *ctx)
{
	struct agent *a = ctx;
	exporter_close(a->exporter, exporter_closed, a);
}

void agent_close(struct agent *a, void (*closed)(void *ctx), void *ctx)
{
	a->is_closing = 1;
	a->closed = closed;
	a->closed_ctx = ctx;
	a->n_closing = 2;
	(void)uv_timer_stop(&a->tick);
	(void)uv_timer_stop(&a->reap);
	while (a->greetings)
		greeting_free(a->greetings);
	for (unsigned n = 1; n <= AGENT_NODE_MAX; n++) {
		a->peers[n].is_member = 0;
		if (a->peers[n].out)
			osess_end(a->peers[n].out);
		if (a->peers[n].in)
			isess_end(a->peers[n].in);
	}
	a->net->close(a->net);
	slink_group_close(a->group);
	importer_close(a->importer, importer_closed, a);
}

/* Members */

uint16_t agent_self(const struct agent *a)
{
	return a->cfg.self;
}

uint64_t agent_instance(const struct agent *a)
{
	return a->instance;
}

int agent_listen(struct agent *a, const char *addr, struct err *e)
{
	int rc = a->net->listen(a->net, addr, agent_accept, a, e);
	if (rc == 0)
		(void)snprintf(a->me->addr, sizeof a->me->addr, "%s", agent_listening(a));
	return rc;
}

const char *agent_listening(const struct agent *a)
{
	return a->net->listening(a->net);
}

int agent_is_member(const struct agent *a, uint16_t node)
{
	return node && node <= AGENT_NODE_MAX && a->peers[node].is_member;
}

void agent_peer(struct agent *a, uint16_t node, const char *addr)
{
	if (!node || node > AGENT_NODE_MAX || node == a->cfg.self)
		return;
	struct peer *p = &a->peers[node];
	int is_other = strcmp(p->addr, addr) != 0;
	p->is_member = p->is_told = 1;
	(void)snprintf(p->addr, sizeof p->addr, "%s", addr);
	if (!p->r && (p->r = store_new(a->cfg.store, STORE_PEER, sizeof *p->r))) {
		p->r->node = node;
		store_commit(p->r);
	}
	if (p->r)
		memcpy(p->r->addr, p->addr, sizeof p->addr);
	if (is_other && p->out)
		osess_address(p->out);
}

void agent_peer_dead(struct agent *a, uint16_t node)
{
	if (!node || node > AGENT_NODE_MAX)
		return;
	struct peer *p = &a->peers[node];
	p->is_member = 0;
	p->addr[0] = 0;
	store_free(a->cfg.store, take_ptr(p->r));
	if (p->in)
		isess_end(p->in);
	exporter_node_dead(a->exporter, node);
	if (p->out)
		osess_end(p->out);
	else
		importer_peer_dead(a->importer, node);
}

void agent_peers_begin(struct agent *a)
{
	for (unsigned n = 1; n <= AGENT_NODE_MAX; n++)
		a->peers[n].is_told = 0;
}

void agent_peers_end(struct agent *a)
{
	for (unsigned n = 1; n <= AGENT_NODE_MAX; n++) {
		const struct peer *p = &a->peers[n];
		if (!p->is_told && (p->is_member || p->in || p->out))
			agent_peer_dead(a, (uint16_t)n);
	}
}

/* Requests of pandod */

struct export_job {
	struct agent *a;
	int fd; /* owned */
	agent_export_fn done;
	void *ctx;
	struct agent_export_result res;
};

static void export_end(struct export_job *j)
{
	j->done(j->ctx, &j->res);
	(void)close_fd(j->fd);
	free(j);
}

static void on_regranted(void *ctx, const struct regrant_result *r)
{
	struct export_job *j = ctx;
	j->res.status = r->status;
	j->res.home = r->home;
	j->res.info.id = r->id;
	j->res.info.kind = r->kind;
	j->res.info.oflags = r->oflags;
	memcpy(j->res.info.key, r->key, sizeof r->key);
	(void)snprintf(j->res.info.name, sizeof j->res.info.name, "%s", r->name);
	if (r->status < 0)
		(void)snprintf(j->res.text, sizeof j->res.text, "its home does not pass it on: %s", strerror(-r->status));
	export_end(j);
}

void agent_export(struct agent *a, int fd, uint16_t node, const char *name, agent_export_fn done, void *ctx)
{
	struct export_job *j = calloc(1, sizeof *j);
	if (!j) {
		static const struct agent_export_result none = { .status = -ENOMEM, .text = "out of memory" };
		(void)close_fd(fd);
		done(ctx, &none);
		return;
	}
	*j = (struct export_job){ .a = a, .fd = fd, .done = done, .ctx = ctx };
	struct err e = { 0 };
	if (importer_is_ours(a->importer, fd)) {
		j->res.status = importer_regrant(a->importer, fd, node, on_regranted, j);
		if (j->res.status == 0)
			return;
	} else {
		j->res.home = a->cfg.self;
		j->res.status = exporter_add(a->exporter, fd, node, name, &j->res.info, &e);
		if (j->res.status == 0)
			j->fd = -1;
	}
	(void)snprintf(j->res.text, sizeof j->res.text, "%s", e.text);
	export_end(j);
}

int agent_unexport(struct agent *a, uint16_t home, uint64_t id, uint16_t node)
{
	if (home == a->cfg.self)
		return exporter_unref(a->exporter, id, node);
	return importer_ungrant(a->importer, home, id, node);
}

void agent_import(struct agent *a, uint16_t home, uint64_t id, const uint8_t key[static PMSG_KEY_SIZE], uint32_t flags, import_fn done,
		  void *ctx)
{
	struct import_result r = { .fd = -1, .id = (uint64_t)home << 48 };
	if (home == a->cfg.self) {
		r.status = exporter_take_local(a->exporter, id, key, &r.fd, &r.kind);
		done(ctx, &r);
		return;
	}
	r.status = importer_import(a->importer, home, id, key, flags, done, ctx);
	if (r.status < 0)
		done(ctx, &r);
}

struct importer *agent_importer(struct agent *a)
{
	return a->importer;
}

json_t *agent_stat(const struct agent *a)
{
	json_t *peers = json_array();
	for (unsigned n = 1; n <= AGENT_NODE_MAX; n++) {
		const struct peer *p = &a->peers[n];
		if (!p->is_member)
			continue;
		json_t *o = json_pack("{s:i, s:s, s:b, s:b}", "node", (int)n, "addr", p->addr, "imports_up", p->out && slink_is_up(p->out->link),
				      "exports_up", p->in && slink_is_up(p->in->link));
		if (o)
			(void)json_array_append_new(peers, o);
	}
	return json_pack("{s:i, s:s, s:I, s:o, s:o, s:o}", "node", (int)a->cfg.self, "listening", agent_listening(a), "generation",
			 (json_int_t)a->generation, "peers", peers, "exports", exporter_stat(a->exporter), "imports",
			 importer_stat(a->importer));
}
