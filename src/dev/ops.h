/* What `pando dev` does to trial clusters. Each returns 0 or -errno with the words in e, takes and leaves the cluster's
 * lock itself, and is all or nothing as far as the record goes. Root only. Single-threaded programs only. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "dev/trial.h"

struct dev_up {
	const char *name;
	unsigned n;
	double cpu;   /* of each node; 0: no limit */
	uint64_t mem; /* of each node; 0: no limit */
	enum dev_lan lan;
	const char *service;                  /* NULL: pando-keeper, and the nodes form a cluster */
	const char *roots[DEV_NODES_MAX + 1]; /* by node; NULL: the machine's own / */
	int wait_s;                           /* how long the nodes may take to be a cluster */
	int quiet;                            /* no progress on standard error */
};

/* Starts a cluster; on failure, and when interrupted by SIGINT, SIGTERM or SIGHUP, nothing of it is left. */
int dev_up(const struct dev_up *how, struct err *e);

/* Ends a cluster, whatever there is of it. -ENOENT: nothing. */
int dev_down(const char *name, struct err *e);

/* Faults; nodes are 1..n. */
int dev_kill(const char *name, unsigned i, struct err *e);
int dev_start(const char *name, unsigned i, struct err *e);
int dev_freeze(const char *name, unsigned i, int on, struct err *e);
int dev_cpu(const char *name, unsigned i, double cpus, struct err *e);    /* 0: no limit */
int dev_mem(const char *name, unsigned i, uint64_t bytes, struct err *e); /* 0: no limit */
int dev_slow(const char *name, unsigned i, double mbit, struct err *e);   /* 0: no limit */

/* Between a and b, both ways or (one_way) only what a sends. b 0: all others. */
int dev_cut(const char *name, unsigned a, unsigned b, int one_way, int cut, struct err *e);
int dev_delay(const char *name, unsigned a, unsigned b, int one_way, double ms, double jitter_ms, struct err *e);
int dev_loss(const char *name, unsigned a, unsigned b, int one_way, double pct, struct err *e);

/* side[i] is the side of node i (any numbers): nodes on different sides are cut, those on the same side are not. */
int dev_part(const char *name, const unsigned side[static DEV_NODES_MAX + 1], struct err *e);
/* No cuts any more. */
int dev_heal(const char *name, struct err *e);

/* The status of one cluster, or of all in short, on standard output. */
int dev_status(const char *name, int json, struct err *e);
int dev_list(int json, struct err *e);

/* Makes the nodes of a running trial cluster a Pando cluster: init in node 1, tokens and joins for the others, the
 * services started by say(ctx, i) when their node may start. Waits until all are up, at most until_ms; stop(ctx) != 0
 * ends it early (-EINTR). */
struct dev_boot {
	const struct trial *c;
	const struct cg *cg;
	uint64_t until_ms;
	int (*say)(void *ctx, unsigned i, struct err *e);
	int (*stop)(void *ctx);
	void (*progress)(void *ctx, const char *what, unsigned done);
	void *ctx;
};
int dev_boot(const struct dev_boot *b, struct err *e);

/* Does the output of `pando status --format=json` say that the node is up, and has n members that all are? */
int dev_boot_is_up(const char *text, unsigned n);
