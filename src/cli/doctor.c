#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "kern/probe.h"

static int add(json_t *checks, const char *name, const char *level, const char *detail, const char *consequence)
{
	return json_array_append_new(checks, json_pack("{s:s, s:s, s:s, s:s}", "name", name, "level", level, "detail", detail, "consequence",
						       consequence));
}

static int add_kernel(json_t *checks)
{
	struct kern_has has;
	int rc = probe_run(&has);
	if (rc < 0)
		return add(checks, "kernel", "fail", strerror(-rc), "the features of the kernel could not be tried");
	for (size_t i = 0; i < probe_n; i++) {
		const struct probe_item *item = &probe_list[i];
		int there = probe_present(&has, item);
		if (add(checks, item->name, there ? "ok" : item->needed ? "fail" : "warn",
			there ? "present" : strerror(-probe_why(&has, item)), there ? "" : item->without) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* What can be seen without pandod: the kernel, by trying it, and ourselves. */
static json_t *local_checks(const char *no_pandod)
{
	json_t *checks = json_array();
	int rc = checks ? add(checks, "pandod", "fail", no_pandod, "this machine is no running node: start it with \"systemctl start pando\"") : -ENOMEM;
	if (rc == 0 && geteuid() != 0)
		rc = add(checks, "root", "warn", "not root", "most of the kernel's features can be tried by root only: run this again as root");
	if (rc == 0)
		rc = add_kernel(checks);
	if (rc < 0) {
		json_decref(checks);
		return NULL;
	}
	return checks;
}

static int print_checks(const json_t *checks)
{
	size_t count[3] = {};
	char name[256], level[16], detail[OUT_CELL_MAX], text[OUT_CELL_MAX];
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *c = json_array_get(checks, i);
		out_any(c, "name", name, sizeof name);
		out_any(c, "level", level, sizeof level);
		out_any(c, "detail", detail, sizeof detail);
		out_any(c, "consequence", text, sizeof text);
		int k = strcmp(level, "ok") == 0 ? 0 : strcmp(level, "warn") == 0 ? 1 : 2;
		count[k]++;
		(void)printf("%-5s %-32s %s\n", k == 0 ? "ok" : k == 1 ? "warn" : "FAIL", name, detail);
		if (k > 0 && text[0] && strcmp(text, "-") != 0)
			(void)printf("      %s\n", text);
	}
	(void)printf("%zu ok, %zu warnings, %zu failures\n", count[0], count[1], count[2]);
	return count[2] > 0 ? CLI_FAIL : CLI_OK;
}

static int any_failed(const json_t *checks)
{
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const char *level = json_string_value(json_object_get(json_array_get(checks, i), "level"));
		if (level && strcmp(level, "ok") != 0 && strcmp(level, "warn") != 0)
			return CLI_FAIL;
	}
	return CLI_OK;
}

int cmd_doctor(const struct cli_cmd *cmd, const struct cli_args *args)
{
	struct err e = {};
	struct ctl_client *c = NULL;
	json_t *checks = NULL;
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	int rc = ctl_client_open(NULL, &c, &e);
	if (rc == 0) {
		json_t *req = json_pack("{s:s}", "cmd", "doctor");
		rc = ctl_client_call(c, req, NULL, 0, 20000, NULL, NULL, &m, &e);
		json_decref(req);
		ctl_client_close(c);
		checks = json_incref(json_object_get(m.json, "checks"));
	} else {
		checks = local_checks(e.text);
		rc = checks ? 0 : err_set(&e, -ENOMEM, "no memory");
	}
	if (rc == 0 && !json_is_array(checks))
		rc = err_set(&e, -EBADMSG, "pandod sent no checks");
	int status = CLI_FAIL;
	if (rc < 0)
		(void)cli_error(cmd, "%s", e.text);
	else if (args->opt[0] && strcmp(args->opt[0], "json") == 0) {
		out_json(checks);
		status = any_failed(checks);
	} else {
		status = print_checks(checks);
	}
	json_decref(checks);
	return cli_done(cmd, status);
}
