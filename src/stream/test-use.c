/* Delegated descriptors between three agents: what programs see. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "test-world.h"

enum { WRITERS = 20, LINES = 200, BIG = 8 << 20 };

static void pipe_delegated(int to, int *ret_read, int *ret_write)
{
	int p[2];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	*ret_read = p[0];
	*ret_write = world_delegate(1, p[1], to);
	(void)close(p[1]);
}

static int file_new(void)
{
	char path[] = "/tmp/test-stream-file.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	CHECK(fd >= 0 && unlink(path) == 0);
	return fd;
}

static void test_pipe_is_written_from_afar(void)
{
	int r, fd;
	char buf[64];
	pipe_delegated(2, &r, &fd);
	CHECK(write(fd, "hello", 5) == 5);
	CHECK(read(r, buf, sizeof buf) == 5 && memcmp(buf, "hello", 5) == 0);
	(void)close(fd);
	CHECK(read(r, buf, sizeof buf) == 0);
	(void)close(r);
}

/* Writers on all nodes. */

struct writer {
	int fd, n;
};

static int lines_write(void *arg)
{
	const struct writer *x = arg;
	char line[4096];
	for (int i = 0; i < LINES; i++) {
		int n = snprintf(line, sizeof line, "%02d %04d ", x->n, i);
		int len = 20 + (x->n * 131 + i * 37) % 1500;
		memset(line + n, 'a' + x->n, (size_t)(len - n - 1));
		line[len - 1] = '\n';
		if (write(x->fd, line, (size_t)len) != len)
			return 1;
	}
	return 0;
}

/* Each line whole, each writer's in order, none missing. */
static void lines_check(FILE *f)
{
	char line[4096];
	int next[WRITERS] = { 0 };
	while (fgets(line, sizeof line, f)) {
		int n, i;
		CHECK(sscanf(line, "%d %d", &n, &i) == 2 && n >= 0 && n < WRITERS);
		size_t len = strlen(line);
		CHECK(len == (size_t)(20 + (n * 131 + i * 37) % 1500));
		for (size_t k = 8; k + 1 < len; k++)
			CHECK(line[k] == 'a' + n);
		CHECK(i == next[n]);
		next[n]++;
	}
	for (int n = 0; n < WRITERS; n++)
		CHECK(next[n] == LINES);
}

static int drain_to(void *arg)
{
	const int *fd = arg; /* from, to */
	char buf[65536];
	ssize_t n;
	while ((n = read(fd[0], buf, sizeof buf)) > 0)
		if (write(fd[1], buf, (size_t)n) != n)
			return 1;
	return n < 0;
}

static void writers_run(const int fds[3])
{
	pid_t pid[WRITERS];
	struct writer x[WRITERS];
	for (int i = 0; i < WRITERS; i++) {
		x[i] = (struct writer){ fds[i % 3], i };
		pid[i] = world_fork(lines_write, &x[i]);
	}
	for (int i = 0; i < WRITERS; i++)
		CHECK(world_wait(pid[i]) == 0);
}

static void test_lines_of_twenty_writers_are_not_torn_in_a_pipe(void)
{
	int p[2], out = file_new();
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int reader_fds[2] = { p[0], out };
	int fds[3] = { p[1], world_delegate(1, p[1], 2), world_delegate(1, p[1], 3) };
	pid_t reader = world_fork(drain_to, reader_fds);
	/* The reader holds the writing end too, by the fork: it ends when it is told. */
	writers_run(fds);
	for (int i = 0; i < 3; i++)
		(void)close(fds[i]);
	world_barrier(2);
	world_barrier(3);
	int left = 1;
	while (left) {
		CHECK(ioctl(p[0], FIONREAD, &left) == 0);
		world_turn();
	}
	(void)kill(reader, SIGTERM);
	(void)world_wait(reader);
	FILE *f = fdopen(out, "r");
	CHECK(f && fseek(f, 0, SEEK_SET) == 0);
	lines_check(f);
	(void)fclose(f);
	(void)close(p[0]);
}

static void test_lines_of_twenty_writers_are_not_lost_in_a_file(void)
{
	for (int append = 0; append < 2; append++) {
		int out = file_new();
		if (append)
			CHECK(fcntl(out, F_SETFL, O_APPEND) == 0);
		int fds[3] = { out, world_delegate(1, out, 2), world_delegate(1, out, 3) };
		writers_run(fds);
		(void)close(fds[1]);
		(void)close(fds[2]);
		FILE *f = fdopen(out, "r");
		CHECK(f && fseek(f, 0, SEEK_SET) == 0);
		lines_check(f);
		(void)fclose(f);
	}
}

static void test_offset_is_shared_by_readers(void)
{
	int f = file_new();
	char a[4] = "", b[4] = "";
	CHECK(write(f, "0123456789", 10) == 10 && lseek(f, 2, SEEK_SET) == 2);
	int g = world_delegate(1, f, 2), h = world_delegate(1, f, 3);
	CHECK(read(g, a, 2) == 2 && memcmp(a, "23", 2) == 0);
	CHECK(read(f, a, 2) == 2 && memcmp(a, "45", 2) == 0);
	CHECK(read(h, b, 2) == 2 && memcmp(b, "67", 2) == 0);
	CHECK(read(g, a, 4) == 2 && memcmp(a, "89", 2) == 0);
	CHECK(read(h, a, 4) == 0);
	/* A seek is known with the next request. */
	CHECK(lseek(g, 1, SEEK_SET) == 1 && read(g, a, 2) == 2 && memcmp(a, "12", 2) == 0);
	CHECK(lseek(f, 0, SEEK_CUR) == 3);
	struct stat st;
	CHECK(fstat(g, &st) == 0 && st.st_size == 10 && S_ISREG(st.st_mode));
	CHECK(lseek(g, 0, SEEK_END) == 10);
	CHECK(ftruncate(g, 5) == 0 && fstat(f, &st) == 0 && st.st_size == 5);
	CHECK(fsync(g) == 0 && fdatasync(h) == 0);
	(void)close(f);
	(void)close(g);
	(void)close(h);
}

static int write_expects_sigpipe(void *arg)
{
	(void)!write(*(int *)arg, "x", 1);
	return 1;
}

static void test_broken_pipe(void)
{
	int r, fd;
	pipe_delegated(2, &r, &fd);
	(void)close(r);
	pid_t pid = world_fork(write_expects_sigpipe, &fd);
	int st = world_wait(pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGPIPE);
	CHECK(write(fd, "x", 1) == -1 && errno == EPIPE); /* ignored here */
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	CHECK(poll(&p, 1, 5000) == 1 && p.revents & POLLERR);
	(void)close(fd);
}

static int read_all(void *arg)
{
	char buf[4096];
	ssize_t n, sum = 0;
	while ((n = read(*(int *)arg, buf, sizeof buf)) > 0)
		sum += n;
	return n < 0 ? 200 : (int)sum;
}

static void test_reading_ends_when_the_writers_have_gone(void)
{
	int p[2];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int fd = world_delegate(1, p[0], 2);
	pid_t pid = world_fork(read_all, &fd);
	CHECK(pid > 0);
	CHECK(write(p[1], "abc", 3) == 3);
	/* The child has the writing end too. */
	(void)close(p[0]);
	(void)kill(pid, SIGKILL);
	int st = world_wait(pid);
	CHECK(WIFSIGNALED(st)); /* a blocked reader can be killed */
	char buf[8];
	ssize_t n = 0;
	struct pollfd w = { .fd = fd, .events = POLLIN };
	(void)close(p[1]);
	CHECK(poll(&w, 1, 5000) == 1 && w.revents & POLLHUP);
	while ((n = read(fd, buf, sizeof buf)) > 0)
		;
	CHECK(n == 0);
	(void)close(fd);
}

static void test_poll_select_and_epoll(void)
{
	int p[2];
	char buf[64];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int fd = world_delegate(1, p[0], 2), ep = epoll_create1(EPOLL_CLOEXEC);
	struct pollfd w = { .fd = fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	struct timeval none = { 0 };
	fd_set set;
	CHECK(poll(&w, 1, 0) == 0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0 && epoll_wait(ep, &ev, 1, 0) == 0);
	for (int i = 0; i < 300; i++) { /* each edge counts, also when it was ready before */
		CHECK(write(p[1], "x", 1) == 1);
		CHECK(epoll_wait(ep, &ev, 1, 5000) == 1 && ev.events & EPOLLIN);
		if (i % 3 == 2)
			CHECK(read(fd, buf, sizeof buf) == 3);
	}
	CHECK(write(p[1], "x", 1) == 1 && poll(&w, 1, 5000) == 1 && w.revents == POLLIN);
	FD_ZERO(&set);
	FD_SET(fd, &set);
	CHECK(select(fd + 1, &set, NULL, NULL, &none) == 1);
	CHECK(read(fd, buf, sizeof buf) == 1);
	(void)close(ep);
	(void)close(fd);
	(void)close(p[0]);
	(void)close(p[1]);
}

static void test_flags_follow_the_description(void)
{
	int p[2];
	char buf[8];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int fd = world_delegate(1, p[0], 2);
	CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
	CHECK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
	CHECK(read(fd, buf, sizeof buf) == -1 && errno == EAGAIN);
	CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK); /* one description: all its users see it */
	CHECK(fcntl(p[0], F_SETFL, 0) == 0);
	CHECK(write(fd, "x", 1) == -1 && errno == EBADF);
	CHECK(lseek(fd, 0, SEEK_CUR) == -1 && errno == ESPIPE);
	(void)close(fd);
	(void)close(p[0]);
	(void)close(p[1]);
}

static int write_big(void *arg)
{
	static uint8_t buf[BIG];
	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (uint8_t)(i * 7 + i / 4096);
	size_t done = 0;
	while (done < sizeof buf) {
		ssize_t n = write(*(int *)arg, buf + done, sizeof buf - done);
		if (n <= 0)
			return 1;
		done += (size_t)n;
	}
	return 0;
}

static void big_check(int fd)
{
	static uint8_t buf[BIG];
	size_t at = 0;
	while (at < sizeof buf) {
		ssize_t n = read(fd, buf + at, sizeof buf - at);
		CHECK(n > 0);
		at += (size_t)n;
	}
	for (size_t i = 0; i < sizeof buf; i++)
		CHECK(buf[i] == (uint8_t)(i * 7 + i / 4096));
}

static void test_large_writes(void)
{
	int r, fd, f = file_new();
	pipe_delegated(2, &r, &fd);
	pid_t pid = world_fork(write_big, &fd);
	big_check(r);
	CHECK(world_wait(pid) == 0);
	(void)close(r);
	(void)close(fd);
	fd = world_delegate(1, f, 3);
	CHECK(write_big(&fd) == 0 && lseek(f, 0, SEEK_CUR) == BIG && lseek(f, 0, SEEK_SET) == 0);
	big_check(f);
	(void)close(fd);
	(void)close(f);
}

static void test_splice_and_sendfile(void)
{
	int p[2], q[2], f = file_new();
	char buf[64];
	CHECK(pipe2(p, O_CLOEXEC) == 0 && pipe2(q, O_CLOEXEC) == 0);
	int in = world_delegate(1, p[0], 2), out = world_delegate(1, q[1], 2);
	CHECK(write(f, "from a file", 11) == 11);
	off_t off = 0;
	ssize_t n = sendfile(out, f, &off, 11);
	CHECK(n == 11 || (n == -1 && errno == EINVAL)); /* or the program falls back to write */
	if (n == 11)
		CHECK(read(q[0], buf, sizeof buf) == 11 && memcmp(buf, "from a file", 11) == 0);
	CHECK(write(p[1], "through", 7) == 7);
	int own[2];
	CHECK(pipe2(own, O_CLOEXEC) == 0);
	n = splice(in, NULL, own[1], NULL, 64, 0);
	if (n == -1) {
		CHECK(errno == EINVAL);
		CHECK(read(in, buf, sizeof buf) == 7);
	} else {
		CHECK(n == 7 && read(own[0], buf, sizeof buf) == 7); /* never 0: that would be a false end */
	}
	CHECK(memcmp(buf, "through", 7) == 0);
	int fds[] = { p[0], p[1], q[0], q[1], own[0], own[1], in, out, f };
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		(void)close(fds[i]);
}

static void test_eventfd(void)
{
	int e = eventfd(0, EFD_CLOEXEC);
	uint64_t v = 3;
	int fd = world_delegate(1, e, 2);
	CHECK(write(fd, &v, sizeof v) == sizeof v && read(e, &v, sizeof v) == sizeof v && v == 3);
	v = 4;
	CHECK(write(e, &v, sizeof v) == sizeof v && read(fd, &v, sizeof v) == sizeof v && v == 4);
	(void)close(fd);
	(void)close(e);
}

static void test_terminal(void)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0);
	int s = open(ptsname(m), O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct winsize ws = { .ws_row = 24, .ws_col = 80 }, got = { 0 };
	struct termios t;
	char buf[64];
	CHECK(s >= 0 && ioctl(m, TIOCSWINSZ, &ws) == 0);
	int fd = world_delegate(1, s, 2);
	CHECK(isatty(fd));
	CHECK(ioctl(fd, TIOCGWINSZ, &got) == 0 && got.ws_row == 24 && got.ws_col == 80);
	CHECK(tcgetattr(fd, &t) == 0 && t.c_lflag & ECHO);
	t.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
	CHECK(tcsetattr(fd, TCSANOW, &t) == 0);
	CHECK(tcgetattr(s, &t) == 0 && !(t.c_lflag & ECHO));
	CHECK(write(fd, "out", 3) == 3 && read(m, buf, sizeof buf) == 3 && memcmp(buf, "out", 3) == 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	CHECK(poll(&p, 1, 0) == 0 && write(m, "in", 2) == 2 && poll(&p, 1, 5000) == 1 && p.revents & POLLIN);
	CHECK(read(fd, buf, sizeof buf) == 2 && memcmp(buf, "in", 2) == 0);
	(void)close(fd);
	(void)close(s);
	(void)close(m);
}

static volatile sig_atomic_t g_signals;

static void on_usr1(int sig)
{
	g_signals++;
}

static int read_restarts(void *arg)
{
	char c;
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
	(void)sigaction(SIGUSR1, &sa, NULL);
	ssize_t n = read(*(int *)arg, &c, 1);
	return n == 1 && c == 'x' && g_signals > 0 ? 0 : n < 0 ? 100 + errno : 2;
}

static void test_signals_restart_and_interrupt(void)
{
	int p[2];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int fd = world_delegate(1, p[0], 2);
	pid_t pid = world_fork(read_restarts, &fd);
	for (int i = 0; i < 20; i++) {
		world_turn();
		CHECK(kill(pid, i % 4 ? SIGUSR1 : i % 8 ? SIGSTOP : SIGCONT) == 0);
	}
	CHECK(kill(pid, SIGCONT) == 0 && write(p[1], "x", 1) == 1);
	CHECK(world_wait(pid) == 0);
	(void)close(fd);
	(void)close(p[0]);
	(void)close(p[1]);
}

static void test_reopening(void)
{
	int r, fd;
	char path[64], link[256], buf[16];
	pipe_delegated(2, &r, &fd);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, link, sizeof link - 1);
	CHECK(n > 0);
	link[n] = 0;
	CHECK(strstr(link, "pipe:["));
	int again = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(again >= 0);
	(void)close(fd);
	CHECK(write(again, "y", 1) == 1 && read(r, buf, sizeof buf) == 1);
	(void)close(again);
	CHECK(read(r, buf, sizeof buf) == 0);
	(void)close(r);
}

static void test_flock(void)
{
	int f = file_new();
	int fd = world_delegate(1, f, 2);
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", f);
	int other = open(path, O_RDWR | O_CLOEXEC);
	CHECK(other >= 0 && flock(fd, LOCK_EX) == 0);
	CHECK(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	CHECK(flock(fd, LOCK_UN) == 0 && flock(other, LOCK_EX | LOCK_NB) == 0);
	CHECK(flock(fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	(void)close(other);
	(void)close(fd);
	(void)close(f);
}

static void test_passing_on_is_by_reference(void)
{
	int p[2], status;
	char buf[16];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int on2 = world_delegate(1, p[1], 2);
	struct world_grant g = world_export(2, on2, 3);
	CHECK(g.status == 0 && g.at == 1); /* the original's home, not node 2 */
	int on3 = world_import(3, &g, NULL);
	(void)close(on2);
	CHECK(write(on3, "3", 1) == 1 && read(p[0], buf, sizeof buf) == 1 && buf[0] == '3');
	/* And home again: the description itself. */
	struct world_grant h = world_export(3, on3, 1);
	CHECK(h.status == 0 && h.at == 1);
	int home = world_import(1, &h, NULL);
	struct stat a, b;
	CHECK(fstat(home, &a) == 0 && fstat(p[1], &b) == 0 && S_ISFIFO(a.st_mode) && a.st_ino == b.st_ino);
	/* A grant is for one node, and once. */
	CHECK(world_import(2, &h, &status) == -1 && status == -EACCES);
	CHECK(world_import(1, &h, &status) == -1 && status == -EACCES);
	(void)close(home);
	(void)close(on3);
	(void)close(p[1]);
	CHECK(read(p[0], buf, sizeof buf) == 0);
	(void)close(p[0]);
}

static void test_what_cannot_be_delegated_is_refused(void)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(world_export(1, ep, 2).status == -EOPNOTSUPP);
	CHECK(world_export(1, dir, 2).status == -EOPNOTSUPP);
	(void)close(ep);
	(void)close(dir);
}

static void test_given_back_grants_are_dropped(void)
{
	int p[2], status;
	char buf[4];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	struct world_grant g = world_export(1, p[1], 2);
	(void)close(p[1]);
	CHECK(streams_unexport(world_client(1), g.at, g.id, 2) == 0);
	CHECK(world_import(2, &g, &status) == -1 && status == -EACCES);
	CHECK(read(p[0], buf, sizeof buf) == 0);
	(void)close(p[0]);
}

static int end_with_output(void *arg)
{
	return write(*(int *)arg, "last", 4) != 4;
}

static void test_barrier_waits_for_closes(void)
{
	for (int i = 0; i < 50; i++) {
		int r, fd;
		char buf[8];
		pipe_delegated(2, &r, &fd);
		pid_t pid = world_fork(end_with_output, &fd);
		(void)close(fd);
		CHECK(waitpid(pid, NULL, 0) == pid);
		world_barrier(2);
		CHECK(fcntl(r, F_SETFL, O_NONBLOCK) == 0);
		CHECK(read(r, buf, sizeof buf) == 4);
		CHECK(read(r, buf, sizeof buf) == 0); /* not EAGAIN: the last writer is closed */
		(void)close(r);
	}
}

static void nothing_is_left(void)
{
	for (int node = 1; node <= 3; node++) {
		int x = 1, m = 1, h = 1;
		for (int i = 0; i < 400 && (x || m || h); i++) {
			world_turn();
			world_counts(node, &x, &m, &h);
		}
		CHECK(x == 0 && m == 0 && h == 0);
	}
}

static void test_a_dead_node(void)
{
	int p[2], q[2], f = file_new(), status;
	char buf[16];
	CHECK(pipe2(p, O_CLOEXEC) == 0 && pipe2(q, O_CLOEXEC) == 0);
	int in = world_delegate(3, p[0], 2), out = world_delegate(3, p[1], 2), file = world_delegate(3, f, 2);
	int theirs = world_delegate(2, q[1], 3);
	(void)close(q[1]);
	struct world_grant unused = world_export(2, f, 3);
	pid_t pid = world_fork(read_all, &in);
	world_dead(2, 3);
	CHECK(world_wait(pid) == 0); /* its read ended */
	CHECK(read(in, buf, sizeof buf) == 0);
	CHECK(write(out, "x", 1) == -1 && errno == EPIPE);
	CHECK(write(file, "x", 1) == -1 && errno == EIO);
	CHECK(read(file, buf, 1) == -1 && errno == EIO);
	struct pollfd w = { .fd = in, .events = POLLIN };
	CHECK(poll(&w, 1, 5000) == 1 && w.revents & POLLHUP && w.revents & POLLERR);
	/* What it held of ours is released. */
	CHECK(read(q[0], buf, sizeof buf) == 0);
	/* It comes back: what was before stays dead, new things work. */
	world_alive(2, 3);
	CHECK(world_import(3, &unused, &status) == -1 && (status == -EACCES || status == -EHOSTDOWN));
	CHECK(write(theirs, "x", 1) == -1); /* node 3 saw that its session is unknown */
	CHECK(read(in, buf, sizeof buf) == 0);
	int again = world_delegate(3, p[1], 2);
	CHECK(write(again, "z", 1) == 1 && read(p[0], buf, sizeof buf) == 1);
	int fds[] = { p[0], p[1], q[0], f, in, out, file, theirs, again };
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		(void)close(fds[i]);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	world_start(3, argv[1]);
	TEST(test_pipe_is_written_from_afar);
	TEST(test_lines_of_twenty_writers_are_not_torn_in_a_pipe);
	TEST(test_lines_of_twenty_writers_are_not_lost_in_a_file);
	TEST(test_offset_is_shared_by_readers);
	TEST(test_broken_pipe);
	TEST(test_reading_ends_when_the_writers_have_gone);
	TEST(test_poll_select_and_epoll);
	TEST(test_flags_follow_the_description);
	TEST(test_large_writes);
	TEST(test_splice_and_sendfile);
	TEST(test_eventfd);
	TEST(test_terminal);
	TEST(test_signals_restart_and_interrupt);
	TEST(test_reopening);
	TEST(test_flock);
	TEST(test_passing_on_is_by_reference);
	TEST(test_what_cannot_be_delegated_is_refused);
	TEST(test_given_back_grants_are_dropped);
	TEST(test_barrier_waits_for_closes);
	TEST(nothing_is_left);
	TEST(test_a_dead_node);
	TEST(nothing_is_left);
	world_stop();
	return 0;
}
