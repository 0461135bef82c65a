#include "transport/listen.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "transport/addr.h"

struct seen {
	uv_loop_t *loop;
	unsigned n, closed;
};

static void on_connection(void *ctx, uv_stream_t *stream)
{
	struct seen *s = ctx;
	s->n++;
	listener_reject(stream);
}

static void on_closed(void *ctx)
{
	((struct seen *)ctx)->closed++;
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof in) == 0);
	return fd;
}

static void loop_end(uv_loop_t *loop)
{
	while (uv_run(loop, UV_RUN_DEFAULT))
		;
	CHECK(uv_loop_close(loop) == 0);
}

static void test_each_connection_is_told_and_can_be_turned_away(void)
{
	uv_loop_t loop;
	struct seen s = { .loop = &loop };
	struct listener *l;
	struct err e;
	CHECK(uv_loop_init(&loop) == 0 && listener_open(&loop, "127.0.0.1:0", on_connection, &s, &l, &e) == 0);
	CHECK(listener_port(l) > 0 && strncmp(listener_text(l), "127.0.0.1:", 10) == 0);
	for (unsigned i = 0; i < 50; i++) {
		char c;
		int fd = connect_to(listener_port(l));
		while (s.n <= i)
			(void)uv_run(&loop, UV_RUN_ONCE);
		while (uv_run(&loop, UV_RUN_NOWAIT) && recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN)
			;
		CHECK(recv(fd, &c, 1, 0) == 0);
		(void)close(fd);
	}
	CHECK(s.n == 50);
	listener_close(l, on_closed, &s);
	loop_end(&loop);
	CHECK(s.closed == 1);
}

static void test_what_cannot_be_listened_at_is_refused(void)
{
	uv_loop_t loop;
	struct seen s = { 0 };
	struct listener *l, *second;
	struct err e;
	char text[ADDR_TEXT_SIZE];
	CHECK(uv_loop_init(&loop) == 0);
	CHECK(listener_open(&loop, "localhost:1", on_connection, &s, &l, &e) == -EINVAL && strstr(e.text, "numeric"));
	CHECK(listener_open(&loop, "127.0.0.1", on_connection, &s, &l, &e) == -EINVAL);
	CHECK(listener_open(&loop, "192.0.2.1:1", on_connection, &s, &l, &e) == -EADDRNOTAVAIL && strstr(e.text, "192.0.2.1"));
	CHECK(listener_open(&loop, "127.0.0.1:0", on_connection, &s, &l, &e) == 0);
	(void)snprintf(text, sizeof text, "%s", listener_text(l));
	CHECK(listener_open(&loop, text, on_connection, &s, &second, &e) == -EADDRINUSE);
	listener_close(l, on_closed, &s);
	loop_end(&loop);
	CHECK(s.closed == 1);
}

static void test_both_families_are_listened_at(void)
{
	uv_loop_t loop;
	struct seen s = { .loop = &loop };
	struct listener *l;
	struct err e;
	CHECK(uv_loop_init(&loop) == 0);
	int rc = listener_open(&loop, "[::]:0", on_connection, &s, &l, &e);
	if (rc == 0) { /* else: a machine without IPv6 */
		int fd = connect_to(listener_port(l));
		while (!s.n)
			(void)uv_run(&loop, UV_RUN_ONCE);
		(void)close(fd);
		listener_close(l, on_closed, &s);
	}
	loop_end(&loop);
}

int main(void)
{
	TEST(test_each_connection_is_told_and_can_be_turned_away);
	TEST(test_what_cannot_be_listened_at_is_refused);
	TEST(test_both_families_are_listened_at);
	return 0;
}
