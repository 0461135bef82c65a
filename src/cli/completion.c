/* The completion script is made from the table of commands; the build installs its output. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/dev.h"

static void print_words(const char *group)
{
	size_t n = group ? strlen(group) : 0;
	char last[32] = "";
	int first = 1;
	for (size_t i = 0; i < cli_n_cmds; i++) {
		const char *name = cli_cmds[i].name;
		if (group && (strncmp(name, group, n) != 0 || name[n] != ' '))
			continue;
		char word[32];
		(void)snprintf(word, sizeof word, "%s", group ? name + n + 1 : name);
		if (!group)
			word[strcspn(word, " ")] = 0;
		if (strcmp(word, last) == 0)
			continue;
		(void)printf("%s%s", first ? "" : " ", word);
		first = 0;
		(void)strcpy(last, word);
	}
}

static void print_opts(const struct cli_opt *opts)
{
	for (const struct cli_opt *o = opts; o && o->name; o++)
		(void)printf("--%s%s ", o->name, o->arg ? "=" : "");
	(void)printf("--help");
}

/* dev has commands of its own. */
static void print_dev(void)
{
	(void)printf("\t\tword=${COMP_WORDS[at+1]}\n\t\tif ((COMP_CWORD == at + 1)); then words=\"");
	for (size_t i = 0; cli_dev_command(i); i++)
		(void)printf("%s%s", i ? " " : "", cli_dev_command(i));
	(void)printf("\"; word=; fi\n\t\tcase $word in\n");
	for (size_t i = 0; cli_dev_command(i); i++) {
		const char *name;
		int arg = 0;
		(void)printf("\t\t%s) opts=\"", cli_dev_command(i));
		for (size_t k = 0; (name = cli_dev_option(i, k, &arg)); k++)
			(void)printf("%s--%s%s", k ? " " : "", name, arg ? "=" : "");
		(void)printf("\" ;;\n");
	}
	(void)printf("\t\tesac\n\t\t[[ $word == exec ]] && ((COMP_CWORD > at + 2)) && ((at += 2)) && command_line=1\n");
}

/* The case of one command: its options, their values, its operands. */
static void print_cmd(const struct cli_cmd *c)
{
	(void)printf("\t\"%s\")\n\t\topts=\"", c->name);
	print_opts(c->opts);
	(void)printf("\"\n");
	for (const struct cli_opt *o = c->opts; o && o->name; o++) {
		if (!o->values)
			continue;
		(void)printf("\t\t[[ $prev == --%s ]] && words=\"", o->name);
		for (const char *p = o->values; *p; p++)
			(void)putchar(*p == '|' ? ' ' : *p);
		(void)printf("\"\n");
	}
	switch (c->operand) {
	case CLI_COMMAND_LINE:
		(void)printf("\t\tcommand_line=1\n");
		break;
	case CLI_FILE:
		(void)printf("\t\tfiles=1\n");
		break;
	case CLI_PID:
		(void)printf("\t\t[[ $cur == [0-9]* ]] && words=$(command ps -eo pid= 2>/dev/null)\n");
		break;
	case CLI_TOPIC:
		(void)printf("\t\twords=\"");
		print_words(NULL);
		(void)printf("\"\n");
		break;
	case CLI_NOTHING:
		if (strcmp(c->name, "completion") == 0)
			(void)printf("\t\twords=bash\n");
		if (strcmp(c->name, "dev") == 0)
			print_dev();
		break;
	}
	(void)printf("\t\t;;\n");
}

static void print_groups(void)
{
	char last[32] = "";
	for (size_t i = 0; i < cli_n_cmds; i++) {
		char group[32];
		(void)snprintf(group, sizeof group, "%s", cli_cmds[i].name);
		if (!strchr(group, ' '))
			continue;
		group[strcspn(group, " ")] = 0;
		if (strcmp(group, last) == 0)
			continue;
		(void)strcpy(last, group);
		(void)printf("\t%s)\n\t\twords=\"", group);
		print_words(group);
		(void)printf("\"\n\t\t;;\n");
	}
}

static void print_bash(void)
{
	(void)printf("# bash completion for pando; made by \"pando completion bash\"\n\n"
		     "_pando() {\n"
		     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=\"\" at=0 i word\n"
		     "\tlocal opts=\"\" words=\"\" command_line=\"\" files=\"\"\n"
		     "\tCOMPREPLY=()\n"
		     "\t[[ $cur == \"=\" ]] && cur=\"\"\n"
		     "\t[[ $prev == \"=\" ]] && prev=${COMP_WORDS[COMP_CWORD-2]}\n"
		     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		     "\t\tword=${COMP_WORDS[i]}\n"
		     "\t\tcase $word in\n"
		     "\t\t--run | --state) [[ ${COMP_WORDS[i+1]} == \"=\" ]] && ((i++)); ((i++)) ;;\n"
		     "\t\t-*) ;;\n"
		     "\t\t*) cmd=$word at=$i; break ;;\n"
		     "\t\tesac\n"
		     "\tdone\n"
		     "\tcase $cmd in\n"
		     "\t\"\")\n"
		     "\t\twords=\"");
	print_words(NULL);
	(void)printf("\"\n\t\topts=\"");
	print_opts(cli_global_opts);
	(void)printf("\"\n\t\t[[ $prev == --run || $prev == --state ]] && words=\"\" files=1\n\t\t;;\n");
	print_groups();
	(void)printf("\tesac\n"
		     "\tif [[ $cmd && $words ]] && ((COMP_CWORD > at + 1)); then\n"
		     "\t\tcmd=\"$cmd ${COMP_WORDS[at+1]}\" at=$((at + 1)) words=\"\"\n"
		     "\tfi\n"
		     "\tcase $cmd in\n");
	for (size_t i = 0; i < cli_n_cmds; i++)
		print_cmd(&cli_cmds[i]);
	(void)printf("\tesac\n"
		     "\tif [[ $command_line ]]; then\n"
		     "\t\t# the command line behind our own options is completed as that command's\n"
		     "\t\tfor ((i = at + 1; i < COMP_CWORD; i++)); do\n"
		     "\t\t\tword=${COMP_WORDS[i]}\n"
		     "\t\t\tcase $word in\n"
		     "\t\t\t--) ((i++)); break ;;\n"
		     "\t\t\t--node | --feature | -n | -f) [[ ${COMP_WORDS[i+1]} == \"=\" ]] && ((i++)); ((i++)) ;;\n"
		     "\t\t\t-*) ;;\n"
		     "\t\t\t*) break ;;\n"
		     "\t\t\tesac\n"
		     "\t\tdone\n"
		     "\t\tif ((i < COMP_CWORD)) || [[ $cur != -* ]]; then\n"
		     "\t\t\tif declare -F _command_offset >/dev/null; then\n"
		     "\t\t\t\t_command_offset \"$i\"\n"
		     "\t\t\telif ((i < COMP_CWORD)); then\n"
		     "\t\t\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
		     "\t\t\telse\n"
		     "\t\t\t\tmapfile -t COMPREPLY < <(compgen -c -- \"$cur\")\n"
		     "\t\t\tfi\n"
		     "\t\t\treturn\n"
		     "\t\tfi\n"
		     "\tfi\n"
		     "\t[[ $cur == -* ]] && words=$opts\n"
		     "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
		     "\t[[ $files && $cur != -* ]] && mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
		     "\t[[ ${COMPREPLY[0]} == *= && ${#COMPREPLY[@]} == 1 ]] && compopt -o nospace\n"
		     "\treturn 0\n"
		     "}\n\n"
		     "complete -o filenames -o bashdefault -F _pando pando\n");
}

int cmd_completion(const struct cli_cmd *cmd, const struct cli_args *args)
{
	if (strcmp(args->pos[0], "bash") != 0)
		return cli_usage_error(cmd, "there is none for \"%s\", only for bash", args->pos[0]);
	print_bash();
	return cli_done(cmd, CLI_OK);
}
