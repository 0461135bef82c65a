/* Inner side of the agent: sessions. agent.c (members, requests of pandod), agent_out.c (we import), agent_in.c (we export). */
#pragma once

#include "stream/agent.h"
#include "stream/slink.h"
#include "stream/store.h"

enum {
	GREETING_MS = 5000,   /* for the first frame of a connection */
	GREETING_MAX = 256,   /* bytes of it */
	SILENT_MS = 6000,     /* then a connection is given up and made again */
	RETRY_MIN_MS = 20,
	RETRY_MAX_MS = 1000,
};

/* What outlives the process. */
struct out_rec {
	uint64_t id;
	uint16_t node;
	uint8_t is_known; /* the home has said WELCOME once */
};

struct in_rec {
	uint64_t id, instance;
	uint16_t node;
};

/* A session in which we import. */
struct osess {
	struct agent *a;
	struct out_rec *r;   /* owned */
	uint16_t node;
	struct slink *link;  /* owned */
	struct chan *chan;   /* owned until the greeting is over */
	struct frames greet;
	uv_timer_t timer;    /* the next attempt, or the end of a greeting */
	uint32_t delay_ms;
	int is_ended;        /* its timer is being closed */
};

/* A session in which we export. */
struct isess {
	struct agent *a;
	struct in_rec *r;    /* owned */
	uint16_t node;
	uint64_t instance;   /* of the importer's agent */
	struct slink *link;  /* owned */
	struct xsess *x;     /* owned */
	int is_restored;     /* of an agent before us: numbers are lost */
	int is_broken;       /* to be ended */
};

/* An accepted connection whose first frame is awaited. */
struct greeting {
	struct agent *a;
	struct chan *chan; /* owned */
	struct frames frames;
	uint64_t until_ms;
	struct greeting *prev, *next;
};

struct peer_rec {
	uint16_t node;
	char addr[SPROTO_ADDR_MAX];
};

struct agent_rec {
	uint64_t generation;
	uint16_t node;
	char addr[SPROTO_ADDR_MAX]; /* where we listen */
};

struct peer {
	int is_member, is_told;
	struct peer_rec *r; /* owned */
	char addr[SPROTO_ADDR_MAX];
	struct osess *out;
	struct isess *in;
};

struct agent {
	struct agent_config cfg;
	uint64_t instance, generation;
	struct agent_rec *me; /* in the store */
	struct work *work;
	struct exporter *exporter;
	struct importer *importer;
	struct chan_net *net;
	struct slink_group *group;
	struct peer peers[AGENT_NODE_MAX + 1];
	struct greeting *greetings;
	uint16_t ending;     /* node whose imports are just being ended: nothing is sent there */
	uv_timer_t tick, reap;
	unsigned n_closing;
	int is_closing;
	char failed[128];
	void (*closed)(void *ctx);
	void *closed_ctx;
};

uint64_t agent_random(void);

/* agent_out.c */

/* The session to node, made when there is none; NULL: out of memory. */
struct osess *osess_get(struct agent *a, uint16_t node);
struct osess *osess_restore(struct agent *a, struct out_rec *r);
void osess_address(struct osess *o); /* it is known now, or another */
/* What was imported through it ends. */
void osess_end(struct osess *o);

/* agent_in.c */
void agent_accept(void *ctx, struct chan *c);
void greeting_free(struct greeting *g);
struct isess *isess_restore(struct agent *a, struct in_rec *r);
void isess_end(struct isess *i);

/* For exporter_config. */
int isess_send(void *p, const struct pmsg *m);
size_t isess_backlog(void *p);
void isess_broken(void *p, const char *why);
int isess_frame_new(void *p, const struct pmsg *m, struct sess_frame **ret);
void isess_frame_send(void *p, struct sess_frame *f);
void isess_frame_free(void *p, struct sess_frame *f);
