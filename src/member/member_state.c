/* The state directory: its last known state of the cluster, and how a cluster begins. */
#include "member/member.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "member/engine.h"
#include "member/member_int.h"

static int path_make(char ret[static PATH_MAX], const char *dir, const char *name, struct err *e)
{
	if ((size_t)snprintf(ret, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "%s/%s: path too long", dir, name);
	return 0;
}

int member_state_read(const char *state_dir, struct cluster **ret, struct err *e)
{
	char path[PATH_MAX];
	int rc = path_make(path, state_dir, "cluster", e);
	if (rc < 0)
		return rc;
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", path);

	_cleanup_(free_p) uint8_t *buf = malloc(CLUSTER_SNAPSHOT_MAX);
	_cleanup_(free_p) struct cluster *c = calloc(1, sizeof *c);
	if (!buf || !c)
		return err_set(e, -ENOMEM, "out of memory");
	size_t n = 0;
	for (;;) {
		ssize_t k = read(fd, buf + n, CLUSTER_SNAPSHOT_MAX - n);
		if (k < 0)
			return err_set(e, -errno, "read %s: %m", path);
		if (k == 0)
			break;
		n += (size_t)k;
	}
	rc = cluster_decode(c, buf, n);
	if (rc < 0)
		return err_set(e, rc, "%s: damaged", path);
	*ret = take_ptr(c);
	return 0;
}

int member_state_store(const char *state_dir, const void *p, size_t n, struct err *e)
{
	char path[PATH_MAX], tmp[PATH_MAX];
	int rc = path_make(path, state_dir, "cluster", e);
	if (rc == 0)
		rc = path_make(tmp, state_dir, ".cluster.new", e);
	if (rc < 0)
		return rc;
	_cleanup_(close_p) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(e, -errno, "open %s: %m", tmp);
	for (size_t at = 0; at < n;) {
		ssize_t k = write(fd, (const uint8_t *)p + at, n - at);
		if (k < 0)
			return err_set(e, -errno, "write %s: %m", tmp);
		at += (size_t)k;
	}
	if (fsync(fd) < 0)
		return err_set(e, -errno, "sync %s: %m", tmp);
	if (rename(tmp, path) < 0)
		return err_set(e, -errno, "rename %s: %m", tmp);
	return 0;
}

int member_state_write(const char *state_dir, const struct cluster *c, struct err *e)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	cluster_encode(c, &w);
	if (wr_done(&w) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return member_state_store(state_dir, w.p, w.n, e);
}

/* ---- a cluster begins ---- */

struct beginning {
	uv_loop_t loop;
	struct links *links;
	struct engine *engine;
	struct cluster *c; /* owned */
	struct cluster_cmd init;
	uv_timer_t timer;
	uint64_t deadline_ms;
	bool proposed, done;
	int status;
};

static struct engine_result begin_apply(void *ctx, const uint8_t *p, size_t n)
{
	struct beginning *b = ctx;
	struct cluster_effect f = cluster_apply(b->c, p, n);
	return (struct engine_result){ .outcome = f.status, .value = f.value };
}

static void begin_snapshot(void *ctx, struct wr *w)
{
	struct beginning *b = ctx;
	cluster_encode(b->c, w);
}

static int begin_restore(void *ctx, const uint8_t *p, size_t n)
{
	struct beginning *b = ctx;
	return cluster_decode(b->c, p, n);
}

static void begin_finish(struct beginning *b, int status)
{
	b->status = status;
	b->done = true;
	(void)uv_timer_stop(&b->timer); /* cannot fail */
	uv_stop(&b->loop);
}

static void begin_done(void *ctx, int status, struct engine_result r)
{
	begin_finish(ctx, status ? status : r.outcome);
}

static void begin_tick(uv_timer_t *t)
{
	struct beginning *b = t->data;
	struct engine_state st;
	engine_tick(b->engine);
	engine_state(b->engine, &st);
	if (clock_ms() > b->deadline_ms || st.failed) {
		begin_finish(b, st.failed ? -EIO : -ETIMEDOUT);
		return;
	}
	if (!st.leads || b->proposed)
		return;
	_cleanup_(wr_fini) struct wr w = { 0 };
	int rc = cluster_cmd_encode(&b->init, &w);
	if (rc == 0)
		rc = engine_propose(b->engine, w.p, w.n, begin_done, b);
	if (rc < 0)
		begin_finish(b, rc);
	else
		b->proposed = true;
}

static void begin_closed(void *ctx)
{
	bool *closed = ctx;
	*closed = true;
}

/* Runs the loop until everything is closed. */
static void begin_close(struct beginning *b)
{
	bool closed = !b->engine;
	if (b->engine)
		engine_close(b->engine, begin_closed, &closed);
	while (!closed)
		(void)uv_run(&b->loop, UV_RUN_ONCE);
	closed = !b->links;
	if (b->links)
		links_close(b->links, begin_closed, &closed);
	uv_close((uv_handle_t *)&b->timer, NULL);
	while (!closed)
		(void)uv_run(&b->loop, UV_RUN_ONCE);
	(void)uv_run(&b->loop, UV_RUN_DEFAULT); /* what is left are closings */
	(void)uv_loop_close(&b->loop);          /* nothing is open */
}

static int begin_run(struct beginning *b, const struct pki *pki, const char *raft_dir, struct err *e)
{
	int rc = links_new(&(struct links_config){ .loop = &b->loop, .pki = pki, .self = 1 }, &b->links, e);
	if (rc < 0)
		return rc;
	rc = engine_new(&(struct engine_config){ .loop = &b->loop, .links = b->links, .dir = raft_dir, .self = 1, .bootstrap = true, .ctx = b,
						 .apply = begin_apply, .snapshot = begin_snapshot, .restore = begin_restore }, &b->engine, e);
	if (rc < 0)
		return rc;
	b->deadline_ms = clock_ms() + 10000;
	(void)uv_timer_start(&b->timer, begin_tick, 0, 10); /* cannot fail with a callback */
	while (!b->done)
		(void)uv_run(&b->loop, UV_RUN_DEFAULT);
	return b->status < 0 ? err_set(e, b->status, "begin the log of the cluster: %s", member_strerror(b->status)) : 0;
}

static int init_command(struct cluster_cmd *cmd, const struct pki *pki, const struct member_identity *self, struct err *e)
{
	*cmd = (struct cluster_cmd){ .type = CLUSTER_INIT, .cpus = self->cpus, .memory = self->memory };
	const char *stream = self->stream_addr ? self->stream_addr : "";
	if (cluster_name_check(self->name, e) < 0 || cluster_addr_check(self->addr, e) < 0 ||
	    (*stream && cluster_addr_check(stream, e) < 0))
		return -EINVAL;
	strcpy(cmd->name, self->name); /* checked to fit */
	strcpy(cmd->addr, self->addr);
	strcpy(cmd->stream_addr, stream);

	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
	cmd->now_ms = (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
	if (!pki)
		return 0;
	const char *hex = pki_cluster_id(pki);
	for (unsigned i = 0; i < sizeof cmd->cluster_id; i++) {
		char two[3] = { hex[2 * i], hex[2 * i + 1], 0 };
		cmd->cluster_id[i] = (uint8_t)strtoul(two, NULL, 16);
	}
	return 0;
}

/* Deletes the files of a log; the directory holds nothing else. */
static void raft_dir_remove(const char *dir)
{
	_cleanup_(closedir_p) DIR *d = opendir(dir);
	if (!d)
		return;
	for (struct dirent *ent; (ent = readdir(d));)
		if (strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0)
			(void)unlinkat(dirfd(d), ent->d_name, 0); /* best effort: a failure is being reported already */
	(void)rmdir(dir);
}

int member_init_cluster(const char *state_dir, const struct member_identity *self, struct err *e)
{
	char raft_dir[PATH_MAX];
	struct cluster_cmd check;
	int rc = init_command(&check, NULL, self, e); /* before anything is written */
	if (rc == 0)
		rc = path_make(raft_dir, state_dir, "raft", e);
	if (rc < 0)
		return rc;

	_cleanup_(pki_free_p) struct pki *pki = NULL;
	rc = pki_create(state_dir, 1, &pki, e);
	if (rc < 0)
		return rc;

	struct beginning *b = calloc(1, sizeof *b);
	struct cluster *c = calloc(1, sizeof *c);
	if (!b || !c) {
		rc = err_set(e, -ENOMEM, "out of memory");
	} else {
		b->c = c;
		(void)init_command(&b->init, pki, self, NULL); /* checked above */
		rc = uv_loop_init(&b->loop);
		if (rc < 0) {
			rc = err_set(e, rc, "make a loop: %s", uv_strerror(rc));
		} else {
			(void)uv_timer_init(&b->loop, &b->timer); /* cannot fail */
			b->timer.data = b;
			rc = begin_run(b, pki, raft_dir, e);
			begin_close(b);
		}
	}
	if (rc == 0)
		rc = member_state_write(state_dir, c, e);
	if (rc < 0) {
		struct err other;
		raft_dir_remove(raft_dir);
		if (pki_remove(state_dir, &other) < 0)
			log_debug("member: after a failure: %s", other.text); /* the failure itself is what counts */
	}
	free(b);
	free(c);
	return rc;
}
