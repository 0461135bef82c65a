/* The command line without a cluster: options, typing errors, help, exit statuses; and every command against a fake pandod. */
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/fake-pandod.h"

enum { OUT_MAX = 64 << 10, WORDS = 12 };

static char g_dir[] = "/tmp/test-cli-XXXXXX";
static char g_out[OUT_MAX], g_err[OUT_MAX];
static pid_t g_fake;

static void slurp(int fd, char *to)
{
	size_t n = 0;
	ssize_t k;
	while (n < OUT_MAX - 1 && (k = read(fd, to + n, OUT_MAX - 1 - n)) > 0)
		n += (size_t)k;
	to[n] = 0;
	CHECK(close(fd) == 0);
}

/* Runs "pando line..."; words are separated by blanks. Its exit status; output in g_out and g_err. */
static int pando(const char *line)
{
	char text[512], *argv[WORDS] = { (char[]){ "pando" } }, *save = NULL;
	int n = 1;
	(void)snprintf(text, sizeof text, "%s", line);
	for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		CHECK(n < WORDS - 1);
		argv[n++] = w;
	}
	char out_path[64], err_path[64];
	(void)snprintf(out_path, sizeof out_path, "%s/out", g_dir);
	(void)snprintf(err_path, sizeof err_path, "%s/err", g_dir);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		int in = open("/dev/null", O_RDONLY), out = open(out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600),
		    err = open(err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		CHECK(in >= 0 && out >= 0 && err >= 0 && dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2);
		execv(getenv("PANDO"), argv);
		_exit(99);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	int fd = open(out_path, O_RDONLY), efd = open(err_path, O_RDONLY);
	CHECK(fd >= 0 && efd >= 0);
	slurp(fd, g_out);
	slurp(efd, g_err);
	for (const char *p = g_err; *p; p++)
		CHECK(*p == '\n' || (unsigned char)*p >= 0x20); /* nobody's words steer the terminal */
	return WEXITSTATUS(status);
}

/* ---- without pandod ---- */

static const struct cli_opt opts[] = { { 'a', "all", NULL, "", NULL }, { 'n', "name", "NAME", "", NULL }, { 0, "format", "F", "", "x|yy" }, {} };

static int parse(struct cli_args *ret, unsigned flags, int argc, ...)
{
	static char *argv[WORDS];
	struct cli_cmd cmd = { .name = "t", .flags = flags };
	va_list ap;
	va_start(ap, argc);
	for (int i = 0; i < argc; i++)
		argv[i] = va_arg(ap, char *);
	va_end(ap);
	argv[argc] = NULL;
	return args_parse(&cmd, opts, argc, argv, ret);
}

static void test_options_are_taken_in_all_their_forms(void)
{
	struct cli_args a;
	CHECK(parse(&a, 0, 3, "--all", "--name=x", "p") == 0 && a.opt[0] && strcmp(a.opt[1], "x") == 0 && !a.opt[2] && a.n_pos == 1);
	CHECK(parse(&a, 0, 4, "p", "-n", "x", "q") == 0 && strcmp(a.opt[1], "x") == 0 && a.n_pos == 2 && strcmp(a.pos[1], "q") == 0 && !a.pos[2]);
	CHECK(parse(&a, 0, 2, "-nx", "--format=yy") == 0 && strcmp(a.opt[1], "x") == 0 && strcmp(a.opt[2], "yy") == 0);
	CHECK(parse(&a, 0, 1, "--name=") == 0 && strcmp(a.opt[1], "") == 0);
	CHECK(parse(&a, 0, 3, "--", "--all", "-") == 0 && !a.opt[0] && a.n_pos == 2);
	CHECK(parse(&a, 0, 1, "-") == 0 && a.n_pos == 1);
	CHECK(parse(&a, CLI_STOPS, 3, "-a", "cmd", "--name=1") == 0 && a.opt[0] && !a.opt[1] && a.n_pos == 2);
	CHECK(parse(&a, CLI_CHANGES, 3, "7", "-x", "+y") == 0 && a.n_pos == 3);
	CHECK(parse(&a, 0, 2, "--all", "-h") == CLI_WANTS_HELP);
}

static void test_wrong_options_are_refused(void)
{
	struct cli_args a;
	CHECK(parse(&a, 0, 1, "--nonsense") == -EINVAL && parse(&a, 0, 1, "-z") == -EINVAL && parse(&a, 0, 1, "--name") == -EINVAL);
	CHECK(parse(&a, 0, 1, "--all=1") == -EINVAL && parse(&a, 0, 1, "--format=y") == -EINVAL && parse(&a, 0, 1, "--format=x|yy") == -EINVAL);
	CHECK(parse(&a, CLI_CHANGES, 1, "-x") == -EINVAL);
}

static void test_typing_errors_get_a_suggestion(void)
{
	static const struct {
		const char *line, *like;
	} t[] = {
		{ "staus", "\"status\"" }, { "stauts", "\"status\"" }, { "rn true", "\"run\"" }, { "node lst", "\"node list\"" }, { "docter", "\"doctor\"" },
		{ "status --formt=json", "--format" }, { "node drain --udno 3", "--undo" }, { "help statsu", "\"status\"" },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		CHECK(pando(t[i].line) == CLI_USAGE && strstr(g_err, "did you mean") && strstr(g_err, t[i].like) && !g_out[0]);
	CHECK(pando("qqqqqqq") == CLI_USAGE && !strstr(g_err, "did you mean"));
}

static void test_every_command_has_help(void)
{
	char line[64];
	for (size_t i = 0; i < cli_n_cmds; i++) {
		(void)snprintf(line, sizeof line, "%s --help", cli_cmds[i].name);
		CHECK(pando(line) == CLI_OK && strstr(g_out, "usage: pando ") && strstr(g_out, cli_cmds[i].name) && !g_err[0]);
		(void)snprintf(line, sizeof line, "help %s", cli_cmds[i].name);
		CHECK(pando(line) == CLI_OK && strstr(g_out, cli_cmds[i].summary) && !g_err[0]);
		CHECK(pando("--help") == CLI_OK && strstr(g_out, cli_cmds[i].name));
	}
	CHECK(pando("help node") == CLI_OK && strstr(g_out, "node drain") && pando("node --help") == CLI_OK);
	CHECK(pando("-h") == CLI_OK && pando("--version") == CLI_OK && strncmp(g_out, "pando ", 6) == 0 && pando("version") == CLI_OK);
}

static void test_wrong_usage_is_told_by_its_status(void)
{
	static const char *const lines[] = { "", "node", "ps x", "why", "why 1 2", "why 0", "features 1 place", "node drain", "node drain 200", "node drain --undo --wait 3",
					     "node label 3 A=b", "node label 3 =", "token --ttl 0s", "token --ttl 31d", "set policy", "status x", "completion fish",
					     "--run", "run", "join", "status --format=xml", "get a b", "help nonsense-of-all-kinds" };
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		if (pando(lines[i]) != CLI_USAGE || !g_err[0] || g_out[0]) {
			(void)fprintf(stderr, "pando %s: out %s err %s\n", lines[i], g_out, g_err);
			CHECK(!"wrong usage must exit with 2 and words on standard error only");
		}
}

static void test_without_pandod_commands_fail_and_say_so(void)
{
	static const char *const lines[] = { "status", "node list", "ps", "why 1", "features 1", "get", "token", "node remove 3", "set policy balance" };
	char line[128];
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		(void)snprintf(line, sizeof line, "--run %s/none %s", g_dir, lines[i]);
		CHECK(pando(line) == CLI_FAIL && strstr(g_err, "pandod is not running") && !g_out[0]);
	}
	(void)snprintf(line, sizeof line, "--run %s/none run true", g_dir);
	CHECK(pando(line) == 125 && strstr(g_err, "pandod is not running"));
	(void)snprintf(line, sizeof line, "--run %s/none doctor --format=json", g_dir);
	CHECK(pando(line) == CLI_FAIL);
	json_t *checks = json_loads(g_out, 0, NULL);
	CHECK(json_array_size(checks) > 10);
	json_decref(checks);
}

/* ---- with one ---- */

static void test_json_is_well_formed(void)
{
	static const char *const lines[] = { "status", "node list", "node label 3 rack=b", "token", "why 98412", "features 98412", "get", "get policy", "doctor", "ps", "version" };
	char line[128];
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		(void)snprintf(line, sizeof line, "%s --format=json", lines[i]);
		CHECK(pando(line) == CLI_OK && !g_err[0]);
		json_t *j = json_loads(g_out, JSON_REJECT_DUPLICATES, NULL);
		CHECK(j && json_object_get(j, "ok") == NULL);
		json_decref(j);
	}
}

static void test_tables_hold_no_control_characters(void)
{
	static const char *const lines[] = { "status", "node list", "node label 3", "why 98412", "features 98412", "get", "doctor", "ps", "ps 100", "node drain 3 --wait" };
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		CHECK(pando(lines[i]) == CLI_OK && g_out[0] && !g_err[0]);
		for (const char *p = g_out; *p; p++)
			CHECK(*p == '\n' || (unsigned char)*p >= 0x20);
	}
}

static void test_rows_are_filtered_and_sorted(void)
{
	CHECK(pando("ps") == CLI_OK && strstr(g_out, "\n100 ") && strstr(g_out, "\n100 ") < strstr(g_out, "\n200 "));
	CHECK(pando("ps --node 2") == CLI_OK && !strstr(g_out, "\n100 ") && strstr(g_out, "\n200 "));
	CHECK(pando("ps -u root") == CLI_OK && strstr(g_out, "\n100 ") && !strstr(g_out, "\n200 "));
	CHECK(pando("ps 300") == CLI_FAIL);
	CHECK(pando("ps --node 3rd") == CLI_OK); /* a name that begins with a digit */
	CHECK(pando("ps --node nobody") == CLI_FAIL && strstr(g_err, "no node is called"));
}

static void test_commands_that_change_are_silent(void)
{
	CHECK(pando("node remove 3rd") == CLI_OK && !g_out[0] && !g_err[0]);
	CHECK(pando("set policy balance") == CLI_OK && !g_err[0]);
	CHECK(pando("features 98412 -place +migrate") == CLI_OK && !g_err[0]);
	CHECK(pando("token") == CLI_OK && strcmp(g_out, "pando1.xyz\n") == 0);
	CHECK(pando("set nonsense 1") == CLI_FAIL && strstr(g_err, "there is no ?[2J setting"));
}

static void clean(void)
{
	char cmd[64];
	(void)snprintf(cmd, sizeof cmd, "rm -rf %s", g_dir);
	(void)!system(cmd);
}

int main(void)
{
	CHECK(getenv("PANDO") && mkdtemp(g_dir) && atexit(clean) == 0);
	CHECK(unsetenv("PANDO_SPACE") == 0 && setenv("PANDO_RUN", g_dir, 1) == 0 && setenv("LC_ALL", "C", 1) == 0);
	TEST(test_options_are_taken_in_all_their_forms);
	TEST(test_wrong_options_are_refused);
	TEST(test_typing_errors_get_a_suggestion);
	TEST(test_every_command_has_help);
	TEST(test_wrong_usage_is_told_by_its_status);
	TEST(test_without_pandod_commands_fail_and_say_so);
	fake_start(g_dir, &g_fake);
	TEST(test_json_is_well_formed);
	TEST(test_tables_hold_no_control_characters);
	TEST(test_rows_are_filtered_and_sorted);
	TEST(test_commands_that_change_are_silent);
	fake_stop(g_fake);
	return 0;
}
