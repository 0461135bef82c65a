#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/out.h"

enum { ASK_MS = 5000 };

static void say(const struct cli_cmd *cmd, const char *fmt, va_list ap)
{
	char words[1024];
	(void)vsnprintf(words, sizeof words, fmt, ap);
	out_clean(words);
	(void)fflush(stdout);
	(void)fprintf(stderr, "pando: %s%s%s\n", cmd ? cmd->name : "", cmd ? ": " : "", words);
}

int cli_error(const struct cli_cmd *cmd, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	say(cmd, fmt, ap);
	va_end(ap);
	return CLI_FAIL;
}

int cli_usage_error(const struct cli_cmd *cmd, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	say(cmd, fmt, ap);
	va_end(ap);
	(void)fprintf(stderr, "Try \"pando %s%s--help\".\n", cmd ? cmd->name : "", cmd ? " " : "");
	return CLI_USAGE;
}

int cli_ask_long(const struct cli_cmd *cmd, json_t *req, int timeout_ms, ctl_client_event_fn on_event, void *ctx, struct ctl_msg *ret)
{
	struct err e = {};
	struct ctl_client *c = NULL;
	*ret = (struct ctl_msg){};
	int rc = ctl_client_open(NULL, &c, &e);
	if (rc == 0)
		rc = ctl_client_call(c, req, NULL, 0, timeout_ms, on_event, ctx, ret, &e);
	json_decref(req);
	ctl_client_close(c);
	if (rc == 0)
		return CLI_OK;
	ctl_msg_fini(ret);
	return cli_error(cmd, "%s", e.text);
}

int cli_ask(const struct cli_cmd *cmd, json_t *req, struct ctl_msg *ret)
{
	return cli_ask_long(cmd, req, ASK_MS, NULL, NULL, ret);
}

int cli_number(const char *text, long long min, long long max, long long *ret)
{
	char *end = NULL;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (errno || end == text || *end || text[0] == ' ' || n < min || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int node_named(const struct cli_cmd *cmd, const char *name, int *ret)
{
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = cli_ask(cmd, json_pack("{s:s}", "cmd", "node-list"), &m);
	if (rc != CLI_OK)
		return rc;
	size_t i;
	json_t *n;
	json_array_foreach(json_object_get(m.json, "nodes"), i, n)
	{
		const char *s = json_string_value(json_object_get(n, "name"));
		json_int_t id = json_integer_value(json_object_get(n, "id"));
		if (s && strcmp(s, name) == 0 && id > 0 && id <= 128) {
			*ret = (int)id;
			return CLI_OK;
		}
	}
	return cli_error(cmd, "no node is called \"%s\" (\"pando node list\" shows them)", name);
}

int cli_node(const struct cli_cmd *cmd, const char *text, int *ret)
{
	long long n;
	if (cli_number(text, 1, 128, &n) == 0) {
		*ret = (int)n;
		return CLI_OK;
	}
	if (!*text || strspn(text, "0123456789") == strlen(text) || *text == '-')
		return cli_usage_error(cmd, "\"%s\" is no node: a number from 1 to 128 or a name (\"pando node list\" shows them)", text);
	return node_named(cmd, text, ret);
}

int cli_pid(const struct cli_cmd *cmd, const char *text, int *ret)
{
	long long n;
	if (cli_number(text, 1, 4194303, &n) < 0)
		return cli_usage_error(cmd, "\"%s\" is not a process id", text);
	*ret = (int)n;
	return CLI_OK;
}

int cli_done(const struct cli_cmd *cmd, int status)
{
	errno = 0;
	if (fflush(stdout) != 0 || ferror(stdout)) {
		if (errno != EPIPE) /* a reader that has seen enough is no failure to tell of */
			(void)cli_error(cmd, "cannot write the output: %s", strerror(errno));
		return CLI_FAIL;
	}
	return status;
}

const struct cli_cmd *cli_cmd_find(const char *name)
{
	for (size_t i = 0; i < cli_n_cmds; i++)
		if (strcmp(cli_cmds[i].name, name) == 0)
			return &cli_cmds[i];
	return NULL;
}
