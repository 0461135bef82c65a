#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/collect.h"
#include "cli/relay.h"
#include "cli/term.h"

enum { OPT_NODE, OPT_FEATURE };

/* As env(1), nohup(1) and timeout(1) have it. */
enum { EXIT_PANDO = 125, EXIT_CANNOT = 126, EXIT_NOT_FOUND = 127 };

enum { START_MS = 60000, BUSY_MS = 30000, AWAY_MS = 4000, LOOK_MS = 50, GRACE_MS = 1000 };

static int exec_status(int code)
{
	return code == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT;
}

/* Inside the space there is nothing to arrange: the command takes our place. */
static int exec_here(const struct cli_cmd *cmd, char **argv)
{
	execvp(argv[0], argv);
	int code = errno;
	(void)cli_error(cmd, "%s: %s", argv[0], strerror(code));
	return exec_status(code);
}

/* Ends as the command did, so that our parent sees the same. */
static int end_as(int status)
{
	if (!WIFSIGNALED(status))
		return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_PANDO;
	int sig = WTERMSIG(status);
	struct rlimit none = { 0, 0 };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t all;
	(void)setrlimit(RLIMIT_CORE, &none); /* the core would be ours, not the command's */
	(void)sigaction(sig, &dfl, NULL);
	(void)kill(getpid(), sig);
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_UNBLOCK, &all, NULL); /* here we die */
	return 128 + sig;
}

/* ---- the request ---- */

static int deadly_pending(void)
{
	static const int deadly[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGALRM, SIGUSR1, SIGUSR2 };
	sigset_t pending;
	if (sigpending(&pending) < 0)
		return 0;
	for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
		if (sigismember(&pending, deadly[i]) == 1)
			return 1;
	return 0;
}

/* Lets through what is pending, for ms milliseconds: mask is the one that we were started with. */
static void signals_let(const sigset_t *mask, int ms)
{
	sigset_t all;
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, mask, NULL); /* neither can fail; here we may die */
	(void)poll(NULL, 0, ms);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Waits for the answer to "run". Signals are blocked: the command may live already, and then they are the command's. But a pandod that does
 * not answer must not make us unstoppable: after a while they are ours. */
static int answer_wait(struct ctl_client *ctl, const sigset_t *mask, struct ctl_msg *ret, struct err *e)
{
	uint64_t deadline = clock_ms() + START_MS, since = 0;
	for (;;) {
		int rc = ctl_client_next(ctl, LOOK_MS, ret, e);
		if (rc < 0)
			return rc;
		if (rc > 0 && json_object_get(ret->json, "ok"))
			return ctl_client_outcome(ret, e);
		if (rc > 0)
			ctl_msg_fini(ret);
		uint64_t now = clock_ms();
		if (now > deadline)
			return err_set(e, -ETIMEDOUT, "no answer from pandod in %d s", START_MS / 1000);
		if (!deadly_pending())
			since = 0;
		else if (!since)
			since = now;
		else if (now - since > GRACE_MS)
			signals_let(mask, 0);
	}
}

/* Sends "run" and waits for its answer; as long as pandod says that it has too much to do: again. */
static int start(struct ctl_client **ctl, json_t *req, const int *fds, size_t n_fds, const sigset_t *mask, struct ctl_msg *ret, struct err *e)
{
	uint64_t since = clock_ms(), deadline = since + BUSY_MS;
	int pause = 20, rc;
	for (;;) {
		rc = ctl_client_open(NULL, ctl, e);
		int is_away = rc == -ECONNREFUSED && clock_ms() - since < AWAY_MS; /* pandod is just being started again */
		if (rc == 0)
			rc = ctl_client_send(*ctl, req, fds, n_fds, START_MS, e);
		if (rc == 0)
			rc = answer_wait(*ctl, mask, ret, e);
		int ours = json_object_get(ret->json, "at") != NULL;
		if (!is_away && (rc != -EAGAIN || ours || clock_ms() > deadline))
			return rc;
		ctl_msg_fini(ret);
		*ret = (struct ctl_msg){};
		ctl_client_close(*ctl);
		*ctl = NULL;
		signals_let(mask, pause);
		pause = pause < 500 ? pause * 2 : 500;
	}
}

static int start_failed(const struct cli_cmd *cmd, const struct ctl_msg *m, const char *program, int rc, const struct err *e)
{
	const char *at = json_string_value(json_object_get(m->json, "at"));
	if (at && strcmp(at, "exec") == 0) {
		(void)cli_error(cmd, "%s: %s", program, strerror(-rc));
		return exec_status(-rc);
	}
	(void)cli_error(cmd, "%s", e->text);
	return EXIT_PANDO;
}

static int relay(const struct cli_cmd *cmd, struct ctl_client **ctl, struct ctl_msg *m, struct term *t)
{
	struct err e = {};
	const char *cookie = json_string_value(json_object_get(m->json, "cookie"));
	json_int_t pid = json_integer_value(json_object_get(m->json, "pid"));
	_cleanup_(close_p) int master = m->n_fds == 1 ? take_fd(&m->fds[0]) : -1;
	if (pid <= 0 || (term_wanted(t) && master < 0)) {
		(void)cli_error(cmd, "pandod sent an answer without a process or without a terminal");
		return EXIT_PANDO;
	}
	int status = 0;
	int rc = relay_run(take_ptr(*ctl), (pid_t)pid, cookie ? cookie : "", take_fd(&master), t, &status, &e);
	term_fini(t);
	if (rc < 0) {
		(void)cli_error(cmd, "%s", e.text);
		return EXIT_PANDO;
	}
	return end_as(status);
}

/* The request in its memfd, and behind it what the command inherits. */
static int fds_list(const struct collected *c, int **ret, struct err *e)
{
	int *fds = calloc(c->n_sent + 1, sizeof *fds);
	if (!fds)
		return err_set(e, -ENOMEM, "no memory");
	int rc = run_request_to_memfd(&c->req, &fds[0], e);
	if (rc < 0) {
		free(fds);
		return rc;
	}
	for (size_t i = 0; i < c->n_sent; i++)
		fds[i + 1] = c->sent[i];
	*ret = fds;
	return 0;
}

static int run_collected(const struct cli_cmd *cmd, struct collected *c, struct term *t, char **argv)
{
	struct err e = {};
	int *fds = NULL;
	int rc = fds_list(c, &fds, &e);
	if (rc < 0) {
		(void)cli_error(cmd, "%s", e.text);
		return rc == -E2BIG ? EXIT_CANNOT : EXIT_PANDO;
	}
	struct ctl_client *ctl = NULL;
	_cleanup_(ctl_msg_fini) struct ctl_msg m = {};
	json_t *req = json_pack("{s:s}", "cmd", "run");
	sigset_t all, mask;
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &mask); /* cannot fail */
	rc = start(&ctl, req, fds, c->n_sent + 1, &mask, &m, &e);
	if (rc < 0 || json_is_true(json_object_get(m.json, "inside")))
		(void)sigprocmask(SIG_SETMASK, &mask, NULL); /* there is no command that they could be for */
	json_decref(req);
	(void)close(fds[0]);
	free(fds);
	int status;
	if ((rc == -ENOENT || rc == -ECONNREFUSED) && !m.json && getenv("PANDO_SPACE")) {
		status = exec_here(cmd, argv);
	} else if (rc < 0) {
		status = start_failed(cmd, &m, argv[0], rc, &e);
	} else if (json_is_true(json_object_get(m.json, "inside"))) {
		status = exec_here(cmd, argv);
	} else {
		collect_let_go(c);
		status = relay(cmd, &ctl, &m, t);
	}
	ctl_client_close(ctl);
	return status;
}

static int run(const struct cli_cmd *cmd, const struct cli_args *args, char **argv)
{
	int node = 0;
	if (args->opt[OPT_NODE] && cli_node(cmd, args->opt[OPT_NODE], &node) != CLI_OK)
		return EXIT_PANDO;
	struct err e = {};
	struct term t;
	_cleanup_(collect_fini) struct collected c = {};
	int rc = term_open(&t, &e);
	if (rc == 0)
		rc = collect(argv, &t, &c, &e);
	if (rc < 0) {
		(void)cli_error(cmd, "%s", e.text);
		term_fini(&t);
		return EXIT_PANDO;
	}
	const char *features = args->opt[OPT_FEATURE] ? args->opt[OPT_FEATURE] : "";
	if (strlen(features) >= sizeof c.req.features || (features[0] && features[0] != '+' && features[0] != '-')) {
		(void)cli_usage_error(cmd, "option --feature: \"%s\" is not +FEATURE,-FEATURE", features);
		term_fini(&t);
		return EXIT_PANDO;
	}
	(void)strcpy(c.req.features, features);
	c.req.node = (uint16_t)node;
	int status = run_collected(cmd, &c, &t, argv);
	term_fini(&t);
	return status;
}

int cmd_run(const struct cli_cmd *cmd, const struct cli_args *args)
{
	return run(cmd, args, args->pos);
}

int cmd_shell(const struct cli_cmd *cmd, const struct cli_args *args)
{
	static char interactive[] = "-i", sh[] = "/bin/sh";
	char *shell = getenv("SHELL");
	if (!shell || shell[0] != '/') {
		struct passwd *pw = getpwuid(getuid());
		shell = pw && pw->pw_shell && pw->pw_shell[0] == '/' ? pw->pw_shell : sh;
	}
	char *argv[] = { shell, interactive, NULL };
	if (!isatty(0)) /* commands come from a pipe or file */
		argv[1] = NULL;
	return run(cmd, args, argv);
}
