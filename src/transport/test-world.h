/* For the tests of links: several nodes in one process over loopback, and raw peers that say what they want. Everything is driven by one
 * loop; until() runs it until a condition holds. */
#pragma once

#include <openssl/ssl.h>
#include <stdint.h>
#include <uv.h>

#include "check.h"
#include "transport/frame.h"
#include "transport/links.h"
#include "transport/pki.h"

enum { WORLD_LIMIT_MS = 60000 }; /* a condition that has not come by then fails the test */

/* ---- certificates ---- */

/* A member of ca's cluster, in memory. */
struct pki *world_member(const struct pki *ca, uint16_t node);

/* The same, of which the certificate ran out in the past. */
struct pki *world_member_expired(const struct pki *ca, uint16_t node);

/* ---- a node ---- */

struct node {
	uint16_t id;
	struct pki *pki; /* owned */
	struct links *l;
	unsigned ups, downs, heard, refused, closed;
	int up[NODE_MAX + 1];
	char down_why[256], refused_from[256], refused_why[512];
	unsigned n_msgs; /* of type 200 */
	uint64_t sum;    /* of their contents, in order */
	void (*on_down)(struct node *n, uint16_t node); /* extra, may be NULL */
};

struct world {
	uv_loop_t loop;
	uv_timer_t pace; /* so that uv_run comes back */
	struct pki *ca;  /* owned; is also node 1 */
	int fds;         /* open at the start */
};

void world_begin(struct world *w);
/* Closes the loop; every descriptor that was opened since world_begin must be gone. */
void world_end(struct world *w);

/* cfg: heartbeat_ms and silence_ms count, may be NULL. Listens on loopback. */
void node_begin(struct world *w, struct node *n, uint16_t id, const struct links_config *cfg);
/* Closes and waits for it. */
void node_end(struct world *w, struct node *n);
/* a keeps a link to b. */
void node_knows(struct node *a, const struct node *b);
/* Both know each other; waits until both are up. */
void node_pair(struct world *w, struct node *a, struct node *b);

/* Runs the loop once. */
void world_turn(struct world *w);
uint64_t world_clock(void);

#define until(w, cond)                                              \
	do {                                                        \
		uint64_t end_ = world_clock() + WORLD_LIMIT_MS;     \
		while (!(cond)) {                                   \
			world_turn(w);                              \
			if (world_clock() > end_) {                 \
				errno = ETIMEDOUT;                  \
				CHECK(cond);                        \
			}                                           \
		}                                                   \
	} while (0)

int world_fds(void);

/* ---- a raw peer ---- */

struct raw {
	int fd;
	SSL *ssl;   /* NULL: plain bytes */
	int is_over; /* the other side closed */
	char why[128];
};

/* Connects; nothing is sent. */
void raw_connect(struct raw *r, uint16_t port);
/* TLS as a client. 0: done; -1: refused, or closed (r->why). */
int raw_tls(struct world *w, struct raw *r, SSL_CTX *ctx);
/* A TLS link as the member p, up to the hello; CHECKs that it works. */
void raw_member(struct world *w, struct raw *r, uint16_t port, const struct pki *p);
/* ... and with the hellos exchanged. */
void raw_link(struct world *w, struct raw *r, uint16_t port, const struct pki *p);
/* Sends everything (running the loop when the kernel takes no more). -1: the connection is closed. */
int raw_send(struct world *w, struct raw *r, const void *p, size_t n);
int raw_frame(struct world *w, struct raw *r, uint16_t type, uint64_t call, const void *p, size_t n);
int raw_hello(struct world *w, struct raw *r, uint16_t version, uint16_t node, uint32_t heartbeat_ms);
/* Reads what is there; the bytes read, 0 when there is nothing; is_over is set at the end. */
size_t raw_read(struct raw *r, uint8_t *p, size_t n);
/* Runs the loop until the next frame that is no heartbeat is there, or the connection is over: then -1. Payload into p, at most n bytes. */
int raw_next(struct world *w, struct raw *r, struct frame *ret, uint8_t *p, size_t n);
/* Runs the loop until the other side has closed. */
void raw_until_closed(struct world *w, struct raw *r);
void raw_close(struct raw *r);
