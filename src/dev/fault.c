/* Faults on purpose: nodes without power, links cut, slow, late or lossy, little CPU or memory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "dev/cg.h"
#include "dev/node.h"
#include "dev/ops.h"
#include "dev/proc.h"
#include "dev/switch.h"

enum { LOCK_MS = 10000 };

struct fault {
	struct trial *c; /* owned */
	struct cg cg;
};

static void fault_fini(struct fault *f)
{
	trial_free(f->c);
}

enum { NEED_ON = 1, NEED_ANY = 2 };

/* Opens a cluster that is up; i is 0 or a node that must be there (and on). */
static int begin(struct fault *f, const char *name, unsigned i, int need, struct err *e)
{
	int rc = trial_name_check(name, e);
	if (rc == 0)
		rc = trial_load(name, LOCK_MS, &f->c, e);
	if (rc == 0)
		rc = cg_find(&f->cg, e);
	if (rc < 0)
		return rc;
	if (f->c->starting)
		return err_set(e, -EBUSY,
			       "the start of \"%s\" was interrupted; clean up with: pando dev down --name %s", name,
			       name);
	if (i > f->c->n)
		return err_set(e, -EINVAL, "\"%s\" has nodes 1 to %u", name, f->c->n);
	if (i > 0 && need == NEED_ON && !proc_alive(&f->c->node[i].init))
		return err_set(e, -ESRCH, "node %u is off; turn it on with: pando dev start %u --name %s", i, i, name);
	return 0;
}

int dev_kill(const char *name, unsigned i, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	int rc = begin(&f, name, i, NEED_ON, e);
	if (rc < 0)
		return rc;
	rc = node_kill(f.c, &f.cg, i, e);
	int save_rc = trial_save(f.c, rc == 0 ? e : NULL);
	return rc == 0 ? save_rc : rc;
}

int dev_start(const char *name, unsigned i, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	_cleanup_(close_p) int leash = -1;
	(void)umask(022);
	int rc = begin(&f, name, i, NEED_ANY, e);
	if (rc < 0)
		return rc;
	if (proc_alive(&f.c->node[i].init))
		return err_set(e, -EEXIST, "node %u is on already", i);
	/* Its pid 1 may have died by itself, which leaves cgroups and a port behind. */
	rc = node_kill(f.c, &f.cg, i, e);
	if (rc == 0)
		rc = node_spawn(f.c, &f.cg, i, &leash, e);
	if (rc == 0)
		rc = node_connect(f.c, i, leash, e);
	if (rc == 0)
		rc = node_ready(f.c, i, leash, e);
	if (rc == 0)
		rc = node_say(i, leash, "start", e);
	if (rc == 0)
		rc = cg_limit_cpu(&f.cg, name, i, f.c->node[i].cpu, e);
	if (rc == 0)
		rc = trial_save(f.c, e);
	if (rc == 0)
		rc = node_say(i, leash, "stay", e);
	if (rc < 0) {
		(void)node_kill(f.c, &f.cg, i, NULL);
		(void)trial_save(f.c, NULL);
	}
	return rc;
}

int dev_freeze(const char *name, unsigned i, int on, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	int rc = begin(&f, name, i, NEED_ON, e);
	if (rc == 0)
		rc = cg_freeze(&f.cg, name, i, on, e);
	if (rc < 0)
		return rc;
	f.c->node[i].frozen = on;
	return trial_save(f.c, e);
}

int dev_cpu(const char *name, unsigned i, double cpus, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	int rc = begin(&f, name, i, NEED_ON, e);
	if (rc == 0)
		rc = cg_limit_cpu(&f.cg, name, i, cpus, e);
	if (rc < 0)
		return rc;
	f.c->node[i].cpu = cpus;
	return trial_save(f.c, e);
}

int dev_mem(const char *name, unsigned i, uint64_t bytes, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	int rc = begin(&f, name, i, NEED_ON, e);
	if (rc == 0)
		rc = cg_limit_mem(&f.cg, name, i, bytes, e);
	if (rc < 0)
		return rc;
	f.c->node[i].mem = bytes;
	return trial_save(f.c, e);
}

int dev_slow(const char *name, unsigned i, double mbit, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	int rc = begin(&f, name, i, NEED_ON, e);
	if (rc < 0)
		return rc;
	f.c->node[i].rate_mbit = mbit;
	rc = switch_apply_rate(f.c, i, e);
	return rc == 0 ? trial_save(f.c, e) : rc;
}

/* The change of one pair. */
struct change {
	enum { CHANGE_CUT, CHANGE_DELAY, CHANGE_LOSS } what;
	int cut;
	double ms, jitter_ms, pct;
};

static void change_pair(struct dev_pair *p, const struct change *ch)
{
	switch (ch->what) {
	case CHANGE_CUT:
		p->cut = ch->cut;
		break;
	case CHANGE_DELAY:
		p->delay_ms = ch->ms;
		p->jitter_ms = ch->jitter_ms;
		break;
	case CHANGE_LOSS:
		p->loss_pct = ch->pct;
		break;
	}
}

static int change(const char *name, unsigned a, unsigned b, int one_way, const struct change *ch, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	int rc = begin(&f, name, a > b ? a : b, NEED_ANY, e);
	if (rc < 0)
		return rc;
	if (a < 1 || a == b)
		return err_set(e, -EINVAL, "two different nodes, please");
	for (unsigned k = 1; k <= f.c->n; k++) {
		if (k == a || (b && k != b))
			continue;
		change_pair(trial_pair(f.c, a, k), ch);
		if (!one_way)
			change_pair(trial_pair(f.c, k, a), ch);
	}
	rc = switch_apply_pairs(f.c, e);
	return rc == 0 ? trial_save(f.c, e) : rc;
}

int dev_cut(const char *name, unsigned a, unsigned b, int one_way, int cut, struct err *e)
{
	return change(name, a, b, one_way, &(struct change){ .what = CHANGE_CUT, .cut = cut }, e);
}

int dev_delay(const char *name, unsigned a, unsigned b, int one_way, double ms, double jitter_ms, struct err *e)
{
	return change(name, a, b, one_way, &(struct change){ .what = CHANGE_DELAY, .ms = ms, .jitter_ms = jitter_ms },
		      e);
}

int dev_loss(const char *name, unsigned a, unsigned b, int one_way, double pct, struct err *e)
{
	return change(name, a, b, one_way, &(struct change){ .what = CHANGE_LOSS, .pct = pct }, e);
}

static int sides(const char *name, const unsigned *side, struct err *e)
{
	_cleanup_(fault_fini) struct fault f = { 0 };
	int rc = begin(&f, name, 0, NEED_ANY, e);
	if (rc < 0)
		return rc;
	for (unsigned i = f.c->n + 1; side && i <= DEV_NODES_MAX; i++)
		if (side[i])
			return err_set(e, -EINVAL, "\"%s\" has nodes 1 to %u", name, f.c->n);
	for (unsigned a = 1; a <= f.c->n; a++)
		for (unsigned b = 1; b <= f.c->n; b++)
			trial_pair(f.c, a, b)->cut = side && side[a] != side[b];
	rc = switch_apply_pairs(f.c, e);
	return rc == 0 ? trial_save(f.c, e) : rc;
}

int dev_part(const char *name, const unsigned side[static DEV_NODES_MAX + 1], struct err *e)
{
	return sides(name, side, e);
}

int dev_heal(const char *name, struct err *e)
{
	return sides(name, NULL, e);
}
