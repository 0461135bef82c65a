/* The scheduler on a virtual clock: nodes that share their CPUs among their jobs, reports that arrive late, jobs of
 * random length. The seed of a failure is in its output. */
#include <inttypes.h>
#include <math.h>

#include "check.h"
#include "sched/load.h"
#include "sched/sched.h"

enum { STEP_MS = 5, JOBS_MAX = 4096, NODES = 8, WINDOW_STEPS = LOAD_WINDOW_MS / STEP_MS };

struct sim_node {
	double cpus, speed;
	double history[WINDOW_STEPS]; /* running jobs at the last steps */
	size_t at;
	double done_ms; /* CPU time given, of a CPU of speed 1 */
	int running, placed;
};

struct sim_job {
	int node; /* 0: none */
	double left_ms;
};

struct sim {
	struct sched *s; /* of node 1, which places everything */
	struct sim_node node[NODES + 1];
	int n;
	struct sim_job job[JOBS_MAX];
	int begun, ended;
	uint64_t now, rng;
};

static uint64_t rng_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void sim_report(struct sim *m, uint16_t node, double running)
{
	struct sim_node *n = &m->node[node];
	struct load_report l = { .cpus_milli = (uint32_t)(n->cpus * 1000),
				 .speed_milli = (uint32_t)(n->speed * 1000),
				 .running_milli = (uint32_t)(running * 1000),
				 .mem_total = 8u << 20,
				 .mem_free = 4u << 20,
				 .psi_cpu = LOAD_PSI_UNKNOWN,
				 .psi_mem = LOAD_PSI_UNKNOWN };
	struct wr w = { 0 };
	load_encode(&w, &l);
	CHECK(wr_done(&w) == 0);
	CHECK(sched_report_in(m->s, node, w.p, w.n, m->now) == 0);
	wr_fini(&w);
}

static void sim_start(struct sim *m, int n, const double *cpus, const double *speed, uint64_t seed)
{
	memset(m, 0, sizeof *m);
	struct sched_config c = { .self = 1, .seed = seed };
	m->rng = seed * 2654435761u + 1;
	m->now = 100000;
	m->n = n;
	CHECK(sched_new(&c, &m->s, NULL) == 0);
	for (int i = 1; i <= n; i++) {
		m->node[i].cpus = cpus[i - 1];
		m->node[i].speed = speed[i - 1];
		sched_node_set(m->s, (uint16_t)i, SCHED_NODE_ACTIVE);
		sim_report(m, (uint16_t)i, 0);
	}
}

static void sim_end(struct sim *m)
{
	m->s = sched_free(m->s);
}

static const struct learn_key compiler = { .program = 7, .dir = 9 };

static uint16_t sim_exec(struct sim *m, double work_ms)
{
	struct sched_decision d;
	int j = m->begun++;
	CHECK(j < JOBS_MAX);
	struct sched_request r = { .pid = (uint32_t)(1000 + j), .ppid = 500, .program = "/usr/bin/cc" };
	CHECK(sched_place(m->s, &r, compiler, NULL, m->now, &d, NULL) == 0);
	CHECK(d.node >= 1 && d.node <= m->n);
	m->job[j] = (struct sim_job){ .node = d.node, .left_ms = work_ms };
	m->node[d.node].running++;
	m->node[d.node].placed++;
	return d.node;
}

static void sim_step(struct sim *m)
{
	double share[NODES + 1] = { 0 };
	for (int i = 1; i <= m->n; i++) {
		struct sim_node *n = &m->node[i];
		double each = n->running > n->cpus ? n->cpus / n->running : 1;
		share[i] = each * n->speed * STEP_MS;
		n->history[n->at++ % WINDOW_STEPS] = n->running;
	}
	m->now += STEP_MS;
	for (int j = 0; j < m->begun; j++) {
		struct sim_job *b = &m->job[j];
		if (!b->node)
			continue;
		struct sim_node *n = &m->node[b->node];
		double given = b->left_ms < share[b->node] ? b->left_ms : share[b->node];
		n->done_ms += given;
		b->left_ms -= given;
		if (b->left_ms <= 1e-9) {
			n->running--;
			b->node = 0;
			m->ended++;
			sched_ended(m->s, (uint32_t)(1000 + j), m->now);
		}
	}
	for (int i = 1; i <= m->n; i++) { /* each at its own moments, some 250 ms apart */
		struct sim_node *n = &m->node[i];
		if ((m->now + (uint64_t)i * 85) % 250 != 0)
			continue;
		double sum = 0;
		for (size_t k = 0; k < WINDOW_STEPS; k++)
			sum += n->history[k];
		sim_report(m, (uint16_t)i, sum / WINDOW_STEPS);
	}
}

/* Keeps `width` jobs under way until `total` have run, as make -jWIDTH does. Returns the time it took. */
static double sim_make(struct sim *m, int width, int total, double least_ms, double most_ms)
{
	uint64_t start = m->now;
	while (m->ended < total) {
		while (m->begun < total && m->begun - m->ended < width) {
			double u = (double)(rng_next(&m->rng) >> 11) / 9007199254740992.0;
			(void)sim_exec(m, least_ms + u * (most_ms - least_ms));
		}
		sim_step(m);
		CHECK(m->now - start < 10 * 60 * 1000);
	}
	return (double)(m->now - start);
}

static void check_near(const char *what, double got, double want, double part, uint64_t seed)
{
	if (fabs(got - want) > part * want)
		(void)fprintf(stderr, "%s: %.1f, wanted %.1f, seed %" PRIu64 "\n", what, got, want, seed);
	CHECK(fabs(got - want) <= part * want);
}

static void test_a_burst_of_twelve_spreads_evenly(void)
{
	static const double one[] = { 1, 1, 1 }, some[] = { 0.6, 0.6, 0.6 }, four[] = { 4, 4, 4 },
			    eight[] = { 8, 8, 8 };
	static const double *const sizes[] = { one, some, four, eight };
	static const double speed[] = { 1, 1, 1 };
	for (size_t k = 0; k < 4; k++) {
		struct sim m;
		sim_start(&m, 3, sizes[k], speed, 1);
		if (sizes[k] == eight) /* an unknown program would first use up the free CPUs here */
			sched_learn_exit(m.s, compiler, 1000000, 1000000, 1);
		for (int i = 0; i < 12; i++)
			(void)sim_exec(&m, 1000);
		for (int i = 1; i <= 3; i++)
			CHECK(m.node[i].placed == 4);
		sim_end(&m);
	}
}

static void test_a_few_stay_on_a_large_idle_node(void)
{
	static const double cpus[] = { 64, 64, 64 }, speed[] = { 1, 1, 1 };
	struct sim m;
	sim_start(&m, 3, cpus, speed, 1);
	for (int i = 0; i < 12; i++)
		CHECK(sim_exec(&m, 1000) == 1);
	sim_end(&m);
}

static void test_equal_nodes_share_the_work_of_a_build_within_a_tenth(void)
{
	static const double cpus[] = { 2, 2, 2 }, speed[] = { 1, 1, 1 };
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct sim m;
		sim_start(&m, 3, cpus, speed, seed);
		double took = sim_make(&m, 12, 600, 20, 800);
		double sum = m.node[1].done_ms + m.node[2].done_ms + m.node[3].done_ms;
		for (int i = 1; i <= 3; i++)
			check_near("work of a node", m.node[i].done_ms, sum / 3, 0.10, seed);
		check_near("time of the build", took, sum / 6, 0.10, seed);
		sim_end(&m);
	}
}

static void test_a_build_as_wide_as_the_cpus_keeps_them_busy(void)
{
	static const double cpus[] = { 1, 1, 1 }, speed[] = { 1, 1, 1 };
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct sim m;
		sim_start(&m, 3, cpus, speed, seed);
		double took = sim_make(&m, 6, 300, 50, 500);
		double sum = m.node[1].done_ms + m.node[2].done_ms + m.node[3].done_ms;
		check_near("time of the build", took, sum / 3, 0.12, seed);
		sim_end(&m);
	}
}

static void test_a_node_twice_as_fast_gets_twice_the_work(void)
{
	static const double cpus[] = { 1, 1 }, speeds[][2] = { { 1, 2 }, { 2, 1 } };
	for (int k = 0; k < 2; k++) {
		for (uint64_t seed = 1; seed <= 5; seed++) {
			struct sim m;
			sim_start(&m, 2, cpus, speeds[k], seed);
			double took = sim_make(&m, 12, 600, 20, 800);
			double sum = m.node[1].done_ms + m.node[2].done_ms;
			check_near("work of node 1", m.node[1].done_ms, sum * speeds[k][0] / 3, 0.10, seed);
			check_near("time of the build", took, sum / 3, 0.10, seed);
			sim_end(&m);
		}
	}
}

static void test_more_cpus_get_more_jobs(void)
{
	static const double cpus[] = { 1, 2, 5 }, speed[] = { 1, 1, 1 };
	struct sim m;
	sim_start(&m, 3, cpus, speed, 1);
	for (int i = 0; i < 32; i++)
		(void)sim_exec(&m, 1000);
	CHECK(m.node[1].placed >= 3 && m.node[1].placed <= 5);
	CHECK(m.node[2].placed >= 7 && m.node[2].placed <= 9);
	CHECK(m.node[3].placed >= 18 && m.node[3].placed <= 22);
	sim_end(&m);
}

static void test_draining_nodes_get_nothing(void)
{
	static const double cpus[] = { 1, 1, 1 }, speed[] = { 1, 1, 1 };
	struct sim m;
	sim_start(&m, 3, cpus, speed, 1);
	sched_node_set(m.s, 2, SCHED_NODE_DRAINING);
	for (size_t k = 0; k < policy_n; k++) {
		CHECK(sched_policy_set(m.s, policy_list[k].name, 5, NULL) == 0);
		for (int i = 0; i < 50; i++)
			CHECK(sim_exec(&m, 100) != 2);
	}
	CHECK(m.node[3].placed > 50);

	struct sched_request r = { .pid = 1, .forced = 2 };
	struct sched_decision d;
	struct err e;
	CHECK(sched_place(m.s, &r, compiler, NULL, m.now, &d, &e) == -EHOSTDOWN && strstr(e.text, "drained"));
	r.forced = 5;
	CHECK(sched_place(m.s, &r, compiler, NULL, m.now, &d, &e) == -EHOSTDOWN);
	r.forced = 3;
	CHECK(sched_place(m.s, &r, compiler, NULL, m.now, &d, &e) == 0 && d.node == 3);
	sim_end(&m);
}

static void test_a_draining_home_sends_long_programs_away(void)
{
	static const double cpus[] = { 4, 4 }, speed[] = { 1, 1 };
	struct sim m;
	sim_start(&m, 2, cpus, speed, 1);
	sched_node_set(m.s, 1, SCHED_NODE_DRAINING);
	for (int i = 0; i < 20; i++)
		CHECK(sim_exec(&m, 100) == 2);
	sched_node_set(m.s, 2, SCHED_NODE_DRAINING); /* nowhere to go */
	CHECK(sim_exec(&m, 100) == 1);
	sim_end(&m);
}

static void test_what_is_brief_stays_and_what_became_long_goes(void)
{
	static const double cpus[] = { 1, 1, 1 }, speed[] = { 1, 1, 1 };
	struct sim m;
	sim_start(&m, 3, cpus, speed, 1);
	for (int i = 0; i < 5; i++)
		(void)sim_exec(&m, 5000);                 /* the node is busy, so that an unknown program would go */
	sched_learn_exit(m.s, compiler, 400000, 3000, 1); /* waits for others: 3 ms of CPU in 0.4 s */
	for (int i = 0; i < 10; i++)
		CHECK(sim_exec(&m, 3) == 1);
	for (int i = 0; i < 8; i++)
		sched_learn_exit(m.s, compiler, 400000, 300000, 1);
	int away = 0;
	for (int i = 0; i < 10; i++)
		away += sim_exec(&m, 300) != 1;
	CHECK(away >= 4);

	/* The policies for tests do not learn. */
	sched_learn_exit(m.s, (struct learn_key){ 1, 2 }, 1000, 100, 1);
	struct sched_request r = { .pid = 77777 };
	struct sched_decision d;
	CHECK(sched_place(m.s, &r, (struct learn_key){ 1, 2 }, NULL, m.now, &d, NULL) == 0 && d.node == 1);
	CHECK(d.guess.kind == LEARN_BRIEF);
	CHECK(sched_place(m.s, &r, (struct learn_key){ 1, 2 }, "elsewhere", m.now, &d, NULL) == 0 && d.node != 1);
	CHECK(sched_place(m.s, &r, (struct learn_key){ 1, 2 }, "nonsense", m.now, &d, NULL) == -ENOENT);
	sim_end(&m);
}

static void test_policies_for_tests_do_what_they_say(void)
{
	static const double cpus[] = { 1, 1, 1 }, speed[] = { 1, 1, 1 };
	struct sim m;
	sim_start(&m, 3, cpus, speed, 1);
	CHECK(sched_policy_set(m.s, "elsewhere", 0, NULL) == 0);
	for (int i = 0; i < 10; i++)
		CHECK(sim_exec(&m, 1) == (i % 2 ? 3 : 2));
	CHECK(sched_policy_set(m.s, "local", 0, NULL) == 0);
	for (int i = 0; i < 10; i++)
		CHECK(sim_exec(&m, 1) == 1);
	CHECK(sched_policy_set(m.s, "round-robin", 0, NULL) == 0);
	for (int i = 0; i < 9; i++)
		CHECK(sim_exec(&m, 1) == i % 3 + 1);

	uint16_t first[300];
	int count[4] = { 0 };
	CHECK(sched_policy_set(m.s, "random", 7, NULL) == 0);
	CHECK(strcmp(sched_policy_words(m.s), "random, seed 7") == 0);
	for (int i = 0; i < 300; i++)
		count[first[i] = sim_exec(&m, 1)]++;
	for (int i = 1; i <= 3; i++)
		CHECK(count[i] > 60 && count[i] < 140);
	CHECK(sched_policy_set(m.s, "random", 7, NULL) == 0);
	for (int i = 0; i < 300; i++)
		CHECK(sim_exec(&m, 1) == first[i]);
	CHECK(sched_policy_set(m.s, "random", 8, NULL) == 0);
	int same = 0;
	for (int i = 0; i < 300; i++)
		same += sim_exec(&m, 1) == first[i];
	CHECK(same < 200);

	struct err e;
	CHECK(sched_policy_set(m.s, "best", 0, &e) == -ENOENT && strstr(e.text, "best"));
	CHECK(strcmp(sched_policy_words(m.s), "random, seed 8") == 0);
	sim_end(&m);
}

static void test_silent_and_removed_nodes_get_nothing_by_load(void)
{
	static const double cpus[] = { 1, 1, 1 }, speed[] = { 1, 1, 1 };
	struct sim m;
	struct sched_node n;
	sim_start(&m, 3, cpus, speed, 1);
	m.now += SCHED_STALE_MS + 100;
	sim_report(&m, 1, 3); /* ours and that of 3 are fresh, 2 is silent */
	sim_report(&m, 3, 0);
	CHECK(sched_node_get(m.s, 2, m.now, &n) == 0 && !n.known);
	for (int i = 0; i < 20; i++)
		CHECK(sim_exec(&m, 100) != 2);
	sched_node_set(m.s, 3, SCHED_NODE_GONE);
	CHECK(sched_node_get(m.s, 3, m.now, &n) == -ENOENT);
	CHECK(sched_report_in(m.s, 3, "x", 1, m.now) == -ENOENT);
	for (int i = 0; i < 20; i++)
		CHECK(sim_exec(&m, 100) == 1);
	for (uint32_t pid = 1000; pid < 1100; pid++)
		sched_ended(m.s, pid, m.now); /* also those counted on the removed node */
	sim_end(&m);
}

static void test_a_node_short_of_memory_is_the_last_choice(void)
{
	static const double cpus[] = { 1, 1 }, speed[] = { 1, 1 };
	struct sim m;
	sim_start(&m, 2, cpus, speed, 1);
	struct load_report l = { .cpus_milli = 64000, .speed_milli = 2000, .mem_total = 1 << 30, .mem_free = 1 << 20 };
	struct wr w = { 0 };
	load_encode(&w, &l);
	CHECK(sched_report_in(m.s, 2, w.p, w.n, m.now) == 0);
	wr_fini(&w);
	for (int i = 0; i < 20; i++)
		CHECK(sim_exec(&m, 100) == 1);
	sim_end(&m);
}

static double load_of(struct sim *m, uint16_t node)
{
	struct sched_node n;
	CHECK(sched_node_get(m->s, node, m->now, &n) == 0);
	return n.load;
}

/* What is placed counts at once, is not counted twice when it shows in the reports, and its end counts at once too. */
static void test_load_follows_what_was_placed_without_counting_twice(void)
{
	static const double cpus[] = { 4, 4 }, speed[] = { 1, 1 };
	struct sim m;
	sim_start(&m, 2, cpus, speed, 1);
	for (uint32_t pid = 1; pid <= 3; pid++)
		sched_placed(m.s, pid, 2, 1, m.now);
	CHECK(fabs(load_of(&m, 2) - 3) < 1e-6);

	m.now += LOAD_WINDOW_MS / 2; /* half of the window shows them */
	sim_report(&m, 2, 1.5);
	CHECK(fabs(load_of(&m, 2) - 3) < 1e-6);
	m.now += LOAD_WINDOW_MS / 2;
	sim_report(&m, 2, 3);
	CHECK(fabs(load_of(&m, 2) - 3) < 1e-6);
	m.now += 1000;
	sim_report(&m, 2, 3);
	CHECK(fabs(load_of(&m, 2) - 3) < 1e-6);

	sched_ended(m.s, 1, m.now);
	sched_ended(m.s, 2, m.now);
	CHECK(fabs(load_of(&m, 2) - 1) < 1e-6);
	m.now += LOAD_WINDOW_MS / 2;
	sim_report(&m, 2, 2);
	CHECK(fabs(load_of(&m, 2) - 1) < 1e-6);
	m.now += LOAD_WINDOW_MS;
	sim_report(&m, 2, 1);
	CHECK(fabs(load_of(&m, 2) - 1) < 1e-6);
	sched_ended(m.s, 3, m.now);
	sched_ended(m.s, 3, m.now);
	CHECK(fabs(load_of(&m, 2)) < 1e-6);

	/* What is placed elsewhere than decided is counted where it is. */
	sched_placed(m.s, 9, 2, 1, m.now);
	sched_placed(m.s, 9, 1, 1, m.now);
	CHECK(fabs(load_of(&m, 2)) < 1e-6 && fabs(load_of(&m, 1) - 1) < 1e-6);
	sim_end(&m);
}

/* sh -c 'exec cc', and make starting sh starting cc: one job is one, not three. */
static void test_chains_of_exec_and_waiting_parents_count_once(void)
{
	static const double cpus[] = { 4, 4 }, speed[] = { 1, 1 };
	struct sim m;
	struct sched_decision d;
	sim_start(&m, 2, cpus, speed, 1);
	for (int i = 0; i < 5; i++) {
		struct sched_request r = { .pid = 10 };
		CHECK(sched_place(m.s, &r, compiler, "local", m.now, &d, NULL) == 0);
	}
	CHECK(fabs(load_of(&m, 1) - 1) < 1e-6);
	for (uint32_t pid = 11; pid < 14; pid++) {
		struct sched_request r = { .pid = pid, .ppid = pid - 1 };
		CHECK(sched_place(m.s, &r, compiler, "local", m.now, &d, NULL) == 0);
	}
	CHECK(fabs(load_of(&m, 1) - 1) < 1e-6);
	sim_end(&m);
}

static void test_counting_is_bounded(void)
{
	static const double cpus[] = { 4, 4 }, speed[] = { 1, 1 };
	struct sim m;
	sim_start(&m, 2, cpus, speed, 1);
	for (uint32_t pid = 1; pid <= SCHED_BOOKED_MAX + 1000; pid++)
		sched_placed(m.s, pid, 2, 1, m.now);
	CHECK(fabs(load_of(&m, 2) - SCHED_BOOKED_MAX) < 1);
	for (uint32_t pid = 1; pid <= SCHED_BOOKED_MAX + 1000; pid++)
		sched_ended(m.s, pid, m.now);
	CHECK(load_of(&m, 2) < 1e-6);
	sim_end(&m);
}

static void test_the_real_probe_drives_ticks_and_reports(void)
{
	struct sched *s;
	struct sched_config c = { .self = 3, .source = "host", .speed = 1.5 };
	uint32_t next;
	struct wr w = { 0 };
	struct err e = { .text = "" };
	CHECK(sched_new(&c, &s, &e) == 0);
	CHECK(sched_report_out(s, 1000, &w) == -ENODATA);
	CHECK(sched_tick(s, 1000, &next, &e) == SCHED_SEND);
	CHECK(next >= 50 && next <= 500);
	CHECK(sched_tick(s, 1100, &next, &e) == 0); /* not again so soon */
	CHECK(sched_tick(s, 1100 + 3000, &next, &e) == SCHED_SEND);
	CHECK(sched_report_out(s, 4150, &w) == 0);
	struct load_report l;
	CHECK(load_decode(w.p, w.n, &l) == 0 && l.age_ms == 50 && l.speed_milli == 1500 && l.cpus_milli >= 1);
	wr_fini(&w);
	s = sched_free(s);

	c.source = "cgroup:no/such/group";
	CHECK(sched_new(&c, &s, &e) == -ENOENT && e.text[0]);
	c.source = "host";
	c.policy = "best";
	CHECK(sched_new(&c, &s, &e) == -ENOENT);
}

int main(void)
{
	TEST(test_a_burst_of_twelve_spreads_evenly);
	TEST(test_a_few_stay_on_a_large_idle_node);
	TEST(test_equal_nodes_share_the_work_of_a_build_within_a_tenth);
	TEST(test_a_build_as_wide_as_the_cpus_keeps_them_busy);
	TEST(test_a_node_twice_as_fast_gets_twice_the_work);
	TEST(test_more_cpus_get_more_jobs);
	TEST(test_draining_nodes_get_nothing);
	TEST(test_a_draining_home_sends_long_programs_away);
	TEST(test_what_is_brief_stays_and_what_became_long_goes);
	TEST(test_policies_for_tests_do_what_they_say);
	TEST(test_silent_and_removed_nodes_get_nothing_by_load);
	TEST(test_a_node_short_of_memory_is_the_last_choice);
	TEST(test_load_follows_what_was_placed_without_counting_twice);
	TEST(test_chains_of_exec_and_waiting_parents_count_once);
	TEST(test_counting_is_bounded);
	TEST(test_the_real_probe_drives_ticks_and_reports);
	return 0;
}
