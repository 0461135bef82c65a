#define HASH_NONFATAL_OOM 1
#include "procfs/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "procfs/remote.h"

/* uthash reports a failed allocation by leaving hh.tbl NULL. */
#define ADDED(e) ((e)->hh.tbl != NULL)

void table_init(struct table *t)
{
	*t = (struct table){ .features_default = PROCFS_F_CLUSTER_CPUS };
	for (uint16_t s = 1; s < TABLE_SLOTS; s++)
		t->slots[s] = s;
}

void table_fini(struct table *t)
{
	struct table_pid *p, *ptmp;
	HASH_ITER(hh, t->pids, p, ptmp)
	{
		HASH_DEL(t->pids, p);
		free(p);
	}
	struct table_features *f, *ftmp;
	HASH_ITER(hh, t->features, f, ftmp)
	{
		HASH_DEL(t->features, f);
		free(f);
	}
	*t = (struct table){ 0 };
}

int table_pid_set(struct table *t, const struct procfs_pid *p)
{
	if (p->pid == 0 || p->pid > REMOTE_PID_MAX || (p->kind != PROCFS_HIDDEN && p->kind != PROCFS_REMOTE))
		return -EINVAL;
	if (p->kind == PROCFS_REMOTE && (p->node == 0 || p->node >= TABLE_NODES))
		return -EINVAL;

	struct table_pid *e;
	HASH_FIND(hh, t->pids, &p->pid, sizeof(p->pid), e);
	if (e) {
		e->p = *p;
		return 0;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->p = *p;
	HASH_ADD(hh, t->pids, p.pid, sizeof(e->p.pid), e);
	if (!ADDED(e)) {
		free(e);
		return -ENOMEM;
	}
	return 0;
}

void table_pid_del(struct table *t, uint32_t pid)
{
	struct table_pid *e;
	HASH_FIND(hh, t->pids, &pid, sizeof(pid), e);
	if (!e)
		return;
	HASH_DEL(t->pids, e);
	free(e);
}

const struct procfs_pid *table_pid_get(const struct table *t, uint32_t pid)
{
	struct table_pid *e;
	HASH_FIND(hh, t->pids, &pid, sizeof(pid), e);
	return e ? &e->p : NULL;
}

int table_features_set(struct table *t, uint32_t pid, uint32_t flags)
{
	struct table_features *e;
	HASH_FIND(hh, t->features, &pid, sizeof(pid), e);
	if (!e) {
		e = calloc(1, sizeof(*e));
		if (!e)
			return -ENOMEM;
		e->pid = pid;
		HASH_ADD(hh, t->features, pid, sizeof(e->pid), e);
		if (!ADDED(e)) {
			free(e);
			return -ENOMEM;
		}
	}
	e->flags = flags;
	return 0;
}

void table_features_del(struct table *t, uint32_t pid)
{
	struct table_features *e;
	HASH_FIND(hh, t->features, &pid, sizeof(pid), e);
	if (!e)
		return;
	HASH_DEL(t->features, e);
	free(e);
}

uint32_t table_features_get(const struct table *t, uint32_t pid)
{
	struct table_features *e;
	HASH_FIND(hh, t->features, &pid, sizeof(pid), e);
	return e ? e->flags : t->features_default;
}

static int name_ok(const char *name)
{
	size_t n = strlen(name);
	if (n == 0 || n >= TABLE_NAME_MAX || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	for (const char *p = name; *p; p++)
		if (*p == '/' || (unsigned char)*p < ' ')
			return 0;
	return 1;
}

int table_node_set(struct table *t, uint16_t node, const char *name, int up)
{
	if (node == 0 || node >= TABLE_NODES || (name && !name_ok(name)))
		return -EINVAL;
	struct table_node *n = &t->nodes[node];
	*n = (struct table_node){ 0 };
	if (!name)
		return 0;
	n->present = 1;
	n->up = up != 0;
	(void)memcpy(n->name, name, strlen(name) + 1); /* name_ok: it fits */
	return 0;
}

uint16_t table_node_find(const struct table *t, const char *name)
{
	for (uint16_t i = 1; i < TABLE_NODES; i++)
		if (t->nodes[i].present && strcmp(t->nodes[i].name, name) == 0)
			return i;
	return 0;
}

int table_slot_set(struct table *t, uint32_t slot, uint16_t node)
{
	if (slot >= TABLE_SLOTS || node >= TABLE_NODES)
		return -EINVAL;
	t->slots[slot] = node;
	return 0;
}

uint16_t table_owner(const struct table *t, uint32_t pid)
{
	uint32_t slot = pid >> 15;
	return slot < TABLE_SLOTS ? t->slots[slot] : 0;
}
