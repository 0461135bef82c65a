/* A small cluster for tests: some spaces in one process over fake links and streams, and commands run in them as `pando run`
 * would. Needs root. One world at a time is enough for a test; a world that went wrong is thrown away. */
#pragma once

#include <sys/types.h>

#include "space/fake-links.h"
#include "space/internal.h"

enum { WORLD_NODES = 3 };

enum world_policy { POLICY_LOCAL, POLICY_ELSEWHERE, POLICY_RANDOM };

struct world;

struct world_node {
	struct world *w;
	uint16_t id;
	struct space *s;
};

struct world {
	uv_loop_t loop;
	uv_timer_t clock;
	struct fake_net *net;
	unsigned n_nodes;
	struct world_node node[WORLD_NODES + 1]; /* from 1 */
	enum world_policy policy;
	unsigned seed;
	uint64_t n_placed, n_asked;
	const char *only;  /* programs with this in their path are placed; NULL: all */
	size_t n_fds;      /* when nothing runs */
};

/* A command under way, and what became of it. */
struct job {
	struct world *w;
	uint16_t node;
	int32_t pid;
	int is_started, start_status;
	char at[16];
	int is_over, status;      /* wait status */
	int n_changed, last_status;
	uint64_t cpu_us;
	int in, out, err;         /* our ends; in: -1 when closed */
	uv_poll_t out_poll, err_poll;
	int out_open, err_open;
	char *text[2];            /* owned: standard output and error */
	size_t text_n[2];
};

/* Makes n spaces. Aborts the program with words when that fails. */
struct world *world_new(unsigned n_nodes);
/* Ends all processes of it and frees it. */
void world_free(struct world *w);
void world_policy(struct world *w, enum world_policy policy, unsigned seed);

/* Starts argv[0] (a path) on node 1 with input as its standard input. */
struct job *job_start(struct world *w, char *const argv[], const char *input);
/* Turns the loop until the job is over and its outputs are closed. 0, or -ETIMEDOUT. */
int job_wait(struct job *j, unsigned ms);
void job_free(struct job *j);

/* Turns the loop until cond(ctx) or the time is over. 1 if cond holds. */
int world_until(struct world *w, int (*cond)(void *ctx), void *ctx, unsigned ms);
/* Whether only what belongs to an empty space is left: processes, records, descriptors, calls. Waits for it; 0 and words when not. */
int world_is_clean(struct world *w, unsigned ms, char *words, size_t size);
/* Everything known about what runs, to standard error. */
void world_dump(struct world *w);

/* The same command outside. text as in struct job. Returns the wait status. */
int outside_run(char *const argv[], const char *input, char **ret_out, size_t *ret_n);
