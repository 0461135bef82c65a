#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "kern/rmem.h"
#include "stream/import_int.h"
#include "stream/import_own.h"
#include "stream/tty.h"

/* Ioctl: the kernel passes on data only when the number says its size. For others (terminals) the request has the caller's
 * pointer, and the caller waits for us: its memory is read and written in the pool, since that may fault and wait in turn. */

struct ioctl_job {
	struct job job;
	struct importer *im;
	struct fuse_in_header h;
	uint64_t fh, addr;
	struct tty_ioctl io;
	uint32_t cmd;
	int rc;
	int result;      /* of the ioctl, once it is done */
	struct ioctl_job *prev, *next;
	uint8_t data[TTY_ARG_MAX];
};

static void ioctl_begin(struct importer *im, struct ioctl_job *i)
{
	i->im = im;
	im->n_jobs++;
	DL_APPEND(im->ioctls, i);
	if (work_pool(im->cfg.work, &i->job) < 0) {
		i->rc = -EAGAIN;
		i->job.done(&i->job);
	}
}

static void ioctl_free(struct ioctl_job *i)
{
	i->im->n_jobs--;
	DL_DELETE(i->im->ioctls, i);
	free(i);
}

static void ioctl_reply(struct importer *im, uint64_t unique, int status, int result, const uint8_t *p, size_t n)
{
	struct fuse_ioctl_out out = { .result = result };
	if (status < 0)
		(void)fuse_dev_reply(im->dev, unique, status, NULL, 0); /* -ENOENT: nobody waits any more */
	else
		(void)fuse_dev_reply2(im->dev, unique, &out, sizeof out, p, n);
}

static void ioctl_copy_out(struct job *j)
{
	struct ioctl_job *i = (struct ioctl_job *)j;
	i->rc = rmem_write((pid_t)i->h.pid, (struct raddr){ i->addr }, i->data, i->io.out);
}

static void ioctl_copied_out(struct job *j)
{
	struct ioctl_job *i = (struct ioctl_job *)j;
	ioctl_reply(i->im, i->h.unique, i->rc, i->result, NULL, 0);
	ioctl_free(i);
}

void import_ioctl_answered(struct importer *im, const struct ireq *r, const struct pmsg *a)
{
	struct tty_ioctl io;
	int rc = tty_ioctl_find(r->size, &io);
	if (a->status < 0 || rc < 0 || a->n_data != io.out || tty_ioctl_is_encoded(r->size) || !io.out) {
		rc = a->status < 0 ? a->status : rc < 0 ? rc : a->n_data != io.out ? -EIO : 0;
		ioctl_reply(im, r->unique, rc, (int)a->off, a->data, tty_ioctl_is_encoded(r->size) ? a->n_data : 0);
		return;
	}
	struct ioctl_job *i = calloc(1, sizeof *i);
	if (!i) {
		ioctl_reply(im, r->unique, -ENOMEM, 0, NULL, 0);
		return;
	}
	i->job = (struct job){ .run = ioctl_copy_out, .done = ioctl_copied_out };
	i->h = (struct fuse_in_header){ .unique = r->unique, .pid = r->pid };
	i->addr = (uint64_t)r->off;
	i->io = io;
	i->result = (int)a->off;
	memcpy(i->data, a->data, a->n_data);
	ioctl_begin(im, i);
}

static void ioctl_send(struct importer *im, const struct fuse_in_header *q, struct ihandle *h, uint32_t cmd, uint64_t value,
		       const struct tty_ioctl *io, const uint8_t *in)
{
	struct ireq *r = import_fs_forward(im, q, h->imp, &(struct pmsg){ .type = PMSG_IOCTL, .fh = h->fh, .size = cmd,
								.off = io->is_value ? (int64_t)value : 0, .len = io->out, .data = in,
								.n_data = io->in });
	if (!r)
		return;
	r->off = (int64_t)value;
	r->size = cmd;
}

static void ioctl_copy_in(struct job *j)
{
	struct ioctl_job *i = (struct ioctl_job *)j;
	i->rc = rmem_read((pid_t)i->h.pid, (struct raddr){ i->addr }, i->data, i->io.in);
}

static void ioctl_copied_in(struct job *j)
{
	struct ioctl_job *i = (struct ioctl_job *)j;
	struct ihandle *h = ihandle_find(i->im, i->fh);
	if (i->rc < 0 || !h)
		ioctl_reply(i->im, i->h.unique, i->rc < 0 ? i->rc : -EBADF, 0, NULL, 0);
	else
		ioctl_send(i->im, &i->h, h, i->cmd, i->addr, &i->io, i->data);
	ioctl_free(i);
}

void import_ioctl(struct importer *im, const struct fuse_in_header *q, const uint8_t *p, size_t n)
{
	struct fuse_ioctl_in in = { 0 };
	struct tty_ioctl io = { 0 };
	if (n >= sizeof in)
		memcpy(&in, p, sizeof in);
	struct ihandle *h = n >= sizeof in ? ihandle_find(im, in.fh) : NULL;
	if (h && in.cmd == IMPORT_IDENT && q->uid == 0 && in.out_size >= sizeof h->fh) {
		ioctl_reply(im, q->unique, 0, 0, (const uint8_t *)&h->fh, sizeof h->fh);
		return;
	}
	int is_device = h && (h->imp->kind == STREAM_TTY || h->imp->kind == STREAM_CHR);
	if (!is_device || tty_ioctl_find(in.cmd, &io) < 0) {
		ioctl_reply(im, q->unique, -ENOTTY, 0, NULL, 0);
		return;
	}
	if (tty_ioctl_is_encoded(in.cmd)) {
		if (in.in_size < io.in || n - sizeof in < io.in)
			ioctl_reply(im, q->unique, -EINVAL, 0, NULL, 0);
		else
			ioctl_send(im, q, h, in.cmd, in.arg, &io, p + sizeof in);
		return;
	}
	if (!io.in) {
		ioctl_send(im, q, h, in.cmd, in.arg, &io, NULL);
		return;
	}
	struct ioctl_job *i = calloc(1, sizeof *i);
	if (!i) {
		ioctl_reply(im, q->unique, -ENOMEM, 0, NULL, 0);
		return;
	}
	*i = (struct ioctl_job){ .job = { .run = ioctl_copy_in, .done = ioctl_copied_in }, .h = *q, .fh = h->fh, .addr = in.arg, .io = io,
				 .cmd = in.cmd };
	ioctl_begin(im, i);
}

int import_ioctl_has(const struct importer *im, uint64_t unique)
{
	struct ioctl_job *i;
	DL_FOREACH(im->ioctls, i)
		if (i->h.unique == unique)
			return 1;
	return 0;
}
