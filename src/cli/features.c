#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"

/* "on", "off", "on, not yet"... of a set. */
static void cell_switch(const json_t *row, const char *key, char *ret, size_t size)
{
	(void)snprintf(ret, size, "%s", json_is_true(json_object_get(row, key)) ? "on" : "off");
}

static void cell_about(const json_t *row, const char *key, char *ret, size_t size)
{
	const char *about = json_string_value(json_object_get(row, key));
	(void)snprintf(ret, size, "%s%s", json_is_false(json_object_get(row, "ready")) ? "(not yet) " : "", about ? about : "");
}

static const struct out_column columns[] = {
	{ "FEATURE", "name", out_any, 0 },
	{ "EFFECTIVE", "effective", cell_switch, 0 },
	{ "INHERITABLE", "inheritable", cell_switch, 0 },
	{ "ABOUT", "about", cell_about, 0 },
};

int cmd_features(const struct cli_cmd *cmd, const struct cli_args *args)
{
	int pid;
	int rc = cli_pid(cmd, args->pos[0], &pid);
	if (rc != CLI_OK)
		return rc;
	char change[1024] = "";
	size_t n = 0;
	for (int i = 1; i < args->n_pos; i++) {
		const char *text = args->pos[i];
		if ((text[0] != '+' && text[0] != '-') || !text[1])
			return cli_usage_error(cmd, "\"%s\" is not +FEATURE or -FEATURE", text);
		n += (size_t)snprintf(change + n, sizeof change - n, "%s%s", i > 1 ? "," : "", text);
		if (n >= sizeof change)
			return cli_usage_error(cmd, "too many changes");
	}
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	json_t *req = json_pack("{s:s, s:i, s:s*}", "cmd", "features", "pid", pid, "change", args->n_pos > 1 ? change : NULL);
	if (!req)
		return cli_usage_error(cmd, "\"%s\" is not UTF-8 text", change);
	rc = cli_ask(cmd, req, &m);
	if (rc != CLI_OK)
		return rc;
	out_strip(m.json);
	if (args->opt[0] && strcmp(args->opt[0], "json") == 0)
		out_json(m.json);
	else if (args->n_pos == 1 && out_table(json_object_get(m.json, "features"), columns, sizeof columns / sizeof *columns, out_width()) < 0)
		return cli_error(cmd, "no memory");
	return cli_done(cmd, CLI_OK);
}
