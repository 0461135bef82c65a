#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"

enum { COMMIT_MS = 15000 }; /* what the cluster must agree on may wait for an election */

static const struct out_column columns[] = {
	{ "NODE", "id", out_any, 1 },	  { "NAME", "name", out_any, 0 },   { "STATE", "state", out_any, 0 },
	{ "CPUS", "cpus", out_any, 1 },	  { "LOAD", "load", out_load, 1 },  { "MEMORY", "mem_total_kb", out_kb, 1 },
	{ "FREE", "mem_available_kb", out_kb, 1 }, { "PROCS", "processes", out_any, 1 }, { "SLOTS", "slots", out_list, 0 },
	{ "ADDRESS", "addr", out_any, 0 }, { "KERNEL", "kernel", out_any, 0 }, { "LABELS", "labels", out_labels, 0 },
};

int cmd_node_list(const struct cli_cmd *cmd, const struct cli_args *args)
{
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = cli_ask(cmd, json_pack("{s:s}", "cmd", "node-list"), &m);
	if (rc != CLI_OK)
		return rc;
	json_t *nodes = json_object_get(m.json, "nodes");
	if (!json_is_array(nodes))
		return cli_error(cmd, "pandod sent no list of nodes");
	if (args->opt[0] && strcmp(args->opt[0], "json") == 0)
		out_json(nodes);
	else if (out_table(nodes, columns, sizeof columns / sizeof *columns, 0) < 0)
		return cli_error(cmd, "no memory");
	return cli_done(cmd, CLI_OK);
}

static int drain_ask(const struct cli_cmd *cmd, int node, int undo, json_int_t *ret_remaining)
{
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = cli_ask_long(cmd, json_pack("{s:s, s:i, s:b}", "cmd", "node-drain", "node", node, "undo", undo), COMMIT_MS, NULL, NULL, &m);
	if (rc == CLI_OK)
		*ret_remaining = json_integer_value(json_object_get(m.json, "remaining"));
	return rc;
}

int cmd_node_drain(const struct cli_cmd *cmd, const struct cli_args *args)
{
	int node;
	json_int_t remaining = 0, said = -1;
	int undo = args->opt[0] != NULL, wait = args->opt[1] != NULL;
	if (undo && wait)
		return cli_usage_error(cmd, "--undo and --wait exclude each other");
	int rc = cli_node(cmd, args->pos[0], &node);
	for (;;) {
		if (rc == CLI_OK)
			rc = drain_ask(cmd, node, undo, &remaining);
		if (rc != CLI_OK || undo)
			return rc;
		if (remaining != said)
			(void)printf("node %d: %lld processes left\n", node, (long long)remaining);
		(void)fflush(stdout);
		said = remaining;
		if (!wait || remaining == 0)
			return cli_done(cmd, CLI_OK);
		(void)poll(NULL, 0, 500); /* asking again is harmless: it says the same to the cluster */
	}
}

int cmd_node_remove(const struct cli_cmd *cmd, const struct cli_args *args)
{
	int node;
	int rc = cli_node(cmd, args->pos[0], &node);
	if (rc != CLI_OK)
		return rc;
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	return cli_ask_long(cmd, json_pack("{s:s, s:i, s:b}", "cmd", "node-remove", "node", node, "force", args->opt[0] != NULL), COMMIT_MS,
			    NULL, NULL, &m);
}

/* Puts KEY=VALUE into set, KEY= into unset. */
static int label_parse(const struct cli_cmd *cmd, const char *text, json_t *set, json_t *unset)
{
	const char *eq = strchr(text, '=');
	size_t n = eq ? (size_t)(eq - text) : 0;
	char key[33];
	if (n == 0 || n >= sizeof key)
		return cli_usage_error(cmd, "\"%s\" is not KEY=VALUE", text);
	memcpy(key, text, n);
	key[n] = 0;
	if (strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789._-") != n || key[0] == '.' || key[0] == '_' || key[0] == '-')
		return cli_usage_error(cmd, "\"%s\": a label's name has small letters, digits, dots, hyphens and underscores only", key);
	int rc = eq[1] ? json_object_set_new(set, key, json_string(eq + 1)) : json_array_append_new(unset, json_string(key));
	return rc < 0 ? cli_usage_error(cmd, "\"%s\": the value is not UTF-8 text", key) : CLI_OK;
}

int cmd_node_label(const struct cli_cmd *cmd, const struct cli_args *args)
{
	int node;
	int rc = cli_node(cmd, args->pos[0], &node);
	json_t *set = json_object(), *unset = json_array();
	for (int i = 1; rc == CLI_OK && i < args->n_pos; i++)
		rc = label_parse(cmd, args->pos[i], set, unset);
	if (rc != CLI_OK) {
		json_decref(set);
		json_decref(unset);
		return rc;
	}
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	rc = cli_ask_long(cmd, json_pack("{s:s, s:i, s:o, s:o}", "cmd", "node-label", "node", node, "set", set, "unset", unset), COMMIT_MS, NULL,
			  NULL, &m);
	if (rc != CLI_OK)
		return rc;
	json_t *labels = json_object_get(m.json, "labels");
	if (args->opt[0] && strcmp(args->opt[0], "json") == 0) {
		out_json(labels ? labels : json_null());
	} else {
		char text[OUT_CELL_MAX];
		out_labels(m.json, "labels", text, sizeof text);
		(void)printf("node %d: %s\n", node, text);
	}
	return cli_done(cmd, CLI_OK);
}
