#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"

static void opt_print(const struct cli_opt *o)
{
	char left[64];
	(void)snprintf(left, sizeof left, "%c%c%s--%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ', o->letter ? ", " : "  ",
		       o->name, o->arg ? " " : "", o->arg ? o->arg : "");
	(void)printf("  %-26s %s", left, o->about);
	if (o->values)
		(void)printf(" (%s)", o->values);
	(void)printf("\n");
}

static const struct cli_opt help_opt = { 'h', "help", NULL, "show this help", NULL };

void cli_show_help(const struct cli_cmd *cmd)
{
	(void)printf("usage: pando %s [OPTION]...%s%s\n\n%s\n", cmd->name, cmd->usage[0] ? " " : "", cmd->usage, cmd->summary);
	if (cmd->about)
		(void)printf("\n%s\n", cmd->about);
	(void)printf("\noptions:\n");
	for (const struct cli_opt *o = cmd->opts; o && o->name; o++)
		opt_print(o);
	opt_print(&help_opt);
}

void cli_show_help_all(void)
{
	(void)printf("usage: pando [OPTION]... COMMAND [ARGUMENT]...\n\nOne machine from many: runs commands on a cluster as on one machine.\n\ncommands:\n");
	for (size_t i = 0; i < cli_n_cmds; i++)
		if (!(cli_cmds[i].flags & CLI_HIDDEN))
			(void)printf("  %-12s %s\n", cli_cmds[i].name, cli_cmds[i].summary);
	(void)printf("\noptions:\n");
	for (const struct cli_opt *o = cli_global_opts; o->name; o++)
		opt_print(o);
	opt_print(&help_opt);
	(void)printf("\n\"pando COMMAND --help\" and pando-COMMAND(1) tell more of each.\n");
}

static const char *cmd_name(const void *ctx, size_t i)
{
	return i < cli_n_cmds ? cli_cmds[i].name : NULL;
}

/* Help for a group of commands ("node"): CLI_FAIL when there is none. */
static int show_group(const char *name)
{
	size_t n = strlen(name);
	int found = 0;
	for (size_t i = 0; i < cli_n_cmds; i++) {
		if (strncmp(cli_cmds[i].name, name, n) != 0 || cli_cmds[i].name[n] != ' ')
			continue;
		(void)printf("%s", found++ ? "" : "commands:\n");
		(void)printf("  %-12s %s\n", cli_cmds[i].name, cli_cmds[i].summary);
	}
	return found ? CLI_OK : CLI_FAIL;
}

int cmd_help(const struct cli_cmd *cmd, const struct cli_args *args)
{
	if (args->n_pos == 0) {
		cli_show_help_all();
		return cli_done(cmd, CLI_OK);
	}
	char name[64];
	(void)snprintf(name, sizeof name, "%s%s%s", args->pos[0], args->n_pos > 1 ? " " : "", args->n_pos > 1 ? args->pos[1] : "");
	const struct cli_cmd *about = cli_cmd_find(name);
	if (about) {
		cli_show_help(about);
		return cli_done(cmd, CLI_OK);
	}
	if (args->n_pos == 1 && show_group(name) == CLI_OK)
		return cli_done(cmd, CLI_OK);
	const char *like = args_suggest(name, cmd_name, NULL);
	if (like)
		return cli_usage_error(cmd, "no command \"%s\"; did you mean \"%s\"?", name, like);
	return cli_usage_error(cmd, "no command \"%s\"", name);
}
