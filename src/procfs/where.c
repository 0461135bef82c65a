/* Where a process of another node is: told by pandod, seen in a snapshot, or asked for a moment ago. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "procfs/fs.h"

static struct where *cached(struct fs *fs, uint32_t pid)
{
	struct where *w;
	HASH_FIND(hh, fs->wheres, &pid, sizeof(pid), w);
	return w && clock_ms() - w->ms < WHERE_FRESH_MS ? w : NULL;
}

void where_note(struct fs *fs, uint32_t pid, uint16_t node, const struct remote_owner *owner)
{
	struct where *w;
	HASH_FIND(hh, fs->wheres, &pid, sizeof(pid), w);
	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return; /* it will be asked for again */
		w->pid = pid;
		HASH_ADD(hh, fs->wheres, pid, sizeof(w->pid), w);
	}
	w->node = node;
	w->owner = *owner;
	w->ms = clock_ms();
	fs_tick(fs);
}

void where_forget(struct fs *fs, uint32_t pid)
{
	struct where *w;
	HASH_FIND(hh, fs->wheres, &pid, sizeof(pid), w);
	if (!w)
		return;
	HASH_DEL(fs->wheres, w);
	free(w);
}

void where_expire(struct fs *fs, uint64_t now_ms)
{
	struct where *w, *tmp;
	HASH_ITER(hh, fs->wheres, w, tmp)
	{
		if (now_ms - w->ms < WHERE_FRESH_MS)
			continue;
		HASH_DEL(fs->wheres, w);
		free(w);
	}
}

static const struct remote_proc *scanned(struct fs *fs, uint32_t tid, uint16_t node, uint32_t pid, uint64_t now)
{
	for (const struct dirh *d = fs->scans; tid && d; d = d->by_tid_next)
		if (d->tid == tid && now - d->opened_ms < SNAP_SCAN_MS)
			return d->snaps[node] ? snap_find(d->snaps[node], pid) : NULL;
	return NULL;
}

const struct remote_proc *snap_for(struct fs *fs, uint32_t tid, uint16_t node, uint32_t pid)
{
	uint64_t now = clock_ms();
	const struct remote_proc *p = scanned(fs, tid, node, pid, now);
	const struct snap *s = fs->peers[node].snap;
	if (!p && s && now - s->taken_ms < SNAP_READ_MS)
		p = snap_find(s, pid);
	return p;
}

static int node_up(const struct fs *fs, uint16_t node)
{
	return node && node != fs->self && fs->table.nodes[node].present && fs->table.nodes[node].up;
}

static int from_table(struct fs *fs, const struct procfs_pid *p, uint32_t tid, struct where *ret)
{
	if (!node_up(fs, p->node))
		return -ENOENT;
	*ret = (struct where){ .pid = p->pid, .node = p->node,
			       .owner = { .uid = p->uid, .gid = p->gid, .flags = REMOTE_PID_DUMPABLE } };
	/* A snapshot or the node itself knows it better: the process may have changed its ids. */
	const struct remote_proc *q = snap_for(fs, tid, p->node, p->pid);
	const struct where *w = cached(fs, p->pid);
	if (q)
		ret->owner = q->owner;
	else if (w && w->node == p->node)
		ret->owner = w->owner;
	return 0;
}

int where_find(struct fs *fs, uint32_t pid, uint32_t tid, struct where *ret)
{
	const struct procfs_pid *p = table_pid_get(&fs->table, pid);
	if (p && p->kind == PROCFS_REMOTE)
		return from_table(fs, p, tid, ret);

	uint16_t first = table_owner(&fs->table, pid);
	for (uint16_t i = 0; i < TABLE_NODES; i++) {
		uint16_t node = i == 0 ? first : i;
		const struct remote_proc *q = node_up(fs, node) ? snap_for(fs, tid, node, pid) : NULL;
		if (!q)
			continue;
		*ret = (struct where){ .pid = pid, .node = node, .owner = q->owner };
		return 0;
	}
	const struct where *w = cached(fs, pid);
	if (w && node_up(fs, w->node)) {
		*ret = *w;
		return 0;
	}
	return where_hint(fs, pid) ? 1 : -ENOENT;
}

uint16_t where_hint(struct fs *fs, uint32_t pid)
{
	uint16_t owner = table_owner(&fs->table, pid);
	if (!fs->chan)
		return 0; /* nobody can be asked now */
	if (node_up(fs, owner))
		return owner;
	/* A pid of nobody's slot, or whose owner is this node and knows nothing (it would be in the table): who had it last? */
	for (uint16_t i = 1; i < TABLE_NODES; i++)
		if (node_up(fs, i) && fs->peers[i].snap && snap_find(fs->peers[i].snap, pid))
			return i;
	return 0;
}
