#include "ctl/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/paths.h"

struct ctl_client {
	struct chan chan;
};

/* Milliseconds left until the deadline, never negative; the deadline of a wait without end is UINT64_MAX. */
static int left_ms(uint64_t deadline)
{
	if (deadline == UINT64_MAX)
		return -1;
	uint64_t now = clock_ms();
	return now >= deadline ? 0 : (int)(deadline - now);
}

static uint64_t deadline_in(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : clock_ms() + (uint64_t)timeout_ms;
}

static int connect_fd(const char *path, int *ret_fd, struct err *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof sa.sun_path)
		return err_set(e, -ENAMETOOLONG, "%s: too long for a socket", path);
	strcpy(sa.sun_path, path);
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "socket: %m");
	while (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
		if (errno == EINTR)
			continue;
		if (errno == ENOENT || errno == ECONNREFUSED)
			return err_set(e, -errno, "pandod is not running here (%s: %m)", path);
		return err_set(e, -errno, "connect to pandod at %s: %m", path);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int ctl_client_open(const char *run_dir, struct ctl_client **ret, struct err *e)
{
	if (!run_dir)
		run_dir = secure_getenv("PANDO_RUN");
	if (!run_dir || !*run_dir)
		run_dir = PANDO_RUN_DIR;
	char path[PATHS_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/control.sock", run_dir) >= sizeof path)
		return err_set(e, -ENAMETOOLONG, "%s: too long", run_dir);

	_cleanup_(close_p) int fd = -1;
	int rc = connect_fd(path, &fd, e);
	if (rc < 0)
		return rc;
	struct ctl_client *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, -ENOMEM, "no memory");
	rc = chan_init(&c->chan, take_fd(&fd), CTL_LINE_MAX);
	if (rc < 0) {
		ctl_client_close(c);
		return err_set(e, rc, "control socket: %s", strerror(-rc));
	}
	*ret = c;
	return 0;
}

void ctl_client_close(struct ctl_client *c)
{
	if (!c)
		return;
	chan_fini(&c->chan);
	free(c);
}

int ctl_client_fd(const struct ctl_client *c)
{
	return c->chan.fd;
}

static int wait_for(struct ctl_client *c, short events, uint64_t deadline)
{
	struct pollfd p = { .fd = c->chan.fd, .events = events };
	int n = poll(&p, 1, left_ms(deadline));
	if (n < 0 && errno != EINTR)
		return -errno;
	return n > 0;
}

static int gone(struct err *e, int rc)
{
	if (rc == -EPIPE || rc == -ECONNRESET)
		return err_set(e, -ECONNRESET, "the connection to pandod was lost");
	return err_set(e, rc, "control socket: %s", strerror(-rc));
}

int ctl_client_send(struct ctl_client *c, json_t *json, const int *fds, size_t n_fds, int timeout_ms, struct err *e)
{
	uint64_t deadline = deadline_in(timeout_ms);
	if (!json)
		return err_set(e, -ENOMEM, "no memory for the request");
	int rc = chan_put(&c->chan, json, fds, n_fds);
	if (rc < 0)
		return err_set(e, rc, "the request cannot be sent: %s", strerror(-rc));
	while ((rc = chan_flush(&c->chan)) == CHAN_MORE) {
		int ready = wait_for(c, POLLOUT, deadline);
		if (ready < 0)
			return gone(e, ready);
		if (!ready && left_ms(deadline) == 0)
			return err_set(e, -ETIMEDOUT, "pandod does not read requests");
	}
	/* A server that refuses the connection says why and closes; its words are still to be read. */
	return rc == -EPIPE || rc == 0 ? 0 : gone(e, rc);
}

int ctl_client_next(struct ctl_client *c, int timeout_ms, struct ctl_msg *ret, struct err *e)
{
	uint64_t deadline = deadline_in(timeout_ms);
	for (;;) {
		int rc = chan_next(&c->chan, ret);
		if (rc > 0)
			return 1;
		if (rc < 0)
			return err_set(e, rc, "pandod sent something that is not of the control protocol");
		if (c->chan.eof)
			return gone(e, -ECONNRESET);
		rc = chan_fill(&c->chan);
		if (rc == 0 || rc == CHAN_EOF)
			continue;
		if (rc != -EAGAIN)
			return gone(e, rc);
		int ready = wait_for(c, POLLIN, deadline);
		if (ready < 0)
			return gone(e, ready);
		if (!ready && left_ms(deadline) == 0)
			return 0;
	}
}

int ctl_client_outcome(const struct ctl_msg *m, struct err *e)
{
	json_t *ok = json_object_get(m->json, "ok");
	if (json_is_true(ok))
		return 0;
	json_int_t code = json_integer_value(json_object_get(m->json, "errno"));
	const char *words = json_string_value(json_object_get(m->json, "error"));
	if (!json_is_false(ok) || code <= 0 || code > 4095)
		return err_set(e, -EBADMSG, "pandod sent an answer that is none");
	return err_set(e, -(int)code, "%s", words ? words : strerror((int)code));
}

int ctl_client_call(struct ctl_client *c, json_t *json, const int *fds, size_t n_fds, int timeout_ms, ctl_client_event_fn on_event,
		    void *ctx, struct ctl_msg *ret, struct err *e)
{
	uint64_t deadline = deadline_in(timeout_ms);
	*ret = (struct ctl_msg){};
	int rc = ctl_client_send(c, json, fds, n_fds, timeout_ms, e);
	while (rc == 0) {
		struct ctl_msg m = {};
		rc = ctl_client_next(c, left_ms(deadline), &m, e);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return err_set(e, -ETIMEDOUT, "no answer from pandod in %d s", (timeout_ms + 999) / 1000);
		rc = 0;
		if (json_object_get(m.json, "ok")) {
			*ret = m;
			return ctl_client_outcome(ret, e);
		}
		if (on_event)
			on_event(ctx, &m);
		else
			ctl_msg_fini(&m);
	}
	return rc;
}
