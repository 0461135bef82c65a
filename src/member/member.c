/* A turn of this module:
 *
 * - Events (beats, answers, the tick, raft's callbacks) go into the pulse; what comes out is done at once: freeze, thaw, beats, proposals.
 * - What raft applies comes from deep inside libraft: the state machine and the pulse take it at once (a condemned node must get no
 *   more grants), everything that others are told waits for the next turn of the loop (later_turn).
 *
 * The own space:
 *
 *   wanted --UP accepted--> live --declared dead, or to be removed--> ended --member_reborn--> wanted, or leaving when removed
 *                             '--member_leave--> leaving --GONE accepted--> gone
 *
 * Failure modes: no leader: UP and GONE are tried again. libraft fails: on_error. The daemon dies: the end of the lease is in the
 * lease file, and the space goes on if the next daemon comes in time. */
#include "member/member.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "member/member_int.h"
#include "member/proto.h"

static void out_do(struct member *m, const struct pulse_out *out);
static void freeze_turn(uv_timer_t *t);

/* Asks for a turn of the loop. */
static void later(struct member *m)
{
	if (!m->closing)
		(void)uv_async_send(&m->later); /* cannot fail */
}

static uint64_t nonce_make(void)
{
	uint64_t v = 0;
	if (getrandom(&v, sizeof v, 0) != sizeof v)
		v = lease_now_ms(); /* before the kernel has entropy; it need only differ from the last one */
	return v | 1;
}

static void publish(struct member *m)
{
	uint64_t until = pulse_until(&m->pulse);
	if (m->lease_file)
		lease_file_set(m->lease_file, m->pulse.incarnation, until);
	uint64_t now = lease_now_ms();
	if (m->closing || until == UINT64_MAX || until <= now)
		(void)uv_timer_stop(&m->freeze); /* cannot fail */
	else
		(void)uv_timer_start(&m->freeze, freeze_turn, until - now, 0); /* cannot fail with a callback */
}

/* ---- the own space ---- */

/* Another space, or none (0): that it has ended is told otherwise than by on_freeze. */
static void space_set(struct member *m, uint32_t incarnation)
{
	struct pulse_out out;
	pulse_space(&m->pulse, lease_now_ms(), incarnation, &out);
	out.froze = false;
	out_do(m, &out);
}

/* Our space has to end. It stands still from now on; pandod is told on the next turn. */
static void space_end(struct member *m, enum member_end why)
{
	if (m->space != SPACE_LIVE)
		return;
	m->space = SPACE_ENDED;
	m->ended_incarnation = m->pulse.incarnation;
	m->ended = true;
	m->ended_why = why;
	space_set(m, 0);
	later(m);
}

/* What the log says of us against what we are. Our incarnation may be newer than what was applied here, never older. */
static void space_check(struct member *m)
{
	const struct cluster_member *me = cluster_member(&m->applied, m->cfg.node);
	if (!me || m->space != SPACE_LIVE)
		return;
	if (me->incarnation > m->pulse.incarnation || (me->incarnation == m->pulse.incarnation && !cluster_is_live(me)))
		space_end(m, me->state == MEMBER_REMOVED ? MEMBER_END_REMOVED : MEMBER_END_DEAD);
	else if (me->incarnation == m->pulse.incarnation && me->leaving)
		space_end(m, MEMBER_END_REMOVED);
}

static void removed_tell(struct member *m)
{
	if (m->removed_told)
		return;
	m->removed_told = true;
	m->space = SPACE_GONE;
	if (m->cfg.on_removed)
		m->cfg.on_removed(m->cfg.ctx);
}

static void error_tell(struct member *m, int code, const char *words)
{
	if (m->error_told)
		return;
	m->error_told = true;
	if (m->cfg.on_error)
		m->cfg.on_error(m->cfg.ctx, code, words);
}

static void up_done(void *ctx, int status, uint32_t value)
{
	struct member *m = ctx;
	m->up_busy = false;
	m->space_retry_ms = lease_now_ms() + 200;
	if (m->space != SPACE_WANTED || m->closing)
		return;
	if (status == 0) {
		m->space = SPACE_LIVE;
		m->error_told = false;
		space_set(m, value);
		space_check(m); /* it may have ended already */
	} else if (status == -ESTALE) {
		m->up_nonce = nonce_make();
	} else if (status == -EKEYREVOKED) {
		removed_tell(m);
	} else if (status != -ETIMEDOUT) {
		m->space_retry_ms += 5000;
		error_tell(m, status, member_strerror(status));
	}
}

static void up_propose(struct member *m)
{
	const struct cluster_member *me = cluster_member(&m->applied, m->cfg.node);
	if (!me)
		return; /* the log has not come to us yet */
	struct cluster_cmd cmd = { .type = CLUSTER_UP, .node = m->cfg.node, .incarnation = me->incarnation, .nonce = m->up_nonce,
				   .cpus = m->cfg.self.cpus ? m->cfg.self.cpus : me->cpus,
				   .memory = m->cfg.self.memory ? m->cfg.self.memory : me->memory };
	strcpy(cmd.addr, m->addr ? m->addr : me->addr); /* lengths were checked at the start */
	strcpy(cmd.stream_addr, m->stream_addr ? m->stream_addr : me->stream_addr);
	m->up_busy = member_propose(m, &cmd, up_done, m) == 0;
}

static void gone_done(void *ctx, int status, uint32_t value)
{
	struct member *m = ctx;
	m->gone_busy = false;
	m->space_retry_ms = lease_now_ms() + 200;
	if (m->space != SPACE_LEAVING || m->closing || status == -ETIMEDOUT)
		return;
	/* Anything else than 0 says that the log is beyond this incarnation, or we are no member. */
	m->space = SPACE_GONE;
	if (!m->left_until_ms)
		m->left_until_ms = lease_now_ms() + MEMBER_LEAVE_MS;
}

static void gone_propose(struct member *m)
{
	struct cluster_cmd cmd = { .type = CLUSTER_GONE, .node = m->cfg.node, .incarnation = m->ended_incarnation };
	m->gone_busy = member_propose(m, &cmd, gone_done, m) == 0;
}

/* Nobody needs us any more. */
static void left_tell(struct member *m)
{
	void (*done)(void *ctx) = m->left;
	m->left = NULL;
	m->left_until_ms = 0;
	if (done)
		done(m->left_ctx);
	else
		removed_tell(m);
}

static void space_tick(struct member *m, uint64_t now)
{
	if (m->space == SPACE_WANTED && !m->up_busy && m->raft.leader && now >= m->space_retry_ms)
		up_propose(m);
	if (m->space == SPACE_LEAVING && !m->gone_busy && now >= m->space_retry_ms)
		gone_propose(m);
	if (!m->left_until_ms)
		return;
	bool needed = nodeset_has(&m->raft.group.voters, m->cfg.node) && nodeset_count(&m->raft.group.voters) > 1;
	if (m->space == SPACE_GONE && needed && m->raft.leads)
		engine_yield(m->engine); /* the next leader takes our vote from us */
	if ((m->space == SPACE_GONE && !needed) || now >= m->left_until_ms)
		left_tell(m);
}

void member_reborn(struct member *m)
{
	if (m->space != SPACE_ENDED)
		return;
	m->up_nonce = nonce_make();
	m->space = m->ended_why == MEMBER_END_REMOVED ? SPACE_LEAVING : SPACE_WANTED;
	m->space_retry_ms = 0;
	m->ended = false;
}

void member_leave(struct member *m, void (*done)(void *ctx), void *ctx)
{
	if (m->pulse.incarnation)
		m->ended_incarnation = m->pulse.incarnation;
	bool tell = m->ended_incarnation != 0;
	m->space = tell ? SPACE_LEAVING : SPACE_GONE;
	m->space_retry_ms = 0;
	m->left = done;
	m->left_ctx = ctx;
	m->left_until_ms = lease_now_ms() + MEMBER_LEAVE_MS;
	space_set(m, 0);
	later(m);
}

/* ---- what the pulse wants done ---- */

static void nothing_done(void *ctx, int status, struct engine_result r)
{
	/* The detector asks again for what did not come to pass. */
}

static void verdict_propose(struct member *m, const struct detector_proposal *q)
{
	static const enum cluster_cmd_type types[] = { [DETECTOR_CONDEMN] = CLUSTER_CONDEMN, [DETECTOR_ABSOLVE] = CLUSTER_ABSOLVE,
						       [DETECTOR_DEAD] = CLUSTER_DEAD };
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct cluster_cmd cmd = { .type = types[q->verdict], .node = q->node, .incarnation = q->incarnation, .epoch = q->epoch };
	log_debug("member: propose %s node=%u incarnation=%u epoch=%u",
		  q->verdict == DETECTOR_CONDEMN ? "condemn" : q->verdict == DETECTOR_ABSOLVE ? "absolve" : "dead", q->node, q->incarnation,
		  q->epoch);
	if (cluster_cmd_encode(&cmd, &w) == 0)
		(void)engine_propose(m->engine, w.p, w.n, nothing_done, NULL); /* see nothing_done */
}

static void beats_send(struct member *m, const struct nodeset *to)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	pulse_beat_make(&m->pulse, lease_now_ms(), &w);
	if (wr_done(&w) < 0)
		return;
	for (uint16_t i = 1; i <= NODE_MAX; i++)
		if (nodeset_has(to, i))
			(void)links_send(m->cfg.links, i, MSG_MEMBER_BEAT, w.p, w.n); /* a beat that is not sent is a beat that is lost */
}

static void nodes_tell(struct member *m, const struct nodeset *set, bool up)
{
	for (uint16_t i = 1; i <= NODE_MAX && m->cfg.on_node; i++)
		if (nodeset_has(set, i))
			m->cfg.on_node(m->cfg.ctx, i, up);
}

static void out_do(struct member *m, const struct pulse_out *out)
{
	publish(m);
	if (out->froze && m->cfg.on_freeze)
		m->cfg.on_freeze(m->cfg.ctx);
	if (out->thawed && m->cfg.on_thaw)
		m->cfg.on_thaw(m->cfg.ctx);
	if (m->closing)
		return;
	if (!nodeset_empty(&out->beat_to))
		beats_send(m, &out->beat_to);
	for (unsigned i = 0; i < out->n_proposals; i++)
		verdict_propose(m, &out->proposals[i]);
	if (out->over)
		space_end(m, MEMBER_END_DEAD);
	nodes_tell(m, &out->left, false);
	nodes_tell(m, &out->joined, true);
}

/* Looks at raft: voters, term, leader. */
static void raft_look(struct member *m)
{
	struct pulse_out out;
	engine_state(m->engine, &m->raft);
	pulse_raft(&m->pulse, lease_now_ms(), m->raft.term, m->raft.leader, m->raft.leads, &m->raft.group.voters, &out);
	out_do(m, &out);
}

static void beat_msg(void *ctx, uint16_t from, const uint8_t *p, size_t n)
{
	struct member *m = ctx;
	struct pulse_out out;
	_cleanup_(wr_fini) struct wr w = { 0 };
	if (m->closing)
		return;
	raft_look(m); /* the answer tells which set of voters we believe in */
	if (pulse_beat(&m->pulse, lease_now_ms(), from, p, n, &w, &out) < 0) {
		log_debug("member: beat of node %u is not well formed", from);
		return;
	}
	if (wr_done(&w) == 0)
		(void)links_send(m->cfg.links, from, MSG_MEMBER_ANSWER, w.p, w.n); /* as a beat: it may be lost */
	out_do(m, &out);
}

static void answer_msg(void *ctx, uint16_t from, const uint8_t *p, size_t n)
{
	struct member *m = ctx;
	struct pulse_out out;
	if (m->closing)
		return;
	if (pulse_answer(&m->pulse, lease_now_ms(), from, p, n, &out) < 0) {
		log_debug("member: answer of node %u is not well formed", from);
		return;
	}
	out_do(m, &out);
}

void member_heard(struct member *m, uint16_t node)
{
	struct pulse_out out;
	if (m->closing)
		return;
	pulse_heard(&m->pulse, lease_now_ms(), node, &out);
	out_do(m, &out);
}

void member_link_up(struct member *m, uint16_t node)
{
	if (m->closing)
		return;
	member_heard(m, node);
	if (nodeset_has(&m->pulse.d.voters, node)) {
		struct nodeset to = { 0 };
		nodeset_add(&to, node);
		beats_send(m, &to); /* a grant may be waited for */
	}
}

void member_link_down(struct member *m, uint16_t node)
{
	/* Nothing to do: silence counts from the last sign of life, and libraft tries again by itself. */
}

/* ---- what raft applies ---- */

/* Room for one more: there are more deaths than nodes, so an older incarnation of one that died again since can go. */
static void death_forget(struct member *m)
{
	for (unsigned i = 0; i < m->n_deaths; i++) {
		for (unsigned k = i + 1; k < m->n_deaths; k++) {
			if (m->deaths[k].node != m->deaths[i].node)
				continue;
			memmove(&m->deaths[i], &m->deaths[i + 1], (--m->n_deaths - i) * sizeof m->deaths[0]);
			return;
		}
	}
}

static void death_note(struct member *m, uint16_t node, uint32_t incarnation)
{
	if (node == m->cfg.node || m->applied.version <= m->shown->version)
		return; /* we know of ourselves; and of what the state directory knew pandod takes care at its start */
	if (m->n_deaths == MEMBER_DEATHS_MAX)
		death_forget(m);
	m->deaths[m->n_deaths].node = node;
	m->deaths[m->n_deaths++].incarnation = incarnation;
}

static void applied_take(struct member *m)
{
	struct pulse_out out;
	pulse_applied(&m->pulse, lease_now_ms(), &out);
	assert(!out.froze && !out.thawed && !out.n_proposals); /* states of members give none of these */
	space_check(m);
	later(m);
}

static struct engine_result apply(void *ctx, const uint8_t *p, size_t n)
{
	struct member *m = ctx;
	struct cluster_effect f = cluster_apply(&m->applied, p, n);
	if (f.died)
		death_note(m, f.died, f.died_incarnation);
	applied_take(m);
	return (struct engine_result){ .outcome = f.status, .value = f.value };
}

static void snapshot(void *ctx, struct wr *w)
{
	struct member *m = ctx;
	cluster_encode(&m->applied, w);
}

static int restore(void *ctx, const uint8_t *p, size_t n)
{
	struct member *m = ctx;
	_cleanup_(free_p) struct cluster *before = malloc(sizeof *before);
	if (!before)
		return -ENOMEM;
	*before = m->applied;
	int rc = cluster_decode(&m->applied, p, n);
	if (rc < 0)
		return rc;
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *was = cluster_member(before, i), *is = cluster_member(&m->applied, i);
		if (cluster_is_live(was) && (!cluster_is_live(is) || is->incarnation != was->incarnation))
			death_note(m, i, was->incarnation);
	}
	if (m->engine)
		applied_take(m); /* else: within engine_new, which looks at everything afterwards */
	return 0;
}

/* ---- turns ---- */

/* Keeps the links to what the cluster says. */
static void peers_set(struct member *m, uint64_t now)
{
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *o = cluster_member(m->shown, i);
		if (!o || i == m->cfg.node)
			continue;
		if (o->state == MEMBER_REMOVED) {
			if (!m->removed_ms[i])
				m->removed_ms[i] = now;
			continue;
		}
		m->removed_ms[i] = 0;
		if (strcmp(m->peers[i], o->addr) == 0)
			continue;
		struct err e;
		if (links_peer_set(m->cfg.links, i, o->addr, &e) < 0)
			log_warn("member: node %u: %s; no link to it", i, e.text);
		else
			strcpy(m->peers[i], o->addr); /* the same size */
	}
}

/* A member that was removed may still be told so for a while. */
static void peers_drop(struct member *m, uint64_t now)
{
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		if (!m->removed_ms[i] || now - m->removed_ms[i] < MEMBER_DROP_MS || !m->peers[i][0])
			continue;
		m->peers[i][0] = 0;
		links_peer_drop(m->cfg.links, i);
	}
}

static void roles_tick(struct member *m, uint64_t now)
{
	if (!m->raft.leads || m->raft.changing || now < m->roles_retry_ms)
		return;
	struct nodeset up = m->pulse.d.up;
	nodeset_add(&up, m->cfg.node);
	uint16_t node;
	enum roles_step step = roles_next(&m->applied, &m->raft.group, &up, &node);
	if (step == ROLES_NONE)
		return;
	m->roles_retry_ms = now + 500;
	if (node == m->cfg.node && (step == ROLES_DROP || step == ROLES_STANDBY)) {
		engine_yield(m->engine); /* somebody else does that to us */
		return;
	}
	int rc = engine_change(m->engine, step, node);
	if (rc == 0)
		m->roles_retry_ms = 0;
	else
		log_debug("member: raft role of node %u: %s, later again", node, strerror(-rc));
}

static void later_turn(uv_async_t *h)
{
	struct member *m = h->data;
	if (m->closing)
		return;
	if (m->applied.version > m->shown->version) {
		*m->shown = m->applied;
		peers_set(m, lease_now_ms());
		member_save(m);
		if (m->cfg.on_change)
			m->cfg.on_change(m->cfg.ctx, m->shown);
	}
	for (unsigned i = 0; i < m->n_deaths && !m->closing; i++)
		if (m->cfg.on_dead)
			m->cfg.on_dead(m->cfg.ctx, m->deaths[i].node, m->deaths[i].incarnation);
	m->n_deaths = 0;
	if (m->ended && !m->closing) {
		m->ended = false;
		if (m->cfg.on_ended)
			m->cfg.on_ended(m->cfg.ctx, m->ended_why);
	}
	const struct cluster_member *me = cluster_member(&m->applied, m->cfg.node);
	if (me && me->state == MEMBER_REMOVED && m->space == SPACE_WANTED && !m->closing)
		removed_tell(m);
	if (!m->closing)
		member_proposals_tick(m, lease_now_ms());
	if (!m->closing)
		member_joins_tick(m, lease_now_ms());
}

static void tick_turn(uv_timer_t *t)
{
	struct member *m = t->data;
	struct pulse_out out;
	uint64_t now = lease_now_ms();
	engine_tick(m->engine);
	raft_look(m);
	pulse_tick(&m->pulse, now, &out);
	out_do(m, &out);
	if (m->raft.failed && !m->closing)
		error_tell(m, -EIO, engine_error(m->engine));
	if (!m->closing)
		space_tick(m, now);
	if (!m->closing)
		member_proposals_tick(m, now);
	if (!m->closing)
		member_joins_tick(m, now);
	if (m->closing)
		return;
	roles_tick(m, now);
	peers_drop(m, now);
}

/* The lease may have ended: look exactly now. */
static void freeze_turn(uv_timer_t *t)
{
	struct member *m = t->data;
	struct pulse_out out;
	pulse_tick(&m->pulse, lease_now_ms(), &out);
	out_do(m, &out);
}

/* ---- start and end ---- */

static void member_free(struct member *m)
{
	(void)lease_file_close(m->lease_file);
	free(m->state_dir);
	free(m->lease_path);
	free(m->addr);
	free(m->stream_addr);
	free(m->shown);
	free(m);
}

/* Copies s into *ret; NULL stays NULL. */
static int copy(const char *s, char **ret)
{
	*ret = s ? strdup(s) : NULL;
	return s && !*ret ? -ENOMEM : 0;
}

static int config_copy(struct member *m, const struct member_config *cfg, struct err *e)
{
	const struct member_identity *id = &cfg->self;
	if (cfg->node < 1 || cfg->node > NODE_MAX)
		return err_set(e, -EINVAL, "%u is no node's number", cfg->node);
	if ((id->addr && cluster_addr_check(id->addr, e) < 0) ||
	    (id->stream_addr && *id->stream_addr && cluster_addr_check(id->stream_addr, e) < 0))
		return -EINVAL;
	m->cfg = *cfg;
	m->shown = calloc(1, sizeof *m->shown);
	if (!m->shown || copy(cfg->state_dir, &m->state_dir) < 0 || copy(cfg->lease_path, &m->lease_path) < 0 ||
	    copy(id->addr, &m->addr) < 0 || copy(id->stream_addr, &m->stream_addr) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return 0;
}

static int known_read(struct member *m, struct err *e)
{
	_cleanup_(free_p) struct cluster *known = NULL;
	int rc = member_state_read(m->state_dir, &known, e);
	if (rc == -EBADMSG) {
		log_warn("member: %s; the raft log will do, once the others have found us", e ? e->text : "");
		return 0;
	}
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (known)
		*m->shown = *known;
	return 0;
}

/* The space and its lease as an earlier run of the daemon left them. */
static int lease_begin(struct member *m, struct err *e)
{
	uint32_t incarnation = 0;
	uint64_t until = 0;
	if (m->lease_path && !m->cfg.fresh_space)
		(void)lease_file_read(m->lease_path, &incarnation, &until); /* none: zeros */
	if (m->lease_path) {
		int rc = lease_file_open(m->lease_path, &m->lease_file, e);
		if (rc < 0)
			return rc;
	}
	pulse_init(&m->pulse, m->cfg.node, lease_now_ms(), incarnation, until, &m->applied);
	m->up_nonce = nonce_make();
	m->space = incarnation ? SPACE_LIVE : SPACE_WANTED;
	if (!incarnation && !m->cfg.fresh_space) {
		/* There is a space of which nobody knows what it is: it has to go. */
		m->space = SPACE_ENDED;
		m->ended = true;
		m->ended_why = MEMBER_END_DEAD;
	}
	return 0;
}

static int engine_begin(struct member *m, struct err *e)
{
	char dir[PATH_MAX];
	if ((size_t)snprintf(dir, sizeof dir, "%s/raft", m->state_dir) >= sizeof dir)
		return err_set(e, -ENAMETOOLONG, "%s/raft: path too long", m->state_dir);
	return engine_new(&(struct engine_config){ .loop = m->cfg.loop, .links = m->cfg.links, .dir = dir, .self = m->cfg.node, .ctx = m,
						   .apply = apply, .snapshot = snapshot, .restore = restore }, &m->engine, e);
}

static void handle_closed(uv_handle_t *h)
{
	struct member *m = h->data;
	m->n_open--;
	member_closed_maybe(m);
}

void member_closed_maybe(struct member *m)
{
	if (!m->closing || m->n_open)
		return;
	void (*closed)(void *ctx) = m->closed;
	void *ctx = m->closed_ctx;
	member_free(m);
	if (closed)
		closed(ctx);
}

static void handles_close(struct member *m)
{
	uv_close((uv_handle_t *)&m->tick, handle_closed);
	uv_close((uv_handle_t *)&m->freeze, handle_closed);
	uv_close((uv_handle_t *)&m->later, handle_closed);
}

static int handles_open(struct member *m, struct err *e)
{
	int rc = uv_async_init(m->cfg.loop, &m->later, later_turn);
	if (rc < 0)
		return err_set(e, rc, "make an async handle: %s", uv_strerror(rc));
	(void)uv_timer_init(m->cfg.loop, &m->tick); /* cannot fail */
	(void)uv_timer_init(m->cfg.loop, &m->freeze);
	m->later.data = m->tick.data = m->freeze.data = m;
	m->n_open = 3;
	return 0;
}

int member_start(const struct member_config *cfg, struct member **ret, struct err *e)
{
	struct member *m = calloc(1, sizeof *m);
	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = config_copy(m, cfg, e);
	if (rc == 0)
		rc = known_read(m, e);
	if (rc == 0)
		rc = lease_begin(m, e);
	if (rc == 0)
		rc = handles_open(m, e);
	if (rc < 0) {
		member_free(m);
		return rc;
	}
	rc = engine_begin(m, e);
	if (rc < 0) {
		m->closing = true; /* freed when the handles are closed */
		handles_close(m);
		return rc;
	}

	links_handle(cfg->links, MSG_MEMBER_BEAT, beat_msg, m);
	links_handle(cfg->links, MSG_MEMBER_ANSWER, answer_msg, m);
	member_proposals_init(m);
	member_joins_init(m);
	peers_set(m, lease_now_ms());
	(void)uv_timer_start(&m->freeze, freeze_turn, 0, 0); /* cannot fail with a callback */
	(void)uv_timer_start(&m->tick, tick_turn, 0, MEMBER_TICK_MS);
	applied_take(m);
	raft_look(m);
	*ret = m;
	return 0;
}

static void engine_closed(void *ctx)
{
	struct member *m = ctx;
	m->engine = NULL;
	m->n_open--;
	member_closed_maybe(m);
}

void member_close(struct member *m, void (*closed)(void *ctx), void *ctx)
{
	m->closing = true;
	m->closed = closed;
	m->closed_ctx = ctx;
	m->n_open++; /* the engine */
	member_joins_cancel(m);
	member_proposals_cancel(m);
	links_handle(m->cfg.links, MSG_MEMBER_BEAT, NULL, NULL);
	links_handle(m->cfg.links, MSG_MEMBER_ANSWER, NULL, NULL);
	links_handle_call(m->cfg.links, MSG_MEMBER_PROPOSE, NULL, NULL);
	links_on_join(m->cfg.links, NULL, NULL);
	handles_close(m);
	engine_close(m->engine, engine_closed, m);
}

/* ---- questions ---- */

const struct cluster *member_cluster(const struct member *m)
{
	return m->shown;
}

uint16_t member_self(const struct member *m)
{
	return m->cfg.node;
}

uint32_t member_incarnation(const struct member *m)
{
	return m->pulse.incarnation;
}

uint16_t member_leader(const struct member *m)
{
	return m->raft.leader;
}

bool member_has_quorum(const struct member *m)
{
	return m->pulse.l.running && m->raft.leader;
}

bool member_may_run(const struct member *m)
{
	return m->pulse.incarnation && m->pulse.l.running;
}

uint64_t member_until_ms(const struct member *m)
{
	return pulse_until(&m->pulse);
}

bool member_is_up(const struct member *m, uint16_t node)
{
	return node == m->cfg.node || nodeset_has(&m->pulse.d.up, node);
}

struct nodeset member_voters(const struct member *m)
{
	return m->raft.group.voters;
}
