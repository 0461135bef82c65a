#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"

enum { COMMIT_MS = 15000 };

static const struct out_column columns[] = {
	{ "NAME", "name", out_any, 0 },
	{ "VALUE", "value", out_any, 0 },
	{ "DEFAULT", "default", out_any, 0 },
	{ "ABOUT", "about", out_any, 0 },
};

int cmd_get(const struct cli_cmd *cmd, const struct cli_args *args)
{
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = cli_ask(cmd, json_pack("{s:s, s:s*}", "cmd", "get", "name", args->pos[0]), &m);
	if (rc != CLI_OK)
		return rc;
	json_t *settings = json_object_get(m.json, "settings");
	if (!json_is_array(settings))
		return cli_error(cmd, "pandod sent no settings");
	if (args->opt[0] && strcmp(args->opt[0], "json") == 0)
		out_json(settings);
	else if (args->n_pos == 1 && json_array_size(settings) == 1) {
		char text[OUT_CELL_MAX];
		out_any(json_array_get(settings, 0), "value", text, sizeof text);
		(void)printf("%s\n", text);
	} else if (out_table(settings, columns, sizeof columns / sizeof *columns, out_width()) < 0)
		return cli_error(cmd, "no memory");
	return cli_done(cmd, CLI_OK);
}

int cmd_set(const struct cli_cmd *cmd, const struct cli_args *args)
{
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	json_t *req = json_pack("{s:s, s:s, s:s}", "cmd", "set", "name", args->pos[0], "value", args->pos[1]);
	if (!req)
		return cli_usage_error(cmd, "the value is not UTF-8 text");
	return cli_ask_long(cmd, req, COMMIT_MS, NULL, NULL, &m);
}
