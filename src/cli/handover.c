/* pando init, pando join: done by pando-member, so that the program that starts every `pando run` loads no TLS and no raft. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "cli/cli.h"

enum { WORDS_MAX = CLI_OPTS_MAX + 5, PROGRAM_MAX = PATHS_MAX + 16 };

/* Beside pandod, or (in a build tree without one) beside us. */
static int program(char ret[static PROGRAM_MAX])
{
	char dir[PATHS_MAX];
	if (paths_libexec(dir) < 0) {
		ssize_t n = readlink("/proc/self/exe", dir, sizeof dir - 1);
		if (n < 0)
			return -errno;
		dir[n] = 0;
		char *slash = strrchr(dir, '/');
		if (slash)
			*slash = 0;
	}
	(void)snprintf(ret, PROGRAM_MAX, "%s/pando-member", dir);
	return access(ret, X_OK) == 0 ? 0 : -errno;
}

/* The same command line again: "pando-member NAME --OPTION=VALUE ... -- POSITIONAL". */
static int handover(const struct cli_cmd *cmd, const struct cli_args *args)
{
	char path[PROGRAM_MAX];
	char *words[WORDS_MAX] = {}, *made[CLI_OPTS_MAX] = {};
	int n = 0, n_made = 0;
	int rc = program(path);
	words[n++] = path;
	words[n++] = (char *)(uintptr_t)cmd->name; /* exec does not change it */
	for (int i = 0; rc == 0 && cmd->opts[i].name; i++) {
		if (!args->opt[i])
			continue;
		if (asprintf(&made[n_made], "--%s%s%s", cmd->opts[i].name, cmd->opts[i].arg ? "=" : "", args->opt[i]) < 0)
			return cli_error(cmd, "no memory");
		words[n++] = made[n_made++];
	}
	words[n++] = (char[]){ "--" };
	if (args->n_pos > 0) /* at most one, says the table */
		words[n++] = args->pos[0];
	if (rc == 0) {
		(void)execv(path, words);
		rc = -errno;
	}
	while (n_made > 0)
		free(made[--n_made]);
	return cli_error(cmd, "%s: %s", path, strerror(-rc));
}

int cmd_init(const struct cli_cmd *cmd, const struct cli_args *args)
{
	return handover(cmd, args);
}

int cmd_join(const struct cli_cmd *cmd, const struct cli_args *args)
{
	return handover(cmd, args);
}
