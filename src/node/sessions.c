/* Sessions of `pando run`: a request becomes a command in the space, its connection then carries what happens to it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "keeper/client.h"
#include "node/node.h"
#include "node/peer.h"
#include "node/pty.h"
#include "space/features.h"

enum { COOKIE_BYTES = 16, HANGUP_MS = 30000, ENDED_MS = 60000 };

struct session {
	struct node *n;
	struct ctl_req *req;   /* the answer that is due; NULL */
	struct ctl_conn *conn; /* where events go; NULL: nobody listens */
	int32_t pid;           /* of the command; 0: not started */
	uid_t uid;
	int master;            /* of its terminal, until the client has it; -1 */
	int has_tty, is_over, is_detached;
	int status;            /* last wait status */
	uint64_t utime_us, stime_us, maxrss_kb;
	char cookie[2 * COOKIE_BYTES + 1];
	uv_timer_t *timer;     /* hang-up of a command whose client is gone; forgetting one that has ended unseen */
	struct session *prev, *next;
};

static void timer_closed(uv_handle_t *h)
{
	free(h);
}

static void timer_stop(struct session *s)
{
	if (s->timer)
		uv_close((uv_handle_t *)take_ptr(s->timer), timer_closed);
}

/* What a successor must know: kept as text, "uid has_tty is_detached cookie". */
static void keep_name(char ret[static 32], int32_t pid)
{
	(void)snprintf(ret, 32, "session.%d", pid);
}

static void session_keep(const struct session *s)
{
	char name[32], text[96];
	keep_name(name, s->pid);
	int n = snprintf(text, sizeof text, "%u %d %d %s", s->uid, s->has_tty, s->is_detached, s->cookie);
	_cleanup_(close_p) int fd = memfd_create("pando-session", MFD_CLOEXEC);
	int rc = fd < 0 ? -errno : write(fd, text, (size_t)n) != n ? -EIO : keeper_put(s->n->keeper, name, fd);
	if (rc < 0)
		log_warn("session %d: not kept, a client does not find it again when this daemon is restarted: %s", s->pid, strerror(-rc));
}

static void session_free(struct session *s)
{
	char name[32];
	keep_name(name, s->pid);
	if (s->pid)
		(void)keeper_drop(s->n->keeper, name); /* without a keeper there is nothing */
	timer_stop(s);
	if (s->conn)
		ctl_conn_on_close(s->conn, NULL, NULL);
	(void)close_fd(s->master);
	DL_DELETE(s->n->sessions, s);
	free(s);
}

static void timer_start(struct session *s, uint64_t ms, uv_timer_cb fn)
{
	timer_stop(s);
	s->timer = calloc(1, sizeof *s->timer);
	if (!s->timer || uv_timer_init(&s->n->loop, s->timer) < 0) {
		free(take_ptr(s->timer));
		return;
	}
	s->timer->data = s;
	(void)uv_timer_start(s->timer, fn, ms, 0);
}

static void on_forget(uv_timer_t *t)
{
	session_free(t->data);
}

/* The client is gone and did not come back. With a terminal the kernel has sent the hang-up already, when its master was closed. */
static void on_hangup(uv_timer_t *t)
{
	struct session *s = t->data;
	timer_stop(s);
	if (!s->has_tty && s->n->space)
		(void)space_run_signal(s->n->space, s->pid, SIGHUP, 0); /* -ESRCH: it has ended */
}

static void on_conn_close(void *ctx, struct ctl_conn *conn)
{
	struct session *s = ctx;
	(void)conn;
	s->conn = NULL;
	if (s->is_over)
		timer_start(s, ENDED_MS, on_forget); /* for a client that comes back after a cut connection */
	else if (s->pid && !s->is_detached)
		timer_start(s, HANGUP_MS, on_hangup);
}

/* --- events --- */

static void event_exited(struct session *s)
{
	if (!s->conn)
		return;
	json_t *j = json_pack("{s:s, s:i, s:I, s:I, s:I}", "event", "exited", "status", s->status, "utime_us", (json_int_t)s->utime_us, "stime_us",
			      (json_int_t)s->stime_us, "maxrss_kb", (json_int_t)s->maxrss_kb);
	if (ctl_event(s->conn, j, NULL, 0) < 0)
		return; /* the connection is closed by that; on_conn_close comes */
	ctl_conn_close(s->conn);
	session_free(s);
}

static void changed(void *ctx, int status, uint64_t utime_us, uint64_t stime_us, uint64_t maxrss_kb)
{
	struct session *s = ctx;
	s->status = status;
	s->utime_us = utime_us;
	s->stime_us = stime_us;
	s->maxrss_kb = maxrss_kb;
	if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
		json_t *j = WIFSTOPPED(status) ? json_pack("{s:s, s:i}", "event", "stopped", "signal", WSTOPSIG(status))
					       : json_pack("{s:s}", "event", "continued");
		if (s->conn)
			(void)ctl_event(s->conn, j, NULL, 0);
		else
			json_decref(j);
		return;
	}
	s->is_over = 1;
	if (s->conn)
		event_exited(s);
	else
		timer_start(s, ENDED_MS, on_forget);
}

static void started(void *ctx, int status, int32_t pid, const char *at)
{
	struct session *s = ctx;
	struct ctl_req *req = take_ptr(s->req);
	if (status < 0) {
		ctl_fail_at(req, status, at ? at : "setup", "%s", strerror(-status));
		session_free(s);
		return;
	}
	s->pid = pid;
	session_keep(s);
	s->conn = ctl_req_conn(req);
	json_t *j = json_pack("{s:i, s:s, s:i}", "pid", pid, "cookie", s->cookie, "node", s->n->self);
	if (s->master >= 0)
		ctl_answer_fds(req, j, &s->master, 1);
	else
		ctl_answer(req, j);
	s->master = close_fd(s->master); /* from now on its end is the client's */
	if (s->conn)
		ctl_conn_on_close(s->conn, on_conn_close, s);
	else
		on_conn_close(s, NULL);
}

/* --- the request --- */

static int cookie_make(char ret[static 2 * COOKIE_BYTES + 1])
{
	uint8_t raw[COOKIE_BYTES];
	if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw)
		return -EIO;
	for (int i = 0; i < COOKIE_BYTES; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

static int fds_take(struct ctl_req *req, const struct run_request *r, int slave, int **ret, int *ret_tty_number, struct err *e)
{
	int *fds = calloc(r->n_fds + 1, sizeof *fds);
	if (!fds)
		return err_set(e, -ENOMEM, "no memory");
	size_t next = 1;
	*ret_tty_number = -1;
	for (size_t i = 0; i < r->n_fds; i++) {
		int is_pty = r->fds[i].kind == RUN_FD_PTY;
		fds[i] = is_pty ? fcntl(slave, F_DUPFD_CLOEXEC, 3) : ctl_req_take_fd(req, next++);
		if (is_pty)
			*ret_tty_number = r->fds[i].number;
		if (fds[i] >= 0)
			continue;
		while (i > 0)
			(void)close_fd(fds[--i]);
		free(fds);
		return err_set(e, -EMFILE, "a descriptor cannot be taken");
	}
	*ret = fds;
	return 0;
}

static void node_check(struct node *n, uint16_t node, int *rc, struct err *e)
{
	if (!node || *rc < 0)
		return;
	const struct cluster_member *m = cluster_member(member_cluster(n->member), node);
	if (!m || m->state == MEMBER_REMOVED)
		*rc = err_set(e, -ENOENT, "there is no node %u", node);
	else if (!member_is_up(n->member, node))
		*rc = err_set(e, -EHOSTDOWN, "node %u does not answer", node);
	else if (m->state == MEMBER_DRAINING)
		*rc = err_set(e, -EHOSTDOWN, "node %u is being drained", node);
}

/* The caller is in the space already. */
static int inside(struct node *n, struct ctl_req *req, const struct run_request *r, struct err *e)
{
	pid_t outer = ctl_req_peer(req)->pid;
	int rc = features_change(n, outer, r->features, e);
	if (rc < 0)
		return rc;
	if (r->node)
		features_want_node(n, outer, r->node);
	ctl_answer(req, json_pack("{s:b}", "inside", 1));
	return 0;
}

static int run_prepare(struct node *n, struct ctl_req *req, const struct run_request *r, struct session *s, struct space_run *run, struct err *e)
{
	const struct ctl_peer *peer = ctl_req_peer(req);
	_cleanup_(close_p) int slave = -1;
	int rc = peer_image(peer, &run->image, e);
	if (rc < 0)
		return rc;
	rc = features_initial(r->features, &run->image.features, e);
	if (rc < 0)
		return rc;
	if (r->tty) {
		rc = pty_open(n->root_fd, peer->uid, r, &s->master, &slave, e);
		if (rc < 0)
			return rc;
		s->has_tty = 1;
	}
	rc = fds_take(req, r, slave, &run->fds, &run->tty_number, e);
	if (rc < 0)
		return rc;
	run->tty = take_fd(&slave);
	run->node = r->node;
	run->ctx = s;
	run->started = started;
	run->changed = changed;
	return cookie_make(s->cookie) < 0 ? err_set(e, -EIO, "no random numbers") : 0;
}

static void run_undo(struct space_run *run)
{
	for (uint32_t i = 0; run->fds && i < run->image.n_fds; i++)
		(void)close_fd(run->fds[i]);
	free(run->fds);
	(void)close_fd(run->tty);
	exec_image_fini(&run->image);
}

static void run_begin(struct node *n, struct ctl_req *req, const struct run_request *r)
{
	struct err e = { 0 };
	struct session *s = calloc(1, sizeof *s);
	struct space_run run = { .tty = -1, .tty_number = -1 };
	if (!s) {
		ctl_fail(req, -ENOMEM, "no memory");
		return;
	}
	*s = (struct session){ .n = n, .master = -1, .uid = ctl_req_peer(req)->uid };
	DL_APPEND(n->sessions, s);
	int rc = run_prepare(n, req, r, s, &run, &e);
	const char *at = NULL;
	if (rc == 0) {
		rc = peer_request(r, &run.image, &e);
		at = "exec";
	}
	if (rc == 0) {
		s->req = req;
		rc = space_run_start(n->space, &run, &e);
		at = NULL;
	}
	if (rc == 0)
		return;
	run_undo(&run);
	s->req = NULL;
	session_free(s);
	if (at)
		ctl_fail_at(req, rc, at, "%s", e.text);
	else
		ctl_fail(req, rc, "%s", e.text);
}

static void on_run(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	struct err e = { 0 };
	if (!n->space || n->phase != NODE_UP) {
		/* EAGAIN: the client tries again for a while. A node that is cut off may be back in a second, when daemons were restarted. */
		ctl_fail(req, n->phase == NODE_LEAVING ? -EHOSTDOWN : -EAGAIN, "this node is %s", node_phase_name(n));
		return;
	}
	_cleanup_(run_request_fini) struct run_request r = { 0 };
	_cleanup_(close_p) int fd = ctl_req_take_fd(req, 0);
	int rc = fd < 0 ? err_set(&e, -EBADMSG, "a run request without its memfd") : run_request_from_memfd(fd, &r, &e);
	if (rc == 0 && ctl_req_n_fds(req) != run_request_n_sent(&r) + 1)
		rc = err_set(&e, -EBADMSG, "%zu descriptors were sent, %zu are listed", ctl_req_n_fds(req) - 1, run_request_n_sent(&r));
	node_check(n, r.node, &rc, &e);
	if (rc == 0 && nspid_tgid(&n->ns, ctl_req_peer(req)->pid) > 0)
		rc = inside(n, req, &r, &e);
	else if (rc == 0)
		run_begin(n, req, &r);
	if (rc < 0)
		ctl_fail(req, rc, "%s", e.text);
}

/* --- requests of a session's connection --- */

static struct session *session_of(struct node *n, struct ctl_req *req)
{
	struct session *s;
	struct ctl_conn *conn = ctl_req_conn(req);
	DL_FOREACH(n->sessions, s)
	{
		if (conn && s->conn == conn)
			return s;
	}
	ctl_fail(req, -ENOTCONN, "this connection is not that of a session");
	return NULL;
}

static void on_signal(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	json_int_t signo;
	const char *to;
	struct session *s = session_of(n, req);
	if (!s || ctl_req_int(req, "signal", 1, 64, 0, &signo) < 0 || ctl_req_str(req, "to", "process", &to) < 0)
		return;
	int group = strcmp(to, "process") != 0;
	if (group && strcmp(to, "group") != 0 && strcmp(to, "foreground") != 0) {
		ctl_fail(req, -EINVAL, "to: \"%s\" is none of process, group, foreground", to);
		return;
	}
	int rc = n->space ? space_run_signal(n->space, s->pid, (int)signo, group) : -ESRCH;
	if (rc < 0)
		ctl_fail(req, rc, "%s", strerror(-rc));
	else
		ctl_answer(req, json_object());
}

static void on_detach(void *ctx, struct ctl_req *req)
{
	struct session *s = session_of(ctx, req);
	if (!s)
		return;
	s->is_detached = 1;
	session_keep(s);
	ctl_answer(req, json_object());
}

static void on_winsize(void *ctx, struct ctl_req *req)
{
	if (session_of(ctx, req))
		ctl_fail(req, -ENOTTY, "the terminal's master is the client's");
}

static void on_reattach(void *ctx, struct ctl_req *req)
{
	struct node *n = ctx;
	struct session *s, *found = NULL;
	json_int_t pid;
	const char *cookie;
	if (ctl_req_int(req, "pid", 1, 4194303, 0, &pid) < 0 || ctl_req_str(req, "cookie", "", &cookie) < 0)
		return;
	DL_FOREACH(n->sessions, s)
	{
		if (s->pid == pid)
			found = s;
	}
	if (!found) {
		ctl_fail(req, -ESRCH, "no session has the command %lld", (long long)pid);
		return;
	}
	const struct ctl_peer *peer = ctl_req_peer(req);
	if (strcmp(cookie, found->cookie) != 0 || (peer->uid != 0 && peer->uid != found->uid)) {
		ctl_fail(req, -EACCES, "wrong cookie");
		return;
	}
	if (found->conn) {
		ctl_conn_on_close(found->conn, NULL, NULL);
		ctl_conn_close(found->conn);
	}
	timer_stop(found);
	found->conn = ctl_req_conn(req);
	const char *state = found->is_over ? "exited" : WIFSTOPPED(found->status) && found->status ? "stopped" : "running";
	json_t *j = json_pack("{s:i, s:s}", "pid", found->pid, "state", state);
	if (strcmp(state, "stopped") == 0)
		(void)json_object_set_new(j, "signal", json_integer(WSTOPSIG(found->status)));
	ctl_answer(req, j);
	if (!found->conn)
		on_conn_close(found, NULL);
	else
		ctl_conn_on_close(found->conn, on_conn_close, found);
	if (found->is_over && found->conn)
		event_exited(found);
}

void sessions_start(struct node *n)
{
	ctl_handle(n->ctl, "run", on_run, n);
	ctl_handle(n->ctl, "signal", on_signal, n);
	ctl_handle(n->ctl, "winsize", on_winsize, n);
	ctl_handle(n->ctl, "detach", on_detach, n);
	ctl_handle(n->ctl, "reattach", on_reattach, n);
}

static void session_found(void *arg, const char *name, int fd)
{
	struct node *n = arg;
	_cleanup_(close_p) int owned = fd;
	char text[96];
	unsigned uid;
	int has_tty, is_detached;
	struct session *s = calloc(1, sizeof *s);
	ssize_t len = s ? pread(owned, text, sizeof text - 1, 0) : -1;
	text[len > 0 ? len : 0] = 0;
	if (!s || sscanf(text, "%u %d %d %32s", &uid, &has_tty, &is_detached, s->cookie) != 4) {
		log_warn("%s: what was kept of it is not readable", name);
		free(s);
		return;
	}
	s->n = n;
	s->pid = (int32_t)strtol(name + strlen("session."), NULL, 10);
	s->uid = uid;
	s->master = -1;
	s->has_tty = has_tty;
	s->is_detached = is_detached;
	DL_APPEND(n->sessions, s);
	if (space_run_attach(n->space, s->pid, s, changed, &s->status) < 0)
		session_free(s); /* it has ended meanwhile */
	else if (!s->is_detached)
		timer_start(s, HANGUP_MS, on_hangup); /* until its client is here again */
}

void sessions_find(struct node *n)
{
	keeper_each(n->keeper, "session.", session_found, n);
}

void sessions_end(struct node *n)
{
	struct session *s, *tmp;
	DL_FOREACH_SAFE(n->sessions, s, tmp)
	{
		if (s->req)
			ctl_fail(take_ptr(s->req), -EHOSTDOWN, "the space of this node ends");
		if (s->pid && !s->is_over)
			changed(s, SIGKILL, 0, 0, 0);
		else if (!s->pid)
			session_free(s);
	}
}
