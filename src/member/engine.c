#include "member/engine.h"

#include <assert.h>
#include <errno.h>
#include <raft.h>
#include <raft/uv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "member/cluster.h"
#include "member/post.h"
#include "wire/rd.h"

enum {
	HEARTBEAT_MS = 100, /* also the period of libraft's tick */
	ELECTION_MS = 600,  /* an election begins 1 to 2 times as long after the last heartbeat: a new leader leads within 1.4 s */
	SEGMENT_SIZE = 1 << 20, /* files of the log; entries are small */
	CAPACITY_KIB = 128,
	SNAPSHOT_EVERY = 512,   /* commands */
	SNAPSHOT_TRAILING = 128,
};

struct engine {
	struct engine_config cfg;
	struct raft raft;
	struct post_io io;
	struct raft_fsm fsm;
	struct post *post;
	raft_term ready_term; /* the term whose barrier was applied */
	raft_term barrier_term;
	bool barrier_busy;
	struct raft_barrier barrier;
	struct raft_change change;
	bool change_busy;
	struct raft_transfer transfer;
	bool transfer_busy;
	bool raft_made, started;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static int errno_of(int rv)
{
	switch (rv) {
	case 0:
		return 0;
	case RAFT_NOMEM:
		return -ENOMEM;
	case RAFT_NOTLEADER:
	case RAFT_LEADERSHIPLOST:
	case RAFT_NOCONNECTION:
		return -EAGAIN;
	case RAFT_CANTBOOTSTRAP:
	case RAFT_DUPLICATEID:
		return -EEXIST;
	case RAFT_CANTCHANGE:
	case RAFT_BUSY:
		return -EBUSY;
	case RAFT_BADID:
	case RAFT_NOTFOUND:
		return -ENOENT;
	case RAFT_BADROLE:
	case RAFT_INVALID:
		return -EINVAL;
	case RAFT_CORRUPT:
	case RAFT_MALFORMED:
		return -EBADMSG;
	case RAFT_SHUTDOWN:
	case RAFT_CANCELED:
		return -ECANCELED;
	case RAFT_NOSPACE:
		return -ENOSPC;
	case RAFT_UNAUTHORIZED:
		return -EACCES;
	default:
		return -EIO;
	}
}

/* ---- the state machine ----
 *
 * libraft wants entries whose length is a multiple of 8: each is u32 length, that many bytes, zeros. Snapshots too. */

static void *padded(const void *p, size_t n, size_t *ret_n)
{
	size_t size = (4 + n + 7) / 8 * 8;
	uint8_t *buf = raft_calloc(1, size);
	if (!buf)
		return NULL;
	for (unsigned i = 0; i < 4; i++)
		buf[i] = (uint8_t)(n >> (8 * i));
	if (n)
		memcpy(buf + 4, p, n);
	*ret_n = size;
	return buf;
}

static const uint8_t *unpadded(const struct raft_buffer *buf, size_t max, size_t *ret_n)
{
	struct rd r;
	rd_init(&r, buf->base, buf->len);
	const uint8_t *p = rd_bytes(&r, max, ret_n);
	return r.bad ? NULL : p;
}

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
	struct engine *g = fsm->data;
	size_t n;
	const uint8_t *p = unpadded(buf, CLUSTER_CMD_MAX, &n);
	struct engine_result r = g->cfg.apply(g->cfg.ctx, p, p ? n : 0);
	/* Two numbers in the place of a pointer: it needs nobody to free it. */
	*result = (void *)(uintptr_t)((uint64_t)(uint32_t)r.outcome << 32 | r.value);
	return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
	struct engine *g = fsm->data;
	_cleanup_(wr_fini) struct wr w = { 0 };
	g->cfg.snapshot(g->cfg.ctx, &w);
	if (wr_done(&w) < 0)
		return RAFT_NOMEM;
	struct raft_buffer *b = raft_malloc(sizeof *b);
	if (!b)
		return RAFT_NOMEM;
	b->base = padded(w.p, w.n, &b->len);
	if (!b->base) {
		raft_free(b);
		return RAFT_NOMEM;
	}
	*bufs = b;
	*n_bufs = 1;
	return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
	struct engine *g = fsm->data;
	size_t n;
	const uint8_t *p = unpadded(buf, CLUSTER_SNAPSHOT_MAX, &n);
	if (!p || g->cfg.restore(g->cfg.ctx, p, n) < 0)
		return RAFT_MALFORMED;
	raft_free(buf->base); /* ours when we succeed */
	return 0;
}

/* ---- start ---- */

static int bootstrap(struct engine *g, const char *address)
{
	struct raft_configuration conf;
	raft_configuration_init(&conf);
	int rv = raft_configuration_add(&conf, g->cfg.self, address, RAFT_VOTER);
	if (rv == 0)
		rv = raft_bootstrap(&g->raft, &conf);
	raft_configuration_close(&conf);
	return rv;
}

static int raft_make(struct engine *g, const char *dir)
{
	char address[16]; /* libraft wants one per node; the links know the real ones */
	(void)snprintf(address, sizeof address, "n%u", g->cfg.self);

	int rv = raft_uv_init(&g->io.io, g->cfg.loop, dir, post_transport(g->post));
	if (rv != 0)
		return rv;
	raft_uv_set_segment_size(&g->io.io, SEGMENT_SIZE);
	post_attach(g->post, &g->io);
	rv = raft_init(&g->raft, &g->io.io, &g->fsm, g->cfg.self, address);
	if (rv != 0) {
		raft_uv_close(&g->io.io);
		return rv;
	}
	g->raft_made = true;
	g->raft.data = g;
	raft_set_heartbeat_timeout(&g->raft, HEARTBEAT_MS);
	raft_set_election_timeout(&g->raft, ELECTION_MS);
	raft_set_snapshot_threshold(&g->raft, SNAPSHOT_EVERY);
	raft_set_snapshot_trailing(&g->raft, SNAPSHOT_TRAILING);
	raft_set_pre_vote(&g->raft, true);
#ifdef RAFT_HAS_CAPACITY
	/* It refuses entries when less room than this (KiB) is laid by in segments; the default fits larger segments than ours. */
	raft_set_capacity_threshold(&g->raft, CAPACITY_KIB);
#endif
	if (g->cfg.bootstrap && (rv = bootstrap(g, address)) != 0)
		return rv;
	rv = raft_start(&g->raft);
	g->started = rv == 0;
	return rv;
}

static void engine_freed(void *ctx)
{
	struct engine *g = ctx;
	void (*closed)(void *ctx) = g->closed;
	void *closed_ctx = g->closed_ctx;
	free(g);
	if (closed)
		closed(closed_ctx);
}

static void raft_closed(struct raft *r)
{
	struct engine *g = r->data;
	raft_uv_close(&g->io.io);
	post_free(g->post, engine_freed, g);
}

int engine_new(const struct engine_config *cfg, struct engine **ret, struct err *e)
{
	if (mkdir(cfg->dir, 0700) < 0 && errno != EEXIST)
		return err_set(e, -errno, "make %s: %m", cfg->dir);
	struct engine *g = calloc(1, sizeof *g);
	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->cfg = *cfg;
	g->cfg.dir = NULL; /* borrowed for this call only */
	g->fsm = (struct raft_fsm){ .version = 1, .data = g, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore };
	int rc = post_new(cfg->loop, cfg->links, &g->post, e);
	if (rc < 0) {
		free(g);
		return rc;
	}

	int rv = raft_make(g, cfg->dir);
	if (rv != 0) {
		const char *words = g->raft_made && *raft_errmsg(&g->raft) ? raft_errmsg(&g->raft) : raft_strerror(rv);
		rc = err_set(e, errno_of(rv), "raft log in %s: %s", cfg->dir, words);
		if (g->raft_made)
			engine_close(g, NULL, NULL);
		else
			post_free(g->post, engine_freed, g);
		return rc;
	}
	*ret = g;
	return 0;
}

void engine_close(struct engine *g, void (*closed)(void *ctx), void *ctx)
{
	g->closed = closed;
	g->closed_ctx = ctx;
	raft_close(&g->raft, raft_closed);
}

/* ---- while it runs ---- */

static void barrier_done(struct raft_barrier *req, int status)
{
	struct engine *g = req->data;
	g->barrier_busy = false;
	if (status == 0)
		g->ready_term = g->barrier_term;
}

/* A leader knows all that was committed before it led when something of its own term is committed. */
void engine_tick(struct engine *g)
{
	raft_term term = g->raft.current_term;
	if (raft_state(&g->raft) != RAFT_LEADER || g->barrier_busy || g->ready_term == term)
		return;
	g->barrier.data = g;
	g->barrier_term = term;
	g->barrier_busy = true;
	if (raft_barrier(&g->raft, &g->barrier, barrier_done) != 0)
		g->barrier_busy = false; /* leadership is going: the next tick looks again */
}

void engine_state(const struct engine *g, struct engine_state *ret)
{
	struct raft *r = (struct raft *)(uintptr_t)&g->raft; /* libraft's questions are not const, but only look */
	raft_id leader = 0;
	const char *address;
	*ret = (struct engine_state){ .term = r->current_term };
	raft_leader(r, &leader, &address);
	if (leader >= 1 && leader <= NODE_MAX)
		ret->leader = (uint16_t)leader;
	ret->failed = raft_state(r) == RAFT_UNAVAILABLE;
	ret->leads = raft_state(r) == RAFT_LEADER && g->ready_term == r->current_term;
	ret->changing = g->change_busy || g->transfer_busy;
	for (unsigned i = 0; i < r->configuration.n; i++) {
		const struct raft_server *s = &r->configuration.servers[i];
		if (s->id < 1 || s->id > NODE_MAX)
			continue;
		nodeset_add(&ret->group.servers, (uint16_t)s->id);
		if (s->role == RAFT_VOTER)
			nodeset_add(&ret->group.voters, (uint16_t)s->id);
		if (s->role == RAFT_STANDBY)
			nodeset_add(&ret->group.standbys, (uint16_t)s->id);
	}
}

const char *engine_error(const struct engine *g)
{
	return raft_errmsg((struct raft *)(uintptr_t)&g->raft); /* only looks */
}

struct proposal {
	struct raft_apply req;
	engine_done_fn done;
	void *ctx;
};

static void propose_done(struct raft_apply *req, int status, void *result)
{
	struct proposal *q = req->data;
	struct engine_result r = { 0 };
	if (status == 0) {
		uint64_t both = (uint64_t)(uintptr_t)result;
		r = (struct engine_result){ .outcome = (int32_t)(uint32_t)(both >> 32), .value = (uint32_t)both };
	}
	q->done(q->ctx, errno_of(status), r);
	free(q);
}

int engine_propose(struct engine *g, const uint8_t *p, size_t n, engine_done_fn done, void *ctx)
{
	if (raft_state(&g->raft) != RAFT_LEADER)
		return -EAGAIN;
	struct proposal *q = calloc(1, sizeof *q);
	if (!q)
		return -ENOMEM;
	q->done = done;
	q->ctx = ctx;
	q->req.data = q;
	struct raft_buffer buf;
	buf.base = padded(p, n, &buf.len);
	int rv = buf.base ? raft_apply(&g->raft, &q->req, &buf, 1, propose_done) : RAFT_NOMEM;
	if (rv != 0) {
		raft_free(buf.base);
		free(q);
	}
	return errno_of(rv);
}

static void change_done(struct raft_change *req, int status)
{
	struct engine *g = req->data;
	g->change_busy = false;
	if (status != 0)
		log_debug("change of the raft group: %s", raft_strerror(status));
}

int engine_change(struct engine *g, enum roles_step step, uint16_t node)
{
	struct engine_state st;
	engine_state(g, &st);
	if (!st.leads)
		return -EAGAIN;
	if (st.changing)
		return -EBUSY;

	char address[16];
	(void)snprintf(address, sizeof address, "n%u", node);
	g->change.data = g;
	g->change_busy = true;
	int rv = RAFT_INVALID;
	switch (step) {
	case ROLES_ADD:
		rv = raft_add(&g->raft, &g->change, node, address, change_done);
		break;
	case ROLES_STANDBY:
		rv = raft_assign(&g->raft, &g->change, node, RAFT_STANDBY, change_done);
		break;
	case ROLES_VOTER:
		rv = raft_assign(&g->raft, &g->change, node, RAFT_VOTER, change_done);
		break;
	case ROLES_DROP:
		rv = raft_remove(&g->raft, &g->change, node, change_done);
		break;
	case ROLES_NONE:
		break;
	}
	if (rv != 0)
		g->change_busy = false;
	return errno_of(rv);
}

static void transfer_done(struct raft_transfer *req)
{
	struct engine *g = req->data;
	g->transfer_busy = false;
}

void engine_yield(struct engine *g)
{
	if (g->transfer_busy)
		return;
	g->transfer.data = g;
	g->transfer_busy = true;
	if (raft_transfer(&g->raft, &g->transfer, 0, transfer_done) != 0)
		g->transfer_busy = false;
}
