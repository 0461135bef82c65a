#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"

static void line(const char *name, const char *value)
{
	(void)printf("%-10s %s\n", name, value);
}

static void print_status(const json_t *s)
{
	char a[256], b[64], c[64], text[512];
	out_any(s, "name", a, sizeof a);
	out_any(s, "node", b, sizeof b);
	out_any(s, "state", c, sizeof c);
	(void)snprintf(text, sizeof text, "%s (%s), %s", b, a, c);
	line("node", text);

	out_any(s, "cluster", a, sizeof a);
	out_any(s, "up", b, sizeof b);
	out_any(s, "members", c, sizeof c);
	(void)snprintf(text, sizeof text, "%s, %s of %s nodes up", a, b, c);
	line("cluster", text);

	out_any(s, "leader", b, sizeof b);
	(void)snprintf(text, sizeof text, "%s%s", strcmp(b, "0") == 0 ? "none known" : b,
		       json_is_false(json_object_get(s, "quorum")) ? ", this node is cut off from the majority" : "");
	line("leader", text);

	out_any(s, "cpus", a, sizeof a);
	out_any(s, "cluster_cpus", b, sizeof b);
	(void)snprintf(text, sizeof text, "%s here, %s in the cluster", a, b);
	line("CPUs", text);

	out_load(s, "load", a, sizeof a);
	out_any(s, "policy", b, sizeof b);
	(void)snprintf(text, sizeof text, "%s for each CPU; policy %s", a, b);
	line("load", text);

	out_any(s, "processes", a, sizeof a);
	out_any(s, "elsewhere", b, sizeof b);
	out_any(s, "guests", c, sizeof c);
	(void)snprintf(text, sizeof text, "%s, of these %s on other nodes and %s guests from others", a, b, c);
	line("processes", text);

	out_any(s, "pid_first", a, sizeof a);
	out_any(s, "pid_last", b, sizeof b);
	(void)snprintf(text, sizeof text, "%.200s to %s", a, b);
	line("pids", text);

	out_duration((long long)json_integer_value(json_object_get(s, "uptime_s")), a, sizeof a);
	out_any(s, "version", b, sizeof b);
	(void)snprintf(text, sizeof text, "%.200s, version %s", a, b);
	line("up", text);
}

int cmd_status(const struct cli_cmd *cmd, const struct cli_args *args)
{
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = cli_ask(cmd, json_pack("{s:s}", "cmd", "status"), &m);
	if (rc != CLI_OK)
		return rc;
	out_strip(m.json);
	if (args->opt[0] && strcmp(args->opt[0], "json") == 0)
		out_json(m.json);
	else
		print_status(m.json);
	return cli_done(cmd, CLI_OK);
}
