#include "ctl/run.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "check.h"

static struct run_request sample(void)
{
	struct run_request r = { .umask = 022, .ignored = 1, .blocked = 1ull << 63, .nice = -5, .node = 3, .tty = 1,
				 .win = { 24, 80, 1, 2 } };
	r.argv = calloc(4, sizeof *r.argv);
	r.envp = calloc(3, sizeof *r.envp);
	r.fds = calloc(3, sizeof *r.fds);
	CHECK(r.argv && r.envp && r.fds);
	r.argv[0] = strdup("sh");
	r.argv[1] = strdup("");
	r.argv[2] = strdup("\xff\xfe not UTF-8");
	r.envp[0] = strdup("PATH=/bin");
	r.envp[1] = strdup("x");
	r.cwd = strdup("/tmp");
	strcpy(r.features, "+place,-migrate");
	for (size_t i = 0; i < RUN_RLIMITS; i++)
		r.rlimits[i] = (struct rlimit){ i, RLIM_INFINITY };
	cfmakeraw(&r.termios);
	(void)cfsetspeed(&r.termios, B38400);
	r.termios.c_cc[VINTR] = 3;
	r.fds[0] = (struct run_fd){ 0, RUN_FD_PTY };
	r.fds[1] = (struct run_fd){ 1, RUN_FD_SENT };
	r.fds[2] = (struct run_fd){ 77, RUN_FD_SENT };
	r.n_fds = 3;
	return r;
}

static void same(const struct run_request *a, const struct run_request *b)
{
	for (size_t i = 0; i < 3; i++)
		CHECK(strcmp(a->argv[i], b->argv[i]) == 0);
	CHECK(!b->argv[3]);
	CHECK(strcmp(b->envp[0], "PATH=/bin") == 0 && strcmp(b->envp[1], "x") == 0 && !b->envp[2]);
	CHECK(strcmp(a->cwd, b->cwd) == 0 && a->umask == b->umask);
	CHECK(memcmp(a->rlimits, b->rlimits, sizeof a->rlimits) == 0);
	CHECK(a->ignored == b->ignored && a->blocked == b->blocked && a->nice == b->nice && a->node == b->node);
	CHECK(strcmp(a->features, b->features) == 0);
	CHECK(a->tty == b->tty && memcmp(&a->win, &b->win, sizeof a->win) == 0);
	CHECK(a->termios.c_iflag == b->termios.c_iflag && a->termios.c_oflag == b->termios.c_oflag);
	CHECK(a->termios.c_cflag == b->termios.c_cflag && a->termios.c_lflag == b->termios.c_lflag);
	CHECK(memcmp(a->termios.c_cc, b->termios.c_cc, NCCS) == 0);
	CHECK(cfgetospeed(&b->termios) == B38400);
	CHECK(a->n_fds == b->n_fds && memcmp(a->fds, b->fds, a->n_fds * sizeof *a->fds) == 0);
}

static void test_a_request_survives_encoding(void)
{
	_cleanup_(run_request_fini) struct run_request a = sample(), b = {};
	_cleanup_(wr_fini) struct wr w = {};
	CHECK(run_request_encode(&a, &w) == 0);
	CHECK(run_request_decode(w.p, w.n, &b) == 0);
	same(&a, &b);
	CHECK(run_request_n_sent(&b) == 2);
}

static void test_every_prefix_and_every_longer_message_is_refused(void)
{
	_cleanup_(run_request_fini) struct run_request a = sample();
	_cleanup_(wr_fini) struct wr w = {};
	CHECK(run_request_encode(&a, &w) == 0);
	for (size_t n = 0; n < w.n; n++) {
		uint8_t *p = malloc(n + 1); /* its own block, so that a sanitizer sees each byte read past it */
		CHECK(p);
		memcpy(p, w.p, n);
		struct run_request b = {};
		CHECK(run_request_decode(p, n, &b) == -EBADMSG);
		CHECK(!b.argv);
		free(p);
	}
	wr_u8(&w, 0);
	struct run_request b = {};
	CHECK(run_request_decode(w.p, w.n, &b) == -EBADMSG);
}

static void test_flipped_bytes_never_do_harm(void)
{
	_cleanup_(run_request_fini) struct run_request a = sample();
	_cleanup_(wr_fini) struct wr w = {};
	CHECK(run_request_encode(&a, &w) == 0);
	static const uint8_t flips[] = { 0xff, 0x80, 0x01 };
	for (size_t i = 0; i < w.n * 3; i++) {
		w.p[i / 3] ^= flips[i % 3];
		struct run_request b = {};
		int rc = run_request_decode(w.p, w.n, &b);
		CHECK(rc == 0 || rc == -EBADMSG);
		run_request_fini(&b);
		w.p[i / 3] ^= flips[i % 3];
	}
}

static int encodes(struct run_request *r)
{
	_cleanup_(wr_fini) struct wr w = {};
	return run_request_encode(r, &w);
}

static void test_values_out_of_range_are_refused(void)
{
	_cleanup_(run_request_fini) struct run_request a = sample();
	CHECK(encodes(&a) == 0);
	a.umask = 01000;
	CHECK(encodes(&a) == -EINVAL);
	a.umask = 0;
	a.nice = 20;
	CHECK(encodes(&a) == -EINVAL);
	a.nice = 0;
	a.cwd[0] = 't';
	CHECK(encodes(&a) == -EINVAL);
	a.cwd[0] = '/';
	a.rlimits[3] = (struct rlimit){ 2, 1 };
	CHECK(encodes(&a) == -EINVAL);
	a.rlimits[3] = (struct rlimit){ 1, 1 };
	a.fds[2].number = 1;
	CHECK(encodes(&a) == -EINVAL); /* twice */
	a.fds[2].number = RUN_FD_NUMBER_MAX + 1;
	CHECK(encodes(&a) == -EINVAL);
	a.fds[2].number = 2;
	a.tty = 0;
	CHECK(encodes(&a) == -EINVAL); /* a pty descriptor without a pty */
	a.tty = 1;
	CHECK(encodes(&a) == 0);
}

static void test_a_command_line_that_execve_would_refuse_is_too_long(void)
{
	_cleanup_(run_request_fini) struct run_request a = sample();
	free(a.argv[1]);
	a.argv[1] = malloc(RUN_SIZE_MAX + 1);
	CHECK(a.argv[1]);
	memset(a.argv[1], 'x', RUN_SIZE_MAX);
	a.argv[1][RUN_SIZE_MAX] = 0;
	CHECK(encodes(&a) == -E2BIG);
	struct err e = {};
	int fd = -1;
	CHECK(run_request_to_memfd(&a, &fd, &e) == -E2BIG && fd == -1 && e.text[0]);
}

static void test_only_a_sealed_memfd_is_read(void)
{
	_cleanup_(run_request_fini) struct run_request a = sample(), b = {};
	struct err e = {};
	_cleanup_(close_p) int fd = -1;
	CHECK(run_request_to_memfd(&a, &fd, &e) == 0);
	CHECK(run_request_from_memfd(fd, &b, &e) == 0);
	same(&a, &b);
	CHECK(write(fd, "x", 1) < 0 && ftruncate(fd, 3) < 0);

	_cleanup_(wr_fini) struct wr w = {};
	CHECK(run_request_encode(&a, &w) == 0);
	_cleanup_(close_p) int soft = memfd_create("soft", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(soft >= 0 && write(soft, w.p, w.n) == (ssize_t)w.n);
	CHECK(fcntl(soft, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW) == 0);
	struct run_request c = {};
	CHECK(run_request_from_memfd(soft, &c, &e) == -EBADMSG);

	int p[2];
	CHECK(pipe(p) == 0); /* reading one would block */
	CHECK(run_request_from_memfd(p[0], &c, &e) == -EBADMSG);
	(void)close(p[0]);
	(void)close(p[1]);
	FILE *f = tmpfile();
	CHECK(f && fwrite(w.p, 1, w.n, f) == w.n && fflush(f) == 0);
	CHECK(run_request_from_memfd(fileno(f), &c, &e) == -EBADMSG);
	(void)fclose(f);

	_cleanup_(close_p) int empty = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fcntl(empty, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) == 0);
	CHECK(run_request_from_memfd(empty, &c, &e) == -EBADMSG);
}

int main(void)
{
	TEST(test_a_request_survives_encoding);
	TEST(test_every_prefix_and_every_longer_message_is_refused);
	TEST(test_flipped_bytes_never_do_harm);
	TEST(test_values_out_of_range_are_refused);
	TEST(test_a_command_line_that_execve_would_refuse_is_too_long);
	TEST(test_only_a_sealed_memfd_is_read);
	return 0;
}
