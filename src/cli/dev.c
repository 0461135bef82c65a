#include "cli/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "dev/cg.h"
#include "dev/enter.h"
#include "dev/init.h"
#include "dev/ops.h"
#include "dev/switch.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_EXEC = 125, WORDS_MAX = DEV_NODES_MAX + 4 };

/* A command line taken apart. */
struct args {
	const char *name;
	const char *word[WORDS_MAX]; /* what is no option; borrowed */
	int n;
	char **command; /* exec: the command and its arguments, NULL-terminated */
	struct dev_up up;
	int json, one_way, all;
	double jitter_ms;
};

struct command {
	const char *name;
	int (*run)(struct args *a, struct err *e);
	int min, max; /* words */
	const char *usage, *summary;
};

static int usage_error(const char *what, struct err *e)
{
	return err_set(e, EXIT_USAGE, "%s", what);
}

/* Numbers of the command line: 0 or EXIT_USAGE. "off" and "none" are 0 where 0 means no limit. */
static int number(const char *text, double min, double max, const char *what, double *ret, struct err *e)
{
	char *end;
	if (min <= 0 && (strcmp(text, "off") == 0 || strcmp(text, "none") == 0)) {
		*ret = 0;
		return 0;
	}
	errno = 0;
	double v = strtod(text, &end);
	if (errno || end == text || *end || !isfinite(v) || v < min || v > max)
		return err_set(e, EXIT_USAGE, "%s: \"%s\" is not a number from %g to %g", what, text, min, max);
	*ret = v;
	return 0;
}

static int node_number(const char *text, unsigned *ret, struct err *e)
{
	double v;
	int rc = number(text, 1, DEV_NODES_MAX, "node", &v, e);
	if (rc == 0 && v != floor(v))
		rc = err_set(e, EXIT_USAGE, "node: \"%s\" is not a whole number", text);
	*ret = rc == 0 ? (unsigned)v : 0;
	return rc;
}

static int size_number(const char *text, uint64_t *ret, struct err *e)
{
	static const char units[] = "KMGT";
	char *end;
	if (strcmp(text, "off") == 0 || strcmp(text, "none") == 0) {
		*ret = 0;
		return 0;
	}
	errno = 0;
	double v = strtod(text, &end);
	const char *u = *end ? strchr(units, *end & ~0x20) : NULL;
	if (u) {
		v *= (double)(1ull << (10 * (u - units + 1)));
		end++;
	}
	if (errno || end == text || *end || !(v >= 4096) || v > 1e18)
		return err_set(e, EXIT_USAGE, "memory: \"%s\" is not a size like 512M", text);
	*ret = (uint64_t)v;
	return 0;
}

static int run_up(struct args *a, struct err *e)
{
	int rc = node_number(a->word[0], &a->up.n, e);
	a->up.name = a->name;
	for (unsigned i = a->up.n + 1; rc == 0 && i <= DEV_NODES_MAX; i++)
		if (a->up.roots[i])
			return err_set(e, EXIT_USAGE, "--root %u=...: there are only %u nodes", i, a->up.n);
	return rc == 0 ? dev_up(&a->up, e) : rc;
}

static void down_one(void *ctx, const char *name)
{
	struct err e = { .text = "" };
	if (dev_down(name, &e) < 0) {
		(void)fprintf(stderr, "pando: dev down: %s\n", e.text);
		*(int *)ctx = -EIO;
	}
}

static int run_down(struct args *a, struct err *e)
{
	if (!a->all)
		return dev_down(a->name, e);
	int some = 0;
	int rc = trial_each(down_one, &some, e);
	return rc == 0 && some ? err_set(e, some, "not all are gone") : rc;
}

static int run_list(struct args *a, struct err *e)
{
	return dev_list(a->json, e);
}

static int run_status(struct args *a, struct err *e)
{
	return dev_status(a->name, a->json, e);
}

static int run_exec(struct args *a, struct err *e)
{
	unsigned i;
	struct cg cg;
	_cleanup_(trial_free_p) struct trial *c = NULL;
	int rc = node_number(a->word[0], &i, e);
	if (rc == 0 && (!a->command || !a->command[0]))
		rc = usage_error("exec: which command?", e);
	if (rc == 0)
		rc = trial_name_check(a->name, e);
	if (rc == 0)
		rc = trial_load(a->name, -1, &c, e);
	if (rc == 0)
		rc = cg_find(&cg, e);
	return rc == 0 ? enter_exec(c, &cg, i, a->command, e) : rc;
}

/* Commands of the form: name node [value]. */
static int run_kill(struct args *a, struct err *e)
{
	unsigned i;
	int rc = node_number(a->word[0], &i, e);
	return rc == 0 ? dev_kill(a->name, i, e) : rc;
}

static int run_start(struct args *a, struct err *e)
{
	unsigned i;
	int rc = node_number(a->word[0], &i, e);
	return rc == 0 ? dev_start(a->name, i, e) : rc;
}

static int run_freeze(struct args *a, struct err *e)
{
	unsigned i;
	int rc = node_number(a->word[0], &i, e);
	return rc == 0 ? dev_freeze(a->name, i, 1, e) : rc;
}

static int run_thaw(struct args *a, struct err *e)
{
	unsigned i;
	int rc = node_number(a->word[0], &i, e);
	return rc == 0 ? dev_freeze(a->name, i, 0, e) : rc;
}

static int run_cpu(struct args *a, struct err *e)
{
	unsigned i;
	double cpus;
	int rc = node_number(a->word[0], &i, e);
	if (rc == 0)
		rc = number(a->word[1], 0, 4096, "CPUs", &cpus, e);
	return rc == 0 ? dev_cpu(a->name, i, cpus, e) : rc;
}

static int run_mem(struct args *a, struct err *e)
{
	unsigned i;
	uint64_t bytes;
	int rc = node_number(a->word[0], &i, e);
	if (rc == 0)
		rc = size_number(a->word[1], &bytes, e);
	return rc == 0 ? dev_mem(a->name, i, bytes, e) : rc;
}

static int run_slow(struct args *a, struct err *e)
{
	unsigned i;
	double mbit;
	int rc = node_number(a->word[0], &i, e);
	if (rc == 0)
		rc = number(a->word[1], 0, 1e6, "Mbit/s", &mbit, e);
	return rc == 0 ? dev_slow(a->name, i, mbit, e) : rc;
}

/* Commands about the link of two nodes; without the second: all links of the first. */
static int ends(struct args *a, int n, unsigned *i, unsigned *j, struct err *e)
{
	*j = 0;
	int rc = node_number(a->word[0], i, e);
	if (rc == 0 && n > 1)
		rc = node_number(a->word[1], j, e);
	return rc == 0 && *i == *j ? usage_error("two different nodes, please", e) : rc;
}

static int run_cut(struct args *a, struct err *e)
{
	unsigned i, j;
	int rc = ends(a, a->n, &i, &j, e);
	return rc == 0 ? dev_cut(a->name, i, j, a->one_way, 1, e) : rc;
}

static int run_heal(struct args *a, struct err *e)
{
	unsigned i, j;
	if (a->n == 0)
		return dev_heal(a->name, e);
	int rc = ends(a, a->n, &i, &j, e);
	return rc == 0 ? dev_cut(a->name, i, j, a->one_way, 0, e) : rc;
}

static int run_part(struct args *a, struct err *e)
{
	unsigned side[DEV_NODES_MAX + 1] = { 0 };
	for (int k = 0; k < a->n; k++) {
		char text[1024], *save = NULL;
		if ((size_t)snprintf(text, sizeof text, "%s", a->word[k]) >= sizeof text)
			return usage_error("part: too long", e);
		for (char *w = strtok_r(text, " ,", &save); w; w = strtok_r(NULL, " ,", &save)) {
			unsigned i;
			int rc = node_number(w, &i, e);
			if (rc != 0)
				return rc;
			if (side[i])
				return err_set(e, EXIT_USAGE, "part: node %u is named twice", i);
			side[i] = (unsigned)k + 1;
		}
	}
	return dev_part(a->name, side, e);
}

static int run_delay(struct args *a, struct err *e)
{
	unsigned i, j;
	double ms;
	int rc = ends(a, a->n - 1, &i, &j, e);
	if (rc == 0)
		rc = number(a->word[a->n - 1], 0, 60000, "ms", &ms, e);
	return rc == 0 ? dev_delay(a->name, i, j, a->one_way, ms, a->jitter_ms, e) : rc;
}

static int run_loss(struct args *a, struct err *e)
{
	unsigned i, j;
	double pct;
	int rc = ends(a, a->n - 1, &i, &j, e);
	if (rc == 0)
		rc = number(a->word[a->n - 1], 0, 100, "percent", &pct, e);
	return rc == 0 ? dev_loss(a->name, i, j, a->one_way, pct, e) : rc;
}

static const struct command commands[] = {
	{ "up", run_up, 1, 1,
	  "N [--cpu X] [--mem SIZE] [--lan bridge|user] [--root I=DIR]... [--service CMD] [--wait S] [--quiet]",
	  "start N nodes on this machine" },
	{ "down", run_down, 0, 0, "[--all]", "end it; nothing is left, not even of a start that was interrupted" },
	{ "list", run_list, 0, 0, "[--format=json]", "all trial clusters of this machine" },
	{ "status", run_status, 0, 0, "[--format=json]", "nodes, addresses, limits, faults" },
	{ "exec", run_exec, 1, 1, "I [--] CMD...", "run a command in node I, as root" },
	{ "kill", run_kill, 1, 1, "I", "pull the plug of node I; its disk (/var/lib) stays" },
	{ "start", run_start, 1, 1, "I", "turn node I on again" },
	{ "cut", run_cut, 1, 2, "I [J] [--one-way]", "cut node I off from node J (from all)" },
	{ "part", run_part, 1, WORDS_MAX, "\"I J\" \"K\"...", "split the network; nodes not named are one more side" },
	{ "heal", run_heal, 0, 2, "[I [J]]", "no cuts any more (of node I)" },
	{ "slow", run_slow, 2, 2, "I MBIT", "limit the link of node I, each way; 0: no limit" },
	{ "delay", run_delay, 2, 3, "I [J] MS [--jitter MS] [--one-way]",
	  "delay frames between I and J (all); each way; needs --lan user" },
	{ "loss", run_loss, 2, 3, "I [J] PERCENT [--one-way]", "lose frames between I and J (all); needs --lan user" },
	{ "cpu", run_cpu, 2, 2, "I X", "limit node I to X CPUs; 0: no limit" },
	{ "mem", run_mem, 2, 2, "I SIZE", "limit the memory of node I; none: no limit" },
	{ "freeze", run_freeze, 1, 1, "I", "stop every process of node I" },
	{ "thaw", run_thaw, 1, 1, "I", "let them go on" },
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int help(FILE *f)
{
	(void)fprintf(f, "usage: pando dev COMMAND [--name NAME] ...\n"
			 "Trial clusters: nodes on this machine, made of namespaces. NAME is $PANDO_DEV_NAME or "
			 "\"dev\" if not given.\n\n");
	for (size_t k = 0; k < N_COMMANDS; k++)
		(void)fprintf(f, "  %s %s\n        %s\n", commands[k].name, commands[k].usage, commands[k].summary);
	return 0;
}

enum option_id {
	OPT_NAME = 256,
	OPT_CPU,
	OPT_MEM,
	OPT_LAN,
	OPT_ROOT,
	OPT_SERVICE,
	OPT_WAIT,
	OPT_QUIET,
	OPT_FORMAT,
	OPT_ONE_WAY,
	OPT_JITTER,
	OPT_ALL,
	OPT_HELP
};

static const struct option options[] = {
	{ "name", required_argument, NULL, OPT_NAME },     { "cpu", required_argument, NULL, OPT_CPU },
	{ "mem", required_argument, NULL, OPT_MEM },       { "lan", required_argument, NULL, OPT_LAN },
	{ "root", required_argument, NULL, OPT_ROOT },     { "service", required_argument, NULL, OPT_SERVICE },
	{ "wait", required_argument, NULL, OPT_WAIT },     { "quiet", no_argument, NULL, OPT_QUIET },
	{ "format", required_argument, NULL, OPT_FORMAT }, { "one-way", no_argument, NULL, OPT_ONE_WAY },
	{ "jitter", required_argument, NULL, OPT_JITTER }, { "all", no_argument, NULL, OPT_ALL },
	{ "help", no_argument, NULL, OPT_HELP },           { NULL, 0, NULL, 0 },
};

/* Which command takes which option (besides --name and --help). */
static int option_fits(const char *command, int id)
{
	static const struct {
		const char *command;
		int id[8];
	} fits[] = {
		{ "up", { OPT_CPU, OPT_MEM, OPT_LAN, OPT_ROOT, OPT_SERVICE, OPT_WAIT, OPT_QUIET } },
		{ "down", { OPT_ALL } },
		{ "list", { OPT_FORMAT } },
		{ "status", { OPT_FORMAT } },
		{ "cut", { OPT_ONE_WAY } },
		{ "heal", { OPT_ONE_WAY } },
		{ "delay", { OPT_ONE_WAY, OPT_JITTER } },
		{ "loss", { OPT_ONE_WAY } },
	};
	if (id == OPT_NAME || id == OPT_HELP)
		return 1;
	for (size_t k = 0; k < sizeof fits / sizeof *fits; k++)
		for (size_t m = 0; m < sizeof fits->id / sizeof *fits->id; m++)
			if (strcmp(fits[k].command, command) == 0 && fits[k].id[m] == id)
				return 1;
	return 0;
}

const char *cli_dev_command(size_t i)
{
	return i < N_COMMANDS ? commands[i].name : NULL;
}

const char *cli_dev_option(size_t i, size_t k, int *ret_arg)
{
	for (const struct option *o = options; o->name; o++) {
		if (!option_fits(commands[i].name, o->val) || k-- > 0)
			continue;
		*ret_arg = o->has_arg == required_argument;
		return o->name;
	}
	return NULL;
}

static int root_option(struct args *a, const char *text, struct err *e)
{
	char number_text[8];
	unsigned i;
	const char *eq = strchr(text, '=');
	if (!eq || eq - text >= (int)sizeof number_text)
		return usage_error("--root wants I=DIR", e);
	(void)snprintf(number_text, sizeof number_text, "%.*s", (int)(eq - text), text);
	int rc = node_number(number_text, &i, e);
	if (rc == 0)
		a->up.roots[i] = eq + 1;
	return rc;
}

static int option(struct args *a, int id, const char *value, struct err *e)
{
	double v;
	int rc = 0;
	switch (id) {
	case OPT_NAME:
		a->name = value;
		return 0;
	case OPT_CPU:
		return number(value, 0, 4096, "--cpu", &a->up.cpu, e);
	case OPT_MEM:
		return size_number(value, &a->up.mem, e);
	case OPT_LAN:
		a->up.lan = strcmp(value, "user") == 0 ? DEV_LAN_USER : DEV_LAN_BRIDGE;
		return a->up.lan == DEV_LAN_USER || strcmp(value, "bridge") == 0
			   ? 0
			   : usage_error("--lan is bridge or user", e);
	case OPT_ROOT:
		return root_option(a, value, e);
	case OPT_SERVICE:
		a->up.service = value;
		return 0;
	case OPT_WAIT:
		rc = number(value, 1, 3600, "--wait", &v, e);
		a->up.wait_s = rc == 0 ? (int)v : 0;
		return rc;
	case OPT_QUIET:
		a->up.quiet = 1;
		return 0;
	case OPT_FORMAT:
		a->json = strcmp(value, "json") == 0;
		return a->json || strcmp(value, "text") == 0 ? 0 : usage_error("--format is text or json", e);
	case OPT_ONE_WAY:
		a->one_way = 1;
		return 0;
	case OPT_JITTER:
		return number(value, 0, 60000, "--jitter", &a->jitter_ms, e);
	case OPT_ALL:
		a->all = 1;
		return 0;
	default:
		return usage_error("unknown option, or one without its value", e);
	}
}

enum { HELP_WANTED = 3 };

/* Options may stand anywhere but in the command of exec: that begins after "--", or at the second word. 0, EXIT_USAGE
 * or HELP_WANTED. */
static int parse(const struct command *cmd, int argc, char **argv, struct args *a, struct err *e)
{
	int is_exec = cmd->run == run_exec;
	optind = 0; /* glibc: start anew */
	opterr = 0;
	for (;;) {
		int before = optind > 0 ? optind : 1;
		int id = getopt_long(argc, argv, "+h", options, NULL);
		if (id == 'h' || id == OPT_HELP)
			return HELP_WANTED;
		if (id >= 0) {
			if (id == '?' || !option_fits(cmd->name, id))
				return err_set(e, EXIT_USAGE, "%s does not take %s, or not like this", cmd->name,
					       argv[before]);
			int rc = option(a, id, optarg, e);
			if (rc != 0)
				return rc;
			continue;
		}
		int dashes = optind > before && strcmp(argv[optind - 1], "--") == 0;
		if (is_exec && a->n == 1) {
			a->command = argv + optind;
			return 0;
		}
		do {
			if (optind >= argc)
				return 0;
			if (a->n == WORDS_MAX)
				return usage_error("too many arguments", e);
			a->word[a->n++] = argv[optind++];
		} while (dashes && !is_exec);
	}
}

/* Programs started by the above: `pando dev --init LEASH NAME I`, `pando dev --switch LEASH NAME`. -1: none of them. */
static int hidden(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "--init") == 0)
		return init_main(atoi(argv[2]), argv[3], (unsigned)atoi(argv[4]));
	if (argc == 4 && strcmp(argv[1], "--switch") == 0)
		return switch_hold_main(atoi(argv[2]));
	return -1;
}

/* A descriptor that we open must never get one of the standard numbers. */
static int standard_open(void)
{
	int fd;
	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
		;
	if (fd < 0)
		return -errno;
	(void)close(fd);
	return 0;
}

int cli_dev(int argc, char **argv)
{
	int status = hidden(argc, argv);
	if (status >= 0)
		return status;
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		(void)help(argc < 2 ? stderr : stdout);
		return argc < 2 ? EXIT_USAGE : 0;
	}
	const struct command *cmd = NULL;
	for (size_t k = 0; k < N_COMMANDS && !cmd; k++)
		if (strcmp(commands[k].name, argv[1]) == 0)
			cmd = &commands[k];
	if (!cmd) {
		(void)fprintf(stderr, "pando: dev: no command \"%s\"; see: pando dev --help\n", argv[1]);
		return EXIT_USAGE;
	}

	struct err e = { .text = "" };
	const char *name = getenv("PANDO_DEV_NAME");
	struct args a = { .name = name && *name ? name : "dev", .up = { .wait_s = 60 } };
	int rc = parse(cmd, argc - 1, argv + 1, &a, &e);
	if (rc == HELP_WANTED) {
		(void)printf("usage: pando dev %s [--name NAME] %s\n%s.\n", cmd->name, cmd->usage, cmd->summary);
		return 0;
	}
	if (rc == 0 && (a.n < cmd->min || a.n > cmd->max))
		rc = err_set(&e, EXIT_USAGE, "usage: pando dev %s [--name NAME] %s", cmd->name, cmd->usage);
	if (rc == 0 && geteuid() != 0)
		rc = err_set(&e, -EPERM, "this needs root (namespaces, cgroups)");
	if (rc == 0)
		rc = standard_open();
	if (rc == 0)
		rc = cmd->run(&a, &e);
	if (rc >= 0 && !*e.text)
		return rc;
	(void)fprintf(stderr, "pando: dev %s: %s\n", cmd->name, e.text);
	if (rc == EXIT_USAGE)
		return EXIT_USAGE;
	return cmd->run == run_exec ? EXIT_EXEC : EXIT_FAILED;
}

/* The entry of the table of commands. */
int cmd_dev(const struct cli_cmd *cmd, const struct cli_args *args)
{
	(void)cmd;
	char **argv = calloc((size_t)args->n_pos + 2, sizeof *argv);
	if (!argv)
		return EXIT_FAILED;
	argv[0] = (char[]){ "dev" };
	for (int k = 0; k < args->n_pos; k++)
		argv[k + 1] = args->pos[k];
	int status = cli_dev(args->n_pos + 1, argv);
	free(argv);
	return status;
}
