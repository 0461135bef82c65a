/* The program's side of the socket pair.
 *
 * Happy path: put and drop are sent and forgotten; take, each, sync and space carry a number, and the answers with this number are
 * waited for. An answer with another number belongs to a call that gave up waiting: it is thrown away with its descriptors.
 * Failures: the keeper has gone (EPIPE, or the end of the connection); it does not read or answer (the socket's time-outs). */
#include "keeper/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "keeper/proto.h"
#include "space/create.h"

_Static_assert(KEEPER_NAME_SIZE == KEEPER_NAME_MAX + 1, "names");
_Static_assert(sizeof((struct space_ends *)0)->cgroup == KEEPER_CGROUP_SIZE, "cgroup");

struct keeper {
	int sock; /* owned */
	uint32_t seq;
	struct keeper_request request; /* the one that is being sent */
	struct keeper_answer answer;   /* the one that came last */
	uint8_t bytes[KEEPER_ANSWER_MAX];
};

struct kept {
	char name[KEEPER_NAME_SIZE];
	int fd;
};

static int fd_from_env(int *ret, struct err *e)
{
	const char *text = getenv("PANDO_KEEPER_FD");
	if (!text || !*text)
		return err_set(e, -ENOENT, "not started by pando-keeper");
	char *end;
	errno = 0;
	long fd = strtol(text, &end, 10);
	if (errno || *end || end == text || fd < 0 || fd > 1 << 20)
		return err_set(e, -EINVAL, "PANDO_KEEPER_FD: \"%.20s\" is no descriptor", text);
	int type = 0, domain = 0;
	socklen_t n = sizeof type;
	if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || getsockopt((int)fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0 ||
	    type != SOCK_SEQPACKET || domain != AF_UNIX)
		return err_set(e, -ENOTSOCK, "PANDO_KEEPER_FD: %ld is not the keeper's socket", fd);
	*ret = (int)fd;
	return 0;
}

int keeper_open(struct keeper **ret, struct err *e)
{
	*ret = NULL;
	int fd = -1;
	int rc = fd_from_env(&fd, e);
	(void)unsetenv("PANDO_KEEPER_FD"); /* the name is fine */
	if (rc < 0)
		return rc;
	struct timeval wait = { .tv_sec = KEEPER_WAIT_MS / 1000, .tv_usec = KEEPER_WAIT_MS % 1000 * 1000 };
	struct keeper *k = calloc(1, sizeof *k);
	if (!k)
		return err_set(e, -ENOMEM, "no memory");
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0) {
		rc = err_set(e, -errno, "keeper's socket: %m");
		free(k);
		return rc;
	}
	k->sock = fd;
	*ret = k;
	return 0;
}

struct keeper *keeper_close(struct keeper *k)
{
	if (k)
		(void)close_fd(k->sock);
	free(k);
	return NULL;
}

/* Starts a request in k->request. */
static int request_name(struct keeper *k, uint8_t op, const char *name, int empty_ok)
{
	size_t n = strlen(name);
	if (n > KEEPER_NAME_MAX || (!n && !empty_ok))
		return -EINVAL;
	k->request.op = op;
	k->request.seq = ++k->seq;
	memcpy(k->request.name, name, n + 1);
	return 0;
}

static int request_send(struct keeper *k, int fd)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	keeper_request_encode(&w, &k->request);
	int rc = wr_done(&w);
	if (rc == 0)
		rc = keeper_msg_send(k->sock, w.p, w.n, &fd, fd >= 0, 0);
	if (rc == -ECONNRESET || rc == -ENOTCONN)
		rc = -EPIPE;
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

static void fds_close(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)close_fd(fds[i]);
}

/* The next answer to the request sent last. On 0 k->answer has it and the n descriptors of its names are the caller's; -EMFILE when
 * the kernel could not hand over all of them: then there are none. */
static int answer_wait(struct keeper *k, int fds[static KEEPER_FDS_PER_MSG])
{
	for (;;) {
		unsigned n_fds;
		int lost;
		int n = keeper_msg_recv(k->sock, k->bytes, sizeof k->bytes, fds, &n_fds, &lost, 0);
		if (n < 0)
			return n == -EAGAIN ? -ETIMEDOUT : n == -ECONNRESET ? -EPIPE : n;
		if (n == 0)
			return -EPIPE;
		int rc = keeper_answer_decode(&k->answer, k->bytes, (size_t)n);
		if (rc < 0 || k->answer.seq != k->seq) {
			fds_close(fds, n_fds);
			if (rc < 0)
				return rc;
			continue;
		}
		if (k->answer.n == n_fds)
			return 0;
		fds_close(fds, n_fds);
		return lost ? -EMFILE : -EBADMSG;
	}
}

/* For requests that are answered by a status alone. */
static int request_do(struct keeper *k)
{
	int fds[KEEPER_FDS_PER_MSG];
	int rc = request_send(k, -1);
	if (rc == 0)
		rc = answer_wait(k, fds);
	if (rc < 0)
		return rc;
	fds_close(fds, k->answer.n);
	return k->answer.status;
}

int keeper_put(void *keeper, const char *name, int fd)
{
	struct keeper *k = keeper;
	if (!k)
		return 0;
	if (fd < 0)
		return -EBADF;
	int rc = request_name(k, KEEPER_PUT, name, 0);
	return rc < 0 ? rc : request_send(k, fd);
}

int keeper_drop(void *keeper, const char *name)
{
	struct keeper *k = keeper;
	if (!k)
		return 0;
	int rc = request_name(k, KEEPER_DROP, name, 0);
	return rc < 0 ? rc : request_send(k, -1);
}

int keeper_take(void *keeper, const char *name)
{
	struct keeper *k = keeper;
	if (!k)
		return -ENOENT;
	int fds[KEEPER_FDS_PER_MSG];
	int rc = request_name(k, KEEPER_TAKE, name, 0);
	if (rc == 0)
		rc = request_send(k, -1);
	if (rc == 0)
		rc = answer_wait(k, fds);
	if (rc < 0)
		return rc;
	if (k->answer.status == 0 && k->answer.n == 1)
		return fds[0];
	fds_close(fds, k->answer.n);
	return k->answer.status < 0 ? k->answer.status : -EBADMSG;
}

/* Adds an answer's names to *list. Takes the descriptors. */
static int kept_add(struct kept **list, size_t *n, const struct keeper_answer *a, const int *fds)
{
	struct kept *more = a->n ? reallocarray(*list, *n + a->n, sizeof *more) : *list;
	if (a->n && !more) {
		fds_close(fds, a->n);
		return -ENOMEM;
	}
	*list = more;
	for (uint32_t i = 0; i < a->n; i++) {
		struct kept *kept = &more[(*n)++];
		memcpy(kept->name, a->name[i], sizeof kept->name);
		kept->fd = fds[i];
	}
	return 0;
}

/* Everything is received before anything is called: what is called may use the socket. An answer that does not fit is an error of
 * the whole, but the rest of the answers is read all the same. */
static int kept_receive(struct keeper *k, struct kept **list, size_t *n)
{
	int fds[KEEPER_FDS_PER_MSG];
	int result = 0;
	for (;;) {
		int rc = answer_wait(k, fds);
		if (rc == 0) {
			rc = kept_add(list, n, &k->answer, fds);
			if (rc == 0)
				rc = k->answer.status;
		} else if (rc != -EMFILE) {
			return rc;
		}
		if (result == 0)
			result = rc;
		if (!k->answer.more)
			return result;
	}
}

void keeper_each(void *keeper, const char *prefix, void (*fn)(void *arg, const char *name, int fd), void *arg)
{
	struct keeper *k = keeper;
	if (!k)
		return;
	_cleanup_(free_p) struct kept *list = NULL;
	size_t n = 0;
	int rc = request_name(k, KEEPER_EACH, prefix, 1);
	if (rc == 0)
		rc = request_send(k, -1);
	if (rc == 0)
		rc = kept_receive(k, &list, &n);
	if (rc < 0)
		log_error("keeper: the list of what is kept as \"%s\": %s, going on with %zu", prefix, strerror(-rc), n);
	for (size_t i = 0; i < n; i++)
		fn(arg, list[i].name, list[i].fd);
}

int keeper_sync(void *keeper)
{
	struct keeper *k = keeper;
	if (!k)
		return 0;
	(void)request_name(k, KEEPER_SYNC, "", 1); /* the name is fine */
	return request_do(k);
}

int keeper_space(void *keeper, const struct space_ends *ends, const char *lease_path)
{
	struct keeper *k = keeper;
	if (!k)
		return 0;
	struct keeper_request *q = &k->request;
	if (ends && (!lease_path || strlen(lease_path) >= sizeof q->lease || *lease_path != '/'))
		return -EINVAL;
	(void)request_name(k, KEEPER_SPACE, "", 1); /* the name is fine */
	q->init = ends ? ends->init : 0;
	q->freezer_v2 = ends && ends->freezer_v2;
	(void)strcpy(q->cgroup, ends ? ends->cgroup : "");
	(void)strcpy(q->lease, ends ? lease_path : "");
	return request_do(k);
}

int keeper_ready(void *keeper)
{
	struct keeper *k = keeper;
	if (!k)
		return 0;
	(void)request_name(k, KEEPER_READY, "", 1); /* the name is fine */
	return request_send(k, -1);
}
