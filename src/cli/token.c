#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"

enum { COMMIT_MS = 15000, TTL_MAX = 30 * 86400 };

/* "90", "90s", "10m", "1h", "2d": seconds, or -EINVAL. */
static int ttl_parse(const char *text, int *ret)
{
	static const struct {
		char unit;
		long factor;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	char *end = NULL;
	errno = 0;
	long n = strtol(text, &end, 10);
	long factor = *end ? 0 : 1;
	for (size_t i = 0; i < 4; i++)
		if (end[0] == units[i].unit && !end[1])
			factor = units[i].factor;
	if (errno || end == text || factor == 0 || n < 1 || n > TTL_MAX / factor)
		return -EINVAL;
	*ret = (int)(n * factor);
	return 0;
}

int cmd_token(const struct cli_cmd *cmd, const struct cli_args *args)
{
	int ttl = 3600;
	if (args->opt[0] && ttl_parse(args->opt[0], &ttl) < 0)
		return cli_usage_error(cmd, "\"%s\" is not a time from 1s to 30d", args->opt[0]);
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = cli_ask_long(cmd, json_pack("{s:s, s:i}", "cmd", "token", "ttl_s", ttl), COMMIT_MS, NULL, NULL, &m);
	if (rc != CLI_OK)
		return rc;
	out_strip(m.json);
	const char *token = json_string_value(json_object_get(m.json, "token"));
	if (!token)
		return cli_error(cmd, "pandod sent no token");
	if (args->opt[1] && strcmp(args->opt[1], "json") == 0)
		out_json(m.json);
	else
		(void)printf("%s\n", token);
	return cli_done(cmd, CLI_OK);
}
