/* The daemon of a node: what its parts share. Used by src/node only. Loop thread only. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "base/paths.h"
#include "ctl/server.h"
#include "image/fileid.h"
#include "kern/nspid.h"
#include "kern/probe.h"
#include "member/member.h"
#include "procfs/server.h"
#include "sched/sched.h"
#include "space/space.h"
#include "transport/links.h"
#include "transport/pki.h"

struct keeper;
struct streams_client;
struct session;
struct track;
struct fset;

/* What another node last said of itself (MSG_CTL_REQ "about"). */
struct about {
	char kernel[65], arch[33], version[33], state[16];
	uint32_t processes;
	bool known;
};

enum node_phase { NODE_STARTING, NODE_UP, NODE_FROZEN, NODE_LEAVING };

struct node {
	uv_loop_t loop;
	const char *state_dir, *run_dir, *load_source;
	double cpus;
	char libexec[PATHS_MAX];
	char hostname[65];   /* of the space */
	char shared_tmp[256];

	struct keeper *keeper;
	struct pki *pki;
	struct links *links;
	struct member *member;
	struct sched *sched;
	struct fileid *fileid;
	struct procfs_server *procfs;
	struct streams_client *streams;
	struct ctl_server *ctl;
	struct space *space; /* NULL: none yet, or ended */
	struct nspid ns;     /* numbers of the space; valid while there is one */
	int root_fd;         /* O_PATH of the space's root directory; -1 */
	uint16_t self;
	bool had_space;      /* the keeper held one when we started */
	bool proc_is_served, proc_is_finished; /* a /proc server is there; the space's /proc is complete */
	bool is_hashing;     /* some node could tell files apart by their content only */
	enum node_phase phase;
	uint64_t start_ms;   /* CLOCK_MONOTONIC */
	struct kern_has has;

	uv_timer_t sched_timer;
	uv_signal_t sigterm, sigint;
	uv_timer_t features_timer;
	int n_stopping;      /* parts that have not closed yet */

	struct session *sessions; /* list */
	struct track *tracks;     /* hash by pid */
	struct fset *fsets;       /* features.c */
	struct about about[NODE_MAX + 1];
	uint8_t up[NODE_MAX + 1]; /* as the procfs server was told */
};

/* --- main.c --- */
/* Ends the space and the program: leaves the cluster, at most some seconds. */
void node_stop(struct node *n);
const char *node_phase_name(const struct node *n);

/* --- space_glue.c: the space's life and what it asks of us --- */
void node_space_start(struct node *n);  /* makes the space, or finds it again; a failure stops the program */
void node_space_end(struct node *n);    /* kills all that is in it */
void node_space_freeze(struct node *n, bool frozen);

/* --- placement.c --- */
int placement_start(struct node *n, struct err *e);
void placement_stop(struct node *n);
void placement_members(struct node *n, const struct cluster *c);
uint16_t placement_place(void *ctx, const struct space_place *p);
int placement_files(void *ctx, pid_t outer, const struct exec_image *im, uint16_t node, uint8_t **ret, size_t *ret_n, struct err *e);
int placement_files_check(void *ctx, const uint8_t *p, size_t n, struct err *e);
void placement_placed(void *ctx, int32_t pid, uint16_t node);
void placement_unplaced(void *ctx, int32_t pid, uint16_t node, int status, const char *why);
void placement_ended(void *ctx, int32_t pid, uint16_t node, uint64_t wall_us, uint64_t cpu_us);
/* Why the program of this process was last kept or sent where it is: words into buf, or "". */
void placement_why(const struct node *n, int32_t pid, char *buf, size_t size);
void placement_forget(struct node *n);

/* --- features.c: of processes that are here; outer: a number in our own pid namespace --- */
uint32_t features_effective(struct node *n, pid_t outer);
/* The node that its next execve goes to, 0: none was asked for; the wish is used up. */
uint16_t features_take_node(struct node *n, pid_t outer);
void features_want_node(struct node *n, pid_t outer, uint16_t node);
/* "+x,-y" applied to both sets. -EINVAL, -EOPNOTSUPP, -ESRCH with words. */
int features_change(struct node *n, pid_t outer, const char *change, struct err *e);
/* The sets that "+x,-y" makes of the initial ones, for a command to be started. */
int features_initial(const char *change, uint64_t *ret, struct err *e);
uint64_t features_pack(void *ctx, int32_t pid, pid_t outer); /* for an image */
void features_arrived(void *ctx, int32_t pid, pid_t outer, uint64_t features);
json_t *features_json(struct node *n, pid_t outer);
/* Tells the /proc server of all that differ, when the space was found again. */
void features_tell(struct node *n);
int features_start(struct node *n);
void features_stop(struct node *n);

/* --- sessions.c: `pando run` --- */
void sessions_start(struct node *n);
/* Those of a predecessor, once the space is found again. */
void sessions_find(struct node *n);
/* The space has ended: so have all sessions. */
void sessions_end(struct node *n);

/* --- answer.c: requests of the control socket about nodes, settings, tokens --- */
void answer_start(struct node *n);
/* --- processes.c: ps, why, features --- */
void processes_start(struct node *n);
/* The outer number of a process that is here (guest or own), or -ESRCH. */
pid_t processes_outer(struct node *n, int32_t pid);
/* --- doctor.c --- */
void doctor_start(struct node *n);

/* --- far.c: requests that another node answers (MSG_CTL_REQ) --- */
/* done runs once: status and the answer (borrowed; NULL when status < 0 and there is none). req is taken over. */
typedef void (*far_done_fn)(void *ctx, int status, json_t *answer);
int far_ask(struct node *n, uint16_t node, json_t *req, uint32_t timeout_ms, far_done_fn done, void *ctx);
void far_start(struct node *n);
/* Asks every node that is up for `about`; done runs once, when all have answered or cannot (maybe before this returns). */
int far_about_all(struct node *n, void (*done)(void *ctx), void *ctx);
/* What this node answers: a new object, or NULL and *status. */
json_t *far_answer_ps(struct node *n, json_t *req);
json_t *far_answer_process(struct node *n, json_t *req, int *status);

/* --- proc_glue.c: /proc server --- */
int proc_glue_start(struct node *n, struct err *e);
void proc_glue_members(struct node *n, const struct cluster *c);
void proc_glue_node(struct node *n, uint16_t node, bool up);
void proc_glue_space(struct node *n);
void proc_glue_space_gone(struct node *n);
void proc_glue_features(struct node *n, int32_t pid, uint32_t features);
void proc_glue_features_gone(struct node *n, int32_t pid);
void proc_glue_pid(void *ctx, int32_t pid, int hidden, uint16_t node);

/* --- stream_glue.c: stream agent --- */
/* addr: host:port at which the agents of other nodes reach ours. */
int stream_glue_start(struct node *n, const char *addr, struct err *e);
void stream_glue_members(struct node *n, const struct cluster *c);
void stream_glue_node_dead(struct node *n, uint16_t node);
void stream_glue_fill(struct node *n, struct space_streams *ret);
