/* The last step of mounting /proc: asked of the zygote, answered when a /proc server has answered the names on the way. */
#include "space/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

struct finish {
	void (*done)(void *ctx, int status);
	void *ctx;
};

static void on_finished(void *ctx, const struct zyg_msg *m, int fd)
{
	struct finish *f = ctx;
	(void)close_fd(fd);
	f->done(f->ctx, m->result);
	free(f);
}

int space_proc_finish(struct space *s, void (*done)(void *ctx, int status), void *ctx)
{
	if (s->ends.proc_fd < 0)
		return -ENOENT;
	struct finish *f = malloc(sizeof *f);
	if (!f)
		return -ENOMEM;
	*f = (struct finish){ done, ctx };
	struct zyg_cmd c = { .op = ZYG_PROC_FINISH };
	int rc = zyg_command(s, &c, &s->ends.proc_fd, 1, 1, on_finished, f);
	if (rc < 0)
		free(f);
	return rc;
}
