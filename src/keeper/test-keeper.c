/* pando-keeper as a process, with test-prog in place of its programs. argv: pando-keeper, test-prog. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "check.h"

enum { WAIT_MS = 30000, KEPT = 600 };

static const char *g_keeper, *g_prog;

/* One node. */
static struct {
	char dir[32];
	pid_t keeper;
	int said;   /* the FIFO that programs write to */
	int notify; /* what the service manager would read */
	char words[4096];
	size_t n;
} g;

static const char *path_of(const char *name)
{
	static char paths[4][128];
	static unsigned at;
	char *p = paths[at++ % 4];
	(void)snprintf(p, sizeof paths[0], "%s/%s", g.dir, name);
	return p;
}

static void touch(const char *name)
{
	_cleanup_(close_p) int fd = open(path_of(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
}

static void keeper_start(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/notify", g.dir);
	CHECK((g.keeper = fork()) >= 0);
	if (g.keeper == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* nothing is left running by a test that fails */
		int log = open(path_of("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (dup2(log, 1) < 0 || dup2(log, 2) < 0 || setenv("PANDO_LIBEXEC", path_of("lib"), 1) < 0 || setenv("NOTIFY_SOCKET", a.sun_path, 1) < 0)
			_exit(1);
		(void)execl(g_keeper, g_keeper, "--state", path_of("state"), "--run", path_of("run"), "--cpus", "2.5", "--load-source", "x:y",
			    (char *)NULL);
		_exit(1);
	}
}

static void program_link(const char *name)
{
	char to[64];
	(void)snprintf(to, sizeof to, "lib/%s", name);
	CHECK(symlink(g_prog, path_of(to)) == 0);
}

static void node_begin(int n_programs, int is_member)
{
	static const char *const names[] = { "pandod", "pando-streams", "pando-procfs" };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	g.n = 0;
	(void)strcpy(g.dir, "/tmp/test-keeper-XXXXXX");
	CHECK(mkdtemp(g.dir) && mkdir(path_of("lib"), 0700) == 0 && mkdir(path_of("run"), 0755) == 0);
	for (int i = 0; i < n_programs; i++)
		program_link(names[i]);
	CHECK(mkfifo(path_of("run/said"), 0600) == 0 && (g.said = open(path_of("run/said"), O_RDWR | O_CLOEXEC)) >= 0);
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/notify", g.dir);
	g.notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(bind(g.notify, (struct sockaddr *)&a, sizeof a) == 0);
	if (is_member) {
		CHECK(mkdir(path_of("state"), 0700) == 0);
		touch("state/cluster");
		touch("state/node.crt");
	}
	keeper_start();
}

static void keeper_wait(int want)
{
	int status;
	CHECK(waitpid(g.keeper, &status, 0) == g.keeper);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == want);
}

static void node_end(void)
{
	static const char *const files[] = { "run/said", "run/ctl.pandod", "run/ctl.pando-streams", "run/ctl.pando-procfs", "run/keeper.lock",
		"run/lease", "state/cluster", "state/node.crt", "lib/pandod", "lib/pando-streams", "lib/pando-procfs", "notify", "log" };
	CHECK(kill(g.keeper, SIGTERM) == 0);
	keeper_wait(0);
	CHECK(access(path_of("run/keeper.record"), F_OK) < 0);
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		(void)unlink(path_of(files[i]));
	CHECK(rmdir(path_of("run")) == 0 && rmdir(path_of("state")) == 0 && rmdir(path_of("lib")) == 0 && rmdir(g.dir) == 0);
	g.said = close_fd(g.said);
	g.notify = close_fd(g.notify);
}

/* The next line of this program; lines of others stay for later. Returns the pid that said it; the words after it in ret. */
static pid_t hear(const char *name, char ret[static 512])
{
	for (;;) {
		for (char *line = g.words, *end; (end = memchr(line, '\n', g.n - (size_t)(line - g.words))); line = end + 1) {
			size_t n = (size_t)(end - line) + 1;
			char who[64];
			int pid, used;
			*end = 0;
			CHECK(sscanf(line, "%63s %d %n", who, &pid, &used) == 2);
			if (strcmp(who, name) == 0) {
				(void)snprintf(ret, 512, "%s", line + used);
				memmove(line, end + 1, g.n - (size_t)(end + 1 - g.words));
				g.n -= n;
				return pid;
			}
			*end = '\n';
		}
		struct pollfd p = { .fd = g.said, .events = POLLIN };
		CHECK(g.n < sizeof g.words && poll(&p, 1, WAIT_MS) == 1);
		ssize_t n = read(g.said, g.words + g.n, sizeof g.words - g.n);
		CHECK(n > 0);
		g.n += (size_t)n;
	}
}

static pid_t expect(const char *name, const char *words)
{
	char got[512];
	pid_t pid = hear(name, got);
	if (strcmp(got, words) != 0)
		(void)fprintf(stderr, "%s said \"%s\", not \"%s\"\n", name, got, words);
	CHECK(strcmp(got, words) == 0);
	return pid;
}

static void tell(const char *name, const char *words)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/run/ctl.%s", g.dir, name);
	CHECK(sendto(fd, words, strlen(words), 0, (struct sockaddr *)&a, sizeof a) == (ssize_t)strlen(words));
}

/* The number at the end of the answer to a command. */
static int ask(const char *name, const char *words, const char *answer)
{
	char got[512];
	int value = -1, used = 0;
	tell(name, words);
	(void)hear(name, got);
	CHECK(strncmp(got, answer, strlen(answer)) == 0);
	(void)sscanf(got + strlen(answer), "%d%n", &value, &used);
	return value;
}

static void notified(const char *words)
{
	char got[512];
	struct pollfd p = { .fd = g.notify, .events = POLLIN };
	CHECK(poll(&p, 1, WAIT_MS) == 1);
	ssize_t n = recv(g.notify, got, sizeof got - 1, 0);
	CHECK(n > 0);
	got[n] = 0;
	if (strncmp(got, words, strlen(words)) != 0)
		(void)fprintf(stderr, "notified \"%s\", not \"%s\"\n", got, words);
	CHECK(strncmp(got, words, strlen(words)) == 0);
}

static int logged(const char *words)
{
	static char text[65536];
	_cleanup_(close_p) int fd = open(path_of("log"), O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof text - 1);
	CHECK(n >= 0);
	text[n] = 0;
	return strstr(text, words) != NULL;
}

/* Ours because we are a reaper too, and the keeper is gone. */
static int ended_by(pid_t pid)
{
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

/* ---- */

static void test_waits_for_a_membership_then_starts_all(void)
{
	struct stat st;
	node_begin(3, 0);
	notified("READY=1\nSTATUS=waiting");
	CHECK(logged("pando init") && logged("pando join"));
	CHECK(stat(path_of("state"), &st) == 0 && (st.st_mode & 0777) == 0700);
	touch("state/cluster");
	touch("state/node.crt");
	(void)expect("pandod", "start");
	(void)expect("pando-streams", "start");
	(void)expect("pando-procfs", "start");
	CHECK(ask("pandod", "ready", "ready") == 0);
	notified("READY=1\nSTATUS=running");
	node_end();
}

static void test_programs_get_their_arguments_and_nothing_else(void)
{
	char got[512], want[512];
	node_begin(3, 1);
	(void)expect("pandod", "start");
	(void)expect("pando-procfs", "start");
	(void)expect("pando-streams", "start");
	tell("pandod", "args");
	(void)hear("pandod", got);
	(void)snprintf(want, sizeof want, "args --run %s/run --state %s/state --load-source x:y --cpus 2.5; death 15 group 1 notify 0 files %ld",
		       g.dir, g.dir, sysconf(_SC_OPEN_MAX));
	CHECK(strcmp(got, want) == 0);
	tell("pando-streams", "args");
	(void)hear("pando-streams", got);
	(void)snprintf(want, sizeof want, "args --run %s/run --state %s/state; death", g.dir, g.dir);
	CHECK(strncmp(got, want, strlen(want)) == 0);
	tell("pando-procfs", "args");
	(void)hear("pando-procfs", got);
	(void)snprintf(want, sizeof want, "args --run %s/run; death", g.dir);
	CHECK(strncmp(got, want, strlen(want)) == 0);
	node_end();
}

static void test_a_program_that_is_missing_is_left_out(void)
{
	node_begin(1, 1);
	(void)expect("pandod", "start");
	CHECK(logged("pando-streams is not in"));
	node_end();
}

static void test_programs_are_started_again(void)
{
	node_begin(2, 1);
	pid_t before = expect("pandod", "start");
	uint64_t last = clock_ms();
	(void)expect("pando-streams", "start");
	static const unsigned waits[] = { 0, 50, 100, 200 };
	for (unsigned i = 0; i < 4; i++) {
		CHECK(kill(before, SIGKILL) == 0);
		last = clock_ms();
		pid_t now = expect("pandod", "start");
		CHECK(now != before && clock_ms() - last >= waits[i]);
		before = now;
	}
	CHECK(logged("pandod has ended: killed by signal 9 (Killed); starting it again at once") && logged("again in 200 ms"));
	tell("pando-streams", "exit 3");
	(void)expect("pando-streams", "start");
	CHECK(logged("pando-streams has ended: exit status 3"));
	tell("pandod", "exit 0"); /* nothing special */
	(void)expect("pandod", "start");
	node_end();
}

static void test_wrong_usage_is_not_tried_again_soon(void)
{
	node_begin(2, 1);
	(void)expect("pandod", "start");
	(void)expect("pando-streams", "start");
	tell("pando-streams", "exit 64");
	CHECK(ask("pandod", "nospace", "nospace") == 0);
	while (!logged("exit status 64; starting it again in 30000 ms"))
		CHECK(ask("pandod", "nospace", "nospace") == 0); /* the keeper does something in between */
	node_end();
}

static void test_descriptors_outlive_the_program(void)
{
	char words[32];
	node_begin(2, 1);
	pid_t pid = expect("pandod", "start");
	(void)expect("pando-streams", "start");
	(void)snprintf(words, sizeof words, "put %d", KEPT);
	tell("pandod", words);
	(void)expect("pandod", "put");
	CHECK(kill(pid, SIGKILL) == 0);
	(void)expect("pandod", "start");
	CHECK(ask("pando-streams", "count", "count") == 0);
	tell("pando-streams", "put 3");
	(void)expect("pando-streams", "put");
	CHECK(ask("pando-streams", "count", "count") == 3);
	tell("pandod", "garbage");
	(void)expect("pandod", "garbage");
	CHECK(ask("pandod", "count", "count") == KEPT);
	node_end();
}

static void test_pandod_leaves_first(void)
{
	char got[512];
	node_begin(3, 1);
	(void)expect("pandod", "start");
	(void)expect("pando-streams", "start");
	(void)expect("pando-procfs", "start");
	CHECK(kill(g.keeper, SIGTERM) == 0);
	keeper_wait(0);
	CHECK(g.n == 0);
	ssize_t n = read(g.said, got, sizeof got - 1);
	CHECK(n > 0);
	got[n] = 0;
	CHECK(strncmp(got, "pandod ", 7) == 0 && strstr(got, "pando-streams") && strstr(got, "pando-procfs"));
	keeper_start(); /* for node_end */
	(void)expect("pandod", "start");
	node_end();
}

static void test_a_space_that_is_left_at_the_end_is_destroyed(void)
{
	node_begin(1, 1);
	(void)expect("pandod", "start");
	int init = 0;
	char got[512];
	tell("pandod", "space");
	(void)hear("pandod", got);
	CHECK(sscanf(got, "space 0 %d", &init) == 1 && kill(init, 0) == 0);
	CHECK(kill(g.keeper, SIGTERM) == 0);
	keeper_wait(0);
	(void)expect("pandod", "term");
	CHECK(kill(init, 0) < 0 && errno == ESRCH && logged("destroying the space"));
	keeper_start();
	(void)expect("pandod", "start");
	node_end();
}

static void test_the_space_outlives_pandod_and_its_other_children_do_not(void)
{
	int init = 0;
	char got[512];
	node_begin(1, 1);
	pid_t pid = expect("pandod", "start");
	tell("pandod", "space");
	(void)hear("pandod", got);
	CHECK(sscanf(got, "space 0 %d", &init) == 1);
	int orphan = ask("pandod", "orphan", "orphan");
	CHECK(kill(pid, SIGKILL) == 0);
	(void)expect("pandod", "start"); /* after that */
	CHECK(kill(orphan, 0) < 0 && errno == ESRCH);
	CHECK(kill(init, 0) == 0);
	CHECK(ask("pandod", "nospace", "nospace") == 0);
	CHECK(kill(init, SIGKILL) == 0);
	node_end();
}

static void test_the_end_of_the_space_is_noticed(void)
{
	int init = 0;
	char got[512];
	node_begin(1, 1);
	(void)expect("pandod", "start");
	tell("pandod", "space");
	(void)hear("pandod", got);
	CHECK(sscanf(got, "space 0 %d", &init) == 1 && kill(init, SIGKILL) == 0);
	while (!logged("the space has ended (pid 1: signal 9)"))
		CHECK(ask("pandod", "count", "count") == 0);
	node_end();
}

static void test_the_next_keeper_ends_what_a_killed_one_left(void)
{
	int init = 0;
	char got[512];
	node_begin(2, 1);
	pid_t pandod = expect("pandod", "start"), streams = expect("pando-streams", "start");
	tell("pandod", "space");
	(void)hear("pandod", got);
	CHECK(sscanf(got, "space 0 %d", &init) == 1);
	CHECK(kill(g.keeper, SIGKILL) == 0 && ended_by(g.keeper) == SIGKILL);
	(void)expect("pandod", "term"); /* as if its keeper had said so */
	(void)expect("pando-streams", "term");
	CHECK(ended_by(pandod) == 0 && ended_by(streams) == 0 && waitpid(init, NULL, WNOHANG) == 0);
	keeper_start();
	(void)expect("pandod", "start");
	int status;
	CHECK(waitpid(init, &status, WNOHANG) == init && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	(void)expect("pando-streams", "start");
	node_end();
}

static void test_a_second_keeper_is_refused(void)
{
	node_begin(1, 1);
	(void)expect("pandod", "start");
	pid_t first = g.keeper;
	keeper_start();
	keeper_wait(1);
	g.keeper = first;
	CHECK(logged("another pando-keeper runs"));
	CHECK(ask("pandod", "count", "count") == 0);
	node_end();
}

static void test_without_a_membership_it_waits_again(void)
{
	node_begin(2, 1);
	(void)expect("pandod", "start");
	(void)expect("pando-streams", "start");
	tell("pando-streams", "put 5");
	(void)expect("pando-streams", "put");
	CHECK(ask("pandod", "leave", "left") == 0);
	(void)expect("pando-streams", "term");
	notified("READY=1\nSTATUS=waiting");
	touch("state/node.crt");
	(void)expect("pandod", "start");
	(void)expect("pando-streams", "start");
	CHECK(ask("pando-streams", "count", "count") == 0); /* it was of the membership before */
	node_end();
}

static void test_it_is_tiny(void)
{
#ifndef __SANITIZE_ADDRESS__
	char path[64], line[128];
	long kb = 0;
	node_begin(3, 1);
	(void)expect("pandod", "start");
	(void)expect("pando-streams", "start");
	tell("pandod", "put 100");
	(void)expect("pandod", "put");
	(void)snprintf(path, sizeof path, "/proc/%d/status", g.keeper);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof line, f))
		(void)sscanf(line, "VmRSS: %ld", &kb);
	CHECK(kb > 0 && kb < 3072);
	node_end();
#endif
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	CHECK((g_keeper = realpath(argv[1], NULL)) && (g_prog = realpath(argv[2], NULL))); /* for the rest of the program */
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	TEST(test_waits_for_a_membership_then_starts_all);
	TEST(test_programs_get_their_arguments_and_nothing_else);
	TEST(test_a_program_that_is_missing_is_left_out);
	TEST(test_programs_are_started_again);
	TEST(test_wrong_usage_is_not_tried_again_soon);
	TEST(test_descriptors_outlive_the_program);
	TEST(test_pandod_leaves_first);
	TEST(test_a_space_that_is_left_at_the_end_is_destroyed);
	TEST(test_the_space_outlives_pandod_and_its_other_children_do_not);
	TEST(test_the_end_of_the_space_is_noticed);
	TEST(test_the_next_keeper_ends_what_a_killed_one_left);
	TEST(test_a_second_keeper_is_refused);
	TEST(test_without_a_membership_it_waits_again);
	TEST(test_it_is_tiny);
	return 0;
}
