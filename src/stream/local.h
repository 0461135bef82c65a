/* The agent's socket for pandod (and tests): stream/proto.h. Loop thread only. */
#pragma once

#include <uv.h>

#include "base/err.h"
#include "stream/agent.h"

struct local;

struct local_config {
	uv_loop_t *loop;     /* borrowed */
	struct store *store; /* borrowed; the listening socket is kept there */
	const char *path;    /* borrowed during local_new */
	void *ctx;
	/* The agent, made when there is none. -ENOENT: this machine has no membership. */
	int (*agent)(void *ctx, struct agent **ret, struct err *e);
};

/* Listens at path, mode 0600, or takes the listening socket of before. On 0 the caller owns *ret. */
int local_new(const struct local_config *cfg, struct local **ret, struct err *e);

/* Closes all; freed when the loop has run on. Requests under way must have ended (agent_close). */
void local_close(struct local *l);
