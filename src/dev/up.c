#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/paths.h"
#include "dev/cg.h"
#include "dev/node.h"
#include "dev/ops.h"
#include "dev/proc.h"
#include "dev/switch.h"

static volatile sig_atomic_t g_interrupted;

static void on_signal(int signo)
{
	g_interrupted = signo;
}

struct up {
	const struct dev_up *how;
	struct trial *c; /* owned */
	struct cg cg;
	int switch_leash;
	int leash[DEV_NODES_MAX + 1];
	int live; /* standard error is a terminal: show progress in one line that changes */
	uint64_t began_ms;
};

static int interrupted(void *ctx)
{
	(void)ctx;
	return g_interrupted != 0;
}

static void progress(void *ctx, const char *what, unsigned done)
{
	const struct up *u = ctx;
	if (u->live)
		(void)fprintf(stderr, "\r%s: %u of %u nodes %s ", u->how->name, done, u->how->n, what);
}

static void progress_end(const struct up *u)
{
	if (u->live)
		(void)fprintf(stderr, "\r\033[K");
}

/* The programs: this one, and where the others are. */
static int programs(struct trial *c, struct err *e)
{
	char exe[PATHS_MAX], libexec[PATHS_MAX], lan[PATHS_MAX + 16];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	if (n < 0)
		return err_set(e, -errno, "/proc/self/exe: %m");
	exe[n] = 0;
	if (paths_libexec(libexec) < 0) {
		/* Without a pandod there may still be a pando-dev-lan, and that is all that --service needs. */
		(void)snprintf(libexec, sizeof libexec, "%s", exe);
		*strrchr(libexec, '/') = 0;
		if (!c->service)
			return err_set(e, -ENOENT, "pandod is neither in %s nor in ../lib/pando", libexec);
	}
	(void)snprintf(lan, sizeof lan, "%s/pando-dev-lan", libexec);
	if (c->lan == DEV_LAN_USER && access(lan, X_OK) < 0)
		return err_set(e, -errno, "%s: %m", lan);
	c->exe = strdup(exe);
	c->libexec = strdup(libexec);
	return c->exe && c->libexec ? 0 : err_set(e, -ENOMEM, "out of memory");
}

static int root_check(unsigned i, const char *dir, char **ret, struct err *e)
{
	struct stat st;
	_cleanup_(free_p) char *real = realpath(dir, NULL);
	if (!real || stat(real, &st) < 0)
		return err_set(e, -errno, "--root of node %u: %s: %m", i, dir);
	if (!S_ISDIR(st.st_mode) || strpbrk(real, ":,\\"))
		return err_set(e, -EINVAL, "--root of node %u: %s: not a directory, or with : , \\ in its name", i,
			       dir);
	*ret = real;
	real = NULL;
	return 0;
}

/* Fills in the record. */
static int plan(struct up *u, struct err *e)
{
	struct trial *c = u->c;
	const struct dev_up *how = u->how;
	c->lan = how->lan;
	if (how->service && !(c->service = strdup(how->service)))
		return err_set(e, -ENOMEM, "out of memory");
	int rc = programs(c, e);
	for (unsigned i = 1; i <= c->n && rc == 0; i++) {
		c->node[i].cpu = how->cpu;
		c->node[i].mem = how->mem;
		if (how->roots[i])
			rc = root_check(i, how->roots[i], &c->node[i].root, e);
	}
	if (rc < 0)
		return rc;
	/* Two clusters that are started side by side must not choose the same addresses. */
	_cleanup_(close_p) int base = open(DEV_BASE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base < 0 || flock(base, LOCK_EX) < 0)
		return err_set(e, -errno, "lock " DEV_BASE ": %m");
	rc = trial_choose_net(c, e);
	return rc == 0 ? trial_save(c, e) : rc;
}

static int hosts_write(const struct trial *c, struct err *e)
{
	_cleanup_(close_p) int fd = openat(c->dir_fd, "hosts", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || fchmod(fd, 0644) < 0)
		return err_set(e, -errno, "%s/hosts: %m", c->dir);
	(void)dprintf(fd, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
	for (unsigned i = 1; i <= c->n; i++) {
		char addr[16];
		trial_addr(c, i, addr);
		if (dprintf(fd, "%s node%u\n", addr, i) < 0)
			return err_set(e, -errno, "%s/hosts: %m", c->dir);
	}
	return 0;
}

static int nodes_up(struct up *u, struct err *e)
{
	struct trial *c = u->c;
	int rc = 0;
	for (unsigned i = 1; i <= c->n && rc == 0; i++)
		rc = interrupted(u) ? err_set(e, -EINTR, "interrupted") : node_spawn(c, &u->cg, i, &u->leash[i], e);
	if (rc == 0)
		rc = trial_save(c, e);
	for (unsigned i = 1; i <= c->n && rc == 0; i++)
		rc = node_connect(c, i, u->leash[i], e);
	for (unsigned i = 1; i <= c->n && rc == 0; i++) {
		rc = interrupted(u) ? err_set(e, -EINTR, "interrupted") : node_ready(c, i, u->leash[i], e);
		progress(u, "ready", i);
	}
	return rc;
}

static int service_say(void *ctx, unsigned i, struct err *e)
{
	const struct up *u = ctx;
	return node_say(i, u->leash[i], "start", e);
}

static int services_up(struct up *u, struct err *e)
{
	int rc = 0;
	if (!u->c->service) {
		struct dev_boot b = { .c = u->c,
				      .cg = &u->cg,
				      .until_ms = clock_ms() + (uint64_t)u->how->wait_s * 1000,
				      .say = service_say,
				      .stop = interrupted,
				      .progress = progress,
				      .ctx = u };
		return dev_boot(&b, e);
	}
	for (unsigned i = 1; i <= u->c->n && rc == 0; i++)
		rc = service_say(u, i, e);
	return rc;
}

/* The CPU limits come last: they would only have slowed the start. Then the leashes go: from here on the cluster stays.
 */
static int finish(struct up *u, struct err *e)
{
	struct trial *c = u->c;
	int rc = 0;
	for (unsigned i = 1; i <= c->n && rc == 0; i++)
		rc = cg_limit_cpu(&u->cg, c->name, i, c->node[i].cpu, e);
	if (rc == 0 && interrupted(u))
		rc = err_set(e, -EINTR, "interrupted");
	if (rc < 0)
		return rc;
	c->starting = 0;
	rc = trial_save(c, e);
	for (unsigned i = 1; i <= c->n && rc == 0; i++)
		rc = node_say(i, u->leash[i], "stay", e);
	return rc == 0 ? node_say(0, u->switch_leash, "stay", e) : rc;
}

static int run(struct up *u, struct err *e)
{
	int rc = plan(u, e);
	if (rc == 0)
		rc = hosts_write(u->c, e);
	if (rc == 0)
		rc = cg_cluster_make(&u->cg, u->c->name, e);
	if (rc == 0)
		rc = switch_start(u->c, &u->cg, &u->switch_leash, e);
	if (rc == 0)
		rc = nodes_up(u, e);
	if (rc == 0)
		rc = services_up(u, e);
	return rc == 0 ? finish(u, e) : rc;
}

/* The last lines of the nodes' logs: when a start fails, the reason is there, and the files go with the cluster. */
static void logs_show(const struct trial *c)
{
	enum { TAIL = 2000 };
	for (unsigned i = 1; i <= c->n; i++) {
		char path[256], text[TAIL + 1];
		node_path(c, i, "service.log", path);
		_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
		struct stat st;
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
			continue;
		ssize_t n = pread(fd, text, TAIL, st.st_size > TAIL ? st.st_size - TAIL : 0);
		if (n <= 0)
			continue;
		text[n] = 0;
		const char *from = st.st_size > TAIL && strchr(text, '\n') ? strchr(text, '\n') + 1 : text;
		(void)fprintf(stderr, "--- node %u said:\n%s", i, from);
	}
}

static void signals_catch(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal };
	for (size_t k = 0; k < sizeof signals / sizeof *signals; k++)
		(void)sigaction(signals[k], &sa, NULL); /* cannot fail for these */
	(void)signal(SIGPIPE, SIG_IGN);
}

/* Cgroups without a directory: what is left when somebody removed the directory by hand. */
static int leftovers_check(const struct up *u, struct err *e)
{
	struct stat st;
	char dir[DEV_DIR_MAX];
	const char *name = u->how->name;
	(void)snprintf(dir, sizeof dir, DEV_BASE "/" DEV_PREFIX "%s", name);
	if (cg_exists(&u->cg, name) && lstat(dir, &st) < 0)
		return err_set(e, -EEXIST,
			       "cgroups of an earlier \"%s\" are left; clean up with: pando dev down --name %s", name,
			       name);
	return 0;
}

int dev_up(const struct dev_up *how, struct err *e)
{
	struct up u = { .how = how, .switch_leash = -1, .live = !how->quiet && isatty(2), .began_ms = clock_ms() };
	memset(u.leash, -1, sizeof u.leash);
	(void)umask(022);
	int rc = trial_name_check(how->name, e);
	if (rc == 0)
		rc = cg_find(&u.cg, e);
	if (rc == 0)
		rc = leftovers_check(&u, e);
	if (rc == 0)
		rc = trial_new(how->name, how->n, &u.c, e);
	if (rc != 0)
		return rc == TRIAL_EXISTS ? -EEXIST : rc;
	signals_catch();
	rc = run(&u, e);
	progress_end(&u);
	for (unsigned i = 1; i <= how->n; i++)
		(void)close_fd(u.leash[i]);
	(void)close_fd(u.switch_leash);
	if (rc < 0 && rc != -EINTR)
		logs_show(u.c);
	trial_free(u.c);
	if (rc < 0) {
		struct err down_e = { .text = "" };
		if (dev_down(how->name, &down_e) < 0)
			(void)err_wrap(e, rc, "(and cleaning up failed: %.80s)", down_e.text);
		return rc;
	}
	if (!how->quiet)
		(void)fprintf(stderr, "%s: %u node%s up in %.1f s; try: pando dev exec 1 --name %s -- hostname\n",
			      how->name, how->n, how->n == 1 ? "" : "s", (double)(clock_ms() - u.began_ms) / 1000,
			      how->name);
	return 0;
}
