/* The client against the keeper's side of the socket, which is a process of its own here. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"
#include "keeper/client.h"
#include "keeper/conn.h"
#include "space/create.h"

enum { MANY = 3000 };

static int on_space(void *ctx, const struct keeper_request *r)
{
	return r->init && (r->init != 4711 || !r->freezer_v2 || strcmp(r->cgroup, "/cg") != 0 || strcmp(r->lease, "/lease") != 0) ?
		       -ESRCH :
		       0;
}

static void on_ready(void *ctx)
{
}

/* Serves the program at the other end until it closes, then, with the same store, the next one. max: of the store. */
struct served {
	pid_t pid;
	int sock[3]; /* of the program and its successors */
	unsigned n;
};

static void serve(const struct conn *conns, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct conn c = conns[i];
		while (c.sock >= 0) {
			struct pollfd p = { .fd = c.sock, .events = conn_events(&c) };
			if (poll(&p, 1, 30000) <= 0)
				_exit(1);
			conn_step(&c, 0);
		}
	}
	_exit(0);
}

static void served_begin(struct served *s, unsigned n, unsigned max)
{
	static const struct conn_ops ops = { on_space, on_ready };
	static struct store_room room;
	static struct store store;
	struct conn conns[3];
	room = (struct store_room){ .max = 100000 };
	store = (struct store){ .room = &room, .max = max };
	s->n = n;
	for (unsigned i = 0; i < n; i++)
		CHECK(conn_open(&conns[i], "a test", &store, &ops, NULL, &s->sock[i]) == 0);
	CHECK((s->pid = fork()) >= 0);
	if (s->pid == 0) {
		for (unsigned i = 0; i < n; i++)
			(void)close_fd(s->sock[i]);
		serve(conns, n);
	}
	for (unsigned i = 0; i < n; i++)
		conn_close(&conns[i]);
}

static struct keeper *client_of(const struct served *s, unsigned i)
{
	char text[16];
	struct keeper *k;
	(void)snprintf(text, sizeof text, "%d", s->sock[i]);
	CHECK(setenv("PANDO_KEEPER_FD", text, 1) == 0);
	CHECK(keeper_open(&k, NULL) == 0);
	CHECK(!getenv("PANDO_KEEPER_FD") && fcntl(s->sock[i], F_GETFD) == FD_CLOEXEC);
	return k;
}

static void served_end(struct served *s)
{
	int status;
	CHECK(waitpid(s->pid, &status, 0) == s->pid && status == 0);
}

static int text_fd(const char *text)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

static void put_text(struct keeper *k, const char *name, const char *text)
{
	_cleanup_(close_p) int fd = text_fd(text);
	CHECK(keeper_put(k, name, fd) == 0);
}

static int is_text(int fd, const char *text)
{
	char got[64] = "";
	return fd >= 0 && pread(fd, got, sizeof got - 1, 0) >= 0 && strcmp(got, text) == 0;
}

static int kept_is(struct keeper *k, const char *name, const char *text)
{
	_cleanup_(close_p) int fd = keeper_take(k, name);
	CHECK(fd < 0 || fcntl(fd, F_GETFD) == FD_CLOEXEC);
	return is_text(fd, text);
}

static void test_what_is_put_can_be_taken_more_than_once(void)
{
	struct served s;
	served_begin(&s, 1, 10);
	struct keeper *k = client_of(&s, 0);
	CHECK(keeper_take(k, "a") == -ENOENT);
	put_text(k, "a", "one");
	put_text(k, "b", "two");
	CHECK(kept_is(k, "a", "one") && kept_is(k, "a", "one") && kept_is(k, "b", "two"));
	put_text(k, "a", "three");
	CHECK(kept_is(k, "a", "three"));
	CHECK(keeper_drop(k, "a") == 0 && keeper_drop(k, "never") == 0);
	CHECK(keeper_take(k, "a") == -ENOENT && kept_is(k, "b", "two") && keeper_sync(k) == 0);
	CHECK(!keeper_close(k));
	served_end(&s);
}

static void test_names_have_a_length(void)
{
	struct served s;
	char name[KEEPER_NAME_MAX + 2];
	served_begin(&s, 1, 10);
	struct keeper *k = client_of(&s, 0);
	memset(name, 'n', sizeof name);
	name[KEEPER_NAME_MAX + 1] = 0;
	CHECK(keeper_put(k, name, 0) == -EINVAL && keeper_drop(k, name) == -EINVAL && keeper_take(k, name) == -EINVAL);
	CHECK(keeper_put(k, "", 0) == -EINVAL && keeper_take(k, "") == -EINVAL && keeper_put(k, "x", -1) == -EBADF);
	name[KEEPER_NAME_MAX] = 0;
	put_text(k, name, "long");
	CHECK(kept_is(k, name, "long"));
	CHECK(!keeper_close(k));
	served_end(&s);
}

static void test_space_is_announced(void)
{
	struct served s;
	served_begin(&s, 1, 10);
	struct keeper *k = client_of(&s, 0);
	struct space_ends ends = { .init = 4711, .cgroup = "/cg", .freezer_v2 = 1 };
	CHECK(keeper_space(k, &ends, "/lease") == 0 && keeper_space(k, NULL, NULL) == 0);
	CHECK(keeper_space(k, &ends, "lease") == -EINVAL && keeper_space(k, &ends, NULL) == -EINVAL);
	ends.init = 4712;
	CHECK(keeper_space(k, &ends, "/lease") == -ESRCH && keeper_ready(k) == 0);
	CHECK(!keeper_close(k));
	served_end(&s);
}

static void test_a_full_store_is_told_at_the_next_sync(void)
{
	struct served s;
	served_begin(&s, 1, 2);
	struct keeper *k = client_of(&s, 0);
	put_text(k, "a", "1");
	put_text(k, "b", "2");
	CHECK(keeper_sync(k) == 0);
	put_text(k, "c", "3");
	CHECK(keeper_sync(k) == -EDQUOT && keeper_sync(k) == 0 && keeper_take(k, "c") == -ENOENT && kept_is(k, "b", "2"));
	CHECK(!keeper_close(k));
	served_end(&s);
}

struct seen {
	struct keeper *k;
	unsigned n, sum;
	int drops;
};

static void on_kept(void *arg, const char *name, int fd)
{
	struct seen *seen = arg;
	CHECK(is_text(fd, name));
	(void)close_fd(fd);
	unsigned number = (unsigned)atoi(name + 2);
	seen->n++;
	seen->sum += number;
	if (seen->drops && number % 2)
		CHECK(keeper_drop(seen->k, name) == 0);
}

static void test_thousands_are_kept_for_the_successor(void)
{
	struct served s;
	char name[32];
	struct rlimit l;
	CHECK(getrlimit(RLIMIT_NOFILE, &l) == 0);
	l.rlim_cur = l.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &l) == 0);
	if (l.rlim_max < MANY + 100) {
		(void)printf("skip RLIMIT_NOFILE is %lu\n", (unsigned long)l.rlim_max);
		return;
	}
	served_begin(&s, 3, KEEPER_FDS_MAX);
	struct keeper *k = client_of(&s, 0);
	put_text(k, "other", "other");
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof name, "w-%d", i);
		put_text(k, name, name);
	}
	CHECK(!keeper_close(k)); /* not waiting for anything */

	k = client_of(&s, 1);
	struct seen seen = { .k = k, .drops = 1 };
	keeper_each(k, "w-", on_kept, &seen);
	CHECK(seen.n == MANY && seen.sum == MANY * (MANY - 1) / 2);
	CHECK(!keeper_close(k));

	k = client_of(&s, 2);
	seen = (struct seen){ .k = k };
	keeper_each(k, "w-", on_kept, &seen);
	CHECK(seen.n == MANY / 2);
	keeper_each(k, "none", on_kept, &seen);
	CHECK(seen.n == MANY / 2 && kept_is(k, "other", "other"));
	CHECK(!keeper_close(k));
	served_end(&s);
}

/* Half of the descriptors do not fit: those that came are given, and the socket is in step afterwards. */
static void test_each_without_room_gives_what_fits(void)
{
	struct served s;
	char name[32];
	struct rlimit l, small;
	served_begin(&s, 1, 1000);
	struct keeper *k = client_of(&s, 0);
	for (int i = 0; i < 600; i++) {
		(void)snprintf(name, sizeof name, "w-%d", i);
		put_text(k, name, name);
	}
	CHECK(getrlimit(RLIMIT_NOFILE, &l) == 0);
	small = l;
	small.rlim_cur = 300;
	CHECK(setrlimit(RLIMIT_NOFILE, &small) == 0);
	struct seen seen = { .k = k };
	keeper_each(k, "w-", on_kept, &seen);
	CHECK(setrlimit(RLIMIT_NOFILE, &l) == 0);
	CHECK(seen.n > 0 && seen.n < 300);
	CHECK(kept_is(k, "w-599", "w-599") && keeper_sync(k) == 0);
	CHECK(!keeper_close(k));
	served_end(&s);
}

static void raw_send(int sock, const void *p, size_t n, unsigned n_fds)
{
	int fds[4] = { 0, 0, 0, 0 };
	CHECK(keeper_msg_send(sock, p, n, fds, n_fds, 0) == 0);
}

static void test_bad_messages_harm_nothing(void)
{
	struct served s;
	static uint8_t big[KEEPER_REQUEST_MAX + 1];
	served_begin(&s, 1, 10);
	struct keeper *k = client_of(&s, 0);
	int sock = s.sock[0];
	put_text(k, "a", "one");
	raw_send(sock, "x", 1, 0);
	raw_send(sock, big, sizeof big, 3);
	raw_send(sock, "\1\0\0\0\0\1\0\0\0a", 10, 0); /* put without a descriptor */
	raw_send(sock, "\1\0\0\0\0\1\0\0\0a", 10, 2);
	raw_send(sock, "\2\0\0\0\0\1\0\0\0a", 10, 1); /* drop with one */
	raw_send(sock, "\1\0\0\0\0\1\0\0\0\0", 10, 1);
	raw_send(sock, "\1\0\0\0\0\377\377\377\377a", 10, 1);
	raw_send(sock, "\11\0\0\0\0", 5, 1);          /* unknown: answered, which the client throws away */
	CHECK(kept_is(k, "a", "one") && keeper_sync(k) == 0);
	struct seen seen = { .k = k };
	keeper_each(k, "w-", on_kept, &seen);
	CHECK(seen.n == 0);
	CHECK(!keeper_close(k));
	served_end(&s);
}

/* A program that asks without reading answers is waited for, and nobody else is harmed. */
static void test_unread_answers_are_kept_back(void)
{
	struct served s;
	char name[32];
	served_begin(&s, 2, 1000);
	struct keeper *k = client_of(&s, 0);
	for (int i = 0; i < 600; i++) {
		(void)snprintf(name, sizeof name, "w-%d", i);
		put_text(k, name, name);
	}
	int n = 0;
	struct keeper_request q = { .op = KEEPER_EACH };
	struct wr w = { 0 };
	keeper_request_encode(&w, &q);
	while (keeper_msg_send(s.sock[0], w.p, w.n, NULL, 0, MSG_DONTWAIT) == 0)
		n++; /* ends when the keeper has stopped reading */
	CHECK(n > 0);
	wr_fini(&w);
	CHECK(!keeper_close(k));
	k = client_of(&s, 1);
	struct seen seen = { .k = k };
	keeper_each(k, "w-", on_kept, &seen);
	CHECK(seen.n == 600);
	CHECK(!keeper_close(k));
	served_end(&s);
}

static void test_a_keeper_that_is_gone_is_told(void)
{
	struct served s;
	served_begin(&s, 1, 10);
	struct keeper *k = client_of(&s, 0);
	CHECK(kill(s.pid, SIGKILL) == 0 && waitpid(s.pid, NULL, 0) == s.pid);
	_cleanup_(close_p) int fd = text_fd("x");
	CHECK(keeper_put(k, "a", fd) == -EPIPE && keeper_take(k, "a") == -EPIPE && keeper_sync(k) == -EPIPE);
	struct seen seen = { .k = k };
	keeper_each(k, "", on_kept, &seen);
	CHECK(seen.n == 0 && !keeper_close(k));
}

static void test_without_a_keeper_nothing_is_kept(void)
{
	struct keeper *k;
	struct err e = { 0 };
	CHECK(unsetenv("PANDO_KEEPER_FD") == 0);
	CHECK(keeper_open(&k, &e) == -ENOENT && !k && *e.text);
	struct seen seen = { 0 };
	CHECK(keeper_put(k, "a", 0) == 0 && keeper_drop(k, "a") == 0 && keeper_take(k, "a") == -ENOENT && keeper_sync(k) == 0);
	CHECK(keeper_space(k, NULL, NULL) == 0 && keeper_ready(k) == 0 && !keeper_close(k));
	keeper_each(k, "", on_kept, &seen);
	CHECK(seen.n == 0);
	static const char *const bad[] = { "x", "-1", "3x", "99999999999999999999" };
	for (size_t i = 0; i < 4; i++)
		CHECK(setenv("PANDO_KEEPER_FD", bad[i], 1) == 0 && keeper_open(&k, NULL) == -EINVAL && !k);
	CHECK(setenv("PANDO_KEEPER_FD", "0", 1) == 0 && keeper_open(&k, NULL) == -ENOTSOCK && !k);
}

int main(void)
{
	(void)close_fd(0);
	CHECK(open("/dev/null", O_RDONLY) == 0);
	TEST(test_what_is_put_can_be_taken_more_than_once);
	TEST(test_names_have_a_length);
	TEST(test_space_is_announced);
	TEST(test_a_full_store_is_told_at_the_next_sync);
	TEST(test_thousands_are_kept_for_the_successor);
	TEST(test_each_without_room_gives_what_fits);
	TEST(test_bad_messages_harm_nothing);
	TEST(test_unread_answers_are_kept_back);
	TEST(test_a_keeper_that_is_gone_is_told);
	TEST(test_without_a_keeper_nothing_is_kept);
	return 0;
}
