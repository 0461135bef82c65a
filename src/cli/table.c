/* The table of commands: dispatch, help, completion and the test of the man pages all go by it. */
#include "cli/cli.h"

#define FORMAT { 0, "format", "FORMAT", "how to print", "table|json" }
#define END { 0, NULL, NULL, NULL, NULL }

const struct cli_opt cli_global_opts[] = {
	{ 0, "run", "DIR", "run directory of pandod (/run/pando, $PANDO_RUN)", NULL },
	{ 0, "state", "DIR", "state directory of pandod (/var/lib/pando, $PANDO_STATE)", NULL },
	{ 'V', "version", NULL, "show the version", NULL },
	END,
};

static const struct cli_opt format_opts[] = { FORMAT, END };

static const struct cli_opt init_opts[] = {
	{ 'n', "name", "NAME", "name of this node (the host name)", NULL },
	{ 'a', "addr", "HOST:PORT", "where other nodes reach this one (the address of the default route, port 4840)", NULL },
	{ 0, "stream-addr", "HOST:PORT", "the same for streams (the next port)", NULL },
	END,
};

static const struct cli_opt join_opts[] = {
	{ 'n', "name", "NAME", "name of this node (the host name)", NULL },
	{ 'a', "addr", "HOST:PORT", "where other nodes reach this one (the address that reaches the cluster, port 4840)", NULL },
	{ 0, "stream-addr", "HOST:PORT", "the same for streams (the next port)", NULL },
	END,
};

static const struct cli_opt token_opts[] = {
	{ 't', "ttl", "TIME", "how long it can be used: 30s, 10m, 1h, 2d (1h)", NULL },
	FORMAT,
	END,
};

static const struct cli_opt drain_opts[] = {
	{ 'u', "undo", NULL, "use the node again", NULL },
	{ 'w', "wait", NULL, "return when no process is left there", NULL },
	END,
};

static const struct cli_opt remove_opts[] = {
	{ 'f', "force", NULL, "also when processes run there: they are killed", NULL },
	END,
};

static const struct cli_opt run_opts[] = {
	{ 'n', "node", "NODE", "start on this node (a number or name)", NULL },
	{ 'f', "feature", "+X,-Y", "switch features on and off for the command and its children", NULL },
	END,
};

static const struct cli_opt ps_opts[] = {
	{ 'u', "user", "USER", "only processes of this user (name or number)", NULL },
	{ 'n', "node", "NODE", "only processes that run on this node", NULL },
	{ 'w', "wide", NULL, "do not cut commands at the width of the terminal", NULL },
	FORMAT,
	END,
};

static const struct cli_opt dev_opts[] = { END };

const struct cli_cmd cli_cmds[] = {
	{ "run", cmd_run, "run a command on the cluster", "[--] COMMAND [ARGUMENT]...",
	  "The command and its children run as on one machine; where each of them runs is decided by the cluster's policy. Environment,\n"
	  "directory, limits, terminal, redirections, signals and exit status are those of running COMMAND directly.\n\n"
	  "Exit status: that of the command; 125 when pando failed, 126 when the command cannot be executed, 127 when it was not found.",
	  run_opts, 1, -1, CLI_STOPS, CLI_COMMAND_LINE },
	{ "shell", cmd_shell, "start your shell on the cluster", "",
	  "Runs $SHELL (or the login shell of the user) as \"pando run\" does; exit status as there.", run_opts, 0, 0, 0, CLI_NOTHING },
	{ "ps", cmd_ps, "list processes and where they run", "[PID]...", NULL, ps_opts, 0, -1, 0, CLI_PID },
	{ "why", cmd_why, "tell why a process cannot move", "PID",
	  "Exit status 0 when it can move or was told why not.", format_opts, 1, 1, 0, CLI_PID },
	{ "features", cmd_features, "show or change the features of a process", "PID [+FEATURE|-FEATURE]...",
	  "Children inherit them.", format_opts, 1, -1, CLI_CHANGES, CLI_PID },
	{ "status", cmd_status, "show the state of this node and the cluster", "", NULL, format_opts, 0, 0, 0, CLI_NOTHING },
	{ "node list", cmd_node_list, "list the nodes", "", NULL, format_opts, 0, 0, 0, CLI_NOTHING },
	{ "node drain", cmd_node_drain, "place nothing more on a node", "NODE", NULL, drain_opts, 1, 1, 0, CLI_NOTHING },
	{ "node remove", cmd_node_remove, "remove a node from the cluster", "NODE", NULL, remove_opts, 1, 1, 0, CLI_NOTHING },
	{ "node label", cmd_node_label, "set labels of a node", "NODE [KEY=VALUE|KEY=]...",
	  "KEY= removes a label. Without changes the labels are shown.", format_opts, 1, -1, 0, CLI_NOTHING },
	{ "get", cmd_get, "show settings of the cluster", "[NAME]", NULL, format_opts, 0, 1, 0, CLI_NOTHING },
	{ "set", cmd_set, "change a setting of the cluster", "NAME VALUE", NULL, NULL, 2, 2, 0, CLI_NOTHING },
	{ "doctor", cmd_doctor, "check what this machine and the cluster have", "",
	  "Exit status 1 when something is missing without which the node cannot work.", format_opts, 0, 0, 0, CLI_NOTHING },
	{ "init", cmd_init, "make a new cluster with this node as its first", "", NULL, init_opts, 0, 0, 0, CLI_NOTHING },
	{ "token", cmd_token, "make a token with which one machine can join", "", NULL, token_opts, 0, 0, 0, CLI_NOTHING },
	{ "join", cmd_join, "make this machine a node of a cluster", "TOKEN", 
	  "TOKEN is what \"pando token\" printed on a node; - reads it from standard input.", join_opts, 1, 1, 0, CLI_NOTHING },
	{ "dev", cmd_dev, "trial clusters on this machine", "...", NULL, dev_opts, 0, -1, CLI_RAW, CLI_NOTHING },
	{ "help", cmd_help, "show help", "[COMMAND]", NULL, NULL, 0, 2, 0, CLI_TOPIC },
	{ "version", cmd_version, "show the version", "", NULL, format_opts, 0, 0, 0, CLI_NOTHING },
	{ "completion", cmd_completion, "print the completion of a shell", "bash",
	  "Use it by: source <(pando completion bash)", NULL, 1, 1, 0, CLI_NOTHING },
};

const size_t cli_n_cmds = sizeof cli_cmds / sizeof *cli_cmds;
