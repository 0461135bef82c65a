/* From N machines to one cluster: what an administrator does on real ones (README, first use), done in the nodes. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "dev/cg.h"
#include "dev/enter.h"
#include "dev/ops.h"
#include "dev/proc.h"

enum { COMMAND_MS = 30000, OUT_MAX = 64 << 10, PORT = 4840 };

/* Runs a pando command in node i: 0 and its output, or -EIO with what it said. */
static int pando_in(const struct dev_boot *b, unsigned i, char *const argv[], char out[static OUT_MAX], struct err *e)
{
	char said[1024];
	int status, left = proc_left(b->until_ms);
	int rc = enter_capture(b->c, b->cg, i, argv, left < COMMAND_MS ? left : COMMAND_MS, out, OUT_MAX, said,
			       sizeof said, &status, e);
	if (rc < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return rc;
	said[strcspn(said, "\n")] = 0;
	return err_set(e, -EIO, "node %u: pando %s: %s", i, argv[1], *said ? said : "failed without a word");
}

int dev_boot_is_up(const char *text, unsigned n)
{
	json_t *j = json_loads(text, 0, NULL);
	const char *state = NULL;
	json_int_t up = 0;
	int rc = j && json_unpack(j, "{s:s, s:I}", "state", &state, "up", &up) == 0 && strcmp(state, "up") == 0 &&
		 up >= (json_int_t)n;
	json_decref(j);
	return rc;
}

/* Tries a command until it works: a daemon that has just been started needs a moment. */
static int pando_until(const struct dev_boot *b, unsigned i, char *const argv[], char out[static OUT_MAX],
		       int (*good)(const char *out, unsigned n), unsigned n, struct err *e)
{
	for (unsigned step = 0;; proc_nap(&step)) {
		int rc = pando_in(b, i, argv, out, e);
		if (rc == 0 && (!good || good(out, n)))
			return 0;
		if (b->stop(b->ctx))
			return err_set(e, -EINTR, "interrupted");
		if (rc < 0 && rc != -EIO)
			return rc;
		if (proc_left(b->until_ms) == 0)
			return rc < 0 ? rc : err_set(e, -ETIMEDOUT, "node %u: not all nodes are up yet", i);
	}
}

static int admit(const struct dev_boot *b, unsigned i, char out[static OUT_MAX], struct err *e)
{
	char exe[4096], name[16], addr[32], ip[16], token[8192];
	(void)snprintf(exe, sizeof exe, "%s", b->c->exe);
	(void)snprintf(name, sizeof name, "node%u", i);
	cluster_addr(b->c, i, ip);
	(void)snprintf(addr, sizeof addr, "%s:%d", ip, PORT);
	if (i == 1) {
		char *init[] = {
			exe, (char[]){ "init" }, (char[]){ "--name" }, name, (char[]){ "--addr" }, addr, NULL
		};
		return pando_in(b, 1, init, out, e);
	}
	char *ask[] = { exe, (char[]){ "token" }, NULL };
	int rc = pando_until(b, 1, ask, out, NULL, 0, e);
	if (rc < 0)
		return rc;
	if (sscanf(out, "%8191s", token) != 1)
		return err_set(e, -EIO, "node 1: pando token gave none");
	char *join[] = { exe, (char[]){ "join" }, token, (char[]){ "--name" }, name, (char[]){ "--addr" }, addr, NULL };
	return pando_in(b, i, join, out, e);
}

int dev_boot(const struct dev_boot *b, struct err *e)
{
	char *out = malloc(OUT_MAX);
	if (!out)
		return err_set(e, -ENOMEM, "out of memory");
	int rc = 0;
	for (unsigned i = 1; i <= b->c->n && rc == 0; i++) {
		rc = b->stop(b->ctx) ? err_set(e, -EINTR, "interrupted") : admit(b, i, out, e);
		if (rc == 0)
			rc = b->say(b->ctx, i, e);
		b->progress(b->ctx, "joined", i);
	}
	if (rc == 0) {
		char exe[4096];
		(void)snprintf(exe, sizeof exe, "%s", b->c->exe);
		char *status[] = { exe, (char[]){ "status" }, (char[]){ "--format=json" }, NULL };
		rc = pando_until(b, 1, status, out, dev_boot_is_up, b->c->n, e);
	}
	free(out);
	return rc;
}
