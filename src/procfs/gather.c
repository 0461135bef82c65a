/* What all nodes know, asked for by one question per node and kept for a while.
 *
 * Happy path: somebody lists /proc; each node that is up is asked for its processes (REMOTE_BULK, more parts if they do not fit one
 * answer), the list waits for the last of them. Failure modes: a node is slow (after GATHER_MS the list goes without it, or with what
 * it had said before, and for GATHER_SKIP_MS nobody waits for it), an answer is bad (as if it had not come), a node goes down (what it
 * said is dropped). */
#include "procfs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "procfs/merge.h"

struct peer_ref {
	struct fs *fs;
	uint16_t node;
	unsigned cpuinfo; /* asked for as well */
};

/* A node is asked when it is up and is not this one. */
static int peer_asked(const struct fs *fs, uint16_t node)
{
	return node != fs->self && fs->table.nodes[node].present && fs->table.nodes[node].up;
}

static int peer_busy(const struct fs *fs, uint16_t node, enum gather_what what)
{
	const struct peer *p = &fs->peers[node];
	return what == GATHER_PROCS ? p->call != 0 : p->figures_calls != 0;
}

/* Whether all that is worth waiting for has come. */
static int all_there(const struct fs *fs, enum gather_what what, uint64_t now)
{
	for (uint16_t i = 1; i < TABLE_NODES; i++) {
		const struct peer *p = &fs->peers[i];
		uint64_t skip = what == GATHER_PROCS ? p->skip_until_ms : p->figures_skip_ms;
		if (peer_busy(fs, i, what) && now >= skip)
			return 0;
	}
	return 1;
}

static void gathers_check(struct fs *fs, enum gather_what what)
{
	uint64_t now = clock_ms();
	struct gather *g = fs->gathers;
	while (g) {
		if (g->what != what || !all_there(fs, what, now)) {
			g = g->next;
			continue;
		}
		DL_DELETE(fs->gathers, g);
		g->done(g->ctx);
		free(g);
		g = fs->gathers; /* anything may have changed */
	}
}

static int ref_new(struct fs *fs, uint16_t node, struct peer_ref **ret)
{
	*ret = malloc(sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	**ret = (struct peer_ref){ .fs = fs, .node = node };
	return 0;
}

static void on_bulk(void *ctx, int status, struct rd *body, const void *p, size_t n);

/* Asks for the part of the snapshot from pid on. */
static int bulk_ask(struct fs *fs, uint16_t node, uint32_t pid)
{
	struct remote_req q = { .op = REMOTE_BULK, .cred = { .caps = CRED_CAPS_ALL }, .pid = pid };
	struct peer_ref *ref;
	int rc = ref_new(fs, node, &ref);
	if (rc == 0) {
		rc = call_start(fs, node, &q, TIMEOUT_MS, on_bulk, ref, &fs->peers[node].call);
		if (rc < 0)
			free(ref);
	}
	return rc;
}

static void bulk_end(struct fs *fs, uint16_t node, int status)
{
	struct peer *p = &fs->peers[node];
	struct snap *s = p->next;
	p->next = NULL;
	p->call = 0;
	if (status < 0) {
		snap_unref(s);
		return;
	}
	s->taken_ms = clock_ms();
	snap_unref(p->snap);
	p->snap = s;
	p->skip_until_ms = 0;
}

static void on_bulk(void *ctx, int status, struct rd *body, const void *p, size_t n)
{
	_cleanup_(free_p) struct peer_ref *ref = ctx;
	struct fs *fs = ref->fs;
	uint32_t next = 0;
	struct peer *peer = &fs->peers[ref->node];
	if (status == 0)
		status = snap_add(peer->next, p, n, &next);
	if (status == 0 && next)
		status = bulk_ask(fs, ref->node, next);
	else
		next = 0;
	if (status == 0 && next)
		return;
	bulk_end(fs, ref->node, status);
	gathers_check(fs, GATHER_PROCS);
}

static void bulk_start(struct fs *fs, uint16_t node, uint64_t now)
{
	struct peer *p = &fs->peers[node];
	if (p->call || (p->snap && now - p->snap->taken_ms < SNAP_FRESH_MS))
		return;
	p->next = snap_new(node);
	if (!p->next)
		return;
	p->next_since_ms = now;
	if (bulk_ask(fs, node, 0) < 0) {
		p->call = 0;
		snap_unref(p->next);
		p->next = NULL;
	}
}

static void figures_free(struct peer *p, size_t i)
{
	free(p->figures[i]);
	p->figures[i] = NULL;
	p->figures_n[i] = 0;
}

static int figures_take(struct peer *p, unsigned cpuinfo, struct rd *body)
{
	const uint8_t *text[GLOBALS];
	size_t n[GLOBALS];
	for (size_t i = 0; i < GLOBALS; i++)
		text[i] = rd_bytes(body, REMOTE_CHUNK, &n[i]);
	int rc = rd_done(body);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < GLOBALS; i++) {
		if (i == REMOTE_S_CPUINFO && !cpuinfo)
			continue;
		figures_free(p, i);
		p->figures[i] = malloc(n[i] ? n[i] : 1);
		if (!p->figures[i])
			return -ENOMEM;
		memcpy(p->figures[i], text[i], n[i]);
		p->figures_n[i] = n[i];
	}
	p->figures_ms = clock_ms();
	if (cpuinfo)
		p->cpuinfo_ms = p->figures_ms;
	return 0;
}

static void on_figures(void *ctx, int status, struct rd *body, const void *p, size_t n)
{
	_cleanup_(free_p) struct peer_ref *ref = ctx;
	struct peer *peer = &ref->fs->peers[ref->node];
	peer->figures_calls--;
	peer->cpuinfo_calls -= ref->cpuinfo;
	if (status == 0)
		status = figures_take(peer, ref->cpuinfo, body);
	if (status == 0)
		peer->figures_skip_ms = 0;
	gathers_check(ref->fs, GATHER_FIGURES);
}

static void figures_start(struct fs *fs, uint16_t node, int cpuinfo, uint64_t now)
{
	struct peer *p = &fs->peers[node];
	int fresh = p->figures_ms && now - p->figures_ms < FIGURES_FRESH_MS;
	if (cpuinfo)
		fresh = p->cpuinfo_ms && now - p->cpuinfo_ms < CPUINFO_FRESH_MS;
	if (fresh || (cpuinfo ? p->cpuinfo_calls : p->figures_calls) > 0)
		return;
	struct peer_ref *ref;
	if (ref_new(fs, node, &ref) < 0)
		return;
	ref->cpuinfo = cpuinfo != 0;
	struct remote_req q = { .op = REMOTE_STATS, .cred = { .caps = CRED_CAPS_ALL }, .flags = cpuinfo ? REMOTE_STATS_CPUINFO : 0 };
	uint64_t id;
	if (call_start(fs, node, &q, TIMEOUT_MS, on_figures, ref, &id) < 0) {
		free(ref);
		return;
	}
	p->figures_calls++;
	p->cpuinfo_calls += ref->cpuinfo;
	p->figures_since_ms = now;
}

static void gather_wait(struct fs *fs, enum gather_what what, uint64_t now, void (*done)(void *ctx), void *ctx)
{
	struct gather *g = all_there(fs, what, now) ? NULL : malloc(sizeof(*g));
	if (!g) {
		done(ctx);
		return;
	}
	*g = (struct gather){ .what = what, .until_ms = now + GATHER_MS, .done = done, .ctx = ctx };
	DL_APPEND(fs->gathers, g);
	fs_tick(fs);
}

void gather_procs(struct fs *fs, void (*done)(void *ctx), void *ctx)
{
	uint64_t now = clock_ms();
	for (uint16_t i = 1; i < TABLE_NODES; i++)
		if (peer_asked(fs, i))
			bulk_start(fs, i, now);
	gather_wait(fs, GATHER_PROCS, now, done, ctx);
}

void gather_figures(struct fs *fs, int cpuinfo, void (*done)(void *ctx), void *ctx)
{
	uint64_t now = clock_ms();
	for (uint16_t i = 1; i < TABLE_NODES; i++)
		if (peer_asked(fs, i))
			figures_start(fs, i, cpuinfo, now);
	gather_wait(fs, GATHER_FIGURES, now, done, ctx);
}

void gather_expire(struct fs *fs, uint64_t now_ms)
{
	/* Who keeps others waiting for so long is not waited for again soon. */
	for (uint16_t i = 1; i < TABLE_NODES; i++) {
		struct peer *p = &fs->peers[i];
		if (p->call && now_ms - p->next_since_ms >= GATHER_MS && now_ms >= p->skip_until_ms)
			p->skip_until_ms = now_ms + GATHER_SKIP_MS;
		if (p->figures_calls && now_ms - p->figures_since_ms >= GATHER_MS && now_ms >= p->figures_skip_ms)
			p->figures_skip_ms = now_ms + GATHER_SKIP_MS;
	}
	struct gather *g = fs->gathers;
	while (g) {
		if (now_ms < g->until_ms) {
			g = g->next;
			continue;
		}
		DL_DELETE(fs->gathers, g);
		g->done(g->ctx);
		free(g);
		g = fs->gathers;
	}
	gathers_check(fs, GATHER_PROCS);
	gathers_check(fs, GATHER_FIGURES);
}

static void local_text(struct fs *fs, enum remote_stats_file file, struct wr *ret)
{
	static const char *const names[GLOBALS] = { "stat", "meminfo", "loadavg", "uptime", "cpuinfo" };
	_cleanup_(close_p) int fd = openat(fs->proc_fd, names[file], O_RDONLY | O_CLOEXEC);
	char buf[16 << 10];
	while (fd >= 0) {
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		wr_raw(ret, buf, (size_t)n);
	}
}

void gather_text(struct fs *fs, enum remote_stats_file file, int local_only, struct wr *ret)
{
	if (local_only) {
		local_text(fs, file, ret);
		return;
	}
	_cleanup_(wr_fini) struct wr own = { 0 };
	struct merge_text texts[TABLE_NODES];
	size_t n = 0, self = 0;
	local_text(fs, file, &own);
	for (uint16_t i = 1; i < TABLE_NODES; i++) {
		const struct peer *p = &fs->peers[i];
		if (i == fs->self) {
			self = n;
			texts[n++] = (struct merge_text){ (const char *)own.p, own.n };
		} else if (peer_asked(fs, i) && p->figures[file] && clock_ms() >= p->figures_skip_ms) {
			texts[n++] = (struct merge_text){ p->figures[file], p->figures_n[file] };
		}
	}
	switch (file) {
	case REMOTE_S_STAT:
		merge_stat(texts, n, self, ret);
		break;
	case REMOTE_S_MEMINFO:
		merge_meminfo(texts, n, self, ret);
		break;
	case REMOTE_S_LOADAVG:
		merge_loadavg(texts, n, self, ret);
		break;
	case REMOTE_S_UPTIME:
		merge_uptime(texts, n, self, ret);
		break;
	case REMOTE_S_CPUINFO:
		merge_cpuinfo(texts, n, ret);
		break;
	case REMOTE_S_COUNT:
		break;
	}
}

void gather_peer_down(struct fs *fs, uint16_t node)
{
	struct peer *p = &fs->peers[node];
	snap_unref(p->snap);
	p->snap = NULL;
	for (size_t i = 0; i < GLOBALS; i++)
		figures_free(p, i);
	p->figures_ms = p->cpuinfo_ms = 0;
	/* Calls under way end by themselves (pandod tells -ECONNRESET or the tick); nobody waits for them. */
	uint64_t now = clock_ms();
	p->skip_until_ms = p->call ? now + GATHER_SKIP_MS : 0;
	p->figures_skip_ms = p->figures_calls ? now + GATHER_SKIP_MS : 0;
	gathers_check(fs, GATHER_PROCS);
	gathers_check(fs, GATHER_FIGURES);
}

void gather_fini(struct fs *fs)
{
	for (uint16_t i = 1; i < TABLE_NODES; i++) {
		gather_peer_down(fs, i);
		snap_unref(fs->peers[i].next);
		fs->peers[i].next = NULL;
	}
}
