/* Proposals: tried here when this node leads, else at the leader by a call; tried again until one takes it or the time is over.
 *
 * Failure modes:
 *
 * - No leader: it waits in the list for the next tick.
 * - The leader is another one by now, or lost its lead with the command in its log: tried again. So a command may be applied twice;
 *   commands are made for that (member/cluster.h).
 * - The call is lost: the same.
 * - Closing: all get -ECANCELED; one whose call is under way is freed when that ends. */
#include "member/member.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "member/member_int.h"
#include "member/proto.h"

struct proposal {
	struct proposal *prev, *next;
	struct member *m; /* NULL: canceled while a try was under way */
	member_done_fn done;
	void *ctx;
	uint64_t deadline_ms, retry_ms;
	bool busy;
	size_t n;
	uint8_t bytes[];
};

const char *member_strerror(int status)
{
	switch (status) {
	case 0:
		return "done";
	case -EAGAIN:
	case -ETIMEDOUT:
		return "no majority of the cluster answers";
	case -ESTALE:
		return "it has changed meanwhile";
	case -EEXIST:
		return "another member has this name or address";
	case -ENOENT:
		return "there is no such member, setting or token";
	case -ENOSPC:
		return "the cluster has no room for more";
	case -EBUSY:
		return "the node is not in a state for this";
	case -EINVAL:
		return "not a valid value";
	case -EKEYREJECTED:
		return "the token is not known";
	case -EKEYEXPIRED:
		return "the token has expired";
	case -EKEYREVOKED:
		return "the token was used already, or the node was removed";
	case -EOPNOTSUPP:
		return "an older member does not know this command";
	default:
		return strerror(-status);
	}
}

static void finish(struct proposal *q, int status, uint32_t value)
{
	struct member *m = q->m;
	if (m) {
		DL_DELETE(m->proposals, q);
		m->n_proposals--;
		q->done(q->ctx, status, value);
	}
	free(q);
}

static void again(struct proposal *q)
{
	q->busy = false;
	if (!q->m)
		free(q);
	else
		q->retry_ms = lease_now_ms() + MEMBER_RETRY_MS;
}

static void here_done(void *ctx, int status, struct engine_result r)
{
	struct proposal *q = ctx;
	if (status == -EAGAIN)
		again(q);
	else
		finish(q, status ? status : r.outcome, r.value);
}

static void there_done(void *ctx, int status, const uint8_t *p, size_t n)
{
	struct proposal *q = ctx;
	if (status == -EAGAIN || status == -ETIMEDOUT || status == -ECONNRESET || status == -ENOTCONN || status == -ENOSYS) {
		again(q);
		return;
	}
	struct rd r;
	rd_init(&r, p, n);
	int32_t outcome = status < 0 ? status : rd_i32(&r);
	uint32_t value = status < 0 ? 0 : rd_u32(&r);
	finish(q, r.bad || outcome > 0 ? -EBADMSG : outcome, value);
}

static void try(struct proposal *q)
{
	struct member *m = q->m;
	q->busy = true;
	int rc = engine_propose(m->engine, q->bytes, q->n, here_done, q);
	if (rc == -EAGAIN && m->raft.leader && m->raft.leader != m->cfg.node)
		rc = links_call(m->cfg.links, m->raft.leader, MSG_MEMBER_PROPOSE, q->bytes, q->n, MEMBER_CALL_MS, there_done, q);
	if (rc < 0)
		again(q); /* out of memory too: it may be better in a while */
}

int member_propose(struct member *m, const struct cluster_cmd *cmd, member_done_fn done, void *ctx)
{
	if (m->closing)
		return -ECANCELED;
	if (m->n_proposals >= MEMBER_PROPOSALS_MAX)
		return -ENOBUFS;
	_cleanup_(wr_fini) struct wr w = { 0 };
	int rc = cluster_cmd_encode(cmd, &w);
	if (rc < 0)
		return rc;
	struct proposal *q = malloc(sizeof *q + w.n);
	if (!q)
		return -ENOMEM;
	*q = (struct proposal){ .m = m, .done = done, .ctx = ctx, .deadline_ms = lease_now_ms() + MEMBER_PROPOSE_MS, .n = w.n };
	memcpy(q->bytes, w.p, w.n);
	DL_APPEND(m->proposals, q);
	m->n_proposals++;
	uv_async_send(&m->later); /* tried on the next turn: done never runs within this call */
	return 0;
}

void member_proposals_tick(struct member *m, uint64_t now_ms)
{
	struct proposal *q = m->proposals;
	while (q) {
		if (q->busy || (now_ms < q->deadline_ms && now_ms < q->retry_ms)) {
			q = q->next;
			continue;
		}
		if (now_ms >= q->deadline_ms)
			finish(q, -ETIMEDOUT, 0);
		else
			try(q); /* busy now, or for later; or done already, with the sole voter */
		q = m->proposals; /* done may have changed the list: from the start again */
	}
}

void member_proposals_cancel(struct member *m)
{
	while (m->proposals) {
		struct proposal *q = m->proposals;
		DL_DELETE(m->proposals, q);
		m->n_proposals--;
		q->m = NULL;
		q->done(q->ctx, -ECANCELED, 0);
		if (!q->busy)
			free(q);
	}
}

/* ---- for others ---- */

static void answer_done(void *ctx, int status, struct engine_result r)
{
	struct links_call_req *req = ctx;
	_cleanup_(wr_fini) struct wr w = { 0 };
	wr_i32(&w, r.outcome);
	wr_u32(&w, r.value);
	if (status == 0 && wr_done(&w) == 0)
		links_answer(req, 0, w.p, w.n);
	else
		links_answer(req, -EAGAIN, NULL, 0);
}

static void propose_call(void *ctx, uint16_t from, const uint8_t *p, size_t n, struct links_call_req *req)
{
	struct member *m = ctx;
	struct cluster_cmd cmd;
	int rc = n <= CLUSTER_CMD_MAX ? cluster_cmd_decode(p, n, &cmd) : -EMSGSIZE;
	if (rc == 0)
		rc = m->closing ? -EAGAIN : engine_propose(m->engine, p, n, answer_done, req);
	if (rc < 0)
		links_answer(req, rc == -EIO || rc == -ENOMEM ? -EAGAIN : rc, NULL, 0);
}

void member_proposals_init(struct member *m)
{
	links_handle_call(m->cfg.links, MSG_MEMBER_PROPOSE, propose_call, m);
}
