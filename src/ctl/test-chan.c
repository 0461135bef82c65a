#include "ctl/chan.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"

static void pair(struct chan *a, struct chan *b)
{
	int fds[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(chan_init(a, fds[0], CTL_LINE_MAX) == 0);
	CHECK(chan_init(b, fds[1], CTL_REQUEST_MAX) == 0);
}

static void raw(struct chan *a, const char *text)
{
	size_t n = strlen(text);
	CHECK(write(a->fd, text, n) == (ssize_t)n);
}

/* Reads all that is there, and the first message. */
static int next(struct chan *c, struct ctl_msg *m)
{
	int rc = 0;
	for (int i = 0; i < 100 && rc == 0; i++) {
		rc = chan_fill(c);
		if (rc < 0 && rc != -EAGAIN)
			return rc;
	}
	return chan_next(c, m);
}

static unsigned open_fds(void)
{
	unsigned n = 0;
	for (int i = 0; i < 4096; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static void test_messages_come_in_order_however_they_are_cut(void)
{
	struct chan a, b;
	pair(&a, &b);
	const char *text = "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n";
	int seen = 0;
	for (const char *p = text; *p; p++) {
		CHECK(write(a.fd, p, 1) == 1);
		CHECK(chan_fill(&b) == 0);
		struct ctl_msg m = {};
		while (chan_next(&b, &m) > 0) {
			CHECK(json_integer_value(json_object_get(m.json, "n")) == ++seen);
			ctl_msg_fini(&m);
		}
	}
	CHECK(seen == 3);
	raw(&a, text);
	CHECK(chan_fill(&b) == 0);
	for (int i = 1; i <= 3; i++) {
		struct ctl_msg m = {};
		CHECK(chan_next(&b, &m) == 1);
		CHECK(json_integer_value(json_object_get(m.json, "n")) == i);
		ctl_msg_fini(&m);
	}
	chan_fini(&a);
	chan_fini(&b);
}

static void put(struct chan *c, int n, const int *fds, size_t n_fds)
{
	json_t *j = json_pack("{s:i}", "n", n);
	CHECK(chan_put(c, j, fds, n_fds) == 0);
	json_decref(j);
}

/* The descriptors of a message are those it was sent with, also when others come right behind it and there are more than one
 * sendmsg can carry. */
static void test_descriptors_stay_with_their_message(void)
{
	unsigned before = open_fds();
	struct chan a, b;
	pair(&a, &b);
	int pipes[2][2];
	CHECK(pipe(pipes[0]) == 0 && pipe(pipes[1]) == 0);
	struct stat st[2];
	CHECK(fstat(pipes[0][0], &st[0]) == 0 && fstat(pipes[1][0], &st[1]) == 0);

	static const size_t counts[] = { 0, 1, 300, 0, 253, 254, 2 };
	for (size_t i = 0; i < 7; i++) {
		int fds[300];
		for (size_t k = 0; k < counts[i]; k++)
			fds[k] = pipes[k % 2][0];
		put(&a, (int)i, fds, counts[i]);
	}
	size_t seen = 0;
	for (int turn = 0; turn < 1000 && seen < 7; turn++) {
		CHECK(chan_flush(&a) >= 0);
		int rc = chan_fill(&b);
		CHECK(rc == 0 || rc == -EAGAIN);
		struct ctl_msg m = {};
		while ((rc = chan_next(&b, &m)) > 0) {
			CHECK(json_integer_value(json_object_get(m.json, "n")) == (json_int_t)seen);
			CHECK(m.n_fds == counts[seen]);
			for (size_t k = 0; k < m.n_fds; k++) {
				struct stat s;
				CHECK(fstat(m.fds[k], &s) == 0 && s.st_ino == st[k % 2].st_ino);
				CHECK(fcntl(m.fds[k], F_GETFD) & FD_CLOEXEC);
			}
			seen++;
			ctl_msg_fini(&m);
		}
		CHECK(rc == 0);
	}
	CHECK(seen == 7);
	for (int i = 0; i < 4; i++)
		(void)close(pipes[i / 2][i % 2]);
	chan_fini(&a);
	chan_fini(&b);
	CHECK(open_fds() == before);
}

static void refused(const char *text, int want)
{
	struct chan a, b;
	pair(&a, &b);
	raw(&a, text);
	struct ctl_msg m = {};
	int rc = next(&b, &m);
	if (rc != want)
		(void)fprintf(stderr, "%.60s: %d, not %d\n", text, rc, want);
	CHECK(rc == want);
	ctl_msg_fini(&m);
	chan_fini(&a);
	chan_fini(&b);
}

static void test_what_is_not_an_object_on_a_line_is_refused(void)
{
	static const char *const bad[] = { "\n",	 "x\n",		 "[]\n",	"1\n",		  "null\n",   "{\n",
					   "{}}\n",	 "{} {}\n",	 "{\"a\":1,\"a\":2}\n", "{\"a\":\"\xff\"}\n", "{\"a\":\"\\u0000\"}\n", "{\"fds\":1}\n",
					   "{\"fds\":-1}\n", "{\"fds\":\"x\"}\n", "{\"fds\":99999999999999999999}\n", "{\"fds\":9223372036854775807}\n" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		refused(bad[i], -EBADMSG);
	refused("{}", 0);
	refused("{}\n", 1);
}

static void test_deep_nesting_is_refused(void)
{
	char line[20000] = "{\"a\":";
	size_t n = strlen(line);
	memset(line + n, '[', 10000);
	line[n + 10000] = '\n';
	refused(line, -EBADMSG);
}

static void test_lines_over_the_limit_are_refused_without_being_held(void)
{
	struct chan a, b;
	pair(&a, &b);
	char block[4096];
	memset(block, ' ', sizeof block);
	int rc = 0;
	size_t sent = 0;
	while (rc == 0 && sent < (1 << 20)) {
		CHECK(write(a.fd, block, sizeof block) == sizeof block);
		sent += sizeof block;
		struct ctl_msg m = {};
		rc = next(&b, &m);
	}
	CHECK(rc == -EMSGSIZE);
	CHECK(sent <= CTL_REQUEST_MAX + 4096);
	chan_fini(&a);
	chan_fini(&b);

	/* whole, with its line feed, but one byte too long; and exactly as long as is allowed */
	for (int over = 0; over < 2; over++) {
		pair(&a, &b);
		char *line = malloc(CTL_REQUEST_MAX + 1);
		CHECK(line);
		memset(line, ' ', CTL_REQUEST_MAX + 1);
		line[0] = '{';
		line[1] = '}';
		line[CTL_REQUEST_MAX - 1 + over] = '\n';
		CHECK(write(a.fd, line, (size_t)CTL_REQUEST_MAX + (size_t)over) > 0);
		free(line);
		struct ctl_msg m = {};
		CHECK(next(&b, &m) == (over ? -EMSGSIZE : 1));
		ctl_msg_fini(&m);
		chan_fini(&a);
		chan_fini(&b);
	}
}

static void test_descriptors_that_nobody_claims_are_refused_and_closed(void)
{
	unsigned before = open_fds();
	struct chan a, b;
	pair(&a, &b);
	int fds[3] = { 0, 1, 2 };
	put(&a, 1, fds, 3);
	CHECK(chan_flush(&a) == 0);
	/* the same line without its "fds" */
	CHECK(chan_fill(&b) == 0);
	while (chan_fill(&b) == 0)
		;
	CHECK(b.n_fds == 3);
	memcpy(b.in + b.in_at, "{\"n\":1}\n", 8);
	b.in_n = b.in_at + 8;
	struct ctl_msg m = {};
	CHECK(chan_next(&b, &m) == 1 && m.n_fds == 0);
	ctl_msg_fini(&m);
	CHECK(chan_next(&b, &m) == -EBADMSG);
	chan_fini(&a);
	chan_fini(&b);
	CHECK(open_fds() == before);
}

/* A peer that sends descriptors and no line gets to the limit, not to ours. */
static void test_a_flood_of_descriptors_is_refused(void)
{
	unsigned before = open_fds();
	struct chan a, b;
	pair(&a, &b);
	int rc = 0;
	for (int i = 0; i < 20 && rc == 0; i++) {
		union {
			struct cmsghdr align;
			char buf[CMSG_SPACE(sizeof(int) * 250)];
		} ctl = {};
		char space = ' ';
		struct iovec iov = { &space, 1 };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof ctl.buf };
		struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * 250);
		CHECK(sendmsg(a.fd, &mh, 0) == 1); /* all of them descriptor 0 */
		rc = chan_fill(&b);
	}
	CHECK(rc == -EBADMSG);
	chan_fini(&a);
	chan_fini(&b);
	CHECK(open_fds() == before);
}

static void test_what_does_not_fit_is_not_queued(void)
{
	struct chan a, b;
	pair(&a, &b);
	char *text = malloc(CTL_LINE_MAX);
	CHECK(text);
	memset(text, 'x', CTL_LINE_MAX);
	json_t *j = json_pack("{s:s#}", "a", text, CTL_LINE_MAX - 8);
	CHECK(chan_put(&a, j, NULL, 0) == -EMSGSIZE);
	json_decref(j);
	j = json_pack("{s:s#}", "a", text, CTL_LINE_MAX / 2);
	int n = 0, rc;
	while ((rc = chan_put(&a, j, NULL, 0)) == 0)
		n++;
	CHECK(rc == -ENOBUFS && n >= 16 && n <= 32);
	CHECK(chan_flush(&a) == CHAN_MORE);
	json_decref(j);
	free(text);
	chan_fini(&b);
	CHECK(chan_flush(&a) == -EPIPE);
	chan_fini(&a);
}

static void test_text_becomes_json_whatever_its_bytes(void)
{
	static const struct {
		const char *in, *out;
	} t[] = { { "plain", "plain" },		{ "\xc3\xa9", "\xc3\xa9" }, { "a\xff"
										"b",
										"a?b" },
		  { "\xc3", "?" },		{ "\xc0\x80", "??" },	    { "\xed\xa0\x80", "???" },
		  { "\xf0\x9f\x8c\xb3!", "\xf0\x9f\x8c\xb3!" }, { "a\tb\x1b[0m\n", "a?b?[0m?" }, { "\xf8\x88\x80\x80\x80", "?????" } };
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		json_t *j = ctl_json_text(t[i].in, strlen(t[i].in), 100);
		CHECK(j && strcmp(json_string_value(j), t[i].out) == 0);
		json_decref(j);
	}
	json_t *j = ctl_json_text("\xc3\xa9\xc3\xa9", 4, 3); /* cut within a character */
	CHECK(j && strcmp(json_string_value(j), "\xc3\xa9?") == 0);
	json_decref(j);
}

int main(void)
{
	struct rlimit rl = { 8192, 8192 };
	(void)setrlimit(RLIMIT_NOFILE, &rl); /* enough is there anyway for all but the largest counts */
	TEST(test_messages_come_in_order_however_they_are_cut);
	TEST(test_descriptors_stay_with_their_message);
	TEST(test_what_is_not_an_object_on_a_line_is_refused);
	TEST(test_deep_nesting_is_refused);
	TEST(test_lines_over_the_limit_are_refused_without_being_held);
	TEST(test_descriptors_that_nobody_claims_are_refused_and_closed);
	TEST(test_a_flood_of_descriptors_is_refused);
	TEST(test_what_does_not_fit_is_not_queued);
	TEST(test_text_becomes_json_whatever_its_bytes);
	return 0;
}
