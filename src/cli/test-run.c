/* pando run against a fake pandod that really runs the command: what a caller and a user at a terminal see. */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"
#include "cli/fake-pandod.h"

enum { TEXT_MAX = 1 << 20, WAIT_MS = 20000 };

static char g_dir[] = "/tmp/test-run-XXXXXX";
static char g_text[TEXT_MAX]; /* what came so far */
static size_t g_n, g_seen;    /* expect() goes on behind what it has found */

/* ---- without a terminal ---- */

static int g_to = -1, g_from = -1; /* pipes of the running command */

/* Starts "sh -c SCRIPT" without a terminal, its descriptors pipes: SCRIPT runs pando as $PANDO. */
static pid_t start(const char *script)
{
	int in[2], out[2];
	CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		CHECK(setsid() >= 0 && dup2(in[0], 0) == 0 && dup2(out[1], 1) == 1 && dup2(out[1], 2) == 2);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(99);
	}
	CHECK(close(in[0]) == 0 && close(out[1]) == 0);
	g_to = in[1];
	g_from = out[0];
	g_n = g_seen = 0;
	return pid;
}

/* Reads until the text has come. At the end of the output, or after WAIT_MS: fails. */
static void expect(const char *text)
{
	uint64_t until = clock_ms() + WAIT_MS;
	for (;;) {
		g_text[g_n] = 0;
		char *at = strstr(g_text + g_seen, text);
		if (at) {
			g_seen = (size_t)(at - g_text) + strlen(text);
			return;
		}
		struct pollfd p = { g_from, POLLIN, 0 };
		uint64_t now = clock_ms();
		ssize_t k = -1;
		if (now < until && poll(&p, 1, (int)(until - now)) == 1)
			k = read(g_from, g_text + g_n, TEXT_MAX - 1 - g_n);
		if (k <= 0) {
			(void)fprintf(stderr, "waited for \"%s\", got \"%s\"\n", text, g_text);
			CHECK(!"expected text");
		}
		g_n += (size_t)k;
	}
}

/* All that still comes; the wait status. */
static int finish(pid_t pid)
{
	int status;
	struct pollfd p = { g_from, POLLIN, 0 };
	g_to = close_fd(g_to);
	while (poll(&p, 1, WAIT_MS) == 1) {
		ssize_t k = read(g_from, g_text + g_n, TEXT_MAX - 1 - g_n);
		if (k <= 0)
			break;
		g_n += (size_t)k;
	}
	g_text[g_n] = 0;
	g_from = close_fd(g_from);
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

static void type(const char *text)
{
	CHECK(write(g_to, text, strlen(text)) == (ssize_t)strlen(text));
}

static int is_exit(const char *script, int want)
{
	int status = finish(start(script));
	if (WIFEXITED(status) && WEXITSTATUS(status) == want)
		return 1;
	(void)fprintf(stderr, "%s: status %#x, output: %s\n", script, (unsigned)status, g_text);
	return 0;
}

/* The same script with and without pando before the command, as $R: same output, same status. */
static void same(const char *body)
{
	char script[2048], *want;
	(void)snprintf(script, sizeof script, "R=; %s", body);
	int status = finish(start(script));
	want = strdup(g_text);
	CHECK(want);
	(void)snprintf(script, sizeof script, "R=\"$PANDO run\"; %s", body);
	int got = finish(start(script));
	if (got != status || strcmp(g_text, want) != 0)
		(void)fprintf(stderr, "%s: status %#x, not %#x; output \"%s\", not \"%s\"\n", body, (unsigned)got, (unsigned)status, g_text, want);
	CHECK(got == status && strcmp(g_text, want) == 0);
	free(want);
}

static void test_exit_statuses_are_those_of_the_command(void)
{
	same("exec $R sh -c 'exit 7'");
	same("exec $R true");
	same("exec $R sh -c 'kill -TERM $$'");
	same("exec $R sh -c 'kill -KILL $$'");
	same("ulimit -c 0; $R sh -c 'kill -SEGV $$'; echo $?");
	CHECK(is_exit("exec $PANDO run /nonexistent/x", 127) && strstr(g_text, "No such file"));
	CHECK(is_exit("exec $PANDO run no-such-program-anywhere", 127));
	CHECK(is_exit("exec $PANDO run /etc/passwd", 126) && is_exit("exec $PANDO run /tmp", 126));
	CHECK(is_exit("cd $(mktemp -d) && rmdir \"$PWD\" && exec $PANDO run true", 125));
}

static void test_descriptors_are_the_callers(void)
{
	same("echo in | $R cat");
	same("$R sh -c 'echo out; echo err >&2'");
	same("$R cat < /etc/passwd");
	same("$R sh -c 'cat <&7' 7</etc/hostname");
	same("$R sh -c 'ls /proc/self/fd' 5>/dev/null 2>/dev/null | grep -x 5");
	same("$R sh -c 'read x || echo closed' <&-");
	same("$R sh -c 'for i in 1 2 3; do echo $i; done' | $R sort -r");
	same("$R seq 20000 | $R md5sum");
	same("f=$(mktemp); { $R echo a; echo b; } > $f; cat $f; rm $f");
	same("$R yes | head -3");
	same("$R sh -c 'echo x; exec >&- 2>&-; sleep 0.2' | cat");
}

static void test_a_pipe_ends_when_the_command_closes_it(void)
{
	pid_t pid = start("$PANDO run sh -c 'exec >&- 2>&-; read x' | { cat; echo ended >&2; }");
	expect("ended");
	(void)finish(pid);
}

static void test_surroundings_are_the_callers(void)
{
	same("cd /usr/share && $R pwd");
	same("umask 027; $R sh -c umask");
	same("ulimit -n 77; ulimit -c 0; $R sh -c 'ulimit -n; ulimit -c'");
	same("X='a b\nc' $R env | grep -A1 ^X");
	same("trap '' INT USR1; $R grep -E 'SigIgn' /proc/self/status");
	same("$R printf '<%s>' a '' '*' \"\\$x\"");
	same("$R nohup sh -c 'echo $0 $#' 2>/dev/null");
}

static void test_a_signal_to_the_client_reaches_the_command_alone(void)
{
	pid_t pid = start("exec $PANDO run sh -c 'trap \"echo got; exit 3\" USR1; (trap \"echo wrong\" USR1; sleep 600) & echo ready; wait'");
	expect("ready");
	CHECK(kill(pid, SIGUSR1) == 0);
	expect("got");
	int status = finish(pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3 && !strstr(g_text, "wrong"));
}

static void test_sigterm_ends_both(void)
{
	pid_t pid = start("exec $PANDO run sh -c 'echo ready; exec sleep 600'");
	expect("ready");
	CHECK(kill(pid, SIGTERM) == 0);
	int status = finish(pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void test_timeout_works_around_and_within(void)
{
	CHECK(is_exit("timeout 0.3 $PANDO run sleep 600", 124) && is_exit("$PANDO run timeout 0.3 sleep 600", 124));
	CHECK(is_exit("timeout -s KILL 0.3 $PANDO run sleep 600; echo $?", 0) && strstr(g_text, "137"));
}

static void test_stop_and_continue_go_through(void)
{
	int status;
	pid_t pid = start("exec $PANDO run sh -c 'echo ready; kill -STOP $$; echo again; exit 4'");
	expect("ready");
	CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	CHECK(kill(pid, SIGCONT) == 0);
	expect("again");
	status = finish(pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4);
}

static void test_a_killed_client_hangs_its_command_up(void)
{
	pid_t pid = start("exec $PANDO run sh -c 'trap \"echo hung up; exit\" HUP; echo ready; while :; do sleep 0.05; done'");
	expect("ready");
	CHECK(kill(pid, SIGKILL) == 0);
	expect("hung up");
	CHECK(WIFSIGNALED(finish(pid)));
}

static void test_inside_the_space_the_command_takes_our_place(void)
{
	CHECK(is_exit("INSIDE=yes exec $PANDO run printenv INSIDE", 0) && strcmp(g_text, "yes\n") == 0);
}

static void test_wrong_nodes_and_features_are_refused(void)
{
	CHECK(is_exit("exec $PANDO run --node 200 true", 125) && is_exit("exec $PANDO run --node nobody true", 125));
	CHECK(is_exit("exec $PANDO run --feature place true", 125) && is_exit("exec $PANDO run --nonsense true", 2));
	CHECK(is_exit("exec $PANDO run --node 3rd --feature +place,-migrate true", 0));
}

/* ---- at a terminal ---- */

static struct termios g_modes; /* as the terminal was at first */

/* Starts argv as the leader of a session at a new terminal. */
static pid_t start_tty(char *const argv[])
{
	struct winsize w = { .ws_row = 33, .ws_col = 101 };
	int master;
	pid_t pid = forkpty(&master, NULL, NULL, &w);
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(argv[0], argv);
		_exit(99);
	}
	CHECK(fcntl(master, F_SETFD, FD_CLOEXEC) == 0 && tcgetattr(master, &g_modes) == 0);
	g_to = master;
	g_from = fcntl(master, F_DUPFD_CLOEXEC, 3);
	g_n = g_seen = 0;
	return pid;
}

static pid_t run_tty(const char *script)
{
	char *argv[] = { getenv("PANDO"), (char[]){ "run" }, (char[]){ "sh" }, (char[]){ "-c" }, (char *)(uintptr_t)script, NULL };
	return start_tty(argv);
}

/* A shell with job control, whose prompt is "$$ ". */
static pid_t shell_tty(void)
{
	char *argv[] = { (char[]){ "bash" }, (char[]){ "--norc" }, (char[]){ "--noediting" }, (char[]){ "-i" }, NULL };
	CHECK(setenv("PS1", "prompt> ", 1) == 0);
	pid_t pid = start_tty(argv);
	expect("prompt> ");
	return pid;
}

static void shell_end(pid_t pid)
{
	type("exit 0\n");
	int status = finish(pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_keys_and_output_go_through_the_terminal(void)
{
	pid_t pid = run_tty("test -t 0 && test -t 1 && test -t 2 && echo ttys; read x; echo \"<$x>\"; exit 5");
	expect("ttys\r\n");
	type("hello\n");
	expect("hello\r\n"); /* echo */
	expect("<hello>\r\n");
	int status = finish(pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
}

static void test_control_d_ends_the_input(void)
{
	pid_t pid = run_tty("echo ready; cat; echo end");
	expect("ready");
	type("x\n\004");
	expect("end\r\n");
	CHECK(finish(pid) == 0);
}

static void test_control_c_interrupts_the_foreground(void)
{
	pid_t pid = run_tty("trap 'echo int; exit 6' INT; echo ready; while :; do sleep 0.05; done");
	expect("ready");
	type("\003");
	expect("int\r\n");
	CHECK(WEXITSTATUS(finish(pid)) == 6);
	pid = run_tty("echo ready; exec sleep 600");
	expect("ready");
	type("\003");
	int status = finish(pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static void test_the_window_size_follows(void)
{
	struct winsize w = { .ws_row = 50, .ws_col = 132 };
	pid_t pid = run_tty("stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done");
	expect("33 101\r\n");
	expect("ready");
	CHECK(ioctl(g_to, TIOCSWINSZ, &w) == 0);
	expect("50 132\r\n");
	CHECK(finish(pid) == 0);
}

static int modes_are_back(void)
{
	struct termios now;
	uint64_t until = clock_ms() + WAIT_MS;
	do {
		CHECK(tcgetattr(g_to, &now) == 0);
		if (now.c_lflag == g_modes.c_lflag && now.c_iflag == g_modes.c_iflag && now.c_oflag == g_modes.c_oflag)
			return 1;
		(void)poll(NULL, 0, 5);
	} while (clock_ms() < until);
	return 0;
}

static void test_the_terminal_is_given_back_at_the_end(void)
{
	pid_t pid = shell_tty();
	type("$PANDO run sh -c 'stty -echo -icanon; echo changed'; stty -a | grep -o ' echo ' | head -1\n");
	expect("changed\r\n");
	expect(" echo ");
	type("$PANDO run sh -c 'stty raw -echo; printf \"mid%s\" dle; kill -KILL $$'; echo; echo \"aft\"er\n");
	expect("middle");
	expect("after");
	expect("prompt> ");
	CHECK(modes_are_back());
	shell_end(pid);
}

static void test_the_terminal_is_given_back_when_the_client_is_killed(void)
{
	pid_t pid = shell_tty();
	type("$PANDO run sh -c 'stty raw -echo; printf \"rea%s\" dy; exec sleep 600'\n");
	expect("ready");
	char line[64];
	pid_t client = 0;
	FILE *f = popen("ps -eo pid,ppid,args", "re");
	CHECK(f);
	while (fgets(line, sizeof line, f)) {
		int p, pp;
		if (sscanf(line, "%d %d", &p, &pp) == 2 && pp == pid && strstr(line, "pando run"))
			client = p;
	}
	CHECK(pclose(f) == 0 && client > 0 && kill(client, SIGKILL) == 0);
	expect("prompt> ");
	CHECK(modes_are_back());
	shell_end(pid);
}

static void clean(void)
{
	char cmd[64];
	(void)snprintf(cmd, sizeof cmd, "rm -rf %s", g_dir);
	(void)!system(cmd);
}

int main(void)
{
	pid_t fake;
	CHECK(getenv("PANDO") && mkdtemp(g_dir) && atexit(clean) == 0);
	CHECK(unsetenv("PANDO_SPACE") == 0 && setenv("PANDO_RUN", g_dir, 1) == 0 && setenv("LC_ALL", "C", 1) == 0);
	(void)signal(SIGPIPE, SIG_DFL);
	fake_start(g_dir, &fake);
	TEST(test_exit_statuses_are_those_of_the_command);
	TEST(test_descriptors_are_the_callers);
	TEST(test_a_pipe_ends_when_the_command_closes_it);
	TEST(test_surroundings_are_the_callers);
	TEST(test_a_signal_to_the_client_reaches_the_command_alone);
	TEST(test_sigterm_ends_both);
	TEST(test_timeout_works_around_and_within);
	TEST(test_stop_and_continue_go_through);
	TEST(test_a_killed_client_hangs_its_command_up);
	TEST(test_inside_the_space_the_command_takes_our_place);
	TEST(test_wrong_nodes_and_features_are_refused);
	TEST(test_keys_and_output_go_through_the_terminal);
	TEST(test_control_d_ends_the_input);
	TEST(test_control_c_interrupts_the_foreground);
	TEST(test_the_window_size_follows);
	TEST(test_the_terminal_is_given_back_at_the_end);
	TEST(test_the_terminal_is_given_back_when_the_client_is_killed);
	fake_stop(fake);
	return 0;
}
