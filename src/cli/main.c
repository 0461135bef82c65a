#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"

/* Names of commands and of groups ("node"), for suggestions. group NULL: the first words of all; else the second words of that group. */
static const char *word_at(const void *ctx, size_t want)
{
	static char word[32];
	const char *group = ctx;
	size_t n = group ? strlen(group) : 0, found = 0;
	for (size_t i = 0; i < cli_n_cmds; i++) {
		const char *name = cli_cmds[i].name;
		if (group && (strncmp(name, group, n) != 0 || name[n] != ' '))
			continue;
		if (found++ != want)
			continue;
		(void)snprintf(word, sizeof word, "%s", group ? name + n + 1 : name);
		if (!group)
			word[strcspn(word, " ")] = 0;
		return word;
	}
	return NULL;
}

static int suggest(const char *group, const char *text)
{
	const char *like = args_suggest(text, word_at, group);
	if (like)
		return cli_usage_error(NULL, "there is no command \"%s%s%s\"; did you mean \"%s%s%s\"?", group ? group : "", group ? " " : "",
				       text, group ? group : "", group ? " " : "", like);
	return cli_usage_error(NULL, "there is no command \"%s%s%s\"", group ? group : "", group ? " " : "", text);
}

static int is_group(const char *word)
{
	return word_at(word, 0) != NULL;
}

/* Finds the command that argv starts with and how many words its name has; else prints why and gives the exit status. */
static int find(int argc, char **argv, const struct cli_cmd **ret, int *ret_words)
{
	char name[64];
	*ret_words = 1;
	*ret = cli_cmd_find(argv[0]);
	if (*ret)
		return CLI_OK;
	if (!is_group(argv[0]))
		return suggest(NULL, argv[0]);
	if (argc < 2 || argv[1][0] == '-') {
		char *help[] = { argv[0], NULL };
		struct cli_args args = { .pos = help, .n_pos = 1 };
		int asked = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
		int rc = asked ? cmd_help(cli_cmd_find("help"), &args) : cli_usage_error(NULL, "%s: what? See \"pando help %s\"", argv[0], argv[0]);
		return rc == CLI_OK ? -1 : rc;
	}
	(void)snprintf(name, sizeof name, "%s %s", argv[0], argv[1]);
	*ret = cli_cmd_find(name);
	*ret_words = 2;
	return *ret ? CLI_OK : suggest(argv[0], argv[1]);
}

static int run_cmd(const struct cli_cmd *cmd, int argc, char **argv)
{
	assert(cmd); /* find() said CLI_OK */
	struct cli_args args = { .pos = argv, .n_pos = argc };
	if (!(cmd->flags & CLI_RAW)) {
		int rc = args_parse(cmd, cmd->opts, argc, argv, &args);
		if (rc == CLI_WANTS_HELP) {
			cli_show_help(cmd);
			return cli_done(cmd, CLI_OK);
		}
		if (rc < 0)
			return CLI_USAGE;
	}
	if (args.n_pos < cmd->min_pos)
		return cli_usage_error(cmd, "an argument is missing: pando %s %s", cmd->name, cmd->usage);
	if (cmd->max_pos >= 0 && args.n_pos > cmd->max_pos)
		return cli_usage_error(cmd, "too many arguments: \"%s\"", args.pos[cmd->max_pos]);
	return cmd->run(cmd, &args);
}

static int globals(int argc, char **argv, struct cli_args *args)
{
	int rc = args_parse(NULL, cli_global_opts, argc, argv, args);
	if (rc == CLI_WANTS_HELP) {
		cli_show_help_all();
		return cli_done(NULL, CLI_OK) == CLI_OK ? -1 : CLI_FAIL;
	}
	if (rc < 0)
		return CLI_USAGE;
	static const char *const vars[] = { "PANDO_RUN", "PANDO_STATE" };
	for (size_t i = 0; i < 2; i++)
		if (args->opt[i] && setenv(vars[i], args->opt[i], 1) < 0)
			return cli_error(NULL, "no memory");
	if (args->opt[2]) {
		struct cli_args none = {};
		return cmd_version(cli_cmd_find("version"), &none) == CLI_OK ? -1 : CLI_FAIL;
	}
	return CLI_OK;
}

int main(int argc, char **argv)
{
	struct cli_args args;
	(void)setlocale(LC_CTYPE, ""); /* without it strerror still works */
	int rc = argc > 0 ? globals(argc - 1, argv + 1, &args) : CLI_USAGE;
	if (rc != CLI_OK)
		return rc < 0 ? CLI_OK : rc;
	if (args.n_pos == 0) {
		(void)fprintf(stderr, "usage: pando [OPTION]... COMMAND [ARGUMENT]...\nTry \"pando --help\".\n");
		return CLI_USAGE;
	}
	const struct cli_cmd *cmd = NULL;
	int words = 0;
	rc = find(args.n_pos, args.pos, &cmd, &words);
	if (rc != CLI_OK)
		return rc < 0 ? CLI_OK : rc;
	return run_cmd(cmd, args.n_pos - words, args.pos + words);
}
