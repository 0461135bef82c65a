/* Questions about a node's native procfs. Those to another node go through pandod and come back as call_answer; those to this node
 * are done by a worker thread, just as those that come from other nodes. Failure modes: no pandod (-ENOTCONN at once), no answer
 * (-ETIMEDOUT from the tick; a late answer finds no call), too much under way (-EAGAIN), the one who waits goes away (call_forget). */
#include "procfs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "procfs/proto.h"
#include "procfs/serve.h"

struct job {
	uv_work_t work;
	struct fs *fs;
	struct serve_job s;
	uint8_t *msg;     /* owned: s.q.data points into it */
	uint32_t *hidden; /* owned */
	struct wr reply;
	job_fn done;
	void *ctx;
};

static void job_free(struct job *j)
{
	wr_fini(&j->reply);
	free(j->hidden);
	free(j->msg);
	free(j);
}

static void job_run(uv_work_t *w)
{
	struct job *j = w->data;
	serve_run(&j->s, &j->reply);
}

static void job_after(uv_work_t *w, int status)
{
	struct job *j = w->data;
	j->fs->n_jobs--;
	if (status < 0)
		remote_reply_put(&j->reply, status);
	j->done(j->ctx, j->reply.p, j->reply.n);
	job_free(j);
}

static int by_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static int hidden_list(const struct fs *fs, struct job *j)
{
	size_t n = HASH_COUNT(fs->table.pids), i = 0;
	if (n == 0)
		return 0;
	j->hidden = calloc(n, sizeof(*j->hidden));
	if (!j->hidden)
		return -ENOMEM;
	for (struct table_pid *p = fs->table.pids; p; p = p->hh.next)
		j->hidden[i++] = p->p.pid;
	qsort(j->hidden, n, sizeof(*j->hidden), by_u32);
	j->s.hidden = j->hidden;
	j->s.n_hidden = n;
	return 0;
}

/* Is this pid a process of ours? The answer of an owner of slots to one who looks for it. */
static void where_reply(struct fs *fs, uint32_t pid, struct wr *w)
{
	const struct procfs_pid *p = table_pid_get(&fs->table, pid);
	struct remote_owner o = { 0 };
	uint8_t where = REMOTE_NOWHERE;
	uint16_t node = 0;
	char name[16];
	struct stat dir, file;
	if (p && p->kind == PROCFS_REMOTE) {
		where = REMOTE_ELSEWHERE;
		node = p->node;
		o = (struct remote_owner){ .uid = p->uid, .gid = p->gid };
	} else if (!p && pid && pid <= REMOTE_PID_MAX) {
		(void)snprintf(name, sizeof(name), "%u", pid); /* fits */
		if (fstatat(fs->proc_fd, name, &dir, AT_SYMLINK_NOFOLLOW) == 0) {
			where = REMOTE_HERE;
			node = fs->self;
			o = (struct remote_owner){ .uid = dir.st_uid, .gid = dir.st_gid };
			(void)snprintf(name, sizeof(name), "%u/stat", pid); /* fits */
			if (fstatat(fs->proc_fd, name, &file, 0) == 0 && file.st_uid == dir.st_uid && file.st_gid == dir.st_gid)
				o.flags |= REMOTE_PID_DUMPABLE;
		}
	}
	remote_reply_put(w, 0);
	wr_u8(w, where);
	wr_u16(w, node);
	remote_owner_put(w, &o);
}

/* 0: j goes to a worker; 1: j->reply is the answer already. */
static int job_prepare(struct fs *fs, uint16_t from, struct job *j, const void *p, size_t n)
{
	j->msg = malloc(n ? n : 1);
	if (!j->msg)
		return -ENOMEM;
	memcpy(j->msg, p, n);
	int rc = remote_req_get(j->msg, n, &j->s.q);
	if (rc < 0)
		return rc;
	if (fs->proc_fd < 0 || fs->n_jobs >= JOBS_MAX)
		return -EAGAIN;
	j->s.procfd = fs->proc_fd;
	j->s.local = from == fs->self;
	if (j->s.q.op == REMOTE_WHERE) {
		where_reply(fs, j->s.q.pid, &j->reply);
		return 1;
	}
	if (j->s.q.op == REMOTE_BULK)
		return hidden_list(fs, j);
	uint32_t pid = remote_path_pid(j->s.q.path, NULL);
	return pid && !j->s.local && table_pid_get(&fs->table, pid) ? -ENOENT : 0;
}

void job_start(struct fs *fs, uint16_t from, const void *p, size_t n, job_fn done, void *ctx)
{
	struct job *j = calloc(1, sizeof(*j));
	if (!j) {
		done(ctx, NULL, 0);
		return;
	}
	*j = (struct job){ .fs = fs, .done = done, .ctx = ctx };
	j->work.data = j;
	int rc = job_prepare(fs, from, j, p, n);
	if (rc == 0)
		rc = uv_queue_work(fs->loop, &j->work, job_run, job_after);
	if (rc == 0) {
		fs->n_jobs++;
		return;
	}
	if (rc < 0)
		remote_reply_put(&j->reply, rc);
	done(ctx, j->reply.p, j->reply.n);
	job_free(j);
}

static void call_end(struct fs *fs, struct call *c, int status, const void *p, size_t n)
{
	struct rd body = { 0 };
	HASH_DEL(fs->calls, c);
	if (c->done) {
		if (status == 0)
			status = remote_reply_get(p, n, &body);
		c->done(c->ctx, status, &body, p, n);
	}
	free(c);
}

static struct call *call_find(struct fs *fs, uint64_t id)
{
	struct call *c;
	HASH_FIND(hh, fs->calls, &id, sizeof(id), c);
	return c;
}

/* A question to this node itself, done by a worker: its answer finds its call by number, as the call may be gone by then. */
struct self_call {
	struct fs *fs;
	uint64_t id;
};

static void self_done(void *ctx, const void *p, size_t n)
{
	struct self_call *s = ctx;
	call_answer(s->fs, s->id, p ? 0 : -ENOMEM, p, n);
	free(s);
}

static int call_self(struct fs *fs, const struct wr *msg, uint64_t id)
{
	if (fs->n_jobs >= JOBS_MAX)
		return -EAGAIN;
	struct self_call *s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct self_call){ fs, id };
	job_start(fs, fs->self, msg->p, msg->n, self_done, s);
	return 0;
}

static int call_other(struct fs *fs, uint16_t node, const struct wr *msg, uint64_t id, uint32_t timeout_ms)
{
	if (!fs->chan)
		return -ENOTCONN;
	_cleanup_(wr_fini) struct wr w = { 0 };
	struct proto_call c = { .id = id, .node = node, .timeout_ms = timeout_ms, .p = msg->p, .n = msg->n };
	proto_call_put(&w, PROTO_REQ, &c);
	int rc = wr_done(&w);
	return rc < 0 ? rc : chan_send(fs->chan, w.p, w.n, NULL, 0);
}

int call_start(struct fs *fs, uint16_t node, const struct remote_req *q, uint32_t timeout_ms, call_fn done, void *ctx, uint64_t *ret_id)
{
	_cleanup_(wr_fini) struct wr msg = { 0 };
	remote_req_put(&msg, q);
	int rc = wr_done(&msg);
	if (rc < 0)
		return rc;
	struct call *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	if (++fs->next_call == 0)
		fs->next_call = 1;
	*c = (struct call){ .id = fs->next_call, .until_ms = clock_ms() + timeout_ms, .done = done, .ctx = ctx };
	uint64_t id = c->id;
	HASH_ADD(hh, fs->calls, id, sizeof(c->id), c);
	rc = node == fs->self ? call_self(fs, &msg, id) : call_other(fs, node, &msg, id, timeout_ms);
	if (rc < 0) {
		HASH_DEL(fs->calls, c);
		free(c);
		return rc;
	}
	*ret_id = id;
	fs_tick(fs);
	return 0;
}

void call_forget(struct fs *fs, uint64_t id)
{
	struct call *c = call_find(fs, id);
	if (c)
		c->done = NULL;
}

void call_answer(struct fs *fs, uint64_t id, int status, const void *p, size_t n)
{
	struct call *c = call_find(fs, id);
	if (c)
		call_end(fs, c, status > 0 || status <= -512 ? -EBADMSG : status, p, n);
}

void call_fail_all(struct fs *fs, int error)
{
	/* A callback may start or forget calls: begin anew after each. Calls to this node end here too, their workers find none. */
	while (fs->calls)
		call_end(fs, fs->calls, error, NULL, 0);
}

void call_expire(struct fs *fs, uint64_t now_ms)
{
	for (struct call *c = fs->calls, *next; c; c = next) {
		next = c->hh.next;
		if (now_ms < c->until_ms)
			continue;
		call_end(fs, c, -ETIMEDOUT, NULL, 0);
		next = fs->calls; /* anything may have changed */
	}
}
