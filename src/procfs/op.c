/* Operations whose answer takes time. The caller may be interrupted meanwhile: he is told at once, and whatever was asked for on his
 * behalf is forgotten when it comes. */
#include <errno.h>
#include <stdlib.h>

#include "procfs/fs.h"

void op_done(struct op *op)
{
	if (op->data && op->data_free)
		op->data_free(op->data);
	free(op);
}

void op_err(struct op *op, int rc)
{
	if (op->req)
		(void)fuse_reply_err(op->req, -rc); /* a caller that is gone needs no answer */
	op_done(op);
}

static void on_interrupt(fuse_req_t req, void *data)
{
	struct op *op = data;
	if (!op->req)
		return;
	op->req = NULL;
	(void)fuse_reply_err(req, EINTR); /* as above */
}

struct op *op_new(struct fs *fs, fuse_req_t req)
{
	struct op *op = calloc(1, sizeof(*op));
	if (!op) {
		(void)fuse_reply_err(req, ENOMEM); /* as above */
		return NULL;
	}
	op->fs = fs;
	op->req = req;
	const struct fuse_ctx *c = fuse_req_ctx(req);
	op->tid = (uint32_t)c->pid;
	op->cred = (struct cred){ .uid = c->uid, .gid = c->gid };
	return op;
}

void op_cred(struct op *op)
{
	cred_of(op->fs->proc_fd, (pid_t)op->tid, op->cred.uid, op->cred.gid, &op->cred);
}

static void on_answer(void *ctx, int status, struct rd *body, const void *p, size_t n)
{
	struct op *op = ctx;
	op->call = 0;
	if (!op->req) {
		op_done(op);
		return;
	}
	fuse_req_interrupt_func(op->req, NULL, NULL);
	op->answered(op, status, body);
}

void op_ask(struct op *op, uint16_t node, struct remote_req *q, void (*answered)(struct op *op, int status, struct rd *body))
{
	q->cred = op->cred;
	op->answered = answered;
	int rc = call_start(op->fs, node, q, TIMEOUT_MS, on_answer, op, &op->call);
	if (rc < 0) {
		op_err(op, rc);
		return;
	}
	fuse_req_interrupt_func(op->req, on_interrupt, op);
}

static void on_gathered(void *ctx)
{
	struct op *op = ctx;
	if (!op->req) {
		op_done(op);
		return;
	}
	fuse_req_interrupt_func(op->req, NULL, NULL);
	op->gathered(op);
}

void op_gather(struct op *op, enum gather_what what, int cpuinfo, void (*gathered)(struct op *op))
{
	op->gathered = gathered;
	fuse_req_interrupt_func(op->req, on_interrupt, op);
	if (!op->req) { /* interrupted already */
		op_done(op);
		return;
	}
	if (what == GATHER_PROCS)
		gather_procs(op->fs, on_gathered, op);
	else
		gather_figures(op->fs, cpuinfo, on_gathered, op);
}
