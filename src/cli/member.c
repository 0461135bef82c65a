/* pando-member: what `pando init` and `pando join` do. This machine becomes a node: both write the state directory and start nothing; the
 * keeper sees the directory and starts the daemons. Started by pando only, with the command line that it has checked. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/identity.h"
#include "cli/joincheck.h"
#include "member/join.h"
#include "transport/pki.h"

static const char *state_dir(void)
{
	const char *dir = getenv("PANDO_STATE");
	return dir && *dir ? dir : PANDO_STATE_DIR;
}

/* Says it when this machine is a node already. A damaged state is one, too: it is not to be overwritten. */
static int is_member(const struct cli_cmd *cmd)
{
	struct err e = {};
	_cleanup_(pki_free_p) struct pki *pki = NULL;
	int rc = pki_load_node(state_dir(), &pki, &e);
	if (rc == -ENOENT)
		return CLI_OK;
	if (rc < 0)
		return cli_error(cmd, "%s: there is the state of a node that cannot be read: %s", state_dir(), e.text);
	return cli_error(cmd, "this machine is node %u of cluster %.8s already (%s); to give that up: \"pando node remove %u\" on another node, "
			 "\"systemctl stop pando\", and delete the directory", pki_node(pki), pki_cluster_id(pki), state_dir(), pki_node(pki));
}

static int begin(const struct cli_cmd *cmd, const struct cli_args *args, int ask, struct identity *id)
{
	struct err e = {};
	if (geteuid() != 0)
		return cli_error(cmd, "this needs root: it makes this machine a node (try \"sudo pando %s\")", cmd->name);
	if (identity_make(args->opt[0], args->opt[1], args->opt[2], ask, id, &e) < 0)
		return e.code == -EINVAL ? cli_usage_error(cmd, "%s", e.text) : cli_error(cmd, "%s", e.text);
	return is_member(cmd);
}

static int member_init(const struct cli_cmd *cmd, const struct cli_args *args)
{
	struct identity id;
	struct err e = {};
	int status = begin(cmd, args, 0, &id);
	if (status != CLI_OK)
		return status;
	joincheck_before();

	/* It takes a second, and half of it would look like the whole. */
	sigset_t hold, old;
	(void)sigemptyset(&hold);
	(void)sigaddset(&hold, SIGINT);
	(void)sigaddset(&hold, SIGTERM);
	(void)sigaddset(&hold, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &hold, &old); /* cannot fail */
	(void)signal(SIGPIPE, SIG_IGN);
	int rc = member_init_cluster(state_dir(), &id.self, &e);
	(void)sigprocmask(SIG_SETMASK, &old, NULL); /* cannot fail */
	if (rc < 0)
		return cli_error(cmd, "%s", e.text);

	(void)printf("This machine (%s, %s) is node 1 of a new cluster.\n", id.name, id.addr);
	status = joincheck_after(cmd);
	if (status == CLI_OK)
		(void)printf("To add a machine: \"pando token\" here, and \"pando join TOKEN\" there.\n");
	return cli_done(cmd, status);
}

/* A token from standard input: its first line. */
static int token_read(const struct cli_cmd *cmd, char ret[static TOKEN_TEXT_SIZE + 2])
{
	if (!fgets(ret, TOKEN_TEXT_SIZE + 2, stdin))
		return cli_error(cmd, "there is no token on standard input");
	return CLI_OK;
}

static int member_join(const struct cli_cmd *cmd, const struct cli_args *args)
{
	char line[TOKEN_TEXT_SIZE + 2];
	const char *text = args->pos[0];
	struct identity id;
	struct token t;
	struct err e = {};
	int status = begin(cmd, args, 1, &id);
	if (status == CLI_OK && strcmp(text, "-") == 0) {
		status = token_read(cmd, line);
		text = line;
	}
	if (status != CLI_OK)
		return status;
	if (token_decode(text, &t, &e) < 0)
		return cli_usage_error(cmd, "%s (\"pando token\" on a node makes one)", e.text);
	joincheck_before();

	uint16_t node = 0;
	(void)signal(SIGPIPE, SIG_IGN);
	int rc = join_cluster(text, state_dir(), &id.self, &node, &e);
	explicit_bzero(line, sizeof line);
	if (rc < 0)
		return cli_error(cmd, "%s", e.text);
	(void)printf("This machine (%s) is node %u of the cluster.\n", id.name, node);
	return cli_done(cmd, joincheck_after(cmd));
}

int main(int argc, char **argv)
{
	const struct cli_cmd *cmd = argc > 1 ? cli_cmd_find(argv[1]) : NULL;
	struct cli_args args;
	if (!cmd || (strcmp(cmd->name, "init") != 0 && strcmp(cmd->name, "join") != 0)) {
		(void)fprintf(stderr, "pando-member: started by \"pando init\" and \"pando join\"\n");
		return CLI_USAGE;
	}
	if (args_parse(cmd, cmd->opts, argc - 2, argv + 2, &args) != 0 || args.n_pos != cmd->min_pos)
		return CLI_USAGE;
	return strcmp(cmd->name, "init") == 0 ? member_init(cmd, &args) : member_join(cmd, &args);
}
