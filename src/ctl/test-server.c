#include "ctl/server.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "check.h"
#include "ctl/client.h"

/* The server runs in a child with its loop; the tests are its client. What the child saw is asked by requests. */

struct later {
	struct later *next;
	struct ctl_req *req;
};

static struct server_side {
	uv_loop_t loop;
	struct ctl_server *server;
	struct later *later;
	struct ctl_conn *session;
	int closes;
} g_side;

static char g_dir[] = "/tmp/test-ctl-XXXXXX";

static void on_whoami(void *ctx, struct ctl_req *req)
{
	const struct ctl_peer *p = ctl_req_peer(req);
	ctl_answer(req, json_pack("{s:i, s:i, s:i, s:i, s:b}", "pid", (int)p->pid, "uid", (int)p->uid, "gid", (int)p->gid, "groups",
				  (int)p->n_gids, "pidfd", p->pidfd >= 0));
}

static void on_fail(void *ctx, struct ctl_req *req)
{
	ctl_fail_at(req, -EPERM, "here", "not %s", "you\nor\xff");
}

static void on_params(void *ctx, struct ctl_req *req)
{
	json_int_t n;
	int b;
	const char *s;
	if (ctl_req_int(req, "n", 1, 10, 5, &n) < 0 || ctl_req_bool(req, "b", 1, &b) < 0 || ctl_req_str(req, "s", "def", &s) < 0)
		return;
	ctl_answer(req, json_pack("{s:I, s:b, s:s}", "n", n, "b", b, "s", s));
}

static void on_later(void *ctx, struct ctl_req *req)
{
	struct later *l = calloc(1, sizeof *l);
	CHECK(l);
	l->req = req;
	LL_APPEND(g_side.later, l);
}

static void on_release(void *ctx, struct ctl_req *req)
{
	int n = 0, with_conn = 0;
	struct later *l, *tmp;
	LL_FOREACH_SAFE(g_side.later, l, tmp)
	{
		LL_DELETE(g_side.later, l);
		with_conn += ctl_req_conn(l->req) != NULL;
		ctl_answer(l->req, json_pack("{s:i}", "was", n++));
		free(l);
	}
	ctl_answer(req, json_pack("{s:i, s:i}", "n", n, "with_conn", with_conn));
}

static void on_fds(void *ctx, struct ctl_req *req)
{
	/* answers with the same descriptors in reverse order; number 0 is taken, the others stay the request's */
	int fds[8];
	size_t n = ctl_req_n_fds(req);
	CHECK(n >= 1 && n <= 8);
	fds[n - 1] = ctl_req_take_fd(req, 0);
	CHECK(ctl_req_take_fd(req, 0) == -1 && ctl_req_take_fd(req, n) == -1);
	for (size_t i = 1; i < n; i++)
		fds[n - 1 - i] = ctl_req_take_fd(req, i);
	json_t *j = json_object();
	struct ctl_conn *c = ctl_req_conn(req);
	CHECK(ctl_event(c, json_pack("{s:s}", "event", "fds"), fds, 1) == 0);
	ctl_answer_fds(req, j, fds, n);
	for (size_t i = 0; i < n; i++)
		(void)close(fds[i]);
}

static void session_closed(void *ctx, struct ctl_conn *conn)
{
	CHECK(conn == g_side.session);
	CHECK(ctl_event(conn, json_pack("{s:s}", "event", "late"), NULL, 0) == -ECONNRESET);
	g_side.session = NULL;
	g_side.closes++;
}

static void on_session(void *ctx, struct ctl_req *req)
{
	g_side.session = ctl_req_conn(req);
	CHECK(g_side.session);
	ctl_conn_on_close(g_side.session, session_closed, NULL);
	ctl_answer(req, json_object());
}

static void on_closes(void *ctx, struct ctl_req *req)
{
	ctl_answer(req, json_pack("{s:i}", "n", g_side.closes));
}

/* Events until the client's socket and our queue are full. */
static void on_flood(void *ctx, struct ctl_req *req)
{
	char text[1000] = "";
	memset(text, 'x', sizeof text - 1);
	int rc = 0, n = 0;
	while (rc == 0 && n < 100000) {
		rc = ctl_event(ctl_req_conn(req), json_pack("{s:s, s:s}", "event", "x", "text", text), NULL, 0);
		n++;
	}
	CHECK(rc == -ENOBUFS);
	ctl_answer(req, json_object()); /* to a connection that is closing */
}

static void on_bye(void *ctx, struct ctl_req *req)
{
	struct ctl_conn *c = ctl_req_conn(req);
	ctl_answer(req, json_object());
	ctl_conn_close(c);
}

static void on_huge(void *ctx, struct ctl_req *req)
{
	char *text = calloc(1, CTL_LINE_MAX + 1);
	CHECK(text);
	memset(text, 'x', CTL_LINE_MAX);
	ctl_answer(req, json_pack("{s:s}", "text", text));
	free(text);
}

static unsigned g_bigs;

/* An answer of most of a MiB. */
static void on_big(void *ctx, struct ctl_req *req)
{
	char *text = calloc(1, CTL_LINE_MAX);
	CHECK(text);
	memset(text, 'x', 900000);
	g_bigs++;
	ctl_answer(req, json_pack("{s:s}", "text", text));
	free(text);
}

static void on_bigs(void *ctx, struct ctl_req *req)
{
	ctl_answer(req, json_pack("{s:i}", "n", (int)g_bigs));
}

static void on_patience(void *ctx, struct ctl_req *req)
{
	json_int_t ms;
	if (ctl_req_int(req, "ms", 0, 100000, 0, &ms) < 0)
		return;
	ctl_server_patience(g_side.server, (unsigned)ms);
	ctl_answer(req, json_object());
}

/* Events of 11 MiB, which no client limit forbids. */
static void on_hold(void *ctx, struct ctl_req *req)
{
	char *text = calloc(1, CTL_LINE_MAX);
	int rc = 0;
	CHECK(text);
	memset(text, 'x', 1000000);
	for (int i = 0; i < 11 && rc == 0; i++)
		rc = ctl_event(ctl_req_conn(req), json_pack("{s:s, s:s}", "event", "x", "text", text), NULL, 0);
	free(text);
	ctl_answer(req, json_object());
}

static void on_fd_count(void *ctx, struct ctl_req *req)
{
	int n = 0;
	for (int i = 0; i < 2048; i++)
		n += fcntl(i, F_GETFD) >= 0;
	ctl_answer(req, json_pack("{s:i}", "n", n));
}

static void server_closed(void *ctx)
{
	g_side.server = NULL;
}

static void on_stop(void *ctx, struct ctl_req *req)
{
	ctl_answer(req, json_object());
	ctl_server_close(g_side.server, server_closed, NULL);
}

static _Noreturn void server_main(int ready)
{
	struct err e = {};
	char path[100];
	(void)snprintf(path, sizeof path, "%s/control.sock", g_dir);
	CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	log_setup("test", LOG_ERROR, 0);
	CHECK(uv_loop_init(&g_side.loop) == 0);
	CHECK(ctl_server_new(&g_side.loop, path, &g_side.server, &e) == 0);
	ctl_server_limits(g_side.server, 20, 30);
	static const struct {
		const char *name;
		ctl_fn fn;
	} cmds[] = { { "whoami", on_whoami }, { "fail", on_fail }, { "params", on_params }, { "later", on_later }, { "release", on_release },
		     { "fds", on_fds }, { "session", on_session }, { "closes", on_closes }, { "flood", on_flood }, { "bye", on_bye }, { "huge", on_huge },
		     { "big", on_big }, { "bigs", on_bigs }, { "hold", on_hold }, { "patience", on_patience },
		     { "fd-count", on_fd_count }, { "stop", on_stop } };
	for (size_t i = 0; i < sizeof cmds / sizeof *cmds; i++)
		ctl_handle(g_side.server, cmds[i].name, cmds[i].fn, NULL);
	CHECK(write(ready, "r", 1) == 1);
	(void)close(ready);
	CHECK(uv_run(&g_side.loop, UV_RUN_DEFAULT) == 0);
	CHECK(g_side.server == NULL); /* the loop ended because all was closed */
	struct later *l, *tmp;
	LL_FOREACH_SAFE(g_side.later, l, tmp)
	{
		ctl_answer(l->req, json_object()); /* after the server is gone */
		free(l);
	}
	CHECK(uv_loop_close(&g_side.loop) == 0);
	exit(0);
}

static pid_t g_child;
static int g_first_fds;

static void server_start(void)
{
	int p[2];
	CHECK(pipe(p) == 0);
	(void)fflush(stdout);
	g_child = fork();
	CHECK(g_child >= 0);
	if (g_child == 0)
		server_main(p[1]);
	(void)close(p[1]);
	char c;
	CHECK(read(p[0], &c, 1) == 1);
	(void)close(p[0]);
}

static struct ctl_client *client(void)
{
	struct ctl_client *c = NULL;
	struct err e = {};
	int rc = ctl_client_open(g_dir, &c, &e);
	if (rc < 0)
		(void)fprintf(stderr, "%s\n", e.text);
	CHECK(rc == 0);
	return c;
}

static int call(struct ctl_client *c, json_t *j, struct ctl_msg *m, struct err *e)
{
	int rc = ctl_client_call(c, j, NULL, 0, 5000, NULL, NULL, m, e);
	json_decref(j);
	return rc;
}

static int ask(struct ctl_client *c, const char *cmd, const char *key)
{
	struct ctl_msg m = {};
	struct err e = {};
	int rc = call(c, json_pack("{s:s}", "cmd", cmd), &m, &e);
	if (rc < 0)
		(void)fprintf(stderr, "%s: %s\n", cmd, e.text);
	CHECK(rc == 0);
	int n = key ? (int)json_integer_value(json_object_get(m.json, key)) : 0;
	ctl_msg_fini(&m);
	return n;
}

/* A client that is let in, as soon as the server has seen the end of earlier ones. */
static struct ctl_client *client_let_in(void)
{
	for (int i = 0; i < 500; i++) {
		struct ctl_client *c = client();
		struct ctl_msg m = {};
		struct err e = {};
		int rc = call(c, json_pack("{s:s}", "cmd", "closes"), &m, &e);
		ctl_msg_fini(&m);
		if (rc == 0)
			return c;
		CHECK(rc == -EAGAIN || rc == -EDQUOT);
		ctl_client_close(c);
		(void)poll(NULL, 0, 10);
	}
	CHECK(0);
}

/* Asks until key has the value, for what happens on a later turn of the server. */
static void ask_until(const char *cmd, const char *key, int want)
{
	int n = -1;
	for (int i = 0; i < 500 && n != want; i++) {
		struct ctl_client *c = client_let_in();
		n = ask(c, cmd, key);
		ctl_client_close(c);
		if (n != want)
			(void)poll(NULL, 0, 10);
	}
	CHECK(n == want);
}

static void test_the_peer_is_who_the_kernel_says(void)
{
	struct ctl_client *c = client();
	CHECK(ask(c, "whoami", "pid") == getpid());
	CHECK(ask(c, "whoami", "uid") == (int)geteuid());
	CHECK(ask(c, "whoami", "groups") == getgroups(0, NULL));
	ctl_client_close(c);
}

static void test_failures_have_words(void)
{
	struct ctl_client *c = client();
	struct ctl_msg m = {};
	struct err e = {};
	CHECK(call(c, json_pack("{s:s, s:i}", "cmd", "fail", "id", 7), &m, &e) == -EPERM);
	CHECK(strcmp(e.text, "not you?or?") == 0);
	CHECK(json_integer_value(json_object_get(m.json, "id")) == 7);
	CHECK(strcmp(json_string_value(json_object_get(m.json, "at")), "here") == 0);
	ctl_msg_fini(&m);
	CHECK(call(c, json_pack("{s:s}", "cmd", "no-such"), &m, &e) == -ENOSYS && strstr(e.text, "no-such"));
	ctl_msg_fini(&m);
	CHECK(call(c, json_pack("{s:s, s:i}", "cmd", "params", "n", 11), &m, &e) == -EINVAL && strstr(e.text, "n:"));
	ctl_msg_fini(&m);
	CHECK(call(c, json_pack("{s:s, s:i}", "cmd", "params", "s", 1), &m, &e) == -EINVAL);
	ctl_msg_fini(&m);
	CHECK(call(c, json_pack("{s:s, s:i}", "cmd", "params", "b", 1), &m, &e) == -EINVAL);
	ctl_msg_fini(&m);
	CHECK(call(c, json_pack("{s:s, s:i}", "cmd", "params", "n", 10), &m, &e) == 0);
	CHECK(json_is_true(json_object_get(m.json, "b")) && json_integer_value(json_object_get(m.json, "n")) == 10);
	ctl_msg_fini(&m);
	CHECK(call(c, json_pack("{s:s}", "cmd", "huge"), &m, &e) == -EMSGSIZE);
	ctl_msg_fini(&m);
	CHECK(ask(c, "closes", NULL) == 0); /* and all that on one connection */
	ctl_client_close(c);
}

static void test_descriptors_go_both_ways(void)
{
	struct ctl_client *c = client();
	int p[2][2];
	struct stat st[2], s;
	CHECK(pipe(p[0]) == 0 && pipe(p[1]) == 0 && fstat(p[0][0], &st[0]) == 0 && fstat(p[1][0], &st[1]) == 0);
	for (int round = 0; round < 50; round++) {
		int fds[2] = { p[0][0], p[1][0] };
		json_t *j = json_pack("{s:s}", "cmd", "fds");
		struct ctl_msg m = {};
		struct err e = {};
		CHECK(ctl_client_call(c, j, fds, 2, 5000, NULL, NULL, &m, &e) == 0);
		json_decref(j);
		CHECK(m.n_fds == 2 && fstat(m.fds[0], &s) == 0 && s.st_ino == st[1].st_ino);
		CHECK(fstat(m.fds[1], &s) == 0 && s.st_ino == st[0].st_ino);
		ctl_msg_fini(&m);
	}
	ctl_client_close(c);
	for (int i = 0; i < 4; i++)
		(void)close(p[i / 2][i % 2]);
}

/* Sends text as it is; returns what comes back until the server closes. */
static void raw(const char *text, size_t n, char *ret, size_t size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	(void)snprintf(sa.sun_path, sizeof sa.sun_path, "%s/control.sock", g_dir);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
	size_t sent = 0, got = 0;
	for (;;) {
		struct pollfd p = { fd, (short)(POLLIN | (sent < n ? POLLOUT : 0)), 0 };
		CHECK(poll(&p, 1, 10000) == 1);
		if (p.revents & POLLIN) {
			ssize_t k = read(fd, ret + got, size - 1 - got);
			if (k <= 0)
				break;
			got += (size_t)k;
		} else if (p.revents & POLLOUT) {
			ssize_t k = send(fd, text + sent, n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (k > 0)
				sent += (size_t)k;
			if (sent == n)
				(void)shutdown(fd, SHUT_WR);
		} else {
			break;
		}
	}
	ret[got] = 0;
	(void)close(fd);
}

static void test_garbage_gets_one_answer_and_is_closed(void)
{
	static const char *const bad[] = { "x\n", "[]\n", "{}\n", "{\"cmd\":1}\n", "{\"cmd\":\"whoami\",\"id\":\"x\"}\n",
					   "{\"cmd\":\"fds\",\"fds\":2}\n", "GET / HTTP/1.0\r\n\r\n", "\n" };
	char ret[4096];
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		raw(bad[i], strlen(bad[i]), ret, sizeof ret);
		CHECK(strstr(ret, "\"ok\":false") && strstr(ret, "\"errno\":74"));
	}
	static char big[200000];
	memset(big, ' ', sizeof big);
	raw(big, sizeof big, ret, sizeof ret);
	CHECK(ret[0] == 0 || strstr(ret, "\"errno\":90")); /* the answer may be cut off by the reset that follows unread bytes */
	memset(big, 0, sizeof big);
	raw(big, 100, ret, sizeof ret);
	CHECK(ret[0] == 0);
}

static void test_a_half_closed_client_still_gets_its_answers(void)
{
	char ret[4096];
	const char *text = "{\"cmd\":\"closes\",\"id\":1}\n{\"cmd\":\"closes\",\"id\":2}\n";
	raw(text, strlen(text), ret, sizeof ret);
	CHECK(strstr(ret, "\"id\":1") && strstr(ret, "\"id\":2"));
}

static void test_answers_may_come_later_and_to_nobody(void)
{
	struct ctl_client *a = client(), *b = client();
	json_t *j = json_pack("{s:s}", "cmd", "later");
	struct err e = {};
	for (int i = 0; i < 20; i++) { /* more than are taken at once: the rest is read when there is room */
		CHECK(ctl_client_send(a, j, NULL, 0, 5000, &e) == 0);
		CHECK(i >= 3 || ctl_client_send(b, j, NULL, 0, 5000, &e) == 0);
	}
	json_decref(j);
	ctl_client_close(b);
	struct ctl_client *c = client();
	int n = 0, answers = 0;
	for (int i = 0; i < 100 && n < 23; i++) {
		n += ask(c, "release", "n");
		(void)poll(NULL, 0, n < 23 ? 10 : 0);
	}
	CHECK(n == 23);
	struct ctl_msg m = {};
	while (answers < 20 && ctl_client_next(a, 5000, &m, &e) == 1) {
		CHECK(json_is_true(json_object_get(m.json, "ok")));
		answers++;
		ctl_msg_fini(&m);
	}
	CHECK(answers == 20);
	ctl_client_close(a);
	ctl_client_close(c);
}

static void test_the_end_of_a_session_is_told_once(void)
{
	struct ctl_client *c = client();
	int before = ask(c, "closes", "n");
	CHECK(ask(c, "session", NULL) == 0);
	ctl_client_close(c);
	ask_until("closes", "n", before + 1);

	c = client();
	CHECK(ask(c, "session", NULL) == 0);
	CHECK(ask(c, "bye", NULL) == 0);
	struct ctl_msg m = {};
	struct err e = {};
	CHECK(ctl_client_next(c, 5000, &m, &e) == -ECONNRESET);
	ctl_client_close(c);
	ask_until("closes", "n", before + 2);
}

static void test_a_client_that_does_not_read_is_closed(void)
{
	struct ctl_client *c = client();
	int before = ask(c, "closes", "n");
	CHECK(ask(c, "session", NULL) == 0);
	json_t *j = json_pack("{s:s}", "cmd", "flood");
	struct err e = {};
	CHECK(ctl_client_send(c, j, NULL, 0, 5000, &e) == 0);
	json_decref(j);
	ask_until("closes", "n", before + 1);
	ctl_client_close(c);
}

static void test_a_user_has_a_limit_of_connections(void)
{
	struct ctl_client *c[21] = {};
	struct err e = {};
	struct ctl_msg m = {};
	for (int i = 0; i < 20; i++)
		c[i] = client_let_in();
	c[20] = client();
	CHECK(call(c[20], json_pack("{s:s}", "cmd", "closes"), &m, &e) == -EAGAIN);
	ctl_msg_fini(&m);
	for (int i = 0; i < 21; i++)
		ctl_client_close(c[i]);
	ctl_client_close(client_let_in());
}

/* Big unfinished lines on many connections: charged to the user, refused at its share. */
static void test_a_user_has_a_share_of_memory(void)
{
	struct ctl_client *c[15];
	char block[60000];
	int refused = 0;
	memset(block, ' ', sizeof block);
	for (int i = 0; i < 15; i++) {
		c[i] = client_let_in();
		size_t sent = 0;
		while (sent < sizeof block) {
			struct pollfd p = { ctl_client_fd(c[i]), POLLOUT, 0 };
			CHECK(poll(&p, 1, 5000) == 1);
			ssize_t k = send(p.fd, block + sent, sizeof block - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (k < 0)
				break;
			sent += (size_t)k;
		}
	}
	struct err e = {};
	struct ctl_msg m = {};
	for (int i = 14; i >= 0; i--) {
		int rc = ctl_client_next(c[i], i == 14 ? 5000 : 100, &m, &e);
		if (rc == 1 && json_integer_value(json_object_get(m.json, "errno")) == EDQUOT)
			refused++;
		refused += rc == -ECONNRESET;
		ctl_msg_fini(&m);
		ctl_client_close(c[i]);
	}
	CHECK(refused >= 6 && refused <= 8); /* 8 lines of 60000 bytes at 64 each fit into the share */
}

static void patience_set(int ms)
{
	struct ctl_client *c = client_let_in();
	struct ctl_msg m = {};
	struct err e = {};
	CHECK(call(c, json_pack("{s:s, s:i}", "cmd", "patience", "ms", ms), &m, &e) == 0);
	ctl_msg_fini(&m);
	ctl_client_close(c);
}

/* A connection that keeps itself open: its own end is among the descriptors of a message that never ends. */
static void test_a_message_must_come_to_its_end(void)
{
	patience_set(50);
	for (int with_fd = 0; with_fd < 2; with_fd++) {
		struct ctl_client *c = client();
		int fd = ctl_client_fd(c);
		union {
			struct cmsghdr align;
			char buf[CMSG_SPACE(sizeof(int))];
		} ctl = {};
		char text[] = "{\"cmd\":\"fds\",\"fds\":1";
		struct iovec iov = { text, sizeof text - 1 };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
		if (with_fd) {
			mh.msg_control = ctl.buf;
			mh.msg_controllen = sizeof ctl.buf;
			struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
			cm->cmsg_level = SOL_SOCKET;
			cm->cmsg_type = SCM_RIGHTS;
			cm->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(cm), &fd, sizeof fd);
		}
		CHECK(sendmsg(fd, &mh, MSG_NOSIGNAL) == (ssize_t)iov.iov_len);
		struct err e = {};
		struct ctl_msg m = {};
		CHECK(ctl_client_next(c, 20000, &m, &e) == 1 && json_integer_value(json_object_get(m.json, "errno")) == ETIMEDOUT);
		ctl_msg_fini(&m);
		ctl_client_close(c);
	}
	patience_set(0);
	ask_until("fd-count", "n", g_first_fds);
}

static void test_who_reads_no_answers_gets_no_more(void)
{
	struct ctl_client *c = client(), *d = client();
	for (int i = 0; i < 20; i++)
		CHECK(send(ctl_client_fd(c), "{\"cmd\":\"big\"}\n", 14, MSG_NOSIGNAL) == 14);
	CHECK(ask(d, "bigs", "n") <= 3);
	for (int i = 0; i < 20; i++) {
		struct err e = {};
		struct ctl_msg m = {};
		CHECK(ctl_client_next(c, 20000, &m, &e) == 1 && json_is_true(json_object_get(m.json, "ok")));
		ctl_msg_fini(&m);
	}
	CHECK(ask(d, "bigs", "n") == 20);
	ctl_client_close(c);
	ctl_client_close(d);
}

static void test_a_user_has_a_share_of_what_waits(void)
{
	struct ctl_client *c[10], *d = client();
	for (int i = 0; i < 10; i++) {
		c[i] = client();
		CHECK(send(ctl_client_fd(c[i]), "{\"cmd\":\"hold\"}\n", 15, MSG_NOSIGNAL) == 15);
	}
	int complete = 0;
	for (int i = 0; i < 10; i++) {
		struct err e = {};
		struct ctl_msg m = {};
		int n = 0;
		while (ctl_client_next(c[i], 20000, &m, &e) == 1) {
			int last = json_object_get(m.json, "ok") != NULL;
			ctl_msg_fini(&m);
			n++;
			if (last) {
				complete++;
				break;
			}
		}
		CHECK(n <= 12);
		ctl_client_close(c[i]);
	}
	CHECK(complete >= 5 && complete < 10);
	ctl_client_close(d);
}

static void test_nothing_is_left_open(void)
{
	for (int i = 0; i < 200; i++) {
		struct ctl_client *d = client_let_in();
		if (i % 2)
			CHECK(ask(d, "whoami", "pid") == getpid());
		ctl_client_close(d);
	}
	ask_until("fd-count", "n", g_first_fds); /* with one connection, as then */
}

static void test_a_new_server_takes_the_name_over(void)
{
	struct ctl_client *old = client();
	pid_t first = g_child;
	server_start();
	struct ctl_client *c = client();
	CHECK(ask(c, "closes", "n") == 0);
	CHECK(ask(old, "stop", NULL) == 0); /* must not remove the name of the new one */
	int st = -1;
	CHECK(waitpid(first, &st, 0) == first && st == 0);
	ctl_client_close(old);
	ctl_client_close(c);
	c = client();
	CHECK(ask(c, "whoami", "pid") == getpid());
	ctl_client_close(c);
}

static void test_stopping_ends_everything(void)
{
	struct ctl_client *c = client(), *d = client();
	CHECK(ask(c, "session", NULL) == 0);
	json_t *j = json_pack("{s:s}", "cmd", "later");
	struct err e = {};
	struct ctl_msg m = {};
	CHECK(ctl_client_send(c, j, NULL, 0, 5000, &e) == 0);
	json_decref(j);
	CHECK(ask(d, "closes", NULL) == 0);
	CHECK(ask(d, "stop", NULL) == 0);
	CHECK(ctl_client_next(c, 5000, &m, &e) == -ECONNRESET);
	int st = -1;
	CHECK(waitpid(g_child, &st, 0) == g_child && st == 0);
	ctl_client_close(c);
	ctl_client_close(d);
	CHECK(ctl_client_open(g_dir, &c, &e) == -ENOENT && strstr(e.text, "not running"));
}

int main(void)
{
	CHECK(mkdtemp(g_dir));
	server_start();
	struct ctl_client *c = client();
	g_first_fds = ask(c, "fd-count", "n");
	ctl_client_close(c);
	TEST(test_the_peer_is_who_the_kernel_says);
	TEST(test_failures_have_words);
	TEST(test_descriptors_go_both_ways);
	TEST(test_garbage_gets_one_answer_and_is_closed);
	TEST(test_a_half_closed_client_still_gets_its_answers);
	TEST(test_answers_may_come_later_and_to_nobody);
	TEST(test_the_end_of_a_session_is_told_once);
	TEST(test_a_client_that_does_not_read_is_closed);
	TEST(test_a_user_has_a_limit_of_connections);
	TEST(test_a_user_has_a_share_of_memory);
	TEST(test_a_message_must_come_to_its_end);
	TEST(test_who_reads_no_answers_gets_no_more);
	TEST(test_a_user_has_a_share_of_what_waits);
	TEST(test_nothing_is_left_open);
	TEST(test_a_new_server_takes_the_name_over);
	TEST(test_stopping_ends_everything);
	CHECK(rmdir(g_dir) == 0);
	return 0;
}
