#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"

enum { OPT_USER, OPT_NODE, OPT_WIDE, OPT_FORMAT };

static void cell_user(const json_t *row, const char *key, char *ret, size_t size)
{
	uid_t uid = (uid_t)json_integer_value(json_object_get(row, key));
	struct passwd *pw = getpwuid(uid);
	if (pw)
		(void)snprintf(ret, size, "%s", pw->pw_name);
	else
		(void)snprintf(ret, size, "%u", uid);
}

static void cell_time(const json_t *row, const char *key, char *ret, size_t size)
{
	long long us = (long long)json_integer_value(json_object_get(row, "utime_us")) +
		       (long long)json_integer_value(json_object_get(row, "stime_us"));
	long long s = us / 1000000;
	(void)snprintf(ret, size, "%02lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
}

static const struct out_column columns[] = {
	{ "PID", "pid", out_any, 1 },	  { "PPID", "ppid", out_any, 1 }, { "NODE", "node", out_any, 1 }, { "HOME", "home", out_any, 1 },
	{ "USER", "uid", cell_user, 0 },  { "S", "state", out_any, 0 },	  { "RSS", "rss_kb", out_kb, 1 }, { "TIME", "", cell_time, 1 },
	{ "COMMAND", "command", out_any, 0 },
};

struct filter {
	long long uid; /* -1: all */
	int node;      /* 0: all */
	char **pids;   /* texts; empty: all */
};

static int wanted(const struct filter *f, const json_t *row)
{
	if (f->uid >= 0 && json_integer_value(json_object_get(row, "uid")) != f->uid)
		return 0;
	if (f->node > 0 && json_integer_value(json_object_get(row, "node")) != f->node)
		return 0;
	json_int_t pid = json_integer_value(json_object_get(row, "pid"));
	for (char **p = f->pids; *p; p++)
		if (atoll(*p) == pid)
			return 1;
	return !*f->pids;
}

struct rows {
	const struct filter *filter;
	json_t *list;
	int failed;
};

static void on_event(void *ctx, struct ctl_msg *m)
{
	struct rows *r = ctx;
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(m->json, "rows"), i, row)
	{
		if (json_is_object(row) && wanted(r->filter, row) && json_array_append(r->list, row) < 0)
			r->failed = 1;
	}
	ctl_msg_fini(m);
}

static int by_pid(const void *a, const void *b)
{
	json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "pid"));
	json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "pid"));
	return (x > y) - (x < y);
}

/* Rows come node by node; people want them by pid. */
static json_t *sorted(json_t *list)
{
	size_t n = json_array_size(list);
	_cleanup_(free_p) json_t **rows = calloc(n + 1, sizeof(json_t *));
	json_t *ret = json_array();
	if (!rows || !ret) {
		json_decref(ret);
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		rows[i] = json_array_get(list, i);
	qsort(rows, n, sizeof *rows, by_pid);
	for (size_t i = 0; i < n; i++) {
		if (json_array_append(ret, rows[i]) < 0) {
			json_decref(ret);
			return NULL;
		}
	}
	return ret;
}

static int print_rows(const struct cli_cmd *cmd, const struct cli_args *args, json_t *list)
{
	json_t *rows = sorted(list);
	if (!rows)
		return cli_error(cmd, "no memory");
	int rc = 0;
	if (args->opt[OPT_FORMAT] && strcmp(args->opt[OPT_FORMAT], "json") == 0)
		out_json(rows);
	else
		rc = out_table(rows, columns, sizeof columns / sizeof *columns, args->opt[OPT_WIDE] ? 0 : out_width());
	size_t n = json_array_size(rows);
	json_decref(rows);
	if (rc < 0)
		return cli_error(cmd, "no memory");
	return cli_done(cmd, n == 0 && args->n_pos > 0 ? CLI_FAIL : CLI_OK);
}

static int user_parse(const struct cli_cmd *cmd, const char *text, long long *ret)
{
	struct passwd *pw = getpwnam(text);
	if (pw)
		*ret = pw->pw_uid;
	else if (cli_number(text, 0, 0xffffffffll, ret) < 0)
		return cli_error(cmd, "there is no user \"%s\"", text);
	return CLI_OK;
}

static int report_missing(const struct cli_cmd *cmd, const json_t *answer)
{
	const json_t *missing = json_object_get(answer, "missing");
	for (size_t i = 0; i < json_array_size(missing); i++) {
		const json_t *m = json_array_get(missing, i);
		const char *words = json_string_value(json_object_get(m, "error"));
		(void)cli_error(cmd, "node %lld: %s", (long long)json_integer_value(json_object_get(m, "node")), words ? words : "no answer");
	}
	return json_array_size(missing) > 0 ? CLI_FAIL : CLI_OK;
}

int cmd_ps(const struct cli_cmd *cmd, const struct cli_args *args)
{
	struct filter f = { .uid = -1, .pids = args->pos };
	int rc = CLI_OK, pid;
	for (int i = 0; rc == CLI_OK && i < args->n_pos; i++)
		rc = cli_pid(cmd, args->pos[i], &pid);
	if (rc == CLI_OK && args->opt[OPT_USER])
		rc = user_parse(cmd, args->opt[OPT_USER], &f.uid);
	if (rc == CLI_OK && args->opt[OPT_NODE])
		rc = cli_node(cmd, args->opt[OPT_NODE], &f.node);
	if (rc != CLI_OK)
		return rc;

	struct rows rows = { .filter = &f, .list = json_array() };
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	rc = cli_ask_long(cmd, json_pack("{s:s}", "cmd", "ps"), 10000, on_event, &rows, &m);
	if (rc == CLI_OK && (rows.failed || !rows.list))
		rc = cli_error(cmd, "no memory");
	if (rc == CLI_OK)
		rc = print_rows(cmd, args, rows.list);
	json_decref(rows.list);
	if (m.json && report_missing(cmd, m.json) != CLI_OK)
		rc = CLI_FAIL;
	return rc;
}
