/* The membership cores of several nodes on one virtual clock, with a small raft below them and everything going wrong that can:
 * messages lost, delayed, reordered; links cut in one or both directions; machines and daemons killed, daemons stopped for a while;
 * clocks that drift apart by up to 2 % of each other; voters that change.
 *
 * What must hold at every moment: no space runs that the log says is dead. And in calm weather: who dies is known dead within 3 s,
 * who is cut off freezes in time, nobody is declared dead without need.
 *
 *   sim-member [seed [runs]]      a failing run prints its seed */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "member/pulse.h"

enum { N_MAX = 7, LOG_MAX = 6000, TICK_US = 50000, MS = 1000 };

/* ---- chance ---- */

static uint64_t g_rand;

static uint64_t rnd(void)
{
	g_rand ^= g_rand << 13;
	g_rand ^= g_rand >> 7;
	g_rand ^= g_rand << 17;
	return g_rand * 0x2545f4914f6cdd1dull >> 16;
}

static uint64_t between(uint64_t lo, uint64_t hi)
{
	return lo + rnd() % (hi - lo + 1);
}

static bool chance(unsigned per_mille)
{
	return rnd() % 1000 < per_mille;
}

/* ---- the world ---- */

enum entry_type { ENTRY_NOOP, ENTRY_CMD, ENTRY_VOTERS };

struct entry {
	uint64_t term;
	enum entry_type type;
	struct nodeset voters;
	uint8_t n;
	uint8_t cmd[100];
};

enum msg_kind { M_TICK, M_BEAT, M_ANSWER, M_VOTE, M_VOTED, M_APPEND, M_APPENDED, M_PROPOSE };

struct event {
	uint64_t at_us;
	uint64_t order;
	enum msg_kind kind;
	unsigned from, to;
	uint64_t life; /* of the receiver's daemon, for ticks */
	uint64_t term, index, prev_term, commit;
	bool yes;
	unsigned n_entries;
	struct entry *entries; /* owned */
	uint8_t *bytes;        /* owned */
	size_t n;
};

struct node {
	/* the machine */
	bool on;
	double rate; /* of its clock */
	uint64_t offset_ms;
	/* what lies on its disk */
	uint64_t term;
	unsigned voted;
	unsigned n_log; /* entries 1..n_log */
	struct entry log[LOG_MAX + 1];
	/* its space, and the end of its lease as the keeper knows it */
	uint32_t space;
	uint64_t space_until_ms;
	bool told_running;
	/* the daemon */
	bool up;
	uint64_t life;
	uint64_t stopped_until_us;
	unsigned commit, applied;
	unsigned leader;
	bool leads, candidate;
	uint64_t election_us, contact_us[N_MAX + 1], heard_leader_us;
	unsigned match[N_MAX + 1];
	bool votes[N_MAX + 1];
	uint64_t up_nonce;
	uint64_t want_up_us;
	struct cluster c;
	struct pulse p;
};

static struct {
	unsigned n;
	uint64_t seed;
	uint64_t now_us;
	uint64_t order;
	struct event *heap;
	size_t n_heap, cap_heap;
	struct node nodes[N_MAX + 1];
	bool cut[N_MAX + 1][N_MAX + 1];
	bool chaos;
	bool restless; /* voters change all the time */
	struct cluster base;
	struct nodeset base_voters;
	/* what was committed, by index */
	unsigned n_committed;
	struct entry committed[LOG_MAX + 1];
	uint32_t ended[N_MAX + 1];    /* highest incarnation that the log says is dead */
	uint64_t ended_us[N_MAX + 1]; /* when */
	unsigned n_deaths, n_condemned, n_absolved, n_frozen, n_voter_changes;
} g;

static void fail(const char *what, unsigned node)
{
	(void)printf("FAILED seed %" PRIu64 " at %" PRIu64 " us: %s (node %u)\n", g.seed, g.now_us, what, node);
	exit(1);
}

static uint64_t local_ms(const struct node *x)
{
	return x->offset_ms + (uint64_t)((double)g.now_us * x->rate / 1000.0);
}

static bool runs(const struct node *x)
{
	/* The keeper freezes what the daemon does not; a tenth of a second for the freezing itself. */
	return x->on && x->space && (x->space_until_ms == UINT64_MAX || local_ms(x) < x->space_until_ms + 100);
}

static void promise_check(void)
{
	for (unsigned i = 1; i <= g.n; i++)
		if (g.nodes[i].space && g.nodes[i].space <= g.ended[i] && runs(&g.nodes[i]))
			fail("a space runs that was declared dead", i);
}

/* ---- events ---- */

static bool before(const struct event *a, const struct event *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void push(struct event ev)
{
	ev.order = g.order++;
	if (g.n_heap == g.cap_heap) {
		g.cap_heap = g.cap_heap ? g.cap_heap * 2 : 1024;
		g.heap = realloc(g.heap, g.cap_heap * sizeof *g.heap);
		CHECK(g.heap);
	}
	size_t i = g.n_heap++;
	for (; i > 0 && before(&ev, &g.heap[(i - 1) / 2]); i = (i - 1) / 2)
		g.heap[i] = g.heap[(i - 1) / 2];
	g.heap[i] = ev;
}

static struct event pop(void)
{
	struct event top = g.heap[0], last = g.heap[--g.n_heap];
	size_t i = 0;
	for (;;) {
		size_t k = 2 * i + 1;
		if (k >= g.n_heap)
			break;
		if (k + 1 < g.n_heap && before(&g.heap[k + 1], &g.heap[k]))
			k++;
		if (!before(&g.heap[k], &last))
			break;
		g.heap[i] = g.heap[k];
		i = k;
	}
	g.heap[i] = last;
	return top;
}

static void event_free(struct event *ev)
{
	free(ev->entries);
	free(ev->bytes);
}

static uint64_t delay_us(void)
{
	if (g.chaos && chance(10))
		return between(100 * MS, 3000 * MS);
	if (g.chaos && chance(100))
		return between(5 * MS, 300 * MS);
	return between(100, 5 * MS);
}

static void transmit(struct event ev)
{
	if (g.cut[ev.from][ev.to] || (g.chaos && chance(30))) {
		event_free(&ev);
		return;
	}
	ev.at_us = g.now_us + delay_us();
	push(ev);
}

/* ---- raft, small ---- */

static struct nodeset voters_of(const struct node *x)
{
	for (unsigned i = x->n_log; i >= 1; i--)
		if (x->log[i].type == ENTRY_VOTERS)
			return x->log[i].voters;
	return g.base_voters;
}

static unsigned voters_index(const struct node *x)
{
	for (unsigned i = x->n_log; i >= 1; i--)
		if (x->log[i].type == ENTRY_VOTERS)
			return i;
	return 0;
}

static unsigned id_of(const struct node *x)
{
	return (unsigned)(x - g.nodes);
}

static void election_reset(struct node *x)
{
	x->election_us = g.now_us + between(600 * MS, 1200 * MS);
}

static void term_set(struct node *x, uint64_t term)
{
	if (term > x->term) {
		x->term = term;
		x->voted = 0;
	}
	x->leads = x->candidate = false;
	x->leader = 0;
}

static uint64_t term_at(const struct node *x, unsigned index)
{
	return index ? x->log[index].term : 0;
}

static void append_send(struct node *x, unsigned to)
{
	unsigned from_index = x->match[to] + 1, n = x->n_log - x->match[to];
	if (n > 40)
		n = 40;
	struct event ev = { .kind = M_APPEND, .from = id_of(x), .to = to, .term = x->term, .index = x->match[to],
			    .prev_term = term_at(x, x->match[to]), .commit = x->commit, .n_entries = n };
	if (n) {
		ev.entries = malloc(n * sizeof *ev.entries);
		CHECK(ev.entries);
		memcpy(ev.entries, &x->log[from_index], n * sizeof *ev.entries);
	}
	transmit(ev);
}

static void append_all(struct node *x)
{
	for (unsigned i = 1; i <= g.n; i++)
		if (i != id_of(x))
			append_send(x, i);
}

static void log_append(struct node *x, struct entry e)
{
	CHECK(x->n_log < LOG_MAX);
	e.term = x->term;
	x->log[++x->n_log] = e;
}

static bool leader_ready(const struct node *x)
{
	return x->leads && term_at(x, x->commit) == x->term && x->applied == x->commit;
}

static void lead_begin(struct node *x)
{
	x->leads = true;
	x->candidate = false;
	x->leader = id_of(x);
	for (unsigned i = 1; i <= g.n; i++) {
		x->match[i] = 0;
		x->contact_us[i] = g.now_us;
	}
	for (unsigned i = 1; i <= g.n; i++)
		x->match[i] = x->commit; /* what is committed here the others have or will get: a shortcut that a snapshot would be */
	log_append(x, (struct entry){ .type = ENTRY_NOOP });
	append_all(x);
}

static void commit_to(struct node *x, unsigned index);

static void leader_commit(struct node *x)
{
	struct nodeset v = voters_of(x);
	for (unsigned i = x->n_log; i > x->commit && term_at(x, i) == x->term; i--) {
		unsigned n = 0;
		for (uint16_t k = 1; k <= g.n; k++)
			if (nodeset_has(&v, k) && (k == id_of(x) || x->match[k] >= i))
				n++;
		if (n >= nodeset_majority(&v)) {
			commit_to(x, i);
			append_all(x);
			return;
		}
	}
}

static void vote_on(struct node *x, const struct event *ev)
{
	/* A voter that hears a leader does not help to unseat it. */
	if (x->leads || g.now_us - x->heard_leader_us < 600 * MS)
		return;
	if (ev->term > x->term)
		term_set(x, ev->term);
	uint64_t last = term_at(x, x->n_log);
	bool fresh = ev->prev_term > last || (ev->prev_term == last && ev->index >= x->n_log);
	bool yes = ev->term == x->term && fresh && (!x->voted || x->voted == ev->from);
	if (yes) {
		x->voted = ev->from;
		election_reset(x);
	}
	transmit((struct event){ .kind = M_VOTED, .from = ev->to, .to = ev->from, .term = x->term, .yes = yes });
}

static void voted(struct node *x, const struct event *ev)
{
	if (ev->term > x->term)
		term_set(x, ev->term);
	if (!x->candidate || ev->term != x->term || !ev->yes)
		return;
	x->votes[ev->from] = true;
	struct nodeset v = voters_of(x);
	unsigned n = 0;
	for (uint16_t k = 1; k <= g.n; k++)
		if (nodeset_has(&v, k) && x->votes[k])
			n++;
	if (n >= nodeset_majority(&v))
		lead_begin(x);
}

static void append_on(struct node *x, const struct event *ev)
{
	struct event answer = { .kind = M_APPENDED, .from = ev->to, .to = ev->from };
	if (ev->term >= x->term) {
		if (ev->term > x->term || x->candidate)
			term_set(x, ev->term);
		CHECK(!x->leads);
		x->leader = ev->from;
		x->heard_leader_us = g.now_us;
		election_reset(x);
		unsigned prev = (unsigned)ev->index;
		answer.yes = prev <= x->n_log && term_at(x, prev) == ev->prev_term;
		if (answer.yes) {
			for (unsigned i = 0; i < ev->n_entries; i++) {
				unsigned at = prev + 1 + i;
				if (at <= x->n_log && x->log[at].term == ev->entries[i].term)
					continue;
				if (at <= x->commit)
					fail("raft: a committed entry is overwritten", ev->to);
				x->log[at] = ev->entries[i];
				x->n_log = at;
			}
			answer.index = prev + ev->n_entries;
			unsigned commit = ev->commit < answer.index ? (unsigned)ev->commit : (unsigned)answer.index;
			if (commit > x->commit)
				commit_to(x, commit);
		} else {
			answer.index = x->commit;
		}
	}
	answer.term = x->term;
	transmit(answer);
}

static void appended(struct node *x, const struct event *ev)
{
	if (ev->term > x->term)
		term_set(x, ev->term);
	if (!x->leads || ev->term != x->term)
		return;
	x->contact_us[ev->from] = g.now_us;
	if (ev->yes) {
		if (ev->index > x->match[ev->from])
			x->match[ev->from] = (unsigned)ev->index;
		leader_commit(x);
		if (x->match[ev->from] < x->n_log)
			append_send(x, ev->from);
	} else if (ev->index < x->match[ev->from]) {
		x->match[ev->from] = (unsigned)ev->index;
		append_send(x, ev->from);
	}
}

static void raft_tick(struct node *x)
{
	struct nodeset v = voters_of(x);
	if (x->leads) {
		unsigned n = 0;
		for (uint16_t k = 1; k <= g.n; k++)
			if (nodeset_has(&v, k) && (k == id_of(x) || g.now_us - x->contact_us[k] < 700 * MS))
				n++;
		if (n < nodeset_majority(&v)) {
			term_set(x, x->term);
			election_reset(x);
			return;
		}
		append_all(x);
		leader_commit(x);
		return;
	}
	if (g.now_us < x->election_us || !nodeset_has(&v, (uint16_t)id_of(x)))
		return;
	term_set(x, x->term + 1);
	x->voted = id_of(x);
	x->candidate = true;
	memset(x->votes, 0, sizeof x->votes);
	x->votes[id_of(x)] = true;
	election_reset(x);
	if (nodeset_count(&v) == 1) {
		lead_begin(x);
		return;
	}
	for (unsigned i = 1; i <= g.n; i++)
		if (i != id_of(x))
			transmit((struct event){ .kind = M_VOTE, .from = id_of(x), .to = i, .term = x->term, .index = x->n_log,
						 .prev_term = term_at(x, x->n_log) });
}

/* ---- the node around the cores ---- */

static void propose_at(struct node *x, const uint8_t *p, size_t n)
{
	struct entry e = { .type = ENTRY_CMD, .n = (uint8_t)n };
	CHECK(n <= sizeof e.cmd);
	memcpy(e.cmd, p, n);
	log_append(x, e);
	append_all(x);
	leader_commit(x);
}

static void propose(struct node *x, const struct cluster_cmd *cmd)
{
	struct wr w = { 0 };
	CHECK(cluster_cmd_encode(cmd, &w) == 0);
	if (g.chaos && chance(100)) { /* a copy that comes late, to whoever leads then perhaps */
		struct event ev = { .kind = M_PROPOSE, .from = id_of(x), .to = (unsigned)between(1, g.n), .bytes = malloc(w.n), .n = w.n,
				    .at_us = g.now_us + between(0, 6000 * MS) };
		CHECK(ev.bytes);
		memcpy(ev.bytes, w.p, w.n);
		push(ev);
	}
	if (x->leads) {
		propose_at(x, w.p, w.n);
	} else if (x->leader) {
		struct event ev = { .kind = M_PROPOSE, .from = id_of(x), .to = x->leader, .bytes = malloc(w.n), .n = w.n };
		CHECK(ev.bytes);
		memcpy(ev.bytes, w.p, w.n);
		transmit(ev);
	}
	wr_fini(&w);
}

static void out_do(struct node *x, const struct pulse_out *out);

static void space_end(struct node *x)
{
	struct pulse_out out;
	x->space = 0;
	pulse_space(&x->p, local_ms(x), 0, &out);
	x->told_running = false;
	x->want_up_us = g.now_us + between(20 * MS, 500 * MS);
	x->up_nonce = rnd() | 1;
	out_do(x, &out);
}

static void raft_show(struct node *x)
{
	struct pulse_out out;
	struct nodeset v = voters_of(x);
	pulse_raft(&x->p, local_ms(x), x->term, (uint16_t)x->leader, leader_ready(x), &v, &out);
	out_do(x, &out);
}

static void out_do(struct node *x, const struct pulse_out *out)
{
	if (out->froze && x->told_running)
		g.n_frozen++;
	if (out->froze)
		x->told_running = false;
	if (out->thawed)
		x->told_running = true;
	x->space_until_ms = pulse_until(&x->p);
	if (out->over && x->space)
		space_end(x);
	if (!nodeset_empty(&out->beat_to)) {
		struct wr w = { 0 };
		pulse_beat_make(&x->p, local_ms(x), &w);
		for (uint16_t i = 1; i <= g.n; i++) {
			if (!nodeset_has(&out->beat_to, i))
				continue;
			struct event ev = { .kind = M_BEAT, .from = id_of(x), .to = i, .bytes = malloc(w.n), .n = w.n };
			CHECK(ev.bytes);
			memcpy(ev.bytes, w.p, w.n);
			transmit(ev);
		}
		wr_fini(&w);
	}
	for (unsigned i = 0; i < out->n_proposals; i++) {
		static const enum cluster_cmd_type types[] = { 0, CLUSTER_CONDEMN, CLUSTER_ABSOLVE, CLUSTER_DEAD };
		const struct detector_proposal *q = &out->proposals[i];
		propose(x, &(struct cluster_cmd){ .type = types[q->verdict], .node = q->node, .incarnation = q->incarnation, .epoch = q->epoch });
	}
}

/* The first node to apply an entry tells the world that it is committed. */
static void world_note(const struct entry *e, unsigned index, const struct cluster_effect *f)
{
	if (index <= g.n_committed) {
		const struct entry *old = &g.committed[index];
		if (old->term != e->term || old->type != e->type || old->n != e->n || memcmp(old->cmd, e->cmd, e->n) != 0)
			fail("raft: two nodes applied different entries", index);
		return;
	}
	g.committed[++g.n_committed] = *e;
	CHECK(index == g.n_committed);
	if (e->type != ENTRY_CMD)
		return;
	struct cluster_cmd cmd;
	CHECK(cluster_cmd_decode(e->cmd, e->n, &cmd) == 0);
	if (f->status == 0 && cmd.type == CLUSTER_CONDEMN)
		g.n_condemned++;
	if (f->status == 0 && cmd.type == CLUSTER_ABSOLVE)
		g.n_absolved++;
	if (f->died) {
		g.ended[f->died] = f->died_incarnation;
		g.ended_us[f->died] = g.now_us;
		if (cmd.type == CLUSTER_DEAD)
			g.n_deaths++;
		promise_check();
	}
}

static void commit_to(struct node *x, unsigned index)
{
	x->commit = index;
	while (x->applied < x->commit) {
		const struct entry *e = &x->log[++x->applied];
		struct cluster_effect f = { 0 };
		if (e->type == ENTRY_CMD)
			f = cluster_apply(&x->c, e->cmd, e->n);
		world_note(e, x->applied, &f);
		if (f.died == id_of(x) && x->space && x->space <= f.died_incarnation)
			space_end(x);
		struct cluster_cmd cmd;
		if (e->type == ENTRY_CMD && cluster_cmd_decode(e->cmd, e->n, &cmd) == 0 && cmd.type == CLUSTER_UP &&
		    cmd.node == id_of(x) && cmd.nonce == x->up_nonce && f.status == 0 && !x->space) {
			struct pulse_out out;
			x->space = f.value;
			x->want_up_us = 0;
			pulse_space(&x->p, local_ms(x), x->space, &out);
			out_do(x, &out);
		}
	}
	struct pulse_out out;
	pulse_applied(&x->p, local_ms(x), &out);
	out_do(x, &out);
}

static void tick_push(unsigned i)
{
	push((struct event){ .kind = M_TICK, .to = i, .life = g.nodes[i].life, .at_us = g.now_us + between(TICK_US - 5000, TICK_US + 5000) });
}

static void daemon_start(unsigned i)
{
	struct node *x = &g.nodes[i];
	x->up = true;
	x->life++;
	x->commit = x->applied = 0;
	x->leader = 0;
	x->leads = x->candidate = false;
	x->heard_leader_us = 0;
	x->stopped_until_us = 0;
	x->c = g.base;
	election_reset(x);
	pulse_init(&x->p, (uint16_t)i, local_ms(x), x->space, x->space_until_ms, &x->c);
	x->told_running = x->p.l.running;
	x->up_nonce = rnd() | 1;
	x->want_up_us = x->space ? 0 : g.now_us + between(20 * MS, 500 * MS);
	raft_show(x);
	tick_push(i);
}

static void machine_kill(unsigned i)
{
	struct node *x = &g.nodes[i];
	x->on = x->up = false;
	x->life++;
	x->space = 0;
	x->space_until_ms = 0;
	x->told_running = false;
}

static void machine_start(unsigned i)
{
	struct node *x = &g.nodes[i];
	x->on = true;
	x->offset_ms = between(0, 1000000);
	daemon_start(i);
}

/* A leader adds or drops one voter, as raft allows it: when the change before is committed, and something of its own term. */
static void voters_change(struct node *x)
{
	if (!x->up || !leader_ready(x) || voters_index(x) > x->commit)
		return;
	struct entry e = { .type = ENTRY_VOTERS, .voters = voters_of(x) };
	uint16_t k = (uint16_t)between(1, g.n);
	if (k == id_of(x) || (nodeset_has(&e.voters, k) && nodeset_count(&e.voters) <= 2))
		return;
	if (nodeset_has(&e.voters, k))
		nodeset_del(&e.voters, k);
	else
		nodeset_add(&e.voters, k);
	log_append(x, e);
	g.n_voter_changes++;
	append_all(x);
	raft_show(x);
}

static void tick(struct node *x)
{
	struct pulse_out out;
	raft_tick(x);
	raft_show(x);
	if (g.restless && chance(300))
		voters_change(x);
	pulse_tick(&x->p, local_ms(x), &out);
	out_do(x, &out);
	if (x->space && x->told_running != (x->p.l.until_ms > local_ms(x)))
		fail("froze and thawed do not fit the lease", id_of(x));
	if (x->want_up_us && g.now_us >= x->want_up_us) {
		const struct cluster_member *m = cluster_member(&x->c, (uint16_t)id_of(x));
		struct cluster_cmd up = { .type = CLUSTER_UP, .node = m->id, .incarnation = m->incarnation, .nonce = x->up_nonce };
		memcpy(up.addr, m->addr, sizeof up.addr);
		propose(x, &up);
		x->want_up_us = g.now_us + 1000 * MS;
	}
	tick_push(id_of(x));
}

static void deliver(struct event *ev)
{
	struct node *x = &g.nodes[ev->to];
	struct wr w = { 0 };
	struct pulse_out out = { 0 };
	if (!x->up || (ev->kind == M_TICK && ev->life != x->life)) {
		event_free(ev);
		return;
	}
	if (x->stopped_until_us > g.now_us) {
		ev->at_us = x->stopped_until_us;
		push(*ev);
		return;
	}
	if (ev->kind != M_TICK) {
		pulse_heard(&x->p, local_ms(x), (uint16_t)ev->from, &out);
		out_do(x, &out);
	}
	switch (ev->kind) {
	case M_TICK:
		tick(x);
		break;
	case M_BEAT:
		CHECK(pulse_beat(&x->p, local_ms(x), (uint16_t)ev->from, ev->bytes, ev->n, &w, &out) == 0);
		transmit((struct event){ .kind = M_ANSWER, .from = ev->to, .to = ev->from, .bytes = w.p, .n = w.n });
		out_do(x, &out);
		break;
	case M_ANSWER:
		CHECK(pulse_answer(&x->p, local_ms(x), (uint16_t)ev->from, ev->bytes, ev->n, &out) == 0);
		out_do(x, &out);
		break;
	case M_VOTE:
		vote_on(x, ev);
		break;
	case M_VOTED:
		voted(x, ev);
		break;
	case M_APPEND:
		append_on(x, ev);
		break;
	case M_APPENDED:
		appended(x, ev);
		break;
	case M_PROPOSE:
		if (x->leads)
			propose_at(x, ev->bytes, ev->n);
		break;
	}
	raft_show(x);
	event_free(ev);
}

static void run_until(uint64_t us)
{
	while (g.n_heap && g.heap[0].at_us <= us) {
		struct event ev = pop();
		g.now_us = ev.at_us;
		deliver(&ev);
		promise_check();
	}
	g.now_us = us;
}

static void cmd_base(const struct cluster_cmd *cmd)
{
	struct wr w = { 0 };
	CHECK(cluster_cmd_encode(cmd, &w) == 0 && cluster_apply(&g.base, w.p, w.n).status == 0);
	wr_fini(&w);
}

/* n nodes, of which the first n_voters vote, all active with their first space. */
static void world_make(uint64_t seed, unsigned n, unsigned n_voters)
{
	while (g.n_heap)
		event_free(&g.heap[--g.n_heap]);
	struct event *heap = g.heap;
	size_t cap = g.cap_heap;
	memset(&g, 0, sizeof g);
	g.heap = heap;
	g.cap_heap = cap;
	g.seed = seed;
	g.n = n;
	g_rand = seed * 0x9e3779b97f4a7c15ull | 1;
	for (unsigned i = 0; i < 20; i++)
		(void)rnd();

	for (uint16_t i = 1; i <= n; i++) {
		struct cluster_cmd cmd = { .type = i == 1 ? CLUSTER_INIT : CLUSTER_TOKEN_ADD, .now_ms = 1, .expires_ms = 3, .hash = { (uint8_t)i } };
		(void)snprintf(cmd.name, sizeof cmd.name, "n%u", i);
		(void)snprintf(cmd.addr, sizeof cmd.addr, "n%u:1", i);
		cmd_base(&cmd);
		cmd.type = CLUSTER_ADD;
		if (i > 1)
			cmd_base(&cmd);
		cmd.type = CLUSTER_UP;
		cmd.node = i;
		cmd_base(&cmd);
		if (i <= n_voters)
			nodeset_add(&g.base_voters, i);
	}
	for (unsigned i = 1; i <= n; i++) {
		g.nodes[i].rate = 0.99 + (double)between(0, 2000) / 100000.0;
		g.nodes[i].space = 1;
		machine_start(i);
	}
}

/* ---- bad weather ---- */

static void mischief(void)
{
	unsigned a = (unsigned)between(1, g.n), b = (unsigned)between(1, g.n);
	switch (between(0, 13)) {
	case 0:
	case 1:
		g.cut[a][b] = true; /* one way */
		break;
	case 2:
		for (unsigned i = 1; i <= g.n; i++)
			for (unsigned k = 1; k <= g.n; k++)
				g.cut[i][k] = (i <= a) != (k <= a); /* a split */
		break;
	case 3:
		for (unsigned k = 1; k <= g.n; k++)
			g.cut[a][k] = g.cut[k][a] = true;
		break;
	case 4:
	case 5:
	case 6:
		memset(g.cut, 0, sizeof g.cut);
		break;
	case 7:
		if (g.nodes[a].on)
			machine_kill(a);
		break;
	case 8:
		if (g.nodes[a].up) { /* the daemon alone */
			g.nodes[a].up = false;
			g.nodes[a].life++;
		}
		break;
	case 9:
		if (g.nodes[a].up)
			g.nodes[a].stopped_until_us = g.now_us + between(100 * MS, 5000 * MS);
		break;
	case 10:
	case 11:
		g.restless = chance(400);
		break;
	default:
		for (unsigned i = 1; i <= g.n; i++) {
			if (!g.nodes[i].on)
				machine_start(i);
			else if (!g.nodes[i].up)
				daemon_start(i);
		}
		break;
	}
}

static void test_no_space_runs_that_was_declared_dead(uint64_t seed)
{
	world_make(seed, 3 + (unsigned)(seed % 5), 3);
	run_until(5000 * MS);
	g.chaos = true;
	while (g.now_us < 90000 * MS) {
		run_until(g.now_us + between(50 * MS, 2500 * MS));
		mischief();
	}

	/* It heals: everybody runs again. */
	g.chaos = g.restless = false;
	memset(g.cut, 0, sizeof g.cut);
	run_until(g.now_us + 6000 * MS);
	for (unsigned i = 1; i <= g.n; i++) {
		if (!g.nodes[i].on)
			machine_start(i);
		else if (!g.nodes[i].up)
			daemon_start(i);
	}
	run_until(g.now_us + 15000 * MS);
	for (unsigned i = 1; i <= g.n; i++) {
		const struct node *x = &g.nodes[i];
		if (!x->space || !x->told_running || x->space <= g.ended[i] || x->c.members[i].incarnation != x->space)
			fail("does not run after all was healed", i);
	}
}

/* ---- calm weather ---- */

static bool all_know(unsigned dead, uint32_t incarnation)
{
	for (unsigned i = 1; i <= g.n; i++) {
		const struct node *x = &g.nodes[i];
		if (x->up && i != dead && (x->c.members[dead].state != MEMBER_DEAD || x->c.members[dead].incarnation != incarnation))
			return false;
	}
	return true;
}

static void test_calm_changes_nothing(uint64_t seed)
{
	world_make(seed, 3 + (unsigned)(seed % 5), 3);
	run_until(3000 * MS);
	unsigned frozen = g.n_frozen;
	run_until(30000 * MS);
	if (g.n_frozen != frozen || g.n_condemned || g.n_deaths)
		fail("somebody was frozen or condemned without need", 0);
	for (unsigned i = 1; i <= g.n; i++)
		if (!g.nodes[i].told_running)
			fail("does not run", i);
}

static void test_a_killed_node_is_known_dead_within_three_seconds(uint64_t seed)
{
	world_make(seed, 3 + (unsigned)(seed % 3), 3);
	run_until(8000 * MS + between(0, 2000 * MS));
	unsigned victim = (unsigned)between(1, g.n);
	if (chance(500))
		victim = g.nodes[1].leader ? g.nodes[1].leader : victim;
	uint64_t killed_us = g.now_us;
	machine_kill(victim);
	while (!all_know(victim, 1)) {
		if (g.now_us > killed_us + 3000 * MS)
			fail("not known dead after 3 s", victim);
		run_until(g.now_us + 10 * MS);
	}
	if (g.now_us < killed_us + 2200 * MS)
		fail("known dead too early", victim);
	run_until(g.now_us + 2000 * MS);
	machine_start(victim);
	run_until(g.now_us + 3000 * MS);
	if (g.nodes[victim].space != 2 || !g.nodes[victim].told_running || g.n_deaths != 1)
		fail("is not back with a new incarnation", victim);
}

static void test_a_short_cut_freezes_nobody(uint64_t seed)
{
	world_make(seed, 3, 3);
	run_until(8000 * MS);
	unsigned victim = (unsigned)between(1, 3);
	for (unsigned k = 1; k <= 3; k++)
		g.cut[victim][k] = g.cut[k][victim] = true;
	run_until(g.now_us + 1600 * MS);
	memset(g.cut, 0, sizeof g.cut);
	run_until(g.now_us + 5000 * MS);
	if (g.n_frozen || g.n_deaths)
		fail("frozen or declared dead after a cut of 1.6 s", victim);
}

static void test_a_cut_off_node_freezes_dies_and_comes_back(uint64_t seed)
{
	world_make(seed, 3, 3);
	run_until(8000 * MS + between(0, 1000 * MS));
	unsigned victim = (unsigned)between(1, 3);
	uint64_t cut_us = g.now_us;
	for (unsigned k = 1; k <= 3; k++)
		g.cut[victim][k] = g.cut[k][victim] = true;
	while (g.nodes[victim].told_running)
		run_until(g.now_us + 5 * MS);
	uint64_t frozen_us = g.now_us - cut_us;
	if (frozen_us < 1950 * MS || frozen_us > 2400 * MS)
		fail("freezes too early or too late", victim);
	while (g.ended[victim] != 1) {
		if (g.now_us > cut_us + 3000 * MS)
			fail("not declared dead after 3 s", victim);
		run_until(g.now_us + 5 * MS);
	}
	run_until(g.now_us + 5000 * MS);
	memset(g.cut, 0, sizeof g.cut);
	run_until(g.now_us + 4000 * MS);
	if (g.nodes[victim].space != 2 || !g.nodes[victim].told_running)
		fail("is not back with a new incarnation", victim);
}

static void test_without_a_majority_both_freeze_and_nobody_dies(uint64_t seed)
{
	world_make(seed, 2, 2);
	run_until(8000 * MS);
	if (!g.nodes[1].told_running || !g.nodes[2].told_running)
		fail("does not run", 1);
	g.cut[1][2] = g.cut[2][1] = true;
	run_until(g.now_us + between(2500 * MS, 9000 * MS));
	if (g.nodes[1].told_running || g.nodes[2].told_running)
		fail("runs without a majority", 1);
	memset(g.cut, 0, sizeof g.cut);
	run_until(g.now_us + 4000 * MS);
	if (!g.nodes[1].told_running || !g.nodes[2].told_running || g.n_deaths || g.nodes[1].space != 1 || g.nodes[2].space != 1)
		fail("not thawed, or dead", 1);
}

static void test_a_daemon_restarted_within_a_second_freezes_nobody(uint64_t seed)
{
	world_make(seed, 3, 3);
	run_until(8000 * MS);
	unsigned victim = (unsigned)between(1, 3);
	g.nodes[victim].up = false;
	g.nodes[victim].life++;
	run_until(g.now_us + 1000 * MS);
	daemon_start(victim);
	run_until(g.now_us + 6000 * MS);
	if (g.n_frozen || g.n_deaths || !g.nodes[victim].told_running || g.nodes[victim].space != 1)
		fail("frozen or dead", victim);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(uint64_t seed);
		unsigned weight;
	} tests[] = {
		{ "calm_changes_nothing", test_calm_changes_nothing, 1 },
		{ "a_killed_node_is_known_dead_within_three_seconds", test_a_killed_node_is_known_dead_within_three_seconds, 3 },
		{ "a_short_cut_freezes_nobody", test_a_short_cut_freezes_nobody, 2 },
		{ "a_cut_off_node_freezes_dies_and_comes_back", test_a_cut_off_node_freezes_dies_and_comes_back, 3 },
		{ "without_a_majority_both_freeze_and_nobody_dies", test_without_a_majority_both_freeze_and_nobody_dies, 2 },
		{ "a_daemon_restarted_within_a_second_freezes_nobody", test_a_daemon_restarted_within_a_second_freezes_nobody, 2 },
		{ "no_space_runs_that_was_declared_dead", test_no_space_runs_that_was_declared_dead, 4 },
	};
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 3;
	for (unsigned t = 0; t < sizeof tests / sizeof tests[0]; t++) {
		unsigned deaths = 0, absolved = 0, frozen = 0, changes = 0;
		for (uint64_t s = seed; s < seed + (uint64_t)rounds * tests[t].weight; s++) {
			tests[t].run(s);
			deaths += g.n_deaths;
			absolved += g.n_absolved;
			frozen += g.n_frozen;
			changes += g.n_voter_changes;
		}
		(void)printf("ok %s (seeds %" PRIu64 "..: %u deaths, %u absolved, %u frozen, %u changes of voters)\n", tests[t].name, seed, deaths,
			     absolved, frozen, changes);
		(void)fflush(stdout);
	}
	while (g.n_heap)
		event_free(&g.heap[--g.n_heap]);
	free(g.heap);
	return 0;
}
