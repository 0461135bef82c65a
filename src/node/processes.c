/* ps, why, features: requests about processes, wherever they run. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "kern/procinfo.h"
#include "node/node.h"

enum { ROWS_EVENT = 1000, COMMAND_MAX = 4096, COMMAND_SHORT = 400, MANY_ROWS = 1500, FAR_MS = 5000, HOPS_MAX = 4 };

/* --- what runs here --- */

pid_t processes_outer(struct node *n, int32_t pid)
{
	return n->space ? nspid_outer(&n->ns, pid) : -ESRCH;
}

static size_t file_read(pid_t outer, const char *what, char *ret, size_t size)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/%s", outer, what);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	while (fd >= 0 && n < size - 1) {
		ssize_t got = read(fd, ret + n, size - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	ret[n] = 0;
	return n;
}

/* Makes any bytes UTF-8 and printable. */
static void text_clean(char *s)
{
	for (unsigned char *p = (unsigned char *)s; *p; p++)
		if (*p < 0x20 || *p >= 0x7f)
			*p = '?';
}

static void command_read(pid_t outer, const char *stat, char *ret, size_t size)
{
	size_t n = file_read(outer, "cmdline", ret, size);
	while (n > 0 && ret[n - 1] == 0)
		n--;
	for (size_t i = 0; i < n; i++)
		if (!ret[i])
			ret[i] = ' ';
	ret[n] = 0;
	if (n == 0) {
		const char *a = strchr(stat, '('), *b = strrchr(stat, ')');
		if (a && b && b > a)
			(void)snprintf(ret, size, "[%.*s]", (int)(b - a - 1), a + 1);
	}
	text_clean(ret);
}

static int32_t inner(struct node *n, pid_t outer)
{
	int pid = outer > 0 ? nspid_tid(&n->ns, outer) : 0;
	return pid > 0 ? pid : 0;
}

/* Seconds since 1970 at which the machine started. */
static int64_t boot_s(void)
{
	struct timespec real, boot;
	(void)clock_gettime(CLOCK_REALTIME, &real);
	(void)clock_gettime(CLOCK_BOOTTIME, &boot);
	return real.tv_sec - boot.tv_sec;
}

static json_t *row_make(struct node *n, pid_t outer, size_t command_max)
{
	char stat[1024], command[COMMAND_MAX], tty[16] = "?";
	struct procinfo info;
	if (file_read(outer, "stat", stat, sizeof stat) == 0 || procinfo_read(outer, &info) < 0 || info.tgid != outer)
		return NULL;
	int32_t pid = nspid_tgid(&n->ns, outer);
	uint16_t node = n->self;
	enum space_kind kind = pid > 0 ? space_who(n->space, pid, &node) : SPACE_NONE;
	if (pid <= 0 || pid < CLUSTER_SLOT_SIZE || kind == SPACE_GHOST)
		return NULL; /* pid 1 and what it keeps are ours; a ghost's row comes from where it runs */
	unsigned long long utime = 0, stime = 0, start = 0;
	long rss = 0;
	const char *rest = strrchr(stat, ')');
	if (rest)
		(void)sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu %*u %ld", &utime, &stime,
			     &start, &rss);
	command_read(outer, stat, command, command_max);
	long hz = sysconf(_SC_CLK_TCK);
	if (info.tty_nr)
		(void)snprintf(tty, sizeof tty, "pts/%d", (info.tty_nr & 0xff) | ((info.tty_nr >> 12) & 0xfff00));
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:s%, s:s, s:I, s:I, s:I, s:I, s:s}", "pid", pid, "ppid", inner(n, info.ppid), "pgid",
			 inner(n, info.pgid), "sid", inner(n, info.sid), "node", n->self, "home", kind == SPACE_GUEST ? node : n->self, "uid",
			 (json_int_t)info.uid[0], "state", &info.state, (size_t)1, "tty", tty, "utime_us",
			 (json_int_t)(utime * 1000000 / (unsigned long long)hz), "stime_us", (json_int_t)(stime * 1000000 / (unsigned long long)hz), "rss_kb",
			 (json_int_t)(rss * sysconf(_SC_PAGESIZE) / 1024), "start_s", (json_int_t)(boot_s() + (int64_t)(start / (unsigned long long)hz)),
			 "command", command);
}

/* Calls fn for each process of the space. */
static void each_process(struct node *n, void (*fn)(struct node *n, pid_t outer, void *arg), void *arg)
{
	char path[320];
	const struct space_ends *ends = space_ends_get(n->space);
	(void)snprintf(path, sizeof path, "%s/cgroup.procs", ends->cgroup);
	_cleanup_(fclose_p) FILE *f = ends->cgroup[0] ? fopen(path, "re") : NULL;
	char line[32];
	while (f && fgets(line, sizeof line, f))
		fn(n, (pid_t)strtol(line, NULL, 10), arg);
	if (f)
		return;
	_cleanup_(closedir_p) DIR *d = opendir("/proc");
	for (struct dirent *de = d ? readdir(d) : NULL; de; de = readdir(d))
		if (isdigit((unsigned char)de->d_name[0]) && nspid_tgid(&n->ns, (pid_t)atoi(de->d_name)) > 0)
			fn(n, (pid_t)atoi(de->d_name), arg);
}

static void row_add(struct node *n, pid_t outer, void *arg)
{
	json_t *rows = arg;
	json_t *row = row_make(n, outer, json_array_size(rows) > MANY_ROWS ? COMMAND_SHORT : COMMAND_MAX);
	if (row)
		(void)json_array_append_new(rows, row);
}

json_t *far_answer_ps(struct node *n, json_t *req)
{
	json_t *rows = json_array();
	json_int_t pid = json_integer_value(json_object_get(req, "pid"));
	pid_t outer = pid > 0 ? processes_outer(n, (int32_t)pid) : 0;
	if (rows && n->space && outer > 0)
		row_add(n, outer, rows);
	else if (rows && n->space && pid == 0)
		each_process(n, row_add, rows);
	return rows ? json_pack("{s:o}", "rows", rows) : NULL;
}

/* --- ps --- */

struct ps {
	struct node *n;
	struct ctl_req *req;
	unsigned left;
	size_t rows;
	json_t *missing;
};

struct ps_one {
	struct ps *ps;
	uint16_t node;
};

static void rows_send(struct ps *ps, const json_t *rows)
{
	size_t total = json_array_size(rows);
	for (size_t at = 0; at < total; at += ROWS_EVENT) {
		json_t *part = json_array();
		for (size_t i = at; part && i < total && i < at + ROWS_EVENT; i++)
			(void)json_array_append(part, json_array_get(rows, i));
		struct ctl_conn *conn = ctl_req_conn(ps->req);
		if (!conn || !part) {
			json_decref(part);
			return;
		}
		(void)ctl_event(conn, json_pack("{s:s, s:o}", "event", "rows", "rows", part), NULL, 0);
	}
	ps->rows += total;
}

static void ps_step(struct ps *ps)
{
	if (--ps->left)
		return;
	ctl_answer(ps->req, json_pack("{s:I, s:o}", "rows", (json_int_t)ps->rows, "missing", ps->missing));
	free(ps);
}

static void ps_missing(struct ps *ps, uint16_t node, int status)
{
	const char *words = status == -ETIMEDOUT ? "no answer in 5 s" : strerror(-status);
	(void)json_array_append_new(ps->missing, json_pack("{s:i, s:s}", "node", node, "error", words));
}

static void ps_done(void *ctx, int status, json_t *j)
{
	struct ps_one *o = ctx;
	struct ps *ps = o->ps;
	if (status < 0)
		ps_missing(ps, o->node, status);
	else
		rows_send(ps, json_object_get(j, "rows"));
	free(o);
	ps_step(ps);
}

static void ps_ask(struct ps *ps, uint16_t node, json_int_t pid)
{
	struct ps_one *o = malloc(sizeof *o);
	if (!o)
		return;
	*o = (struct ps_one){ ps, node };
	ps->left++;
	int rc = far_ask(ps->n, node, json_pack("{s:s, s:I}", "cmd", "ps", "pid", pid), FAR_MS, ps_done, o);
	if (rc < 0) {
		ps_missing(ps, node, rc);
		ps->left--;
		free(o);
	}
}

static void on_ps(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	json_int_t pid;
	if (ctl_req_int(req, "pid", 0, 4194303, 0, &pid) < 0)
		return;
	struct ps *ps = calloc(1, sizeof *ps);
	json_t *missing = json_array();
	if (!ps || !missing) {
		json_decref(missing);
		free(ps);
		ctl_fail(req, -ENOMEM, "no memory");
		return;
	}
	*ps = (struct ps){ .n = n, .req = req, .left = 1, .missing = missing };
	const struct cluster *c = member_cluster(n->member);
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		if (i == n->self || (m && cluster_is_live(m)))
			ps_ask(ps, i, pid);
	}
	ps_step(ps);
}

/* --- one process, here --- */

static int owner_check(pid_t outer, json_int_t uid)
{
	struct procinfo info;
	if (procinfo_read(outer, &info) < 0)
		return -ESRCH;
	return uid == 0 || (info.uid[0] == (uid_t)uid && info.uid[1] == (uid_t)uid && info.uid[2] == (uid_t)uid) ? 0 : -EPERM;
}

static json_t *failed(int *status, int code, const char *words)
{
	*status = code;
	return json_pack("{s:s}", "error", words);
}

static json_t *why_answer(struct node *n, int32_t pid, int *status)
{
	char words[256] = "", last[128];
	json_t *reasons = json_array();
	int rc = space_why(n->space, pid, words, sizeof words);
	if (rc < 0) {
		json_decref(reasons);
		return failed(status, rc, "no such process");
	}
	if (words[0])
		(void)json_array_append_new(reasons, json_pack("{s:s, s:s}", "what", "now", "text", words));
	placement_why(n, pid, last, sizeof last);
	json_t *j = json_pack("{s:i, s:i, s:b, s:o}", "pid", pid, "node", n->self, "movable", words[0] == 0, "reasons", reasons);
	if (last[0])
		(void)json_object_set_new(j, "placed", json_string(last));
	return j;
}

static json_t *features_answer(struct node *n, int32_t pid, pid_t outer, json_t *q, int *status)
{
	struct err e = { 0 };
	const char *change = json_string_value(json_object_get(q, "change"));
	if (change && *change) {
		int rc = owner_check(outer, json_integer_value(json_object_get(q, "uid")));
		if (rc < 0)
			return failed(status, rc, "the process is another user's");
		rc = features_change(n, outer, change, &e);
		if (rc < 0)
			return failed(status, rc, e.text);
	}
	return json_pack("{s:i, s:i, s:o}", "pid", pid, "node", n->self, "features", features_json(n, outer));
}

/* The answer, or {"at": node} and *status -EREMOTE: ask that one. */
json_t *far_answer_process(struct node *n, json_t *q, int *status)
{
	const char *what = json_string_value(json_object_get(q, "what"));
	json_int_t number = json_integer_value(json_object_get(q, "pid"));
	uint16_t node = 0;
	if (!what || number < 1 || number > 4194303)
		return failed(status, -EBADMSG, "bad request about a process");
	int32_t pid = (int32_t)number;
	if (!n->space)
		return failed(status, -EHOSTDOWN, "the node has no space");
	if (space_who(n->space, pid, &node) == SPACE_GHOST) {
		*status = -EREMOTE;
		return json_pack("{s:i}", "at", node);
	}
	pid_t outer = processes_outer(n, pid);
	if (outer <= 0) {
		node = cluster_registrar(member_cluster(n->member), (uint32_t)pid);
		if (node == 0 || node == n->self)
			return failed(status, -ESRCH, "no such process");
		*status = -EREMOTE;
		return json_pack("{s:i}", "at", node);
	}
	if (strcmp(what, "features") == 0)
		return features_answer(n, pid, outer, q, status);
	int rc = owner_check(outer, json_integer_value(json_object_get(q, "uid")));
	if (rc < 0)
		return failed(status, rc, rc == -EPERM ? "the process is another user's" : "no such process");
	return why_answer(n, pid, status);
}

/* --- one process, wherever it is --- */

struct quest {
	struct node *n;
	struct ctl_req *req;
	json_t *q;
	int hops;
};

static void quest_end(struct quest *k)
{
	json_decref(k->q);
	free(k);
}

static void quest_result(void *ctx, int status, json_t *j);

static void quest_ask(struct quest *k, uint16_t node)
{
	int rc = k->hops++ < HOPS_MAX ? far_ask(k->n, node, json_incref(k->q), FAR_MS, quest_result, k) : -ESRCH;
	if (rc < 0) {
		ctl_fail(k->req, rc, "node %u, where it should be: %s", node, strerror(-rc));
		quest_end(k);
	}
}

static void quest_result(void *ctx, int status, json_t *j)
{
	struct quest *k = ctx;
	json_int_t at = json_integer_value(json_object_get(j, "at"));
	const char *words = json_string_value(json_object_get(j, "error"));
	if (status == -EREMOTE && at > 0 && at <= NODE_MAX) {
		quest_ask(k, (uint16_t)at);
		return;
	}
	if (status < 0)
		ctl_fail(k->req, status, "%s", words ? words : strerror(-status));
	else
		ctl_answer(k->req, json_incref(j));
	quest_end(k);
}

static void quest_start(struct node *n, struct ctl_req *req, const char *what)
{
	json_int_t pid;
	const char *change;
	if (ctl_req_int(req, "pid", 1, 4194303, 0, &pid) < 0 || ctl_req_str(req, "change", "", &change) < 0)
		return;
	struct quest *k = calloc(1, sizeof *k);
	json_t *q = json_pack("{s:s, s:s, s:I, s:I, s:s}", "cmd", "process", "what", what, "pid", pid, "uid", (json_int_t)ctl_req_peer(req)->uid,
			      "change", change);
	if (!k || !q) {
		json_decref(q);
		free(k);
		ctl_fail(req, -ENOMEM, "no memory");
		return;
	}
	*k = (struct quest){ n, req, q, 0 };
	quest_ask(k, n->self);
}

static void on_why(void *ctx, struct ctl_req *req)
{
	quest_start(ctx, req, "why");
}

static void on_features(void *ctx, struct ctl_req *req)
{
	quest_start(ctx, req, "features");
}

void processes_start(struct node *n)
{
	ctl_handle(n->ctl, "ps", on_ps, n);
	ctl_handle(n->ctl, "why", on_why, n);
	ctl_handle(n->ctl, "features", on_features, n);
}
