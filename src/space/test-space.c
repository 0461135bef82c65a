/* Programs run in a small cluster, and the same programs outside: output and exit status must be the same, wherever the policy puts
 * what they start, and nothing may be left when they have ended.
 *
 * test-space [-p local|elsewhere|random] [-s seed] [-n name] [-b] [-v] [-d]: one policy, seed, test; -b the table of big ones, -v shows what passes,
 * -d the log. */
#include "space/fake-world.h"

#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "check.h"
#include "space/test-programs.h"

enum { CLEAN_MS = 8000 };

static int g_verbose, g_failed, g_passed;

static const char *const policy_names[] = { [POLICY_LOCAL] = "local", [POLICY_ELSEWHERE] = "elsewhere", [POLICY_RANDOM] = "random" };

static void text_show(const char *what, const char *p, size_t n)
{
	(void)fprintf(stderr, "    %s (%zu): %.*s\n", what, n, (int)(n < 600 ? n : 600), p ? p : "");
}

static int outputs_equal(const struct program *pr, const struct job *j, int status, const char *out, size_t n)
{
	if (j->start_status < 0) {
		(void)fprintf(stderr, "    not started: %s at %s\n", strerror(-j->start_status), j->at);
		return 0;
	}
	int is_same = (pr->flags & PROGRAM_ANY_OUTPUT) || (j->text_n[0] == n && (n == 0 || memcmp(j->text[0], out, n) == 0));
	if (is_same && (j->status & ~0x80) == (status & ~0x80))
		return 1;
	(void)fprintf(stderr, "    status %#x outside, %#x inside\n", (unsigned)status, (unsigned)j->status);
	text_show("outside", out, n);
	text_show("inside", j->text[0], j->text_n[0]);
	text_show("standard error inside", j->text[1], j->text_n[1]);
	return 0;
}

/* 0 when the world is to be thrown away. */
static int program_try(struct world *w, const struct program *pr)
{
	char *const argv[] = { (char *)(uintptr_t)(pr->shell ? pr->shell : "/bin/bash"), (char *)(uintptr_t)"-c", (char *)(uintptr_t)pr->script, NULL };
	char *out = NULL, words[200];
	size_t n = 0;
	uint64_t start = clock_ms();
	int status = outside_run(argv, pr->input, &out, &n);
	uint64_t outside_ms = clock_ms() - start;
	start = clock_ms();
	struct job *j = job_start(w, argv, pr->input);
	int rc = job_wait(j, (pr->seconds ? pr->seconds : 20) * 1000);
	int ok = rc == 0 && outputs_equal(pr, j, status, out, n);
	if (rc < 0) {
		(void)fprintf(stderr, "  %s: not over (started %d, over %d, status %#x, outputs open %d %d)\n", pr->name, j->is_started, j->is_over,
			      (unsigned)j->status, j->out_open, j->err_open);
		text_show("inside", j->text[0], j->text_n[0]);
		text_show("standard error inside", j->text[1], j->text_n[1]);
		world_dump(w);
	}
	uint64_t inside_ms = clock_ms() - start;
	job_free(j);
	if (rc == 0 && !world_is_clean(w, CLEAN_MS, words, sizeof words)) {
		(void)fprintf(stderr, "  %s: left over: %s\n", pr->name, words);
		world_dump(w);
		ok = 0;
		rc = -1;
	}
	if (ok && w->policy == POLICY_ELSEWHERE && !(pr->flags & PROGRAM_STAYS) && !w->n_placed) {
		(void)fprintf(stderr, "  %s: nothing was placed elsewhere (%lu asked)\n", pr->name, (unsigned long)w->n_asked);
		ok = 0;
	}
	if (!ok || g_verbose)
		(void)printf("%s %s, %s, seed %u (%lu placed, %lu ms, outside %lu ms)\n", ok ? "ok" : "not ok", pr->name, policy_names[w->policy],
			     w->seed, (unsigned long)w->n_placed, (unsigned long)inside_ms, (unsigned long)outside_ms);
	(void)fflush(stdout);
	*(ok ? &g_passed : &g_failed) += 1;
	free(out);
	return rc == 0;
}

static void table_run(const struct program *table, enum world_policy policy, unsigned seed, const char *only)
{
	struct world *w = world_new(policy == POLICY_RANDOM ? 3 : 2);
	for (const struct program *pr = table; pr->name; pr++) {
		if (only && strcmp(only, pr->name) != 0)
			continue;
		world_policy(w, policy, seed);
		if (!program_try(w, pr)) {
			world_free(w);
			w = world_new(policy == POLICY_RANDOM ? 3 : 2);
		}
	}
	world_free(w);
}

static enum world_policy policy_parse(const char *name)
{
	for (unsigned i = 0; i < 3; i++)
		if (strcmp(name, policy_names[i]) == 0)
			return (enum world_policy)i;
	(void)fprintf(stderr, "no policy %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	const struct program *table = programs;
	const char *only = NULL;
	int policy = -1;
	unsigned seed = (unsigned)clock_ms() % 1000000;
	for (int c; (c = getopt(argc, argv, "p:s:n:vdb")) != -1;) {
		switch (c) {
		case 'p':
			policy = (int)policy_parse(optarg);
			break;
		case 's':
			seed = (unsigned)atoi(optarg);
			break;
		case 'n':
			only = optarg;
			break;
		case 'b':
			table = big_programs;
			break;
		case 'v':
			g_verbose = 1;
			break;
		case 'd':
			log_setup("space", LOG_DEBUG, 0);
			break;
		default:
			return 2;
		}
	}
	if (geteuid() != 0)
		SKIP("needs root");
	struct rlimit files = { 16384, 16384 };
	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)signal(SIGPIPE, SIG_DFL);

	for (int p = POLICY_LOCAL; p <= POLICY_RANDOM; p++)
		if (policy < 0 || policy == p)
			table_run(table, (enum world_policy)p, seed, only);
	(void)printf("%d passed, %d failed, seed %u\n", g_passed, g_failed, seed);
	return g_failed ? 1 : 0;
}
