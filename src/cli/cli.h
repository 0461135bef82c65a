/* What the subcommands of `pando` share: the table, parsed arguments, errors, one request. Single-threaded.
 *
 * Each command: cli_main has parsed its options by its table entry; its run function makes one request, prints, returns. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "ctl/client.h"

/* Exit status of every command but run and shell. */
enum { CLI_OK = 0, CLI_FAIL = 1, CLI_USAGE = 2 };

enum { CLI_OPTS_MAX = 12 };

/* An option. A table of them ends with one without a name. */
struct cli_opt {
	char letter;        /* 0: has none */
	const char *name;
	const char *arg;    /* what its argument is called, NULL: takes none */
	const char *about;
	const char *values; /* "a|b": the only ones allowed; NULL: any */
};

/* What positional arguments are, for completion. */
enum cli_operand { CLI_NOTHING, CLI_COMMAND_LINE, CLI_FILE, CLI_PID, CLI_TOPIC };

struct cli_args {
	const char *opt[CLI_OPTS_MAX]; /* by place in the table: NULL not given; its argument, or "" for one without */
	char **pos;                    /* positional arguments, NULL-terminated */
	int n_pos;
};

enum cli_flags {
	CLI_STOPS = 1,   /* what follows the first positional argument is not for us */
	CLI_CHANGES = 2, /* "-word" after the first positional argument is one, too (features 7 -place) */
	CLI_RAW = 4,     /* gets its arguments unparsed */
	CLI_HIDDEN = 8,
};

struct cli_cmd {
	const char *name;     /* "ps", "node drain" */
	int (*run)(const struct cli_cmd *cmd, const struct cli_args *args);
	const char *summary;  /* half a line */
	const char *usage;    /* behind the name, without [OPTION]... */
	const char *about;    /* paragraphs for --help; NULL: none */
	const struct cli_opt *opts; /* without --help, which all have; NULL: none */
	int min_pos, max_pos; /* max -1: any number */
	unsigned flags;
	enum cli_operand operand;
};

extern const struct cli_cmd cli_cmds[];
extern const size_t cli_n_cmds;

/* Options that come before the command. */
extern const struct cli_opt cli_global_opts[];

/* The command of that name ("node drain"), or NULL. */
const struct cli_cmd *cli_cmd_find(const char *name);

/* Prints "pando: NAME: words" to standard error. Returns CLI_FAIL. */
int cli_error(const struct cli_cmd *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same, and where to read on. Returns CLI_USAGE. */
int cli_usage_error(const struct cli_cmd *cmd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes one request (req is taken over) of pandod and waits for the answer. CLI_OK and *ret (caller owns its content), or CLI_FAIL, and the
 * words were printed. */
int cli_ask(const struct cli_cmd *cmd, json_t *req, struct ctl_msg *ret);

/* The same with another deadline (ms) and events on the way. */
int cli_ask_long(const struct cli_cmd *cmd, json_t *req, int timeout_ms, ctl_client_event_fn on_event, void *ctx, struct ctl_msg *ret);

/* Parses a whole number min..max; 0 or -EINVAL. */
int cli_number(const char *text, long long min, long long max, long long *ret);

/* The number of a node from what a user wrote: its number, or its name (asks pandod). CLI_OK, or CLI_FAIL or CLI_USAGE with the words printed. */
int cli_node(const struct cli_cmd *cmd, const char *text, int *ret);

/* The same for a pid. */
int cli_pid(const struct cli_cmd *cmd, const char *text, int *ret);

/* Prints the help of a command, of all, to standard output. */
void cli_show_help(const struct cli_cmd *cmd);
void cli_show_help_all(void);

/* Flushes standard output and reports when it could not be written. Returns status, or CLI_FAIL. */
int cli_done(const struct cli_cmd *cmd, int status);

/* The commands; each in the file of its name. */
#define CLI_COMMANDS(X)                                                                                                            \
	X(init) X(token) X(join) X(node_list) X(node_drain) X(node_remove) X(node_label) X(status) X(doctor) X(run) X(shell) X(ps) X(why) \
	X(features) X(get) X(set) X(dev) X(help) X(version) X(completion)
#define CLI_DECLARE(name) int cmd_##name(const struct cli_cmd *cmd, const struct cli_args *args);
CLI_COMMANDS(CLI_DECLARE)
#undef CLI_DECLARE
