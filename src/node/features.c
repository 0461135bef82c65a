/* Feature sets of processes, and the node that a process asked for.
 *
 * Only processes that differ from what they would inherit have a record; all others are looked up through their parents. Records are
 * by the number in our own pid namespace and the start time, so that a reused number is never mistaken; they lie in a memfd that the
 * keeper holds, and outlive this program. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "keeper/client.h"
#include "kern/procinfo.h"
#include "node/node.h"
#include "space/features.h"

enum { RECORDS = 8192, DEPTH_MAX = 256, SWEEP_MS = 20000 };

struct frec {
	int32_t outer; /* 0: free */
	int32_t pid;   /* in the space */
	uint32_t node; /* wanted for the next execve, 0: none */
	uint32_t pad;
	uint64_t start_ticks;
	uint32_t effective, inheritable;
};

struct fset {
	struct frec *recs; /* RECORDS of them, shared memory */
	unsigned n, top; /* used ones; all of them lie below top */
	int fd;
};

static struct frec *rec_find(const struct node *n, pid_t outer, uint64_t start)
{
	const struct fset *f = n->fsets;
	if (!f->n)
		return NULL;
	for (unsigned i = 0; i < f->top; i++)
		if (f->recs[i].outer == outer && f->recs[i].start_ticks == start)
			return &f->recs[i];
	return NULL;
}

static struct frec *rec_new(struct node *n, pid_t outer, uint64_t start)
{
	struct fset *f = n->fsets;
	for (unsigned i = 0; i < RECORDS; i++) {
		struct frec *r = &f->recs[i];
		if (r->outer)
			continue;
		f->n++;
		if (f->top <= i)
			f->top = i + 1;
		int pid = nspid_tgid(&n->ns, outer);
		*r = (struct frec){ .outer = outer, .pid = pid > 0 ? pid : 0, .start_ticks = start };
		return r;
	}
	return NULL;
}

static void rec_drop(struct node *n, struct frec *r)
{
	struct fset *f = n->fsets;
	if (r->pid)
		proc_glue_features_gone(n, r->pid);
	*r = (struct frec){ 0 };
	f->n--;
	while (f->top > 0 && !f->recs[f->top - 1].outer)
		f->top--;
}

/* Both sets of a process: of its own record, or what the nearest ancestor with one passes on. */
static void sets_of(struct node *n, pid_t outer, uint32_t *ret_effective, uint32_t *ret_inheritable)
{
	struct procinfo info;
	*ret_effective = *ret_inheritable = FEATURES_INITIAL;
	pid_t at = outer;
	for (unsigned depth = 0; n->fsets->n && at > 1 && depth < DEPTH_MAX && procinfo_stat(at, &info) == 0; depth++) {
		const struct frec *r = rec_find(n, at, info.start_ticks);
		if (r) {
			*ret_effective = depth == 0 ? r->effective : r->inheritable;
			*ret_inheritable = r->inheritable;
			return;
		}
		at = info.ppid;
	}
}

uint32_t features_effective(struct node *n, pid_t outer)
{
	uint32_t effective, inheritable;
	sets_of(n, outer, &effective, &inheritable);
	return effective;
}

static struct frec *rec_get(struct node *n, pid_t outer)
{
	struct procinfo info;
	uint32_t effective, inheritable;
	if (outer <= 0 || procinfo_stat(outer, &info) < 0)
		return NULL;
	struct frec *r = rec_find(n, outer, info.start_ticks);
	if (r)
		return r;
	sets_of(n, outer, &effective, &inheritable);
	r = rec_new(n, outer, info.start_ticks);
	if (!r) {
		log_warn("features: %d processes have their own, no room for more", RECORDS);
		return NULL;
	}
	r->effective = effective;
	r->inheritable = inheritable;
	return r;
}

uint16_t features_take_node(struct node *n, pid_t outer)
{
	struct procinfo info;
	if (!n->fsets->n || procinfo_stat(outer, &info) < 0)
		return 0;
	struct frec *r = rec_find(n, outer, info.start_ticks);
	uint16_t node = r ? (uint16_t)r->node : 0;
	if (r)
		r->node = 0;
	return node;
}

void features_want_node(struct node *n, pid_t outer, uint16_t node)
{
	struct frec *r = rec_get(n, outer);
	if (r)
		r->node = node;
}

/* --- "+x,-y" --- */

static const struct feature_item *item_named(const char *name, size_t len)
{
	for (unsigned i = 0; i < FEATURE_ITEMS; i++)
		if (strlen(feature_list[i].name) == len && strncmp(feature_list[i].name, name, len) == 0)
			return &feature_list[i];
	return NULL;
}

static int change_fail(const char *name, size_t len, struct err *e)
{
	char list[160] = "";
	for (unsigned i = 0; i < FEATURE_ITEMS; i++)
		(void)snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", feature_list[i].name);
	return err_set(e, -EINVAL, "no feature is called \"%.*s\"; there are %s", (int)(len < 40 ? len : 40), name, list);
}

static int change_parse(const char *change, uint32_t *ret_on, uint32_t *ret_off, struct err *e)
{
	*ret_on = *ret_off = 0;
	for (const char *p = change; *p;) {
		char sign = *p;
		size_t len = strcspn(p + (sign == '+' || sign == '-'), ",");
		if (sign != '+' && sign != '-')
			return err_set(e, -EINVAL, "\"%.60s\": + or - and a feature's name is wanted", p);
		const struct feature_item *item = item_named(p + 1, len);
		if (!item)
			return change_fail(p + 1, len, e);
		if (sign == '+' && !item->ready)
			return err_set(e, -EOPNOTSUPP, "%s: not yet: this version cannot do it", item->name);
		*(sign == '+' ? ret_on : ret_off) |= item->bit;
		*(sign == '+' ? ret_off : ret_on) &= ~item->bit;
		p += 1 + len;
		p += *p == ',';
	}
	return 0;
}

int features_change(struct node *n, pid_t outer, const char *change, struct err *e)
{
	uint32_t on, off;
	int rc = change_parse(change, &on, &off, e);
	if (rc < 0 || (!on && !off))
		return rc;
	struct frec *r = rec_get(n, outer);
	if (!r)
		return err_set(e, -ESRCH, "the process has ended");
	r->effective = (r->effective | on) & ~off;
	r->inheritable = (r->inheritable | on) & ~off;
	proc_glue_features(n, r->pid, r->effective);
	return 0;
}

int features_initial(const char *change, uint64_t *ret, struct err *e)
{
	uint32_t on, off;
	int rc = change_parse(change, &on, &off, e);
	uint64_t set = ((uint64_t)FEATURES_INITIAL | on) & ~(uint64_t)off;
	*ret = set << 32 | set;
	return rc;
}

/* --- images --- */

uint64_t features_pack(void *ctx, int32_t pid, pid_t outer)
{
	uint32_t effective, inheritable;
	(void)pid;
	sets_of(ctx, outer, &effective, &inheritable);
	return (uint64_t)inheritable << 32 | effective;
}

void features_arrived(void *ctx, int32_t pid, pid_t outer, uint64_t features)
{
	struct node *n = ctx;
	uint32_t effective, inheritable;
	(void)pid;
	sets_of(n, outer, &effective, &inheritable);
	if (((uint64_t)inheritable << 32 | effective) == features)
		return; /* as it would be without a record */
	struct frec *r = rec_get(n, outer);
	if (!r)
		return;
	r->effective = (uint32_t)features & FEATURES_ALL;
	r->inheritable = (uint32_t)(features >> 32) & FEATURES_ALL;
	proc_glue_features(n, r->pid, r->effective);
}

json_t *features_json(struct node *n, pid_t outer)
{
	uint32_t effective, inheritable;
	sets_of(n, outer, &effective, &inheritable);
	json_t *list = json_array();
	for (unsigned i = 0; list && i < FEATURE_ITEMS; i++) {
		const struct feature_item *f = &feature_list[i];
		(void)json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:b, s:s}", "name", f->name, "effective", (effective & f->bit) != 0,
							    "inheritable", (inheritable & f->bit) != 0, "ready", f->ready, "about", f->about));
	}
	return list;
}

/* --- life --- */

void features_tell(struct node *n)
{
	for (unsigned i = 0; i < n->fsets->top; i++)
		if (n->fsets->recs[i].outer)
			proc_glue_features(n, n->fsets->recs[i].pid, n->fsets->recs[i].effective);
}

static void on_sweep(uv_timer_t *t)
{
	struct node *n = t->data;
	struct procinfo info;
	for (unsigned i = n->fsets->top; i-- > 0;) {
		struct frec *r = &n->fsets->recs[i];
		if (r->outer && (procinfo_stat(r->outer, &info) < 0 || info.start_ticks != r->start_ticks))
			rec_drop(n, r);
	}
}

int features_start(struct node *n)
{
	enum { SIZE = RECORDS * sizeof(struct frec) };
	struct fset *f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	f->fd = n->had_space ? keeper_take(n->keeper, "features") : -1;
	if (f->fd < 0) {
		f->fd = memfd_create("pando-features", MFD_CLOEXEC);
		if (f->fd < 0 || ftruncate(f->fd, SIZE) < 0) {
			(void)close_fd(f->fd);
			free(f);
			return -ENOMEM;
		}
		(void)keeper_put(n->keeper, "features", f->fd); /* without a keeper they end with us */
	}
	f->recs = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	if (f->recs == MAP_FAILED) {
		(void)close_fd(f->fd);
		free(f);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < RECORDS; i++) {
		f->n += f->recs[i].outer != 0;
		f->top = f->recs[i].outer ? i + 1 : f->top;
	}
	n->fsets = f;
	(void)uv_timer_init(&n->loop, &n->features_timer);
	n->features_timer.data = n;
	return uv_timer_start(&n->features_timer, on_sweep, SWEEP_MS, SWEEP_MS);
}

void features_stop(struct node *n)
{
	uv_close((uv_handle_t *)&n->features_timer, NULL);
}
