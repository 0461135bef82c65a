/* Happy path: connect, HELLO, SPACE with the descriptors, the table between RESET and SYNCED, then requests of the kernel are taken; later
 * increments, and questions in both directions. Failure modes: pandod is not there (again every RETRY_MS; what is local and what is
 * known goes on being served), the table does not come (the mount is served without it after TABLE_MS: its own processes must not
 * wait for pandod), a bad frame (as if pandod had gone), another mount (this server ends: the keeper starts one for it). */
#include "procfs/client.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "procfs/proto.h"

enum { RETRY_MS = 200, TABLE_MS = 1000, QUEUE_MAX = 64 << 20 };

struct client {
	struct fs *fs;
	struct sockaddr_un addr;
	uv_timer_t retry;
	uv_timer_t table_wait;
	unsigned handles;
	void (*gone)(void *ctx, int error);
	void *ctx;
	int closing, told;
};

/* A question of another node that is being done. */
struct served {
	struct client *c;
	uint64_t id;
	struct chan *chan; /* borrowed: only compared */
};

static void client_gone(struct client *c, int error)
{
	if (c->told)
		return;
	c->told = 1;
	c->gone(c->ctx, error);
}

static void on_retry(uv_timer_t *t);

static void client_lost(struct client *c)
{
	chan_free(c->fs->chan);
	c->fs->chan = NULL;
	call_fail_all(c->fs, -ECONNRESET);
	(void)uv_timer_start(&c->retry, on_retry, RETRY_MS, 0); /* cannot fail with a callback */
}

static void on_closed(void *ctx, int error)
{
	struct client *c = ctx;
	log_notice("pandod: connection lost: %s, trying again", error ? strerror(-error) : "end of file");
	client_lost(c);
}

/* Times of the space's processes count in its time namespace; joining it needs a program without threads. */
static void join_time(int proc_fd)
{
	_cleanup_(close_p) int fd = openat(proc_fd, "1/ns/time", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWTIME) < 0)
		log_notice("time namespace of the space: %s, start times are those of the host", strerror(errno));
}

static void on_table_wait(uv_timer_t *t)
{
	struct client *c = t->data;
	log_notice("pandod sends no table of processes, serving without it");
	fs_go(c->fs);
}

static int on_space(struct client *c, struct rd *r)
{
	struct fs *fs = c->fs;
	int fds[PROTO_FDS];
	uint16_t self;
	struct stat st;
	size_t n = chan_take_fds(fs->chan, fds, PROTO_FDS);
	int rc = proto_space_get(r, &self);
	if (rc == 0 && n < PROTO_FDS)
		rc = -EBADMSG;
	int same = rc == 0 && fs->serving && fstat(fds[PROTO_FD_JOURNAL], &st) == 0 && st.st_ino == fs->journal_ino;
	if (rc < 0 || fs->serving) {
		for (size_t i = 0; i < n; i++)
			(void)close(fds[i]);
		if (rc == 0 && !same) {
			log_notice("another mount is to be served, ending");
			client_gone(c, 0);
		}
		return rc;
	}
	fs->self = self;
	join_time(fds[PROTO_FD_PROC]);
	uv_update_time(fs->loop);
	struct err e = { 0 };
	rc = fs_serve(fs, fds[PROTO_FD_FUSE], fds[PROTO_FD_PROC], fds[PROTO_FD_JOURNAL], &e);
	if (rc < 0) {
		log_error("mount: %s", e.text);
		client_gone(c, rc);
		return 0;
	}
	if (fs->table_synced)
		fs_go(fs);
	else
		(void)uv_timer_start(&c->table_wait, on_table_wait, TABLE_MS, 0); /* cannot fail with a callback */
	return 0;
}

/* Nodes that went down with the last change. */
static void peers_check(struct fs *fs)
{
	for (uint16_t i = 1; i < TABLE_NODES; i++)
		if ((fs->peers[i].snap || fs->peers[i].figures_ms) && !(fs->table.nodes[i].present && fs->table.nodes[i].up))
			gather_peer_down(fs, i);
}

static int on_synced(struct client *c)
{
	struct fs *fs = c->fs;
	if (!fs->table_is_next)
		return -EBADMSG;
	table_fini(&fs->table);
	fs->table = fs->table_next;
	fs->table_next = (struct table){ 0 };
	fs->table_is_next = 0;
	fs->table_synced = 1;
	peers_check(fs);
	(void)uv_timer_stop(&c->table_wait); /* cannot fail */
	if (fs->serving)
		fs_go(fs);
	return 0;
}

static void on_served(void *ctx, const void *p, size_t n)
{
	_cleanup_(free_p) struct served *s = ctx;
	struct fs *fs = s->c->fs;
	if (!fs->chan || fs->chan != s->chan)
		return;
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct proto_call a = { .id = s->id, .status = p ? 0 : -ENOMEM, .p = p, .n = n };
	proto_call_put(&w, PROTO_SERVED, &a);
	int rc = wr_done(&w);
	if (rc == 0)
		rc = chan_send(fs->chan, w.p, w.n, NULL, 0);
	if (rc < 0)
		log_debug("pandod: answer lost: %s", strerror(-rc));
}

static int on_serve(struct client *c, struct rd *r)
{
	struct proto_call q;
	int rc = proto_call_get(r, &q);
	if (rc < 0)
		return rc;
	struct served *s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct served){ .c = c, .id = q.id, .chan = c->fs->chan };
	/* 0: never as this node itself, whatever the frame says: only its own questions may write. */
	job_start(c->fs, q.node == c->fs->self ? 0 : q.node, q.p, q.n, on_served, s);
	return 0;
}

static int on_reply(struct client *c, struct rd *r)
{
	struct proto_call a;
	int rc = proto_call_get(r, &a);
	if (rc == 0)
		call_answer(c->fs, a.id, a.status, a.p, a.n);
	return rc;
}

static int on_table(struct client *c, uint8_t type, struct rd *r)
{
	struct fs *fs = c->fs;
	int rc = proto_table_get(type, r, fs->table_is_next ? &fs->table_next : &fs->table);
	if (rc == 0 && !fs->table_is_next && (type == PROTO_NODE || type == PROTO_NODE_GONE))
		peers_check(fs);
	return rc;
}

static void on_frame(void *ctx, const uint8_t *p, size_t n)
{
	struct client *c = ctx;
	struct fs *fs = c->fs;
	struct chan *chan = fs->chan;
	struct rd r;
	rd_init(&r, p, n);
	uint8_t type = rd_u8(&r);
	int rc;
	switch (type) {
	case PROTO_SPACE:
		rc = on_space(c, &r);
		break;
	case PROTO_RESET:
		table_fini(&fs->table_next);
		table_init(&fs->table_next);
		fs->table_is_next = 1;
		rc = rd_done(&r);
		break;
	case PROTO_SYNCED:
		rc = on_synced(c);
		break;
	case PROTO_REPLY:
		rc = on_reply(c, &r);
		break;
	case PROTO_SERVE:
		rc = on_serve(c, &r);
		break;
	default:
		rc = on_table(c, type, &r);
		break;
	}
	if (rc < 0 && fs->chan == chan && !c->told) {
		log_warn("pandod: frame type=%u: %s, connecting again", type, strerror(-rc));
		client_lost(c);
	}
}

static int client_connect(struct client *c)
{
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&c->addr, sizeof(c->addr)) < 0)
		return -errno;
	struct chan_config cfg = {
		.loop = c->fs->loop, .frame_max = PROTO_FRAME_MAX, .queue_max = QUEUE_MAX, .ctx = c, .on_frame = on_frame, .on_closed = on_closed,
	};
	int rc = chan_new(&cfg, take_fd(&fd), &c->fs->chan);
	if (rc < 0)
		return rc;
	_cleanup_(wr_fini) struct wr w = { 0 };
	proto_hello_put(&w);
	rc = wr_done(&w);
	return rc < 0 ? rc : chan_send(c->fs->chan, w.p, w.n, NULL, 0);
}

static void on_retry(uv_timer_t *t)
{
	struct client *c = t->data;
	int rc = client_connect(c);
	if (rc == 0)
		return;
	log_debug("pandod: connect %s: %s", c->addr.sun_path, strerror(-rc));
	(void)uv_timer_start(&c->retry, on_retry, RETRY_MS, 0); /* cannot fail with a callback */
}

int client_new(struct fs *fs, const char *run_dir, void (*gone)(void *ctx, int error), void *ctx, struct client **ret, struct err *e)
{
	struct client *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, -ENOMEM, "client: %m");
	*c = (struct client){ .fs = fs, .addr = { .sun_family = AF_UNIX }, .gone = gone, .ctx = ctx };
	int n = snprintf(c->addr.sun_path, sizeof(c->addr.sun_path), "%s/procfs.sock", run_dir);
	if (n < 0 || (size_t)n >= sizeof(c->addr.sun_path)) {
		free(c);
		return err_set(e, -ENAMETOOLONG, "%s/procfs.sock: too long for a socket", run_dir);
	}
	(void)uv_timer_init(fs->loop, &c->retry); /* always 0 */
	(void)uv_timer_init(fs->loop, &c->table_wait);
	c->retry.data = c->table_wait.data = c;
	c->handles = 2;
	(void)uv_timer_start(&c->retry, on_retry, 0, 0); /* cannot fail with a callback */
	*ret = c;
	return 0;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct client *c = h->data;
	if (--c->handles == 0)
		free(c);
}

void client_free(struct client *c)
{
	if (!c)
		return;
	chan_free(c->fs->chan);
	c->fs->chan = NULL;
	c->told = 1;
	uv_close((uv_handle_t *)&c->retry, on_timer_closed);
	uv_close((uv_handle_t *)&c->table_wait, on_timer_closed);
}
