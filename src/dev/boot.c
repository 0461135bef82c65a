/* From N machines to one cluster: what an administrator does on real ones (README, first use), done in the nodes. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "dev/cg.h"
#include "dev/enter.h"
#include "dev/node.h"
#include "dev/ops.h"
#include "dev/proc.h"

enum { COMMAND_MS = 30000, OUT_MAX = 64 << 10, PORT = 4840, RUNS_MAX = 4 };

/* The last line of what a command said: what comes before are warnings. */
static const char *last_line(char *said)
{
	size_t n = strlen(said);
	while (n && said[n - 1] == '\n')
		said[--n] = 0;
	for (char *p; (p = strrchr(said, '\n'));) {
		if (strncmp(p + 1, "Try \"", 5) != 0)
			return p + 1;
		*p = 0;
	}
	return said;
}

/* Runs a pando command in node i: 0 and its output, or -EIO with what it said. */
static int pando_in(const struct dev_boot *b, unsigned i, char *const argv[], char out[static OUT_MAX], struct err *e)
{
	char said[8192];
	int status, left = proc_left(b->until_ms);
	if (left == 0)
		return err_set(e, -ETIMEDOUT, "node %u: no time is left for pando %s", i, argv[1]);
	int rc = enter_capture(b->c, b->cg, i, argv, left < COMMAND_MS ? left : COMMAND_MS, out, OUT_MAX, said,
			       sizeof said, &status, e);
	if (rc < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return rc;
	const char *words = last_line(said);
	if (strncmp(words, "pando: ", 7) == 0)
		words += 7;
	return err_set(e, -EIO, "node %u: %s", i, *words ? words : "pando failed without a word");
}

int dev_boot_is_up(const char *text, unsigned n)
{
	json_t *j = json_loads(text, 0, NULL);
	const char *state = NULL;
	json_int_t up = 0, members = 0;
	int rc = j && json_unpack(j, "{s:s, s:I, s:I}", "state", &state, "up", &up, "members", &members) == 0 &&
		 strcmp(state, "up") == 0 && up == (json_int_t)n && members == (json_int_t)n;
	json_decref(j);
	return rc;
}

/* A service that ends again and again does not get better by waiting. */
static int service_check(const struct dev_boot *b, unsigned i, struct err *e)
{
	char path[256], text[256];
	unsigned runs = 0;
	int status = 0;
	node_path(b->c, i, "service.json", path);
	if (file_read(AT_FDCWD, path, text, sizeof text) < 0 ||
	    sscanf(text, "{\"pid\": %*d, \"runs\": %u, \"last_status\": %d}", &runs, &status) != 2 || runs <= RUNS_MAX)
		return 0;
	return err_set(e, -ECHILD, "node %u: pando-keeper has ended %u times (the last time by %s %d)", i, runs - 1,
		       WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

/* Tries a command until it works: a daemon that has just been started needs a moment. */
static int pando_until(const struct dev_boot *b, unsigned i, char *const argv[], char out[static OUT_MAX],
		       int (*good)(const char *out, unsigned n), unsigned n, struct err *e)
{
	for (unsigned step = 0;; proc_nap(&step)) {
		struct err last = { .text = "" };
		int rc = pando_in(b, i, argv, out, &last);
		if (rc == 0 && (!good || good(out, n)))
			return 0;
		if (b->stop(b->ctx))
			return err_set(e, -EINTR, "interrupted");
		if (rc < 0 && (rc != -EIO || proc_left(b->until_ms) == 0))
			return err_set(e, rc, "%s", last.text);
		if (proc_left(b->until_ms) == 0)
			return err_set(e, -ETIMEDOUT, "node %u does not see all %u nodes up", i, n);
		rc = service_check(b, i, e);
		if (rc < 0)
			return rc;
	}
}

static int admit(const struct dev_boot *b, unsigned i, char out[static OUT_MAX], struct err *e)
{
	char exe[4096], name[16], addr[32], ip[16], token[8192];
	(void)snprintf(exe, sizeof exe, "%s", b->c->exe);
	(void)snprintf(name, sizeof name, "node%u", i);
	trial_addr(b->c, i, ip);
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
	rc = pando_in(b, i, join, out, e);
	if (rc < 0)
		return rc;
	/* One after the other, so that the numbers of the trial are those of the cluster. */
	unsigned got = 0;
	const char *is = strstr(out, " is node ");
	if (!is || sscanf(is, " is node %u", &got) != 1 || got != i)
		return err_set(e, -EIO, "node %u: the cluster gave it the number %u", i, got);
	return 0;
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
	char exe[4096];
	(void)snprintf(exe, sizeof exe, "%s", b->c->exe);
	char *status[] = { exe, (char[]){ "status" }, (char[]){ "--format=json" }, NULL };
	for (unsigned i = 1; i <= b->c->n && rc == 0; i++) {
		rc = pando_until(b, i, status, out, dev_boot_is_up, b->c->n, e);
		b->progress(b->ctx, "up", i);
	}
	free(out);
	return rc;
}
