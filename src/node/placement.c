/* Where the next program runs: load of the nodes, what is known of programs, which files they need. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <uthash.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "kern/procinfo.h"
#include "node/node.h"
#include "space/features.h"
#include "wire/msg.h"

enum { TRACKS_MAX = 16384, TRACKS_WATCHED_MAX = 4096, NEED_HASH = -EUCLEAN };

/* A program that was placed and has not ended yet, as far as we know. */
struct track {
	int32_t pid;
	uint16_t node;       /* where it runs */
	struct learn_key key;
	uint64_t start_us;
	uint64_t cpu_us;     /* of this process when it began with the program */
	pid_t outer;
	int pidfd;           /* watched while it runs here; -1 */
	uv_poll_t *end;
	const char *why;     /* static */
	struct node *n;
	UT_hash_handle hh;
};

static uint64_t now_us(void)
{
	return clock_ns() / 1000;
}

/* --- tracks --- */

static void end_closed(uv_handle_t *h)
{
	free(h);
}

static void track_unwatch(struct track *t)
{
	if (t->end) {
		(void)uv_poll_stop(t->end);
		uv_close((uv_handle_t *)take_ptr(t->end), end_closed);
	}
	t->pidfd = close_fd(t->pidfd);
}

static void track_free(struct node *n, struct track *t)
{
	HASH_DEL(n->tracks, t);
	track_unwatch(t);
	free(t);
}

static struct track *track_find(const struct node *n, int32_t pid)
{
	struct track *t;
	HASH_FIND_INT(n->tracks, &pid, t);
	return t;
}

/* CPU time of a process (its own, without children), also of one that has ended and has not been waited for yet. 0: not known. */
static uint64_t cpu_us_of(pid_t outer)
{
	char path[64], text[96];
	(void)snprintf(path, sizeof path, "/proc/%d/schedstat", outer);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (len <= 0)
		return 0;
	text[len] = 0;
	return strtoull(text, NULL, 10) / 1000;
}

/* The end of a program that ran here. What it used is often gone by now, because its parent has waited for it: then only a short life
 * tells something, for nobody uses more than it lives. */
static void on_end(uv_poll_t *h, int status, int events)
{
	struct track *t = h->data;
	struct node *n = t->n;
	(void)status;
	(void)events;
	uint64_t wall = now_us() - t->start_us, cpu = cpu_us_of(t->outer);
	sched_ended(n->sched, (uint32_t)t->pid, clock_ms());
	if (cpu > t->cpu_us)
		sched_learn_exit(n->sched, t->key, wall, cpu - t->cpu_us, n->self);
	else if (wall < LEARN_BRIEF_US)
		sched_learn_exit(n->sched, t->key, wall, wall, n->self);
	track_free(n, t);
}

static void track_watch(struct node *n, struct track *t)
{
	if (t->end || HASH_COUNT(n->tracks) > TRACKS_WATCHED_MAX)
		return;
	t->pidfd = (int)syscall(SYS_pidfd_open, t->outer, 0);
	if (t->pidfd < 0)
		return;
	t->end = calloc(1, sizeof *t->end);
	if (!t->end || uv_poll_init(&n->loop, t->end, t->pidfd) < 0) {
		free(take_ptr(t->end));
		t->pidfd = close_fd(t->pidfd);
		return;
	}
	t->end->data = t;
	(void)uv_poll_start(t->end, UV_READABLE, on_end);
}

static struct track *track_get(struct node *n, int32_t pid)
{
	struct track *t = track_find(n, pid);
	if (t)
		return t;
	if (HASH_COUNT(n->tracks) >= TRACKS_MAX)
		return NULL;
	t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->pid = pid;
	t->pidfd = -1;
	t->n = n;
	HASH_ADD_INT(n->tracks, pid, t);
	return t;
}

void placement_forget(struct node *n)
{
	struct track *t, *tmp;
	HASH_ITER(hh, n->tracks, t, tmp)
	{
		sched_ended(n->sched, (uint32_t)t->pid, clock_ms());
		track_free(n, t);
	}
}

/* --- the question --- */

static uint64_t pid_and_dir(const struct space_place *p, struct learn_key *ret)
{
	char path[4200], dir[4096];
	struct stat st;
	(void)snprintf(path, sizeof path, "/proc/%d/%s%s", p->outer, p->path[0] == '/' ? "root" : "cwd/", p->path);
	if (stat(path, &st) < 0)
		return 0;
	*ret = learn_key_make(st.st_dev, st.st_ino, procinfo_link(p->outer, "cwd", dir, sizeof dir) > 0 ? dir : NULL);
	return 1;
}

uint16_t placement_place(void *ctx, const struct space_place *p)
{
	struct node *n = ctx;
	struct learn_key key;
	struct sched_decision d;
	struct procinfo info;
	struct err e = { 0 };

	uint16_t wanted = features_take_node(n, p->outer);
	if (!wanted && !(features_effective(n, p->outer) & FEATURE_PLACE))
		return n->self;
	if (!pid_and_dir(p, &key))
		return n->self;
	struct sched_request r = { .pid = (uint32_t)p->pid, .program = p->path, .forced = wanted, .session = (uint64_t)p->sid };
	if (procinfo_stat(p->outer, &info) == 0)
		r.ppid = (uint32_t)info.ppid;
	struct track *t = track_find(n, p->pid);
	if (t) { /* a program that ends by executing the next one */
		uint64_t cpu = cpu_us_of(p->outer);
		if (cpu >= t->cpu_us && t->node == n->self)
			sched_learn_exit(n->sched, t->key, now_us() - t->start_us, cpu - t->cpu_us, n->self);
		sched_ended(n->sched, (uint32_t)p->pid, clock_ms());
	}
	if (sched_place(n->sched, &r, key, NULL, clock_ms(), &d, &e) < 0) {
		log_info("pid %d: %s", p->pid, e.text);
		return n->self;
	}
	t = track_get(n, p->pid);
	if (!t) {
		sched_ended(n->sched, (uint32_t)p->pid, clock_ms());
		return d.node;
	}
	t->key = key;
	t->node = d.node;
	t->outer = p->outer;
	t->why = d.why;
	t->start_us = now_us();
	t->cpu_us = cpu_us_of(p->outer);
	if (d.node == n->self)
		track_watch(n, t);
	else
		track_unwatch(t);
	log_debug("pid %d: %s: node %u (%s)", p->pid, p->path, d.node, d.why);
	return d.node;
}

void placement_placed(void *ctx, int32_t pid, uint16_t node)
{
	struct node *n = ctx;
	struct track *t = track_find(n, pid);
	if (t)
		t->node = node;
	sched_placed(n->sched, (uint32_t)pid, node, 1, clock_ms());
}

void placement_unplaced(void *ctx, int32_t pid, uint16_t node, int status, const char *why)
{
	struct node *n = ctx;
	struct track *t = track_find(n, pid);
	(void)node;
	(void)why;
	if (status == NEED_HASH)
		n->is_hashing = true;
	sched_placed(n->sched, (uint32_t)pid, n->self, 1, clock_ms());
	if (!t)
		return;
	t->node = n->self;
	t->why = "it could not be carried";
	track_watch(n, t);
}

void placement_ended(void *ctx, int32_t pid, uint16_t node, uint64_t wall_us, uint64_t cpu_us)
{
	struct node *n = ctx;
	struct track *t = track_find(n, pid);
	sched_ended(n->sched, (uint32_t)pid, clock_ms());
	if (!t)
		return;
	if (node != n->self)
		sched_learn_exit(n->sched, t->key, wall_us, cpu_us, node);
	track_free(n, t);
}

void placement_why(const struct node *n, int32_t pid, char *buf, size_t size)
{
	const struct track *t = track_find(n, pid);
	(void)snprintf(buf, size, "%s", t && t->why ? t->why : "");
}

/* --- files --- */

static const char *env_find(const struct exec_image *im, const char *name)
{
	const char *p = im->args, *end = im->args + im->args_n;
	size_t len = strlen(name);
	for (uint32_t i = 0; p && p < end && i < im->argc + im->envc; i++) {
		if (i >= im->argc && strncmp(p, name, len) == 0 && p[len] == '=')
			return p + len + 1;
		p += strlen(p) + 1;
	}
	return NULL;
}

int placement_files(void *ctx, pid_t outer, const struct exec_image *im, uint16_t node, uint8_t **ret, size_t *ret_n, struct err *e)
{
	struct node *n = ctx;
	char path[64];
	(void)node;
	(void)snprintf(path, sizeof path, "/proc/%d/root", outer);
	_cleanup_(close_p) int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_set(e, -errno, "its root directory: %m");
	struct fileid_req q = {
		.root_fd = root,
		.path = im->path,
		.cwd = im->cwd,
		.ld_library_path = env_find(im, "LD_LIBRARY_PATH"),
		.ld_preload = env_find(im, "LD_PRELOAD"),
		.ruid = im->uid[0], .euid = im->uid[1], .rgid = im->gid[0], .egid = im->gid[1],
	};
	_cleanup_(fileid_set_unref_p) struct fileid_set *set = NULL;
	int rc = fileid_exec(n->fileid, &q, &set, e);
	if (rc < 0)
		return rc;
	if (set->other)
		return err_set(e, -ENOEXEC, "%s is neither an ELF program nor a script", im->path);
	if (n->is_hashing)
		rc = fileid_set_hash(n->fileid, root, set, e);
	if (rc < 0)
		return rc;
	struct wr w = { 0 };
	fileid_set_encode(&w, set);
	rc = wr_done(&w);
	if (rc < 0) {
		wr_fini(&w);
		return err_set(e, rc, "no memory");
	}
	*ret = w.p;
	*ret_n = w.n;
	return 0;
}

int placement_files_check(void *ctx, const uint8_t *p, size_t size, struct err *e)
{
	struct node *n = ctx;
	struct rd r;
	struct fileid_verdict v;
	_cleanup_(fileid_set_unref_p) struct fileid_set *set = NULL;
	if (n->root_fd < 0)
		return err_set(e, -EHOSTDOWN, "no space here yet");
	rd_init(&r, p, size);
	int rc = fileid_set_decode(&r, &set);
	if (rc < 0)
		return err_set(e, rc, "list of files: %s", strerror(-rc));
	switch (fileid_check(n->fileid, n->root_fd, set, &v)) {
	case FILEID_SAME:
	case FILEID_LIKE:
		return 0;
	case FILEID_NEED_HASH:
		return err_set(e, NEED_HASH, "%s", v.why);
	case FILEID_ABSENT:
		return err_set(e, -ENOENT, "%s", v.why);
	case FILEID_DIFFERENT:
		break;
	}
	return err_set(e, -EXDEV, "%s", v.why);
}

/* --- load --- */

static void report_send(struct node *n)
{
	_cleanup_(wr_fini) struct wr w = { 0 };
	if (!n->member || sched_report_out(n->sched, clock_ms(), &w) < 0)
		return;
	for (uint16_t i = 1; i <= NODE_MAX; i++)
		if (i != n->self && links_is_up(n->links, i))
			(void)links_send(n->links, i, MSG_LOAD, w.p, w.n); /* the next one comes soon */
}

static void on_tick(uv_timer_t *t)
{
	struct node *n = t->data;
	struct err e = { 0 };
	uint32_t next = 500;
	int rc = sched_tick(n->sched, clock_ms(), &next, &e);
	if (rc < 0)
		log_warn("load: %s", e.text);
	if (rc == SCHED_SEND)
		report_send(n);
	(void)uv_timer_start(t, on_tick, next, 0);
}

static void on_load(void *ctx, uint16_t from, const uint8_t *p, size_t size)
{
	struct node *n = ctx;
	if (from != n->self && sched_report_in(n->sched, from, p, size, clock_ms()) == -EBADMSG)
		log_warn("node %u: bad report of its load, ignored", from);
}

void placement_members(struct node *n, const struct cluster *c)
{
	const char *policy = cluster_setting(c, "policy");
	struct err e = { 0 };
	for (uint16_t i = 1; i <= NODE_MAX; i++) {
		const struct cluster_member *m = cluster_member(c, i);
		enum sched_node_state s = SCHED_NODE_GONE;
		if (m && m->state == MEMBER_ACTIVE)
			s = SCHED_NODE_ACTIVE;
		else if (m && m->state == MEMBER_DRAINING)
			s = SCHED_NODE_DRAINING;
		if (i == n->self && s == SCHED_NODE_GONE)
			s = SCHED_NODE_ACTIVE;
		sched_node_set(n->sched, i, s);
	}
	const char *words = sched_policy_words(n->sched);
	size_t len = policy ? strlen(policy) : 0;
	if (policy && (strncmp(words, policy, len) != 0 || (words[len] && words[len] != ','))) {
		if (sched_policy_set(n->sched, policy, clock_ns(), &e) < 0)
			log_warn("%s", e.text);
		else
			log_notice("policy: %s", sched_policy_words(n->sched));
	}
}

int placement_start(struct node *n, struct err *e)
{
	struct sched_config cfg = { .self = n->self, .source = n->load_source, .cpus = n->cpus, .seed = clock_ns() };
	int rc = sched_new(&cfg, &n->sched, e);
	if (rc < 0)
		return rc;
	links_handle(n->links, MSG_LOAD, on_load, n);
	rc = uv_timer_init(&n->loop, &n->sched_timer);
	n->sched_timer.data = n;
	if (rc == 0)
		rc = uv_timer_start(&n->sched_timer, on_tick, 0, 0);
	return rc < 0 ? err_set(e, rc, "timer: %s", uv_strerror(rc)) : 0;
}

void placement_stop(struct node *n)
{
	uv_close((uv_handle_t *)&n->sched_timer, NULL);
}
