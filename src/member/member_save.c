/* The file with the last known state is written by a thread of the pool, one at a time; what changes meanwhile is written after that.
 * Failure: it is said, and the next change tries again. */
#include "member/member.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "member/member_int.h"

struct save {
	struct member *m;
	char *dir; /* owned */
	struct wr w;
	struct err err;
	int rc;
};

static void save_work(uv_work_t *req)
{
	struct save *s = req->data;
	s->rc = member_state_store(s->dir, s->w.p, s->w.n, &s->err);
}


static void save_done(uv_work_t *req, int status)
{
	struct save *s = req->data;
	struct member *m = s->m;
	if (s->rc < 0)
		log_warn("member: %s; after a start it may look for the others where they were before", s->err.text);
	free(s->dir);
	wr_fini(&s->w);
	free(s);
	m->saving = false;
	m->n_open--;
	if (m->save_again && !m->closing)
		member_save(m);
	member_closed_maybe(m);
}

void member_save(struct member *m)
{
	m->save_again = m->saving;
	if (m->saving)
		return;
	struct save *s = calloc(1, sizeof *s);
	if (!s)
		return; /* the next change tries again */
	s->m = m;
	s->dir = strdup(m->state_dir);
	cluster_encode(m->shown, &s->w);
	m->save.data = s;
	if (!s->dir || wr_done(&s->w) < 0 || uv_queue_work(m->cfg.loop, &m->save, save_work, save_done) < 0) {
		free(s->dir);
		wr_fini(&s->w);
		free(s);
		return;
	}
	m->saving = true;
	m->n_open++;
}
