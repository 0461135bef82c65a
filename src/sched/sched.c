/* Counting what the reports do not show yet.
 *
 * A report is the average of the tasks that wanted a CPU over the window of LOAD_WINDOW_MS before it was taken. Of a
 * program that began at p and runs on, a report taken at s shows the part (s - p) / window, at most 1; of one that
 * ended at e before s it shows what lies in the window still. The load of a node is its report, and for each program
 * known to be placed there the difference between what it is now (1 or 0, times its share of a CPU) and the part that
 * the report shows of it. So a burst spreads at once, a wave of ended jobs frees its node at once, and nothing is
 * counted twice.
 *
 * A booking is in the table by pid while its program lives, and in its node's list while it makes such a difference; a
 * booking in neither is freed. Failure modes: an end that nobody reports leaves a table entry that makes no difference,
 * dropped when the table is full; a report that never comes makes the node unknown after SCHED_STALE_MS. */
#include "sched/sched.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1 /* out of memory leaves hh.tbl NULL instead of ending the program */
#include <uthash.h>
#include <utlist.h>

#include "base/log.h"
#include "sched/load.h"

struct booking {
	uint32_t pid;
	uint16_t node;
	int live, listed;
	double weight;
	uint64_t placed_ms, ended_ms; /* ended_ms only when not live */
	struct booking *prev, *next;  /* in its node's list, when listed */
	UT_hash_handle hh;            /* in the table, when live */
};

struct member {
	enum sched_node_state state;
	int reported;
	struct load_report report;
	uint64_t sampled_ms;  /* when the report was taken, on our clock */
	struct booking *open; /* those that make a difference */
};

enum { TICK_BUSY_MS = 100, TICK_IDLE_MS = 500, SEND_BUSY_MS = 250, SEND_IDLE_MS = 2000, POLICIES_MAX = 8 };

struct sched {
	uint16_t self;
	struct load_probe *probe; /* owned; NULL in a simulation */
	struct learn *learn;      /* owned */
	const struct sched_policy *policy;
	uint64_t state[POLICIES_MAX][2];
	char words[64];
	struct member member[SCHED_NODE_MAX + 1]; /* by id */
	struct booking *live;                     /* by pid, oldest first */
	uint64_t sent_ms;
	struct load_report sent;
	int has_sent;
};

/* --- bookings --- */

static double clamp01(double v)
{
	return v < 0 ? 0 : v > 1 ? 1 : v;
}

/* The part of a booking that a report taken at s shows. */
static double shown(const struct booking *b, uint64_t s)
{
	uint64_t until = b->live || b->ended_ms > s ? s : b->ended_ms;
	uint64_t from = s > LOAD_WINDOW_MS ? s - LOAD_WINDOW_MS : 0;
	if (b->placed_ms > from)
		from = b->placed_ms;
	return until > from ? clamp01((double)(until - from) / LOAD_WINDOW_MS) : 0;
}

static double difference(const struct booking *b, const struct member *m)
{
	return b->weight * ((b->live ? 1.0 : 0.0) - (m->reported ? shown(b, m->sampled_ms) : 0));
}

static void booking_unlist(struct sched *s, struct booking *b)
{
	if (b->listed) {
		DL_DELETE(s->member[b->node].open, b);
		b->listed = 0;
	}
}

static void booking_list(struct sched *s, struct booking *b)
{
	if (!b->listed) {
		DL_APPEND(s->member[b->node].open, b);
		b->listed = 1;
	}
}

static struct booking *booking_find(const struct sched *s, uint32_t pid)
{
	struct booking *b;
	HASH_FIND(hh, s->live, &pid, sizeof pid, b);
	return b;
}

/* Takes a booking out of everything and frees it. */
static void booking_drop(struct sched *s, struct booking *b)
{
	booking_unlist(s, b);
	if (b->live)
		HASH_DEL(s->live, b);
	free(b);
}

/* After a report: forgets what it shows exactly. Live ones stay in the table, for their end. */
static void bookings_settle(struct sched *s, struct member *m)
{
	struct booking *b, *next;
	DL_FOREACH_SAFE(m->open, b, next)
	{
		double d = difference(b, m);
		if (d > 1e-9 || d < -1e-9)
			continue;
		if (b->live)
			booking_unlist(s, b);
		else if (m->sampled_ms > b->ended_ms)
			booking_drop(s, b);
	}
}

static int node_ok(uint16_t node)
{
	return node >= 1 && node <= SCHED_NODE_MAX;
}

void sched_ended(struct sched *s, uint32_t pid, uint64_t now_ms)
{
	struct booking *b = booking_find(s, pid);
	if (!b)
		return;
	HASH_DEL(s->live, b);
	b->live = 0;
	b->ended_ms = now_ms > b->placed_ms ? now_ms : b->placed_ms;
	const struct member *m = &s->member[b->node];
	int heard = m->reported && m->sampled_ms + SCHED_STALE_MS > now_ms; /* else nothing would ever settle it */
	if (heard && b->weight > 0)
		booking_list(s, b);
	else
		booking_drop(s, b);
}

void sched_placed(struct sched *s, uint32_t pid, uint16_t node, double intensity, uint64_t now_ms)
{
	sched_ended(s, pid, now_ms);
	if (!node_ok(node) || s->member[node].state == SCHED_NODE_GONE)
		return;
	if (HASH_COUNT(s->live) >= SCHED_BOOKED_MAX)
		booking_drop(s, s->live);
	struct booking *b = calloc(1, sizeof *b);
	if (!b)
		return; /* it counts from when it shows in a report */
	b->pid = pid;
	b->node = node;
	b->live = 1;
	b->weight = clamp01(intensity);
	b->placed_ms = now_ms;
	HASH_ADD(hh, s->live, pid, sizeof b->pid, b);
	if (!b->hh.tbl) {
		free(b);
		return;
	}
	booking_list(s, b);
}

/* A parent that was placed a moment ago and now starts a child most likely waits for it: it is not counted beside its
 * child. */
static void parent_waits(struct sched *s, uint32_t ppid)
{
	struct booking *b = ppid ? booking_find(s, ppid) : NULL;
	if (b && b->listed && b->node == s->self)
		booking_drop(s, b);
}

/* --- nodes --- */

void sched_node_set(struct sched *s, uint16_t node, enum sched_node_state state)
{
	assert(node_ok(node));
	struct member *m = &s->member[node];
	if (state == SCHED_NODE_GONE) {
		struct booking *b, *next;
		HASH_ITER(hh, s->live, b, next)
		{
			if (b->node == node)
				booking_drop(s, b);
		}
		DL_FOREACH_SAFE(m->open, b, next)
		{
			booking_drop(s, b);
		}
		memset(m, 0, sizeof *m);
	}
	m->state = state;
}

static struct sched_node node_view(const struct sched *s, uint16_t id, uint64_t now_ms)
{
	const struct member *m = &s->member[id];
	struct sched_node n = { .id = id, .state = m->state, .cpus = 1, .speed = 1 };
	if (!m->reported)
		return n;
	n.age_ms = now_ms > m->sampled_ms ? (uint32_t)(now_ms - m->sampled_ms) : 0;
	n.known = n.age_ms <= SCHED_STALE_MS;
	n.cpus = m->report.cpus_milli / 1000.0;
	n.speed = m->report.speed_milli / 1000.0;
	n.mem_total = m->report.mem_total;
	n.mem_free = m->report.mem_free;
	n.load = m->report.running_milli / 1000.0;
	const struct booking *b;
	DL_FOREACH(m->open, b)
	{
		n.load += difference(b, m);
	}
	n.load = n.load > 0 ? n.load : 0;
	return n;
}

int sched_node_get(const struct sched *s, uint16_t node, uint64_t now_ms, struct sched_node *ret)
{
	if (!node_ok(node) || s->member[node].state == SCHED_NODE_GONE)
		return -ENOENT;
	*ret = node_view(s, node, now_ms);
	return 0;
}

/* --- reports --- */

static void report_take(struct sched *s, uint16_t node, const struct load_report *l, uint64_t now_ms)
{
	struct member *m = &s->member[node];
	m->report = *l;
	m->reported = 1;
	m->sampled_ms = now_ms > l->age_ms ? now_ms - l->age_ms : 0;
	bookings_settle(s, m);
}

int sched_report_in(struct sched *s, uint16_t node, const void *p, size_t n, uint64_t now_ms)
{
	struct load_report l;
	if (!node_ok(node) || s->member[node].state == SCHED_NODE_GONE)
		return -ENOENT;
	int rc = load_decode(p, n, &l);
	if (rc < 0)
		return rc;
	report_take(s, node, &l, now_ms);
	return 0;
}

static int differs(uint32_t a, uint32_t b)
{
	uint32_t d = a > b ? a - b : b - a, least = a < b ? a : b;
	return d > 200 && d > least / 10; /* a fifth of a task, and a tenth of it all */
}

int sched_tick(struct sched *s, uint64_t now_ms, uint32_t *ret_next_ms, struct err *e)
{
	struct load_report l;
	struct member *me = &s->member[s->self];
	*ret_next_ms = TICK_IDLE_MS;
	if (!s->probe)
		return 0;
	int rc = load_probe_sample(s->probe, now_ms, &l, e);
	if (rc < 0) {
		me->reported = 0;
		return rc;
	}
	report_take(s, s->self, &l, now_ms);

	int busy = l.running_milli > 100 || me->open;
	*ret_next_ms = busy ? TICK_BUSY_MS : TICK_IDLE_MS;
	uint64_t since = now_ms - s->sent_ms;
	int changed =
	    s->has_sent && (differs(l.running_milli, s->sent.running_milli) || l.cpus_milli != s->sent.cpus_milli);
	/* while jobs come and go the average alone does not tell that it is old */
	if (s->has_sent && since < SEND_BUSY_MS)
		return 0;
	if (s->has_sent && !changed && since < (busy ? SEND_BUSY_MS * 2 : SEND_IDLE_MS))
		return 0;
	s->sent = l;
	s->sent_ms = now_ms;
	s->has_sent = 1;
	return SCHED_SEND;
}

int sched_report_out(struct sched *s, uint64_t now_ms, struct wr *w)
{
	const struct member *me = &s->member[s->self];
	if (!me->reported)
		return -ENODATA;
	struct load_report l = me->report;
	l.age_ms = now_ms > me->sampled_ms ? (uint32_t)(now_ms - me->sampled_ms) : 0;
	load_encode(w, &l);
	return wr_done(w);
}

/* --- deciding --- */

static uint64_t *policy_state(struct sched *s, const struct sched_policy *p)
{
	return s->state[p - policy_list];
}

int sched_policy_set(struct sched *s, const char *name, uint64_t seed, struct err *e)
{
	const struct sched_policy *p = policy_find(name);
	if (!p)
		return err_set(e, -ENOENT, "no scheduling policy \"%s\"", name);
	uint64_t *state = policy_state(s, p);
	state[0] = 0;
	state[1] = seed;
	s->policy = p;
	(void)snprintf(s->words, sizeof s->words, "%s, seed %llu", p->name, (unsigned long long)seed);
	return 0;
}

const char *sched_policy_words(const struct sched *s)
{
	return s->words;
}

/* What is decided without asking the policy. 1: decided. */
static int stays(const struct sched *s, const struct sched_policy *p, const struct sched_view *v,
		 struct sched_decision *d)
{
	const struct sched_node *self = NULL;
	for (size_t i = 0; i < v->n; i++)
		if (v->nodes[i].id == s->self)
			self = &v->nodes[i];
	if (!p->learns || !self)
		return 0;
	if (d->guess.kind == LEARN_BRIEF) {
		d->why = "too brief to move";
		return 1;
	}
	if (d->guess.kind == LEARN_UNKNOWN && self->state == SCHED_NODE_ACTIVE &&
	    (!self->known || self->load + 1 <= self->cpus)) {
		d->why = "not seen before, and a CPU is free here";
		return 1;
	}
	return 0;
}

static int decide(struct sched *s, const struct sched_request *r, const struct sched_policy *p, uint64_t now_ms,
		  struct sched_decision *d, struct err *e)
{
	struct sched_node nodes[SCHED_NODE_MAX];
	struct sched_view v = { .nodes = nodes, .self = s->self };
	if (r->forced) {
		if (!node_ok(r->forced) || s->member[r->forced].state == SCHED_NODE_GONE)
			return err_set(e, -EHOSTDOWN, "node %u is not in the cluster", r->forced);
		if (s->member[r->forced].state == SCHED_NODE_DRAINING)
			return err_set(e, -EHOSTDOWN, "node %u is being drained", r->forced);
		d->node = r->forced;
		d->why = "the user named the node";
		return 0;
	}
	for (uint16_t id = 1; id <= SCHED_NODE_MAX; id++)
		if (s->member[id].state != SCHED_NODE_GONE)
			nodes[v.n++] = node_view(s, id, now_ms);
	d->node = s->self;
	if (stays(s, p, &v, d))
		return 0;

	uint16_t node = s->self;
	d->why = p->place(policy_state(s, p), &v, r, &node) < 0 ? "no node will do" : p->name;
	int valid = node_ok(node) && s->member[node].state != SCHED_NODE_GONE;
	d->node = valid ? node : s->self; /* a policy decides among members, whatever it says */
	return 0;
}

int sched_place(struct sched *s, const struct sched_request *r, struct learn_key key, const char *policy,
		uint64_t now_ms, struct sched_decision *ret, struct err *e)
{
	struct sched_decision d = { .node = s->self };
	struct sched_request q = *r;
	const struct sched_policy *p = policy ? policy_find(policy) : s->policy;
	if (!p)
		return err_set(e, -ENOENT, "no scheduling policy \"%s\"", policy);

	/* What this process was until now is over, and its load with it. */
	sched_ended(s, r->pid, now_ms);
	parent_waits(s, r->ppid);
	d.guess = learn_ask(s->learn, key);
	q.cpu_us = d.guess.cpu_us;
	int rc = decide(s, &q, p, now_ms, &d, e);
	if (rc < 0)
		return rc;
	sched_placed(s, r->pid, d.node, d.guess.intensity, now_ms);
	log_debug("place pid=%u node=%u: %s", r->pid, d.node, d.why);
	*ret = d;
	return 0;
}

void sched_learn_exit(struct sched *s, struct learn_key key, uint64_t wall_us, uint64_t cpu_us, uint16_t node)
{
	double speed = 1;
	if (node_ok(node) && s->member[node].reported)
		speed = s->member[node].report.speed_milli / 1000.0;
	learn_exit(s->learn, key, wall_us, (uint64_t)((double)cpu_us * speed), node != s->self);
}

/* --- the object --- */

int sched_new(const struct sched_config *cfg, struct sched **ret, struct err *e)
{
	assert(node_ok(cfg->self));
	assert(policy_n <= POLICIES_MAX);
	struct sched *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, -ENOMEM, "scheduler: out of memory");
	s->self = cfg->self;
	s->member[cfg->self].state = SCHED_NODE_ACTIVE;
	for (size_t i = 0; i < policy_n; i++)
		s->state[i][1] = cfg->seed;

	int rc = sched_policy_set(s, cfg->policy ? cfg->policy : "balance", cfg->seed, e);
	if (!rc && learn_new(cfg->learn_max, &s->learn) < 0)
		rc = err_set(e, -ENOMEM, "scheduler: out of memory");
	if (!rc && cfg->source) {
		struct load_config l = { .source = cfg->source, .cpus = cfg->cpus, .speed = cfg->speed };
		rc = load_probe_new(&l, &s->probe, e);
	}
	if (rc < 0) {
		(void)sched_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

struct sched *sched_free(struct sched *s)
{
	if (!s)
		return NULL;
	for (uint16_t id = 1; id <= SCHED_NODE_MAX; id++)
		sched_node_set(s, id, SCHED_NODE_GONE);
	s->probe = load_probe_free(s->probe);
	s->learn = learn_free(s->learn);
	free(s);
	return NULL;
}
