/* pando-procfs --run DIR: the /proc of this node's space. Started, and started again when it ends, by the keeper.
 *
 * Exit status: 0 the mount is gone or another one is to be served; 1 it cannot be served; 2 wrong usage. SIGTERM ends it like a
 * crash does: what is under way is answered by the next one. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/paths.h"
#include "procfs/client.h"

struct program {
	uv_loop_t loop;
	struct fs fs;
	struct client *client;
	uv_signal_t term;
	int status;
};

static void program_end(struct program *p, int status)
{
	p->status = status;
	uv_stop(&p->loop);
}

static void on_gone(void *ctx, int error)
{
	struct program *p = ctx;
	if (error)
		log_error("ending: %s", strerror(-error));
	program_end(p, error ? 1 : 0);
}

static void on_fs_gone(struct fs *fs, int error)
{
	if (!error)
		log_notice("the mount is gone, ending");
	on_gone(fs->loop->data, error);
}

static void on_term(uv_signal_t *h, int signum)
{
	program_end(h->data, 0);
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: pando-procfs --run DIR [--debug] [--journal]\n");
	return 2;
}

static int program_run(struct program *p, const char *run_dir)
{
	struct err e = { 0 };
	int rc = uv_loop_init(&p->loop);
	if (rc < 0) {
		log_error("loop: %s", uv_strerror(rc));
		return 1;
	}
	p->loop.data = p;
	fs_init(&p->fs, &p->loop);
	p->fs.on_gone = on_fs_gone;
	(void)uv_signal_init(&p->loop, &p->term); /* fails only for want of descriptors, and then SIGTERM just kills */
	p->term.data = p;
	(void)uv_signal_start(&p->term, on_term, SIGTERM);
	rc = client_new(&p->fs, run_dir, on_gone, p, &p->client, &e);
	if (rc < 0)
		log_error("%s", e.text);
	else
		(void)uv_run(&p->loop, UV_RUN_DEFAULT); /* ends by uv_stop */

	client_free(p->client);
	fs_fini(&p->fs);
	uv_close((uv_handle_t *)&p->term, NULL);
	(void)uv_run(&p->loop, UV_RUN_DEFAULT); /* closes what is open, waits for workers */
	(void)uv_loop_close(&p->loop);
	p->fs.proc_fd = close_fd(p->fs.proc_fd);
	return rc < 0 ? 1 : p->status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "run", required_argument, NULL, 'r' }, { "debug", no_argument, NULL, 'd' }, { "journal", no_argument, NULL, 'j' }, { 0 },
	};
	const char *env = getenv("PANDO_RUN");
	const char *run_dir = env ? env : PANDO_RUN_DIR;
	enum log_level level = LOG_INFO;
	int opt, journal = 0;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (opt == 'r')
			run_dir = optarg;
		else if (opt == 'd')
			level = LOG_DEBUG;
		else if (opt == 'j')
			journal = 1;
		else
			return usage();
	}
	if (optind < argc)
		return usage();
	log_setup("pando-procfs", level, journal);
	/* A reader may be held up by the process it reads about: enough workers that a few such do not stop the others. */
	if (setenv("UV_THREADPOOL_SIZE", "16", 0) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		log_warn("setup: %s", strerror(errno));
	static struct program program;
	return program_run(&program, run_dir);
}
