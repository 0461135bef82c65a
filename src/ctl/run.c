#include "ctl/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define RUN_MAGIC 0x4e555250u /* "PRUN" */

enum {
	RUN_VERSION = 1,
	RUN_SEALS = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK,
	TERMIOS_CC = 32,
};

static void strings_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

void run_request_fini(struct run_request *r)
{
	strings_free(r->argv);
	strings_free(r->envp);
	free(r->cwd);
	free(r->fds);
	*r = (struct run_request){};
}

size_t run_request_n_sent(const struct run_request *r)
{
	size_t n = 0;
	for (size_t i = 0; i < r->n_fds; i++)
		n += r->fds[i].kind == RUN_FD_SENT;
	return n;
}

static int request_check(const struct run_request *r)
{
	if (!r->argv || !r->argv[0] || !r->envp || !r->cwd || r->cwd[0] != '/')
		return -EINVAL;
	if (r->umask > 0777 || r->nice < -20 || r->nice > 19 || r->n_fds > RUN_FDS_MAX)
		return -EINVAL;
	if (!memchr(r->features, 0, sizeof r->features))
		return -EINVAL;
	for (size_t i = 0; i < RUN_RLIMITS; i++)
		if (r->rlimits[i].rlim_cur > r->rlimits[i].rlim_max)
			return -EINVAL;
	return 0;
}

static int fd_cmp(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

/* Each number once and in range; PTY only with a terminal. */
static int fds_check(const struct run_request *r)
{
	if (r->n_fds == 0)
		return 0;
	_cleanup_(free_p) int *numbers = malloc(r->n_fds * sizeof *numbers);
	if (!numbers)
		return -ENOMEM;
	for (size_t i = 0; i < r->n_fds; i++) {
		numbers[i] = r->fds[i].number;
		if (numbers[i] < 0 || numbers[i] > RUN_FD_NUMBER_MAX || (r->fds[i].kind == RUN_FD_PTY && !r->tty))
			return -EINVAL;
	}
	qsort(numbers, r->n_fds, sizeof *numbers, fd_cmp);
	for (size_t i = 1; i < r->n_fds; i++)
		if (numbers[i] == numbers[i - 1])
			return -EINVAL;
	return 0;
}

static int strings_encode(struct wr *w, char **v)
{
	size_t n = 0;
	while (v[n])
		n++;
	if (n > RUN_STRINGS_MAX)
		return -E2BIG;
	wr_u32(w, (uint32_t)n);
	for (size_t i = 0; i < n; i++)
		wr_str(w, v[i]);
	return 0;
}

static void termios_encode(struct wr *w, const struct termios *t)
{
	wr_u32(w, t->c_iflag);
	wr_u32(w, t->c_oflag);
	wr_u32(w, t->c_cflag);
	wr_u32(w, t->c_lflag);
	wr_u8(w, t->c_line);
	wr_u32(w, cfgetispeed(t));
	wr_u32(w, cfgetospeed(t));
	_Static_assert(NCCS == TERMIOS_CC, "control characters of the format");
	wr_raw(w, t->c_cc, TERMIOS_CC);
}

static void tty_encode(struct wr *w, const struct run_request *r)
{
	wr_u8(w, r->tty != 0);
	if (!r->tty)
		return;
	wr_u16(w, r->win.ws_row);
	wr_u16(w, r->win.ws_col);
	wr_u16(w, r->win.ws_xpixel);
	wr_u16(w, r->win.ws_ypixel);
	termios_encode(w, &r->termios);
}

int run_request_encode(const struct run_request *r, struct wr *w)
{
	int rc = request_check(r);
	if (rc == 0)
		rc = fds_check(r);
	if (rc < 0)
		return rc;

	size_t start = w->n;
	wr_u32(w, RUN_MAGIC);
	wr_u16(w, RUN_VERSION);
	rc = strings_encode(w, r->argv);
	if (rc == 0)
		rc = strings_encode(w, r->envp);
	if (rc < 0)
		return rc;
	wr_str(w, r->cwd);
	wr_u32(w, r->umask);
	for (size_t i = 0; i < RUN_RLIMITS; i++) {
		wr_u64(w, r->rlimits[i].rlim_cur);
		wr_u64(w, r->rlimits[i].rlim_max);
	}
	wr_u64(w, r->ignored);
	wr_u64(w, r->blocked);
	wr_i32(w, r->nice);
	wr_u16(w, r->node);
	wr_str(w, r->features);
	tty_encode(w, r);
	wr_u32(w, (uint32_t)r->n_fds);
	for (size_t i = 0; i < r->n_fds; i++) {
		wr_u32(w, (uint32_t)r->fds[i].number);
		wr_u8(w, (uint8_t)r->fds[i].kind);
	}
	rc = wr_done(w);
	if (rc < 0)
		return rc;
	return w->n - start > RUN_SIZE_MAX ? -E2BIG : 0;
}

/* A string without NUL, as our own copy; NULL with r->bad set or without memory. */
static char *string_decode(struct rd *r, size_t max)
{
	size_t n = 0;
	const uint8_t *p = rd_bytes(r, max, &n);
	if (memchr(p, 0, n))
		rd_fail(r);
	return r->bad ? NULL : strndup((const char *)p, n);
}

static int strings_decode(struct rd *r, uint32_t min, char ***ret)
{
	uint32_t n = rd_count(r, RUN_STRINGS_MAX, 4);
	if (n < min)
		rd_fail(r);
	if (r->bad)
		return -EBADMSG;
	char **v = calloc((size_t)n + 1, sizeof *v);
	if (!v)
		return -ENOMEM;
	*ret = v; /* the caller's from here on, also when it is not complete */
	for (uint32_t i = 0; i < n; i++) {
		v[i] = string_decode(r, RUN_SIZE_MAX);
		if (!v[i])
			return r->bad ? -EBADMSG : -ENOMEM;
	}
	return 0;
}

static void termios_decode(struct rd *r, struct termios *t)
{
	t->c_iflag = rd_u32(r);
	t->c_oflag = rd_u32(r);
	t->c_cflag = rd_u32(r);
	t->c_lflag = rd_u32(r);
	t->c_line = rd_u8(r);
	t->c_ispeed = rd_u32(r);
	t->c_ospeed = rd_u32(r);
	const uint8_t *cc = rd_raw(r, TERMIOS_CC);
	if (cc)
		memcpy(t->c_cc, cc, TERMIOS_CC);
	/* Speeds go into the kernel's Bxxx bits only; others would be refused late, by tcsetattr. */
	struct termios probe = *t;
	if (cfsetispeed(&probe, t->c_ispeed) < 0 || cfsetospeed(&probe, t->c_ospeed) < 0)
		rd_fail(r);
}

static void tty_decode(struct rd *r, struct run_request *q)
{
	uint8_t tty = rd_u8(r);
	if (tty > 1)
		rd_fail(r);
	q->tty = tty == 1;
	if (!q->tty)
		return;
	q->win.ws_row = rd_u16(r);
	q->win.ws_col = rd_u16(r);
	q->win.ws_xpixel = rd_u16(r);
	q->win.ws_ypixel = rd_u16(r);
	termios_decode(r, &q->termios);
}

static int fds_decode(struct rd *r, struct run_request *q)
{
	uint32_t n = rd_count(r, RUN_FDS_MAX, 5);
	if (r->bad)
		return -EBADMSG;
	q->fds = calloc((size_t)n + 1, sizeof *q->fds);
	if (!q->fds)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t number = rd_u32(r);
		uint8_t kind = rd_u8(r);
		if (number > RUN_FD_NUMBER_MAX || kind > RUN_FD_PTY)
			rd_fail(r);
		q->fds[i] = (struct run_fd){ .number = (int)number, .kind = kind == RUN_FD_PTY ? RUN_FD_PTY : RUN_FD_SENT };
	}
	q->n_fds = r->bad ? 0 : n;
	return 0;
}

static int fields_decode(struct rd *r, struct run_request *q)
{
	if (rd_u32(r) != RUN_MAGIC || rd_u16(r) != RUN_VERSION)
		rd_fail(r);
	int rc = strings_decode(r, 1, &q->argv);
	if (rc == 0)
		rc = strings_decode(r, 0, &q->envp);
	if (rc < 0)
		return rc;
	q->cwd = string_decode(r, 4096);
	if (!q->cwd)
		return r->bad ? -EBADMSG : -ENOMEM;
	q->umask = rd_u32(r);
	for (size_t i = 0; i < RUN_RLIMITS; i++) {
		q->rlimits[i].rlim_cur = rd_u64(r);
		q->rlimits[i].rlim_max = rd_u64(r);
	}
	q->ignored = rd_u64(r);
	q->blocked = rd_u64(r);
	q->nice = rd_i32(r);
	q->node = rd_u16(r);
	rd_str(r, q->features, sizeof q->features);
	tty_decode(r, q);
	return fds_decode(r, q);
}

int run_request_decode(const void *p, size_t n, struct run_request *ret)
{
	if (n > RUN_SIZE_MAX)
		return -EBADMSG;
	_cleanup_(run_request_fini) struct run_request q = {};
	struct rd r;
	rd_init(&r, p, n);
	int rc = fields_decode(&r, &q);
	if (rc == 0)
		rc = rd_done(&r);
	if (rc < 0)
		return rc;
	rc = request_check(&q);
	if (rc == 0)
		rc = fds_check(&q);
	if (rc < 0)
		return rc == -ENOMEM ? rc : -EBADMSG;
	*ret = q;
	q = (struct run_request){};
	return 0;
}

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

int run_request_to_memfd(const struct run_request *r, int *ret_fd, struct err *e)
{
	_cleanup_(wr_fini) struct wr w = {};
	int rc = run_request_encode(r, &w);
	if (rc < 0)
		return err_set(e, rc, "the command with its environment does not fit: %s", strerror(-rc));

	_cleanup_(close_p) int fd = memfd_create("pando-run", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_set(e, -errno, "memfd_create: %m");
	rc = write_all(fd, w.p, w.n);
	if (rc < 0)
		return err_set(e, rc, "write to memfd: %s", strerror(-rc));
	if (fcntl(fd, F_ADD_SEALS, RUN_SEALS) < 0)
		return err_set(e, -errno, "seal memfd: %m");
	*ret_fd = take_fd(&fd);
	return 0;
}

int run_request_from_memfd(int fd, struct run_request *ret, struct err *e)
{
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & RUN_SEALS) != RUN_SEALS)
		return err_set(e, -EBADMSG, "the run request is not a sealed memfd");
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "stat of the run request: %m");
	if (st.st_size <= 0 || st.st_size > RUN_SIZE_MAX)
		return err_set(e, -EBADMSG, "the run request has %lld bytes", (long long)st.st_size);

	size_t n = (size_t)st.st_size;
	_cleanup_(free_p) uint8_t *p = malloc(n);
	if (!p)
		return err_set(e, -ENOMEM, "no memory for a run request of %zu bytes", n);
	for (size_t at = 0; at < n;) {
		ssize_t k = pread(fd, p + at, n - at, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return err_set(e, k < 0 ? -errno : -EBADMSG, "read of the run request: %s", k < 0 ? strerror(errno) : "short");
		at += (size_t)k;
	}
	int rc = run_request_decode(p, n, ret);
	return rc < 0 ? err_set(e, rc, "the run request is malformed") : 0;
}
