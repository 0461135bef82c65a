/* pando-streams --state DIR --run DIR: descriptors that stay on one node and are used on others. Started, and started again when it
 * ends, by the keeper, which holds what must outlive it: descriptions, the fuse file system, the records about them.
 *
 * Exit status: 0 SIGTERM (like a crash: what is delegated goes on with the next one); 1 it cannot go on; 2 wrong usage. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/paths.h"
#include "keeper/client.h"
#include "stream/agent.h"
#include "stream/chan_tls.h"
#include "stream/local.h"
#include "transport/pki.h"

struct program {
	uv_loop_t loop;
	uv_signal_t term;
	const char *state_dir;
	struct pki *pki;
	struct store *store;
	struct agent *agent;
	struct local *local;
};

static int is_member(void *ctx, uint16_t node)
{
	return agent_is_member(ctx, node);
}

static int net_make(void *ctx, struct agent *a, struct chan_net **ret, struct err *e)
{
	struct program *p = ctx;
	struct chan_tls_gate gate = { .ctx = a, .is_member = is_member };
	return chan_tls_net(&p->loop, p->pki, &gate, ret, e);
}

static int agent_get(void *ctx, struct agent **ret, struct err *e)
{
	struct program *p = ctx;
	int rc = p->agent || p->pki ? 0 : pki_load_node(p->state_dir, &p->pki, e);
	if (rc < 0)
		return rc;
	if (!p->agent) {
		struct agent_config cfg = { .loop = &p->loop, .self = pki_node(p->pki), .store = p->store, .net = net_make, .ctx = p };
		rc = agent_new(&cfg, &p->agent, e);
		if (rc < 0) {
			log_error("%s", e->text);
			uv_stop(&p->loop); /* half a start: the next one may do better */
			return rc;
		}
	}
	*ret = p->agent;
	return 0;
}

static void on_term(uv_signal_t *h, int signum)
{
	uv_stop(h->loop);
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: pando-streams --state DIR --run DIR [--debug] [--journal]\n");
	return 2;
}

static void limits_raise(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	l.rlim_cur = l.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &l); /* to what we may have: cannot fail */
}

static int program_start(struct program *p, const char *run_dir, struct err *e)
{
	struct keeper *k = NULL;
	char path[PATHS_MAX];
	int rc = keeper_open(&k, e);
	if (rc == -ENOENT)
		log_notice("started without a keeper: what is delegated ends with this process");
	else if (rc < 0)
		return rc;
	struct store_keep keep = { .ctx = k, .put = keeper_put, .drop = keeper_drop, .take = keeper_take, .each = keeper_each,
				   .sync = keeper_sync };
	rc = store_open(&keep, &p->store, e);
	if (rc < 0)
		return rc;
	if ((size_t)snprintf(path, sizeof path, "%s/streams.sock", run_dir) >= sizeof path)
		return err_set(e, -ENAMETOOLONG, "%s: too long", run_dir);
	/* At once when there is a membership, so that what is delegated goes on without pandod. */
	struct agent *a;
	rc = agent_get(p, &a, e);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	struct local_config cfg = { .loop = &p->loop, .store = p->store, .path = path, .ctx = p, .agent = agent_get };
	rc = local_new(&cfg, &p->local, e);
	if (rc == 0)
		(void)keeper_ready(k); /* only pandod's is waited for */
	return rc;
}

static int program_run(struct program *p, const char *run_dir)
{
	struct err e = { 0 };
	int rc = uv_loop_init(&p->loop);
	if (rc < 0) {
		log_error("loop: %s", uv_strerror(rc));
		return 1;
	}
	rc = program_start(p, run_dir, &e);
	if (rc < 0) {
		log_error("%s", e.text);
		return 1;
	}
	(void)uv_signal_init(&p->loop, &p->term); /* fails only for want of descriptors, and then SIGTERM just kills */
	(void)uv_signal_start(&p->term, on_term, SIGTERM);
	(void)uv_run(&p->loop, UV_RUN_DEFAULT); /* ends by uv_stop */
	return !p->agent || agent_failed(p->agent) ? 1 : 0; /* nothing is closed: the next agent takes it over */
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "run", required_argument, NULL, 'r' }, { "state", required_argument, NULL, 's' },
		{ "debug", no_argument, NULL, 'd' },     { "journal", no_argument, NULL, 'j' },
		{ 0 },
	};
	static struct program program;
	const char *run_dir = getenv("PANDO_RUN"), *state_dir = getenv("PANDO_STATE");
	enum log_level level = LOG_INFO;
	int opt, journal = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (opt == 'r')
			run_dir = optarg;
		else if (opt == 's')
			state_dir = optarg;
		else if (opt == 'd')
			level = LOG_DEBUG;
		else if (opt == 'j')
			journal = 1;
		else
			return usage();
	}
	if (optind < argc)
		return usage();
	log_setup("pando-streams", level, journal);
	program.state_dir = state_dir ? state_dir : PANDO_STATE_DIR;
	if (setenv("UV_THREADPOOL_SIZE", "16", 0) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		log_warn("setup: %s", strerror(errno));
	limits_raise();
	return program_run(&program, run_dir ? run_dir : PANDO_RUN_DIR);
}
