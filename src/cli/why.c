#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"

static void print_why(const json_t *a, int pid)
{
	char node[32], what[OUT_CELL_MAX], text[OUT_CELL_MAX];
	out_any(a, "node", node, sizeof node);
	const json_t *reasons = json_object_get(a, "reasons");
	if (json_is_true(json_object_get(a, "movable")) && json_array_size(reasons) == 0) {
		(void)printf("%d, on node %s, can move.\n", pid, node);
		return;
	}
	(void)printf("%d, on node %s, %s:\n", pid, node, json_is_true(json_object_get(a, "movable")) ? "can move; but" : "cannot move");
	for (size_t i = 0; i < json_array_size(reasons); i++) {
		const json_t *r = json_array_get(reasons, i);
		out_any(r, "what", what, sizeof what);
		out_any(r, "text", text, sizeof text);
		(void)printf("  %s: %s\n", what, text);
	}
}

int cmd_why(const struct cli_cmd *cmd, const struct cli_args *args)
{
	int pid;
	int rc = cli_pid(cmd, args->pos[0], &pid);
	if (rc != CLI_OK)
		return rc;
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	rc = cli_ask(cmd, json_pack("{s:s, s:i}", "cmd", "why", "pid", pid), &m);
	if (rc != CLI_OK)
		return rc;
	out_strip(m.json);
	if (args->opt[0] && strcmp(args->opt[0], "json") == 0)
		out_json(m.json);
	else
		print_why(m.json, pid);
	return cli_done(cmd, CLI_OK);
}
