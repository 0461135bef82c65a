/* The member's side of joining, and new tokens.
 *
 * A request: when its token is one that this member knows, the token is checked and used up, and number and slot are given, by one command
 * in the log (CLUSTER_ADD); when it has been applied here too the answer goes out: certificate, CA, state of the cluster. The leader
 * adds the new member to the raft group by itself (roles.h).
 *
 * Failure modes:
 *
 * - The token is not known here: perhaps not yet, so it is waited for; a stranger without one gets nothing into the log.
 * - The request for a certificate is no good: refused before anything is used up.
 * - The answer is lost: the machine asks again with the same nonce, here or elsewhere, and gets the same number.
 * - No majority: the machine gets words, and the token is not used (or is, by this nonce).
 * - The connection ends meanwhile: links_join_answer drops the answer. */
#include "member/join.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "member/member_int.h"

enum { TOKEN_WAIT_MS = 1000, APPLY_WAIT_MS = 3000 };

enum join_at {
	JOIN_TOKEN, /* waits for its token to be known here */
	JOIN_LOG,   /* for the command to be in the log */
	JOIN_APPLY, /* for the command to be applied here */
};

struct join_wait {
	struct join_wait *prev, *next;
	struct member *m; /* NULL: closing, the proposal is still under way */
	links_join_req *req;
	enum join_at at;
	struct cluster_cmd cmd;
	uint16_t node;
	uint64_t deadline_ms;
	size_t csr_n;
	uint8_t csr[];
};

static uint64_t realtime_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static void answer_send(links_join_req *req, const struct join_answer *a)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	join_answer_encode(a, &w);
	if (wr_done(&w) == 0)
		links_join_answer(req, w.p, w.n);
	else
		links_join_answer(req, NULL, 0); /* the other side says that it was damaged, and may ask again */
	if (w.p)
		explicit_bzero(w.p, w.n); /* the CA's key was in it */
}

static void refuse(links_join_req *req, int status, const char *words)
{
	struct join_answer a = { .status = status };
	(void)snprintf(a.words, sizeof a.words, "%s", words);
	answer_send(req, &a);
}

static void wait_free(struct join_wait *j)
{
	if (j->m)
		DL_DELETE(j->m->joins, j);
	free(j);
}

/* The new member is known here: make its certificate and answer. */
static void admit(struct join_wait *j)
{
	struct member *m = j->m;
	struct err e = { 0 };
	_cleanup_(free_p) uint8_t *cert = NULL;
	_cleanup_(wr_fini) struct wr w = { 0 };
	uint8_t *ca = NULL;
	size_t ca_n = 0;
	struct join_answer a = { .node = j->node };
	int rc = pki_issue(m->cfg.pki, j->csr, j->csr_n, j->node, &cert, &a.cert_n, &e);
	if (rc == 0)
		rc = pki_ca_export(m->cfg.pki, &ca, &ca_n, &e);
	cluster_encode(&m->applied, &w);
	if (rc == 0)
		rc = wr_done(&w);
	if (rc < 0) {
		refuse(j->req, rc, *e.text ? e.text : strerror(-rc));
	} else {
		a.cert = cert;
		a.ca = ca;
		a.ca_n = ca_n;
		a.cluster = w.p;
		a.cluster_n = w.n;
		answer_send(j->req, &a);
		log_debug("member: node %u joined", j->node);
	}
	pki_wipe(ca, ca_n);
	wait_free(j);
}

static void add_done(void *ctx, int status, uint32_t value)
{
	struct join_wait *j = ctx;
	if (!j->m) {
		free(j); /* closing: it was answered */
		return;
	}
	if (status != 0) {
		refuse(j->req, status, member_strerror(status));
		wait_free(j);
		return;
	}
	j->node = (uint16_t)value;
	j->at = JOIN_APPLY;
	j->deadline_ms = lease_now_ms() + APPLY_WAIT_MS;
	member_joins_tick(j->m, lease_now_ms());
}

/* Whether a certificate could be made of the request. */
static int csr_check(const struct join_wait *j, struct err *e)
{
	_cleanup_(free_p) uint8_t *cert = NULL;
	size_t n;
	return pki_issue(j->m->cfg.pki, j->csr, j->csr_n, j->m->cfg.node, &cert, &n, e);
}

static void token_step(struct join_wait *j, uint64_t now_ms)
{
	struct err e = { 0 };
	int rc = 0;
	if (cluster_knows_token(&j->m->applied, j->cmd.hash)) {
		rc = csr_check(j, &e);
		if (rc == 0 && (rc = member_propose(j->m, &j->cmd, add_done, j)) < 0)
			(void)err_set(&e, rc, "%s", member_strerror(rc));
		j->at = JOIN_LOG;
	} else if (now_ms >= j->deadline_ms) {
		rc = err_set(&e, -EKEYREJECTED, "%s", member_strerror(-EKEYREJECTED));
	}
	if (rc < 0) {
		refuse(j->req, rc, e.text);
		wait_free(j);
	}
}

static void apply_step(struct join_wait *j, uint64_t now_ms)
{
	const struct cluster_member *o = cluster_member(&j->m->applied, j->node);
	if (o && o->state != MEMBER_REMOVED) {
		admit(j);
	} else if (now_ms >= j->deadline_ms) {
		refuse(j->req, -EAGAIN, "this member is behind the others; try again, or at another one");
		wait_free(j);
	}
}

void member_joins_tick(struct member *m, uint64_t now_ms)
{
	struct join_wait *j, *next;
	DL_FOREACH_SAFE(m->joins, j, next) {
		if (j->at == JOIN_TOKEN)
			token_step(j, now_ms);
		else if (j->at == JOIN_APPLY)
			apply_step(j, now_ms);
	}
}

/* ":4840": the address from which the machine came, with this port. */
static int addr_complete(char addr[static CLUSTER_ADDR_SIZE], const char *from)
{
	const char *colon = strrchr(from, ':');
	char port[CLUSTER_ADDR_SIZE];
	if (addr[0] != ':')
		return 0;
	memcpy(port, addr, sizeof port);
	if (!colon || (size_t)snprintf(addr, CLUSTER_ADDR_SIZE, "%.*s%s", (int)(colon - from), from, port) >= CLUSTER_ADDR_SIZE)
		return -EINVAL;
	return 0;
}

static int command_make(struct join_request *q, const char *from, struct cluster_cmd *cmd, struct err *e)
{
	*cmd = (struct cluster_cmd){ .type = CLUSTER_ADD, .now_ms = realtime_ms(), .nonce = q->nonce, .cpus = q->cpus, .memory = q->memory };
	if (cluster_name_check(q->name, e) < 0)
		return -EINVAL;
	if (addr_complete(q->addr, from) < 0 || addr_complete(q->stream_addr, from) < 0)
		return err_set(e, -EINVAL, "\"%s\" and \"%s\" make no address", from, q->addr);
	if (cluster_addr_check(q->addr, e) < 0 || (*q->stream_addr && cluster_addr_check(q->stream_addr, e) < 0))
		return -EINVAL;
	memcpy(cmd->name, q->name, sizeof cmd->name);
	memcpy(cmd->addr, q->addr, sizeof cmd->addr);
	memcpy(cmd->stream_addr, q->stream_addr, sizeof cmd->stream_addr);
	token_hash(q->secret, cmd->hash);
	return 0;
}

static int join_begin(struct member *m, const char *from, const uint8_t *p, size_t n, links_join_req *req, struct err *e)
{
	struct join_request q;
	struct cluster_cmd cmd;
	if (m->closing || !m->cfg.pki)
		return err_set(e, -EAGAIN, "this member is going down");
	int rc = join_request_decode(p, n, &q);
	if (rc < 0)
		return err_set(e, rc, "the request is not well formed (another version of pando?)");
	rc = command_make(&q, from, &cmd, e);
	if (rc < 0)
		return rc;

	struct join_wait *j = malloc(sizeof *j + q.csr_n);
	if (!j)
		return err_set(e, -ENOMEM, "out of memory");
	*j = (struct join_wait){ .m = m, .req = req, .cmd = cmd, .csr_n = q.csr_n, .deadline_ms = lease_now_ms() + TOKEN_WAIT_MS };
	memcpy(j->csr, q.csr, q.csr_n);
	DL_APPEND(m->joins, j);
	token_step(j, lease_now_ms());
	return 0;
}

static void join_msg(void *ctx, const char *from, const uint8_t *p, size_t n, links_join_req *req)
{
	struct err e = { 0 };
	int rc = join_begin(ctx, from, p, n, req, &e);
	if (rc < 0)
		refuse(req, rc, e.text);
}

void member_joins_init(struct member *m)
{
	links_on_join(m->cfg.links, join_msg, m);
}

void member_joins_cancel(struct member *m)
{
	while (m->joins) {
		struct join_wait *j = m->joins;
		DL_DELETE(m->joins, j);
		refuse(j->req, -EAGAIN, "this member is going down");
		j->m = NULL;
		if (j->at != JOIN_LOG)
			free(j); /* else add_done frees it: member_proposals_cancel comes next */
	}
}

/* ---- tokens ---- */

struct token_wait {
	struct token token;
	member_token_fn done;
	void *ctx;
};

static void token_done(void *ctx, int status, uint32_t value)
{
	struct token_wait *t = ctx;
	char text[TOKEN_TEXT_SIZE] = "";
	if (status == 0)
		status = token_encode(&t->token, text);
	t->done(t->ctx, status, status == 0 ? text : NULL);
	explicit_bzero(text, sizeof text);
	explicit_bzero(t, sizeof *t);
	free(t);
}

int member_token(struct member *m, uint64_t lifetime_ms, member_token_fn done, void *ctx)
{
	if (!m->cfg.pki)
		return -ENOKEY;
	struct token_wait *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	t->done = done;
	t->ctx = ctx;
	pki_ca_fingerprint(m->cfg.pki, t->token.fingerprint);
	if (getrandom(t->token.secret, sizeof t->token.secret, 0) != sizeof t->token.secret) {
		free(t);
		return -EIO;
	}
	/* This node first, then others in case it is gone by then. */
	for (unsigned k = 0; k < NODE_MAX && t->token.n_addrs < TOKEN_ADDRS; k++) {
		const struct cluster_member *o = cluster_member(m->shown, (uint16_t)((m->cfg.node - 1u + k) % NODE_MAX + 1));
		if (o && (cluster_is_live(o) || o->id == m->cfg.node))
			memcpy(t->token.addrs[t->token.n_addrs++], o->addr, sizeof t->token.addrs[0]);
	}

	struct cluster_cmd cmd = { .type = CLUSTER_TOKEN_ADD, .now_ms = realtime_ms() };
	cmd.expires_ms = cmd.now_ms + lifetime_ms;
	token_hash(t->token.secret, cmd.hash);
	int rc = t->token.n_addrs ? member_propose(m, &cmd, token_done, t) : -EAGAIN; /* no state yet: no address to tell */
	if (rc < 0)
		free(t);
	return rc;
}
