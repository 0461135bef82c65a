/* pando-keeper --state DIR --run DIR: the service of a node. See keeper.c for what it does.
 *
 * Exit status: 0 ended by SIGTERM or SIGINT; 1 it could not begin; 2 wrong usage. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/paths.h"
#include "keeper/keeper.h"
#include "keeper/notify.h"

static const char usage_text[] =
	"usage: pando-keeper [--state DIR] [--run DIR] [--load-source SOURCE] [--cpus X]\n"
	"\n"
	"The service of a Pando node: starts pandod, pando-streams and pando-procfs, and starts them again when\n"
	"they end; keeps what must outlive them. SIGTERM makes the node leave its cluster and ends everything.\n"
	"\n"
	"  --state DIR           keys, certificates, log of the cluster (default " PANDO_STATE_DIR ", or $PANDO_STATE)\n"
	"  --run DIR             sockets (default " PANDO_RUN_DIR ", or $PANDO_RUN)\n"
	"  --load-source SOURCE  passed on to pandod\n"
	"  --cpus X              passed on to pandod\n"
	"  --help                this text\n";

static const char *env_or(const char *name, const char *other)
{
	const char *v = getenv(name);
	return v && *v ? v : other;
}

/* Makes dir and what leads to it; then its absolute name. */
static int dir_make(const char *dir, mode_t mode, char ret[static PATH_MAX], struct err *e)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s", dir) >= sizeof path || !*path)
		return err_set(e, -ENAMETOOLONG, "\"%s\": no path for a directory", dir);
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = 0;
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return err_set(e, -errno, "making %s: %m", path);
		*p = '/';
	}
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_set(e, -errno, "making %s: %m", path);
	struct stat st;
	if (!realpath(path, ret) || stat(ret, &st) < 0)
		return err_set(e, -errno, "%s: %m", path);
	return S_ISDIR(st.st_mode) ? 0 : err_set(e, -ENOTDIR, "%s: not a directory", path);
}

/* base/paths.h looks for pandod; without it the others are in the same place. */
static int programs_dir(char ret[static PATHS_MAX], struct err *e)
{
	if (paths_libexec(ret) == 0)
		return 0;
	const char *env = secure_getenv("PANDO_LIBEXEC");
	if (env && *env && strlen(env) < PATHS_MAX) {
		(void)strcpy(ret, env);
		return 0;
	}
	ssize_t n = readlink("/proc/self/exe", ret, PATHS_MAX - 1);
	char *slash = n > 0 ? memrchr(ret, '/', (size_t)n) : NULL;
	if (!slash)
		return err_set(e, -ENOENT, "the directory of the programs is not to be found");
	*slash = 0;
	return 0;
}

static int begin(struct keeper_options *o, struct err *e)
{
	static char state[PATH_MAX], run[PATH_MAX], libexec[PATHS_MAX];
	(void)umask(022);
	int rc = dir_make(o->state_dir, 0700, state, e);
	if (rc == 0)
		rc = dir_make(o->run_dir, 0755, run, e);
	if (rc == 0)
		rc = programs_dir(libexec, e);
	if (rc < 0)
		return rc;
	o->state_dir = state;
	o->run_dir = run;
	o->libexec = libexec;
	return keeper_run(o, e);
}

/* 0: go on; 1: --help was served; 2: wrong. */
static int args_read(int argc, char **argv, struct keeper_options *o)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },	 { "run", required_argument, NULL, 'r' },
		{ "load-source", required_argument, NULL, 'l' }, { "cpus", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },		 { 0 },
	};
	int opt;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (opt) {
		case 's':
			o->state_dir = optarg;
			break;
		case 'r':
			o->run_dir = optarg;
			break;
		case 'l':
			o->load_source = optarg;
			break;
		case 'c':
			o->cpus = optarg;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return 1;
		default:
			(void)fputs("pando-keeper: try --help\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "pando-keeper: %s: no arguments are taken; try --help\n", argv[optind]);
		return 2;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct keeper_options o = { .state_dir = env_or("PANDO_STATE", PANDO_STATE_DIR), .run_dir = env_or("PANDO_RUN", PANDO_RUN_DIR) };
	struct err e = { 0 };
	int rc = args_read(argc, argv, &o);
	if (rc)
		return rc == 1 ? 0 : 2;
	log_setup("pando-keeper", LOG_INFO, getenv("JOURNAL_STREAM") != NULL);
	notify_init();
	rc = begin(&o, &e);
	if (rc < 0)
		log_error("%s", e.text);
	return rc < 0;
}
