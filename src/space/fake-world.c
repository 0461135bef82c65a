#include "space/fake-world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/paths.h"
#include "kern/procinfo.h"

static char *const g_env[] = { (char *)(uintptr_t)"PATH=/usr/bin:/bin:/usr/sbin:/sbin", (char *)(uintptr_t)"HOME=/tmp",
			       (char *)(uintptr_t)"LC_ALL=C", (char *)(uintptr_t)"TERM=dumb", NULL };

static void fail(const char *what, int rc, const char *words)
{
	(void)fprintf(stderr, "world: %s: %s %s\n", what, strerror(-rc), words);
	exit(1);
}

/* ---- the callbacks of a space ---- */

static uint16_t on_place(void *ctx, const struct space_place *p)
{
	struct world_node *n = ctx;
	struct world *w = n->w;
	w->n_asked++;
	if (w->only && !strstr(p->path, w->only))
		return n->id;
	switch (w->policy) {
	case POLICY_LOCAL:
		return n->id;
	case POLICY_ELSEWHERE:
		return (uint16_t)(n->id % w->n_nodes + 1);
	case POLICY_RANDOM:
		return (uint16_t)((unsigned)rand_r(&w->seed) % w->n_nodes + 1);
	}
	return n->id;
}

static int on_files(void *ctx, pid_t outer, const struct exec_image *im, uint16_t node, uint8_t **ret, size_t *ret_n, struct err *e)
{
	*ret = malloc(1);
	*ret_n = 0;
	return *ret ? 0 : err_set(e, -ENOMEM, "no memory");
}

static int on_files_check(void *ctx, const uint8_t *p, size_t n, struct err *e)
{
	return 0;
}

static void on_placed(void *ctx, int32_t pid, uint16_t node)
{
	struct world_node *n = ctx;
	n->w->n_placed++;
}

static int on_node_up(void *ctx, uint16_t node)
{
	struct world_node *n = ctx;
	return node >= 1 && node <= n->w->n_nodes;
}

static int keep_put(void *ctx, const char *name, int fd)
{
	return 0;
}

static int keep_drop(void *ctx, const char *name)
{
	return 0;
}

static int keep_take(void *ctx, const char *name)
{
	return -ENOENT;
}

static void keep_each(void *ctx, const char *prefix, void (*fn)(void *arg, const char *name, int fd), void *arg)
{
}

static void on_link_up(void *ctx, uint16_t at, uint16_t node)
{
	struct world *w = ctx;
	if (at >= 1 && at <= w->n_nodes && w->node[at].s)
		space_node_up(w->node[at].s, node);
}

/* ---- the world ---- */

static void on_clock(uv_timer_t *t)
{
}

static size_t fds_count(void)
{
	_cleanup_(closedir_p) DIR *d = opendir("/proc/self/fd");
	size_t n = 0;
	while (d && readdir(d))
		n++;
	return n;
}

static void node_make(struct world *w, uint16_t id)
{
	static char libexec[PATHS_MAX];
	struct err e = { 0 };
	struct world_node *n = &w->node[id];
	*n = (struct world_node){ .w = w, .id = id };
	const char *dir = getenv("PANDO_LIBEXEC");
	if (!dir && paths_libexec(libexec) == 0)
		dir = libexec;
	if (!dir)
		fail("set PANDO_LIBEXEC", -ENOENT, "to the directory of pando-zygote");
	struct space_config cfg = {
		.loop = &w->loop,
		.links = fake_links_new(w->net, id),
		.self = id,
		.layout = { .slot = id, .libexec = dir },
		.keep = { n, keep_put, keep_drop, keep_take, keep_each },
		.streams = fake_streams(w->net, id),
		.ctx = n,
		.place = on_place,
		.files = on_files,
		.files_check = on_files_check,
		.placed = on_placed,
		.node_up = on_node_up,
		.ghost_idle_ms = 50,
	};
	int rc = space_new(&cfg, &n->s, &e);
	if (rc < 0)
		fail("making a space", rc, e.text);
}

struct world *world_new(unsigned n_nodes)
{
	struct world *w = calloc(1, sizeof *w);
	if (!w || n_nodes > WORLD_NODES)
		fail("world", -ENOMEM, "");
	(void)uv_loop_init(&w->loop);
	(void)uv_timer_init(&w->loop, &w->clock);
	(void)uv_timer_start(&w->clock, on_clock, 20, 20);
	int rc = fake_net_new(&w->loop, on_link_up, w, &w->net);
	if (rc < 0)
		fail("links", rc, "");
	w->n_nodes = n_nodes;
	for (unsigned i = 1; i <= n_nodes; i++)
		node_make(w, (uint16_t)i);
	w->n_fds = fds_count();
	return w;
}

void world_free(struct world *w)
{
	for (unsigned i = 1; i <= w->n_nodes; i++)
		space_wipe(w->node[i].s);
	fake_net_free(w->net);
	uv_close((uv_handle_t *)&w->clock, NULL);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&w->loop) < 0)
		fail("loop", -EBUSY, "has handles left");
	free(w);
}

void world_policy(struct world *w, enum world_policy policy, unsigned seed)
{
	w->policy = policy;
	w->seed = seed;
	w->n_placed = w->n_asked = 0;
}

int world_until(struct world *w, int (*cond)(void *ctx), void *ctx, unsigned ms)
{
	uint64_t end = clock_ms() + ms;
	while (!cond(ctx)) {
		if (clock_ms() >= end)
			return 0;
		(void)uv_run(&w->loop, UV_RUN_ONCE);
	}
	return 1;
}

/* ---- what is there ---- */

/* Processes of the space but pid 1, the zygote and the watcher. */
static unsigned tasks_count(struct space *s, int32_t *ret_one)
{
	unsigned n = 0;
	_cleanup_(closedir_p) DIR *d = opendir("/proc");
	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
		pid_t outer = atoi(e->d_name);
		int pid = outer > 0 ? nspid_tgid(&s->ns, outer) : -1;
		if (pid > 3) {
			n++;
			*ret_one = pid;
		}
	}
	return n;
}

static unsigned records_count(const struct space *s)
{
	unsigned n = 0;
	for (size_t i = 0; i < SHARED_PROCS; i++)
		n += s->sh->procs[i].kind != PREC_FREE;
	return n + HASH_COUNT(s->procs);
}

static unsigned journal_count(const struct space *s)
{
	unsigned n = 0;
	for (size_t i = 0; i < SHARED_JOURNAL; i++)
		n += s->sh->journal[i].used != 0;
	return n;
}

struct clean {
	struct world *w;
	char words[200];
};

static int is_clean(void *ctx)
{
	struct clean *c = ctx;
	struct world *w = c->w;
	if (!fake_net_is_quiet(w->net)) {
		(void)snprintf(c->words, sizeof c->words, "messages or calls are under way");
		return 0;
	}
	if (fake_streams_left(w->net)) {
		(void)snprintf(c->words, sizeof c->words, "%u exported descriptors", fake_streams_left(w->net));
		return 0;
	}
	for (unsigned i = 1; i <= w->n_nodes; i++) {
		struct space *s = w->node[i].s;
		int32_t one = 0;
		unsigned n;
		if ((n = records_count(s)) || (n = journal_count(s)) || s->tracees || s->arrivals || s->placings || s->zyg_waits) {
			(void)snprintf(c->words, sizeof c->words, "node %u: %u records, %u calls, tracees %d, arrivals %d, placings %d, waits %d", i,
				       records_count(s), journal_count(s), s->tracees != NULL, s->arrivals != NULL, s->placings != NULL,
				       s->zyg_waits != NULL);
			return 0;
		}
		for (unsigned k = 0; k < SHARED_WATCHES; k++)
			if (s->watches[k]) {
				(void)snprintf(c->words, sizeof c->words, "node %u: listener %u of session %d", i, k, s->watches[k]->sid);
				return 0;
			}
		if ((n = tasks_count(s, &one))) {
			(void)snprintf(c->words, sizeof c->words, "node %u: %u processes, one is %d", i, n, one);
			return 0;
		}
	}
	size_t n = fds_count();
	if (n != w->n_fds) {
		(void)snprintf(c->words, sizeof c->words, "%zu descriptors, not %zu", n, w->n_fds);
		return 0;
	}
	return 1;
}

int world_is_clean(struct world *w, unsigned ms, char *words, size_t size)
{
	struct clean c = { w, "" };
	int ok = world_until(w, is_clean, &c, ms);
	(void)snprintf(words, size, "%s", c.words);
	return ok;
}

static void task_dump(struct space *s, pid_t outer, int pid)
{
	char path[64], line[256] = "";
	struct procinfo info = { 0 };
	(void)procinfo_stat(outer, &info);
	(void)snprintf(path, sizeof path, "/proc/%d/cmdline", outer);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
	for (ssize_t i = 0; i + 1 < n; i++)
		if (line[i] == 0 || line[i] == '\n')
			line[i] = ' ';
	(void)snprintf(path, sizeof path, "/proc/%d/syscall", outer);
	char call[64] = "";
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	if (f && fgets(call, sizeof call, f))
		call[strcspn(call, "\n")] = 0;
	(void)fprintf(stderr, "    %d (%d) %c ppid %d pgid %d sid %d call %s: %.100s\n", pid, outer, info.state,
		      info.ppid > 0 ? nspid_tgid(&s->ns, info.ppid) : 0, info.pgid > 0 ? nspid_tid(&s->ns, info.pgid) : 0,
		      info.sid > 0 ? nspid_tid(&s->ns, info.sid) : 0, call, line);
}

void world_dump(struct world *w)
{
	for (unsigned i = 1; i <= w->n_nodes; i++) {
		struct space *s = w->node[i].s;
		(void)fprintf(stderr, "  node %u: tracees %d arrivals %d placings %d calls %u\n", i, s->tracees != NULL, s->arrivals != NULL,
			      s->placings != NULL, journal_count(s));
		for (const struct proc *p = s->procs; p; p = p->hh.next)
			(void)fprintf(stderr, "    record %d kind %u node %u flags %#x ppid %d pgid %d sid %d queue %u idle %d settled %d ready %d arrival %d\n",
				      p->pid, p->r->kind, p->r->node, p->r->flags, p->r->ppid, p->r->pgid, p->r->sid, p->n_queue, p->is_idle,
				      p->is_settled, p->is_ready, p->arrival != NULL);
		_cleanup_(closedir_p) DIR *d = opendir("/proc");
		for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
			pid_t outer = atoi(e->d_name);
			int pid = outer > 0 ? nspid_tgid(&s->ns, outer) : -1;
			if (pid > 3)
				task_dump(s, outer, pid);
		}
	}
}

/* ---- jobs ---- */

static void job_read(struct job *j, int which)
{
	int fd = which ? j->err : j->out;
	char buf[65536];
	ssize_t n = read(fd, buf, sizeof buf);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		uv_poll_t *p = which ? &j->err_poll : &j->out_poll;
		(void)uv_poll_stop(p);
		*(which ? &j->err_open : &j->out_open) = 0;
		return;
	}
	char *t = realloc(j->text[which], j->text_n[which] + (size_t)n + 1);
	if (!t)
		abort();
	memcpy(t + j->text_n[which], buf, (size_t)n);
	j->text_n[which] += (size_t)n;
	t[j->text_n[which]] = 0;
	j->text[which] = t;
}

static void on_out(uv_poll_t *p, int status, int events)
{
	job_read(p->data, 0);
}

static void on_err(uv_poll_t *p, int status, int events)
{
	job_read(p->data, 1);
}

static void on_started(void *ctx, int status, int32_t pid, const char *at)
{
	struct job *j = ctx;
	j->is_started = 1;
	j->start_status = status;
	j->pid = pid;
	(void)snprintf(j->at, sizeof j->at, "%s", at ? at : "");
	if (status < 0)
		j->is_over = 1;
}

static void on_changed(void *ctx, int status, uint64_t utime_us, uint64_t stime_us, uint64_t maxrss_kb)
{
	struct job *j = ctx;
	j->n_changed++;
	j->last_status = status;
	if (WIFEXITED(status) || WIFSIGNALED(status)) {
		j->is_over = 1;
		j->status = status;
		j->cpu_us = utime_us + stime_us;
	}
}

/* A file with the text, at its start. */
static int input_open(const char *text)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || lseek(fd, 0, SEEK_SET) < 0)
		fail("input", -errno, "");
	return fd;
}

static void image_strings(struct exec_image *im, char *const argv[])
{
	size_t n = 0;
	for (char *const *p = argv; *p; p++, im->argc++)
		n += strlen(*p) + 1;
	for (char *const *p = g_env; *p; p++, im->envc++)
		n += strlen(*p) + 1;
	im->args = malloc(n);
	if (!im->args)
		abort();
	im->args_n = 0;
	for (char *const *p = argv; *p; p++) {
		memcpy(im->args + im->args_n, *p, strlen(*p) + 1);
		im->args_n += strlen(*p) + 1;
	}
	for (char *const *p = g_env; *p; p++) {
		memcpy(im->args + im->args_n, *p, strlen(*p) + 1);
		im->args_n += strlen(*p) + 1;
	}
}

static void image_fill(struct exec_image *im, char *const argv[])
{
	static struct procinfo info;
	int rc = procinfo_read(getpid(), &info);
	if (rc < 0)
		fail("procinfo", rc, "");
	im->path = strdup(argv[0]);
	im->cwd = strdup("/tmp");
	image_strings(im, argv);
	im->groups = calloc(1, sizeof *im->groups);
	im->cap_effective = info.cap_effective;
	im->cap_permitted = info.cap_permitted;
	im->cap_bounding = info.cap_bounding;
	im->umask = 022;
	for (int i = 0; i < EXEC_RLIMITS; i++) {
		struct rlimit l;
		(void)getrlimit((__rlimit_resource_t)i, &l);
		im->rlimit[i][0] = l.rlim_cur;
		im->rlimit[i][1] = l.rlim_max;
	}
	im->n_fds = 3;
	im->fds = calloc(3, sizeof *im->fds);
	for (uint32_t i = 0; im->fds && i < 3; i++)
		im->fds[i] = (struct exec_fd){ .number = i, .kind = EXEC_FD_DELEGATED, .path = strdup("") };
}

struct job *job_start(struct world *w, char *const argv[], const char *input)
{
	struct job *j = calloc(1, sizeof *j);
	int out[2], err[2];
	if (!j || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		fail("job", -errno, "");
	j->w = w;
	j->node = 1;
	j->out = out[0];
	j->err = err[0];
	(void)fcntl(j->out, F_SETFL, O_NONBLOCK);
	(void)fcntl(j->err, F_SETFL, O_NONBLOCK);
	(void)uv_poll_init(&w->loop, &j->out_poll, j->out);
	(void)uv_poll_init(&w->loop, &j->err_poll, j->err);
	j->out_poll.data = j->err_poll.data = j;
	(void)uv_poll_start(&j->out_poll, UV_READABLE, on_out);
	(void)uv_poll_start(&j->err_poll, UV_READABLE, on_err);
	j->out_open = j->err_open = 1;

	struct space_run run = { .tty = -1, .tty_number = -1, .ctx = j, .started = on_started, .changed = on_changed };
	image_fill(&run.image, argv);
	run.fds = malloc(3 * sizeof *run.fds);
	if (!run.fds)
		abort();
	run.fds[0] = input_open(input ? input : "");
	run.fds[1] = out[1];
	run.fds[2] = err[1];
	struct err e = { 0 };
	int rc = space_run_start(w->node[1].s, &run, &e);
	if (rc < 0)
		fail("space_run_start", rc, e.text);
	return j;
}

static int job_is_over(void *ctx)
{
	struct job *j = ctx;
	return j->is_over && !j->out_open && !j->err_open;
}

int job_wait(struct job *j, unsigned ms)
{
	return world_until(j->w, job_is_over, j, ms) ? 0 : -ETIMEDOUT;
}

static void job_closed(uv_handle_t *h)
{
	struct job *j = h->data;
	if (!uv_is_closing((uv_handle_t *)&j->out_poll)) {
		uv_close((uv_handle_t *)&j->out_poll, job_closed);
		return;
	}
	(void)close_fd(j->out);
	(void)close_fd(j->err);
	free(j->text[0]);
	free(j->text[1]);
	free(j);
}

void job_free(struct job *j)
{
	if (j)
		uv_close((uv_handle_t *)&j->err_poll, job_closed);
}

int outside_run(char *const argv[], const char *input, char **ret_out, size_t *ret_n)
{
	int out[2];
	if (pipe2(out, O_CLOEXEC) < 0)
		fail("pipe", -errno, "");
	int in = input_open(input ? input : "");
	pid_t pid = fork();
	if (pid == 0) {
		(void)setsid();
		(void)dup2(in, 0);
		(void)dup2(out[1], 1);
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		(void)dup2(null, 2);
		(void)close_range(3, ~0u, 0);
		(void)umask(022);
		if (chdir("/tmp") < 0)
			_exit(126);
		/* A leader in the middle, as the session's root is. */
		pid_t child = fork();
		if (child == 0) {
			(void)setpgid(0, 0);
			(void)execve(argv[0], argv, g_env);
			_exit(127);
		}
		int status;
		while (waitpid(child, &status, 0) != child)
			;
		if (WIFSIGNALED(status)) {
			struct rlimit none = { 0, 0 };
			(void)setrlimit(RLIMIT_CORE, &none);
			(void)kill(getpid(), WTERMSIG(status));
		}
		_exit(WEXITSTATUS(status));
	}
	(void)close_fd(in);
	(void)close_fd(out[1]);
	char *text = NULL;
	size_t n = 0;
	for (;;) {
		char buf[65536];
		ssize_t k = read(out[0], buf, sizeof buf);
		if (k <= 0)
			break;
		text = realloc(text, n + (size_t)k + 1);
		if (!text)
			abort();
		memcpy(text + n, buf, (size_t)k);
		n += (size_t)k;
		text[n] = 0;
	}
	(void)close_fd(out[0]);
	int status = 0;
	(void)waitpid(pid, &status, 0);
	*ret_out = text;
	*ret_n = n;
	return status;
}
