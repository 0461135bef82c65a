#include "cli/fake-pandod.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "check.h"
#include "ctl/run.h"
#include "ctl/server.h"

static struct {
	uv_loop_t loop;
	struct ctl_server *server;
	uv_signal_t chld;
	struct session *sessions;
} g_f;

struct session {
	struct session *prev, *next;
	struct ctl_conn *conn; /* NULL: the client is gone */
	pid_t pid;
	int tty;
};

/* ---- canned answers ---- */

#define EVIL "a\\u001b[2Jb\\nc"

static const struct canned {
	const char *cmd, *answer;
} canned[] = {
	{ "status", "{\"cluster\":\"grove\",\"cluster_id\":\"00\",\"node\":3,\"name\":\"n3\",\"version\":\"0.1.0\",\"state\":\"up\",\"leader\":1,"
		    "\"quorum\":true,\"members\":3,\"up\":3,\"uptime_s\":812,\"cpus\":4,\"cluster_cpus\":12,\"load\":0.42,\"sessions\":2,"
		    "\"processes\":17,\"elsewhere\":5,\"guests\":4,\"policy\":\"" EVIL "\",\"pid_first\":98304,\"pid_last\":131071}" },
	{ "node-list", "{\"nodes\":[{\"id\":1,\"name\":\"n1\",\"addr\":\"10.0.0.1:4840\",\"state\":\"down\",\"self\":false,\"slots\":[1],"
		       "\"labels\":{}},{\"id\":3,\"name\":\"3rd\",\"addr\":\"10.0.0.3:4840\",\"state\":\"up\",\"self\":true,\"cpus\":4,\"load\":0.42,"
		       "\"mem_total_kb\":8000000,\"mem_available_kb\":6000000,\"processes\":17,\"kernel\":\"6.1.0\",\"arch\":\"x86_64\","
		       "\"version\":\"0.1.0\",\"slots\":[3,9],\"labels\":{\"rack\":\"" EVIL "\"},\"heard_ms\":120}]}" },
	{ "node-drain", "{\"node\":3,\"remaining\":0}" },
	{ "node-remove", "{}" },
	{ "node-label", "{\"labels\":{\"rack\":\"b\"}}" },
	{ "token", "{\"token\":\"pando1.xyz\",\"addr\":\"10.0.0.1:4840\",\"expires_s\":3600}" },
	{ "features", "{\"pid\":98412,\"node\":2,\"features\":[{\"name\":\"place\",\"effective\":true,\"inheritable\":false,\"ready\":true,"
		      "\"about\":\"" EVIL "\"},{\"name\":\"migrate\",\"effective\":false,\"inheritable\":false,\"ready\":false,\"about\":\"moves\"}]}" },
	{ "why", "{\"pid\":98412,\"node\":1,\"movable\":false,\"reasons\":[{\"what\":\"fd 5\",\"text\":\"" EVIL "\"}]}" },
	{ "get", "{\"settings\":[{\"name\":\"policy\",\"value\":\"balance\",\"default\":\"balance\",\"about\":\"which\"}]}" },
	{ "set", "{}" },
	{ "doctor", "{\"checks\":[{\"name\":\"fuse\",\"level\":\"ok\",\"detail\":\"7.38\",\"consequence\":\"\"},"
		    "{\"name\":\"clock\",\"level\":\"warn\",\"detail\":\"" EVIL "\",\"consequence\":\"make\"}]}" },
};

static void on_canned(void *ctx, struct ctl_req *req)
{
	const struct canned *c = ctx;
	const char *name = json_string_value(json_object_get(ctl_req_json(req), "name"));
	if (name && strcmp(name, "nonsense") == 0) {
		ctl_fail(req, -ENOENT, "there is no \x1b[2J setting");
		return;
	}
	ctl_answer(req, json_loads(c->answer, 0, NULL));
}

static void on_ps(void *ctx, struct ctl_req *req)
{
	for (int k = 2; k >= 1; k--) /* not in order */
		CHECK(ctl_event(ctl_req_conn(req),
				json_pack("{s:s, s:[{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:i, s:i, s:i, s:i, s:s}]}", "event", "rows", "rows",
					  "pid", k * 100, "ppid", 1, "pgid", k, "sid", k, "node", k, "home", 1, "uid", k == 1 ? 0 : 1000, "state", "R",
					  "tty", "pts/1", "utime_us", 61000000, "stime_us", 1, "rss_kb", 4000, "start_s", 1700000000, "command",
					  "cc1 \x1b[2J x.c"),
				NULL, 0) == 0);
	ctl_answer(req, json_pack("{s:i, s:[]}", "rows", 2, "missing"));
}

/* ---- run ---- */

static void session_event(struct session *s, json_t *ev)
{
	if (s->conn)
		(void)ctl_event(s->conn, ev, NULL, 0);
	else
		json_decref(ev);
}

static void session_free(struct session *s)
{
	if (s->conn)
		ctl_conn_on_close(s->conn, NULL, NULL);
	DL_DELETE(g_f.sessions, s);
	free(s);
}

static void on_chld(uv_signal_t *h, int signum)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		struct session *s;
		DL_SEARCH_SCALAR(g_f.sessions, s, pid, pid);
		if (!s)
			continue;
		if (WIFSTOPPED(status)) {
			session_event(s, json_pack("{s:s, s:i}", "event", "stopped", "signal", WSTOPSIG(status)));
		} else if (WIFCONTINUED(status)) {
			session_event(s, json_pack("{s:s}", "event", "continued"));
		} else {
			session_event(s, json_pack("{s:s, s:i, s:i, s:i, s:i}", "event", "exited", "status", status, "utime_us", 1, "stime_us", 1,
						   "maxrss_kb", 1));
			session_free(s);
		}
	}
}

/* The client has gone: without a terminal nobody else tells the command. */
static void on_session_end(void *ctx, struct ctl_conn *conn)
{
	struct session *s = ctx;
	s->conn = NULL;
	if (!s->tty)
		(void)kill(s->pid, SIGHUP);
}

/* Numbers that are out of the way of those that the command gets. */
static int fd_high(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 500);
	CHECK(high >= 500);
	return high;
}

static _Noreturn void command(const struct run_request *r, const int *fds, int slave, int err_fd)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)setsid();
	if (slave >= 0)
		CHECK(ioctl(slave, TIOCSCTTY, 0) == 0);
	size_t sent = 0;
	for (size_t i = 0; i < r->n_fds; i++)
		CHECK(dup2(r->fds[i].kind == RUN_FD_PTY ? slave : fds[sent++], r->fds[i].number) >= 0);
	for (int i = 0; i < 3; i++) {
		int listed = 0;
		for (size_t k = 0; k < r->n_fds; k++)
			listed |= r->fds[k].number == i;
		if (!listed)
			(void)close(i);
	}
	(void)umask(r->umask);
	for (int i = 0; i < RUN_RLIMITS; i++)
		(void)setrlimit((__rlimit_resource_t)i, &r->rlimits[i]);
	sigset_t mask;
	(void)sigemptyset(&mask);
	for (int s = 1; s <= 64; s++) {
		(void)signal(s, r->ignored >> (s - 1) & 1 ? SIG_IGN : SIG_DFL);
		if (r->blocked >> (s - 1) & 1)
			(void)sigaddset(&mask, s);
	}
	(void)sigprocmask(SIG_SETMASK, &mask, NULL);
	int code = chdir(r->cwd) < 0 ? -errno : 0;
	if (code == 0) {
		execvpe(r->argv[0], r->argv, r->envp);
		code = errno;
	}
	(void)!write(err_fd, &code, sizeof code);
	_exit(127);
}

static void on_run(void *ctx, struct ctl_req *req)
{
	struct err e = {};
	_cleanup_(run_request_fini) struct run_request r = {};
	_cleanup_(close_p) int memfd = ctl_req_take_fd(req, 0), err_r = -1, err_w = -1, slave = -1, master = -1;
	int fds[RUN_FDS_MAX], p[2], code = 0;
	if (run_request_from_memfd(memfd, &r, &e) < 0) {
		ctl_fail(req, -EBADMSG, "%s", e.text);
		return;
	}
	if (strcmp(r.argv[0], "printenv") == 0 && r.argv[1] && strcmp(r.argv[1], "INSIDE") == 0) {
		ctl_answer(req, json_pack("{s:b}", "inside", 1));
		return;
	}
	CHECK(run_request_n_sent(&r) + 1 == ctl_req_n_fds(req));
	for (size_t i = 1; i < ctl_req_n_fds(req); i++) {
		_cleanup_(close_p) int fd = ctl_req_take_fd(req, i);
		fds[i - 1] = fd_high(fd);
	}
	if (r.tty) {
		CHECK(openpty(&master, &slave, NULL, &r.termios, &r.win) == 0 && fcntl(master, F_SETFD, FD_CLOEXEC) == 0);
		int high = fd_high(slave);
		slave = close_fd(slave);
		slave = high;
	}
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	err_r = p[0];
	err_w = fd_high(p[1]);
	(void)close(p[1]);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		command(&r, fds, slave, err_w);
	err_w = close_fd(err_w);
	for (size_t i = 0; i < run_request_n_sent(&r); i++)
		(void)close(fds[i]);
	if (read(err_r, &code, sizeof code) == (ssize_t)sizeof code) {
		ctl_fail_at(req, code < 0 ? code : -code, code < 0 ? "cwd" : "exec", "%s", strerror(code < 0 ? -code : code));
		return;
	}
	struct session *s = calloc(1, sizeof *s);
	CHECK(s);
	*s = (struct session){ .conn = ctl_req_conn(req), .pid = pid, .tty = r.tty };
	DL_APPEND(g_f.sessions, s);
	ctl_conn_on_close(s->conn, on_session_end, s);
	json_t *a = json_pack("{s:i, s:s, s:i}", "pid", (int)pid, "cookie", "00112233445566778899aabbccddeeff", "node", 3);
	if (r.tty)
		ctl_answer_fds(req, a, &master, 1);
	else
		ctl_answer(req, a);
}

static void on_signal(void *ctx, struct ctl_req *req)
{
	json_int_t sig;
	const char *to;
	if (ctl_req_int(req, "signal", 1, 64, 0, &sig) < 0 || ctl_req_str(req, "to", "process", &to) < 0)
		return;
	struct session *s;
	DL_SEARCH_SCALAR(g_f.sessions, s, conn, ctl_req_conn(req));
	int rc = s ? kill(strcmp(to, "process") == 0 ? s->pid : -s->pid, (int)sig) : -1;
	if (rc == 0)
		ctl_answer(req, json_object());
	else
		ctl_fail(req, -ESRCH, "it has ended");
}

static void on_unknown(void *ctx, struct ctl_req *req)
{
	ctl_fail(req, -ENOSYS, "not here");
}

static void serve(const char *dir, int ready)
{
	char path[256];
	struct err e = {};
	(void)snprintf(path, sizeof path, "%s/control.sock", dir);
	CHECK(uv_loop_init(&g_f.loop) == 0 && uv_signal_init(&g_f.loop, &g_f.chld) == 0 && uv_signal_start(&g_f.chld, on_chld, SIGCHLD) == 0);
	CHECK(ctl_server_new(&g_f.loop, path, &g_f.server, &e) == 0);
	for (size_t i = 0; i < sizeof canned / sizeof *canned; i++)
		ctl_handle(g_f.server, canned[i].cmd, on_canned, (void *)(uintptr_t)&canned[i]);
	ctl_handle(g_f.server, "ps", on_ps, NULL);
	ctl_handle(g_f.server, "run", on_run, NULL);
	ctl_handle(g_f.server, "signal", on_signal, NULL);
	ctl_handle(g_f.server, "tty-wanted", on_unknown, NULL);
	CHECK(write(ready, "", 1) == 1 && close(ready) == 0);
	(void)uv_run(&g_f.loop, UV_RUN_DEFAULT);
}

void fake_start(const char *dir, pid_t *ret_pid)
{
	int p[2];
	char c;
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	*ret_pid = fork();
	CHECK(*ret_pid >= 0);
	if (*ret_pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)signal(SIGPIPE, SIG_IGN);
		(void)close(p[0]);
		serve(dir, p[1]);
		_exit(0);
	}
	(void)close(p[1]);
	CHECK(read(p[0], &c, 1) == 1);
	(void)close(p[0]);
}

void fake_stop(pid_t pid)
{
	CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
}
