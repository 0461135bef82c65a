/* A whole build on a virtual clock, each node with its own scheduler that knows the others by reports only: make on node 1 keeps
 * WIDTH recipes under way; each is sh -> cc -> cc1, then as; every one of them is placed by the scheduler of the node where its
 * parent runs. Placing elsewhere takes time and CPU on both nodes. What counts is how much faster three nodes are than one. */
#include <inttypes.h>

#include "check.h"
#include "sched/load.h"
#include "sched/sched.h"

enum { NODES = 3, JOBS = 400, STAGES = 4, WINDOW = LOAD_WINDOW_MS, REPORT_MS = 250, LINK_MS = 1 };

/* Milliseconds: what it costs to start a program here, and elsewhere (waiting; CPU at home; CPU there). */
#define LOCAL_CPU 1.0
#define REMOTE_WAIT 3
#define REMOTE_CPU_HOME 1.0
#define REMOTE_CPU_THERE 1.5

enum stage { SH, CC, CC1, AS };

struct job {
	int begun, ended;
	int stage;            /* the one that runs; those before it wait, but for cc1 while as runs */
	int node[STAGES];
	uint32_t pid[STAGES];
	double need[STAGES];  /* CPU time of each */
	double left;          /* of the stage that runs */
	uint64_t wait_until;  /* being placed */
	uint64_t start[STAGES];
};

struct node {
	struct sched *s;
	double cpus, extra; /* CPU that placing costs, still to be given */
	uint16_t history[WINDOW];
	struct load_report late[LINK_MS + 1]; /* under way */
	double used;
};

struct sim {
	struct node node[NODES + 1];
	struct job job[JOBS];
	int n, learn_exits, remote, placed;
	uint64_t now, rng;
	uint32_t next_pid;
};

static struct sim g;

static const struct learn_key keys[STAGES] = { { 1, 9 }, { 2, 9 }, { 3, 9 }, { 4, 9 } };

static double rnd(double from, double to)
{
	g.rng ^= g.rng << 13;
	g.rng ^= g.rng >> 7;
	g.rng ^= g.rng << 17;
	return from + (to - from) * ((double)(g.rng >> 11) / 9007199254740992.0);
}

/* The program of this stage is executed by a child of the process of the stage `by` (-1: of make on node 1). */
static void stage_exec(struct job *j, int stage, int by)
{
	int here = by < 0 ? 1 : j->node[by];
	struct sched_request r = { .pid = g.next_pid++, .ppid = by < 0 ? 7 : j->pid[by] };
	struct sched_decision d;
	CHECK(sched_place(g.node[here].s, &r, keys[stage], NULL, g.now, &d, NULL) == 0);
	j->stage = stage;
	j->pid[stage] = r.pid;
	j->node[stage] = d.node;
	j->start[stage] = g.now;
	j->left = j->need[stage] + (d.node == here ? LOCAL_CPU : 0);
	g.placed++;
	if (d.node != here) {
		g.remote++;
		j->wait_until = g.now + REMOTE_WAIT;
		g.node[here].extra += REMOTE_CPU_HOME;
		g.node[d.node].extra += REMOTE_CPU_THERE;
		sched_placed(g.node[d.node].s, r.pid, d.node, d.guess.intensity, g.now);
	}
}

static void stage_end(struct job *j, int stage, int by)
{
	int home = by < 0 ? 1 : j->node[by], at = j->node[stage];
	sched_ended(g.node[home].s, j->pid[stage], g.now);
	if (at != home)
		sched_ended(g.node[at].s, j->pid[stage], g.now);
	/* Exits of those that stayed may go unseen: nothing of theirs is trapped. */
	if (g.learn_exits || at != home)
		sched_learn_exit(g.node[home].s, keys[stage], (g.now - j->start[stage]) * 1000, (uint64_t)(j->need[stage] * 1000),
				 (uint16_t)at);
}

static void job_begin(struct job *j)
{
	j->begun = 1;
	j->need[SH] = rnd(1, 2);
	j->need[CC] = rnd(2, 3);
	j->need[CC1] = rnd(40, 400);
	j->need[AS] = rnd(8, 30);
	stage_exec(j, SH, -1);
}

/* The stage that ran has used its CPU time: the next one, or the ends. */
static void job_step(struct job *j)
{
	switch ((enum stage)j->stage) {
	case SH:
		stage_exec(j, CC, SH);
		break;
	case CC:
		stage_exec(j, CC1, CC);
		break;
	case CC1:
		stage_end(j, CC1, CC);
		stage_exec(j, AS, CC);
		break;
	case AS:
		stage_end(j, AS, CC);
		stage_end(j, CC, SH);
		stage_end(j, SH, -1);
		j->ended = 1;
		break;
	}
}

static void report_send(int from, double running)
{
	struct load_report l = { .cpus_milli = (uint32_t)(g.node[from].cpus * 1000),
				 .speed_milli = 1000,
				 .running_milli = (uint32_t)(running * 1000),
				 .mem_total = 8u << 20,
				 .mem_free = 4u << 20 };
	struct wr w = { 0 };
	load_encode(&w, &l);
	for (int to = 1; to <= g.n; to++)
		CHECK(sched_report_in(g.node[to].s, (uint16_t)from, w.p, w.n, g.now) == 0);
	wr_fini(&w);
}

static void tick(void)
{
	int running[NODES + 1] = { 0 };
	for (int i = 0; i < JOBS; i++) {
		const struct job *j = &g.job[i];
		if (j->begun && !j->ended && j->wait_until <= g.now)
			running[j->node[j->stage]]++;
	}
	double share[NODES + 1] = { 0 };
	for (int n = 1; n <= g.n; n++) {
		struct node *d = &g.node[n];
		double have = d->cpus, tax = d->extra < have ? d->extra : have; /* 1 ms of each CPU */
		d->extra -= tax;
		have -= tax;
		share[n] = running[n] > have ? have / running[n] : 1;
		d->history[g.now % WINDOW] = (uint16_t)running[n];
		d->used += tax + share[n] * running[n];
	}
	g.now++;
	for (int i = 0; i < JOBS; i++) {
		struct job *j = &g.job[i];
		if (!j->begun || j->ended || j->wait_until >= g.now)
			continue;
		j->left -= share[j->node[j->stage]];
		if (j->left <= 0)
			job_step(j);
	}
	for (int n = 1; n <= g.n; n++) {
		if ((g.now + (uint64_t)n * 83) % REPORT_MS != 0)
			continue;
		double sum = 0;
		for (int k = 0; k < WINDOW; k++)
			sum += g.node[n].history[k];
		report_send(n, sum / WINDOW);
	}
}

/* Runs the build. Returns its time in ms. */
static double build(int n, double cpus, int width, int learn_exits, uint64_t seed)
{
	memset(&g, 0, sizeof g);
	g.n = n;
	g.learn_exits = learn_exits;
	g.rng = seed * 2654435761u + 1;
	g.now = 100000;
	g.next_pid = 1000;
	for (int i = 1; i <= n; i++) {
		struct sched_config c = { .self = (uint16_t)i };
		CHECK(sched_new(&c, &g.node[i].s, NULL) == 0);
		g.node[i].cpus = cpus;
		for (int k = 1; k <= n; k++)
			sched_node_set(g.node[i].s, (uint16_t)k, SCHED_NODE_ACTIVE);
	}
	for (int i = 1; i <= n; i++)
		report_send(i, 0);
	uint64_t start = g.now;
	int ended = 0, begun = 0;
	while (ended < JOBS) {
		while (begun < JOBS && begun - ended < width)
			job_begin(&g.job[begun++]);
		tick();
		ended = 0;
		for (int i = 0; i < begun; i++)
			ended += g.job[i].ended;
		CHECK(g.now - start < 30 * 60 * 1000);
	}
	for (int i = 1; i <= n; i++)
		g.node[i].s = sched_free(g.node[i].s);
	return (double)(g.now - start);
}

static void ratio_check(double cpus, int width, int learn_exits, double least)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		double one = build(1, cpus, width, learn_exits, seed);
		double three = build(3, cpus, width, learn_exits, seed);
		(void)printf("   cpus %.2f, -j%d, exits of local ones %s: %.2fx (%.1f s, %.1f s), %d of %d elsewhere, work %.0f %.0f %.0f\n",
			     cpus, width, learn_exits ? "seen" : "unseen", one / three, one / 1000, three / 1000, g.remote, g.placed,
			     g.node[1].used, g.node[2].used, g.node[3].used);
		CHECK(one / three >= least);
	}
}

static void test_three_nodes_build_nearly_three_times_as_fast(void)
{
	ratio_check(1, 12, 1, 2.8);
	ratio_check(0.66, 12, 1, 2.8);
	ratio_check(2, 12, 1, 2.75);
	ratio_check(4, 24, 1, 2.75);
}

static void test_also_when_only_exits_elsewhere_are_learnt(void)
{
	ratio_check(1, 12, 0, 2.7);
	ratio_check(0.66, 12, 0, 2.7);
	ratio_check(4, 24, 0, 2.65);
}

static void test_a_narrow_build_loses_nothing(void)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		double one = build(1, 4, 2, 1, seed), three = build(3, 4, 2, 1, seed);
		(void)printf("   %.3fx, %d of %d elsewhere\n", one / three, g.remote, g.placed);
		CHECK(one / three > 0.98);
	}
}

int main(void)
{
	TEST(test_three_nodes_build_nearly_three_times_as_fast);
	TEST(test_also_when_only_exits_elsewhere_are_learnt);
	TEST(test_a_narrow_build_loses_nothing);
	return 0;
}
