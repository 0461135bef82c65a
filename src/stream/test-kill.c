/* Agents are killed and links are cut while descriptors are in use: programs must not notice. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "test-world.h"

enum { TOTAL = 48 << 20, PIECE_MAX = 200000, TOKENS = 4 };

static uint32_t g_rand = 1;

static uint32_t rand_next(void)
{
	g_rand = g_rand * 1664525 + 1013904223;
	return g_rand >> 8;
}

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static int stream_write(void *arg)
{
	static uint8_t buf[PIECE_MAX];
	for (size_t at = 0; at < TOTAL;) {
		size_t n = 1 + rand_next() % PIECE_MAX;
		if (n > TOTAL - at)
			n = TOTAL - at;
		for (size_t i = 0; i < n; i++)
			buf[i] = byte_at(at + i);
		ssize_t k = write(*(int *)arg, buf, n);
		if (k <= 0) {
			(void)fprintf(stderr, "write at %zu: %zd, %s\n", at, k, strerror(errno));
			return 1;
		}
		at += (size_t)k;
	}
	return 0;
}

static int stream_read(void *arg)
{
	static uint8_t buf[PIECE_MAX];
	for (size_t at = 0; at < TOTAL;) {
		size_t want = 1 + rand_next() % PIECE_MAX;
		ssize_t n = read(*(int *)arg, buf, want < TOTAL - at ? want : TOTAL - at);
		if (n <= 0) {
			(void)fprintf(stderr, "read at %zu: %zd, %s\n", at, n, strerror(errno));
			return 1;
		}
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != byte_at(at + (size_t)i)) {
				size_t k = at + (size_t)i, from = 0;
				for (size_t d = 1; d < 4000000 && !from; d++)
					for (int sign = -1; sign <= 1 && !from; sign += 2) {
						size_t t = sign < 0 ? k - d : k + d, m = 0;
						while (m < (size_t)(n - i) && m < 3000 && buf[i + (ssize_t)m] == byte_at(t + m))
							m++;
						if (m == (size_t)(n - i) || m == 3000)
							from = t;
					}
				(void)fprintf(stderr, "wrong byte at %zu: looks like %zu, %ld\n", k, from, (long)from - (long)k);
				return 2;
			}
		at += (size_t)n;
	}
	return 0;
}

enum trouble { KILL_IMPORTER, KILL_EXPORTER, KILL_BOTH, CUT };

/* Causes trouble until both have ended. */
static int trouble_until(enum trouble what, pid_t a, pid_t b)
{
	int n = 0, st, left = 2;
	uint64_t end = clock_ms() + 100000;
	while (left) {
		CHECK(clock_ms() < end);
		for (int i = 0; i < 4; i++)
			world_turn();
		if (what == KILL_IMPORTER || (what == KILL_BOTH && n % 2))
			world_kill(2, 0);
		else if (what == KILL_EXPORTER || what == KILL_BOTH)
			world_kill(1, 0);
		else
			world_cut(n % 2);
		n++;
		for (pid_t *p = &a;; p = &b) {
			if (*p && waitpid(*p, &st, WNOHANG) == *p) {
				CHECK(st == 0);
				*p = 0;
				left--;
			}
			if (p == &b)
				break;
		}
	}
	world_cut(0);
	return n;
}

static void transfer(enum trouble what, int writes)
{
	int p[2];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int w = writes ? world_delegate(1, p[1], 2) : p[1], r = writes ? p[0] : world_delegate(1, p[0], 2);
	pid_t a = world_fork(stream_write, &w), b = world_fork(stream_read, &r);
	int n = trouble_until(what, a, b);
	(void)printf("   %d times\n", n);
	(void)close(p[0]);
	(void)close(p[1]);
	(void)close(writes ? w : r);
}

static void test_importer_killed_while_writing(void)
{
	transfer(KILL_IMPORTER, 1);
}

static void test_importer_killed_while_reading(void)
{
	transfer(KILL_IMPORTER, 0);
}

static void test_exporter_killed_while_written(void)
{
	transfer(KILL_EXPORTER, 1);
}

static void test_exporter_killed_while_read(void)
{
	transfer(KILL_EXPORTER, 0);
}

static void test_both_killed(void)
{
	transfer(KILL_BOTH, 1);
	transfer(KILL_BOTH, 0);
}

static void test_links_cut(void)
{
	transfer(CUT, 1);
	transfer(CUT, 0);
}

static int file_write(void *arg)
{
	char line[32];
	for (int i = 0; i < 3000; i++) {
		int n = snprintf(line, sizeof line, "%08d\n", i);
		if (write(*(int *)arg, line, (size_t)n) != n)
			return 1;
	}
	return 0;
}

static void test_shared_file_while_agents_are_killed(void)
{
	char path[] = "/tmp/test-stream-file.XXXXXX", line[64];
	int f = mkostemp(path, O_CLOEXEC), next[2] = { 0 };
	CHECK(f >= 0 && unlink(path) == 0);
	int g = world_delegate(1, f, 2);
	pid_t a = world_fork(file_write, &g);
	int st, n = 0;
	while (waitpid(a, &st, WNOHANG) == 0) {
		world_kill(1 + n++ % 2, 0);
		for (int i = 0; i < 4; i++)
			world_turn();
	}
	CHECK(st == 0);
	FILE *in = fdopen(f, "r");
	CHECK(in && fseek(in, 0, SEEK_SET) == 0);
	while (fgets(line, sizeof line, in))
		CHECK(atoi(line) == next[0]++);
	CHECK(next[0] == 3000);
	(void)fclose(in);
	(void)close(g);
}

static int wait_in_epoll(void *arg)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	char c;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, *(int *)arg, &ev) < 0 || epoll_wait(ep, &ev, 1, 20000) != 1)
		return 1;
	return read(*(int *)arg, &c, 1) != 1;
}

static int wait_in_read(void *arg)
{
	char c;
	return read(*(int *)arg, &c, 1) != 1;
}

/* Until the child sleeps in the kernel for good: its state is S twice with a look at the loop between. */
static void settled(void)
{
	for (int i = 0; i < 20; i++)
		world_turn();
}

static void test_those_who_wait_go_on_waiting(void)
{
	for (int node = 1; node <= 2; node++) {
		int p[2];
		CHECK(pipe2(p, O_CLOEXEC) == 0);
		int fd = world_delegate(1, p[0], 2);
		pid_t a = world_fork(wait_in_read, &fd), b = world_fork(wait_in_epoll, &fd);
		settled();
		world_kill(node, 1);
		settled();
		CHECK(waitpid(a, NULL, WNOHANG) == 0 && waitpid(b, NULL, WNOHANG) == 0);
		CHECK(write(p[1], "x", 1) == 1);
		CHECK(world_wait(a) == 0); /* the other may have seen it, or not */
		CHECK(write(p[1], "yz", 2) == 2);
		CHECK(world_wait(b) == 0);
		(void)close(fd);
		(void)close(p[0]);
		(void)close(p[1]);
	}
}

/* Tokens in a pipe, taken and given back by programs of both nodes: none is lost and none is doubled. */
static int tokens_use(void *arg)
{
	const int *fd = arg;
	char c;
	for (int i = 0; i < 400; i++) {
		if (read(fd[0], &c, 1) != 1 || c != '+')
			return 1;
		(void)usleep(100); /* the job */
		if (write(fd[1], &c, 1) != 1)
			return 2;
	}
	return 0;
}

static void test_jobserver_while_agents_are_killed(void)
{
	enum { USERS = 6 };
	int p[2];
	char buf[64];
	pid_t pid[USERS];
	CHECK(pipe2(p, O_CLOEXEC) == 0 && write(p[1], "++++", TOKENS) == TOKENS);
	int q[2] = { world_delegate(1, p[0], 2), world_delegate(1, p[1], 2) };
	for (int i = 0; i < USERS; i++)
		pid[i] = world_fork(tokens_use, i % 3 == 0 ? p : q);
	int left = USERS, st, n = 0;
	while (left) {
		world_kill(1 + n++ % 2, 0);
		for (int i = 0; i < 6; i++)
			world_turn();
		for (int i = 0; i < USERS; i++)
			if (pid[i] && waitpid(pid[i], &st, WNOHANG) == pid[i]) {
				CHECK(st == 0);
				pid[i] = 0;
				left--;
			}
	}
	CHECK(fcntl(p[0], F_SETFL, O_NONBLOCK) == 0 && read(p[0], buf, sizeof buf) == TOKENS);
	int fds[] = { p[0], p[1], q[0], q[1] };
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		(void)close(fds[i]);
}

static void test_requests_under_way_are_made_again(void)
{
	for (int i = 0; i < 10; i++) {
		int p[2], status;
		char c;
		CHECK(pipe2(p, O_CLOEXEC) == 0);
		CHECK(kill(world_pid(1), SIGKILL) == 0);
		struct world_grant g = world_export(1, p[1], 2);
		CHECK(g.status == 0);
		int fd = world_import(2, &g, &status);
		CHECK(fd >= 0 && write(fd, "x", 1) == 1 && read(p[0], &c, 1) == 1);
		(void)close(fd);
		(void)close(p[0]);
		(void)close(p[1]);
	}
}

static void nothing_is_left(void)
{
	for (int node = 1; node <= 2; node++) {
		int x = 1, m = 1, h = 1;
		for (int i = 0; i < 400 && (m || h); i++) {
			world_turn();
			world_counts(node, &x, &m, &h);
		}
		CHECK(m == 0 && h == 0); /* an export may wait for a grant that was made twice to end */
	}
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	world_start(2, argv[1]);
	TEST(test_those_who_wait_go_on_waiting);
	TEST(test_importer_killed_while_writing);
	TEST(test_importer_killed_while_reading);
	TEST(test_exporter_killed_while_written);
	TEST(test_exporter_killed_while_read);
	TEST(test_both_killed);
	TEST(test_links_cut);
	TEST(test_shared_file_while_agents_are_killed);
	TEST(test_jobserver_while_agents_are_killed);
	TEST(test_requests_under_way_are_made_again);
	TEST(nothing_is_left);
	world_stop();
	return 0;
}
