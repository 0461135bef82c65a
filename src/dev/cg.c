#include "dev/cg.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "dev/trial.h"
#include "dev/proc.h"

enum {
	CPU_PERIOD_US = 20000,   /* short, so that a node that has used up its share waits ms, not tens of ms */
	CPU_QUOTA_MIN_US = 1000, /* the kernel takes no less */
	FREEZE_MS = 5000,
	DEPTH_MAX = 64,
};

#define HOST_LEAF "pando-dev.host" /* see root_evacuate */

static const struct {
	const char *name;
	unsigned bit;
	unsigned v2_bits; /* what this controller gives in version 2 */
} controllers[] = {
	{ "cpu", CG_CPU, CG_CPU },    { "cpuacct", CG_CPUACCT, 0 }, { "memory", CG_MEMORY, CG_MEMORY },
	{ "freezer", CG_FREEZER, 0 }, { "pids", CG_PIDS, CG_PIDS },
};
enum { N_CONTROLLERS = sizeof controllers / sizeof *controllers };

/* Is word in a list with the given separators? */
static int list_has(const char *list, const char *seps, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; *p;) {
		size_t len = strcspn(p, seps);
		if (len == n && strncmp(p, word, n) == 0)
			return 1;
		p += len;
		p += strspn(p, seps);
	}
	return 0;
}

static void v2_controllers(struct cg_hier *h)
{
	char path[CG_PATH_MAX], list[512];
	(void)snprintf(path, sizeof path, "%s/cgroup.controllers", h->mount);
	if (file_read(AT_FDCWD, path, list, sizeof list) < 0)
		return;
	for (size_t k = 0; k < N_CONTROLLERS; k++)
		if (controllers[k].v2_bits && list_has(list, " \n", controllers[k].name))
			h->has |= controllers[k].v2_bits;
}

static void v1_controllers(struct cg_hier *h, const char *super)
{
	for (size_t k = 0; k < N_CONTROLLERS; k++)
		if (list_has(super, ",\n", controllers[k].name)) {
			h->has |= controllers[k].bit;
			size_t at = strlen(h->options);
			(void)snprintf(h->options + at, sizeof h->options - at, "%s%s", at ? "," : "",
				       controllers[k].name);
		}
}

/* One line of mountinfo: "id parent dev root mountpoint options... - type source superoptions". */
static void mount_line(struct cg *cg, char *line)
{
	char *tail = strstr(line, " - ");
	char mount[PATH_MAX], type[32], super[256];
	if (!tail || sscanf(line, "%*d %*d %*s %*s %4095s", mount) != 1 ||
	    sscanf(tail + 3, "%31s %*s %255s", type, super) != 2)
		return;
	int v2 = strcmp(type, "cgroup2") == 0;
	if ((!v2 && strcmp(type, "cgroup") != 0) || cg->n == CG_HIER_MAX || strlen(mount) >= sizeof cg->hier->mount ||
	    strchr(mount, '\\'))
		return;
	struct cg_hier h = { .v2 = v2 };
	(void)snprintf(h.mount, sizeof h.mount, "%s", mount);
	if (v2)
		v2_controllers(&h);
	else
		v1_controllers(&h, super);
	unsigned seen = 0;
	for (size_t k = 0; k < cg->n; k++)
		if (v2 ? cg->hier[k].v2 : (cg->hier[k].has & h.has) != 0 && !cg->hier[k].v2)
			seen = 1;
	if (seen || (!v2 && !h.has) || access(mount, W_OK) < 0)
		return;
	cg->hier[cg->n++] = h;
}

int cg_find(struct cg *ret, struct err *e)
{
	*ret = (struct cg){ 0 };
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return err_set(e, -errno, "/proc/self/mountinfo: %m");
	_cleanup_(free_p) char *line = NULL;
	size_t cap = 0;
	while (getline(&line, &cap, f) > 0)
		mount_line(ret, line);

	/* What version 1 has is not offered by version 2 again, except the freezer, which is better there. */
	int freezer = 0;
	for (size_t k = 0; k < ret->n; k++)
		if (ret->hier[k].v2) {
			ret->hier[k].has |= CG_FREEZER | (ret->hier[k].has & CG_CPU ? CG_CPUACCT : 0u);
			freezer = 1;
		} else if (ret->hier[k].has & CG_FREEZER)
			freezer = 1;
	if (!freezer)
		return err_set(
		    e, -ENOENT,
		    "no writable cgroup file system with a freezer is mounted (mount -t cgroup2 none /sys/fs/cgroup)");
	return 0;
}

void cg_path(const struct cg_hier *h, const char *name, int group, const char *file, char ret[static CG_PATH_MAX])
{
	char sub[32] = "";
	if (group == CG_LAN)
		(void)snprintf(sub, sizeof sub, "/lan");
	else if (group > 0)
		(void)snprintf(sub, sizeof sub, "/node-%d", group);
	(void)snprintf(ret, CG_PATH_MAX, "%s/" DEV_PREFIX "%s%s%s%s", h->mount, name, sub, *file ? "/" : "", file);
}

static int group_make(const struct cg_hier *h, const char *name, int group, struct err *e)
{
	char path[CG_PATH_MAX];
	cg_path(h, name, group, "", path);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_set(e, -errno, "mkdir %s: %m", path);
	return 0;
}

/* Moves the processes of the group at dir from one file's list to another group. A process may fork meanwhile: look
 * until none is left. */
static int procs_move(const char *from, const char *to)
{
	for (int round = 0; round < 20; round++) {
		_cleanup_(fclose_p) FILE *f = fopen(from, "re");
		if (!f)
			return -errno;
		char pid[32];
		int n = 0;
		while (fgets(pid, sizeof pid, f)) {
			int rc = strtol(pid, NULL, 10) == 0
				     ? 0
				     : file_write(to, pid); /* 0: a process of an outer pid namespace */
			if (rc < 0 && rc != -ESRCH)
				return rc;
			n++;
		}
		if (n == 0)
			return 0;
	}
	return -EBUSY;
}

/* In a container the root that we see is not the real root, and holds the container's processes: version 2 then hands
 * no controllers down. As other tools for containers in containers do, we put these processes into a leaf of their own;
 * root_return undoes it. */
static int root_evacuate(const struct cg_hier *h)
{
	char leaf[CG_PATH_MAX], from[CG_PATH_MAX], to[CG_PATH_MAX];
	(void)snprintf(leaf, sizeof leaf, "%s/" HOST_LEAF, h->mount);
	(void)snprintf(from, sizeof from, "%s/cgroup.procs", h->mount);
	(void)snprintf(to, sizeof to, "%s/" HOST_LEAF "/cgroup.procs", h->mount);
	if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
		return -errno;
	return procs_move(from, to);
}

/* Hands the controllers that we use down from the group at path. A controller that cannot be had is missed when a limit
 * is asked for. */
static void v2_hand_down(const struct cg_hier *h, const char *path, int is_root)
{
	char file[CG_PATH_MAX + 32], now[512];
	(void)snprintf(file, sizeof file, "%s/cgroup.subtree_control", path);
	if (file_read(AT_FDCWD, file, now, sizeof now) < 0)
		return;
	for (size_t k = 0; k < N_CONTROLLERS; k++) {
		char word[32];
		if (!(h->has & controllers[k].v2_bits) || list_has(now, " \n", controllers[k].name))
			continue;
		(void)snprintf(word, sizeof word, "+%s", controllers[k].name);
		int rc = file_write(file, word);
		if (rc == -EBUSY && is_root && root_evacuate(h) == 0)
			(void)file_write(file, word);
	}
}

/* After the last cluster: puts the container's processes back, unless somebody else hands controllers down to groups of
 * theirs meanwhile. */
static void root_return(const struct cg_hier *h)
{
	char leaf[CG_PATH_MAX], from[CG_PATH_MAX], to[CG_PATH_MAX], control[CG_PATH_MAX];
	(void)snprintf(leaf, sizeof leaf, "%s/" HOST_LEAF, h->mount);
	(void)snprintf(from, sizeof from, "%s/" HOST_LEAF "/cgroup.procs", h->mount);
	(void)snprintf(to, sizeof to, "%s/cgroup.procs", h->mount);
	(void)snprintf(control, sizeof control, "%s/cgroup.subtree_control", h->mount);
	_cleanup_(closedir_p) DIR *d = access(leaf, F_OK) == 0 ? opendir(h->mount) : NULL;
	if (!d)
		return;
	for (struct dirent *de; (de = readdir(d));)
		if (de->d_type == DT_DIR && de->d_name[0] != '.' && strcmp(de->d_name, HOST_LEAF) != 0)
			return;
	for (size_t k = 0; k < N_CONTROLLERS; k++) {
		char word[32];
		(void)snprintf(word, sizeof word, "-%s", controllers[k].name);
		if (controllers[k].v2_bits)
			(void)file_write(control, word); /* fails for one that is not handed down */
	}
	if (procs_move(from, to) == 0)
		(void)rmdir(leaf);
}

int cg_cluster_make(const struct cg *cg, const char *name, struct err *e)
{
	for (size_t k = 0; k < cg->n; k++) {
		const struct cg_hier *h = &cg->hier[k];
		int rc = group_make(h, name, CG_CLUSTER, e);
		if (rc == 0)
			rc = group_make(h, name, CG_LAN, e);
		if (rc < 0)
			return rc;
		if (h->v2) {
			char path[CG_PATH_MAX];
			v2_hand_down(h, h->mount, 1);
			cg_path(h, name, CG_CLUSTER, "", path);
			v2_hand_down(h, path, 0);
		}
	}
	return 0;
}

int cg_node_make(const struct cg *cg, const char *name, unsigned i, struct err *e)
{
	for (size_t k = 0; k < cg->n; k++) {
		int rc = group_make(&cg->hier[k], name, (int)i, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int cg_join(const struct cg *cg, const char *name, int group, int leaf, struct err *e)
{
	for (size_t k = 0; k < cg->n; k++) {
		char path[CG_PATH_MAX];
		cg_path(&cg->hier[k], name, group, leaf && cg->hier[k].v2 ? "init/cgroup.procs" : "cgroup.procs", path);
		int rc = file_write(path, "0");
		if (rc < 0)
			return err_set(e, rc, "join %s: %s", path, strerror(-rc));
	}
	return 0;
}

/* The hierarchy whose groups have this file: a controller that is listed may still not be handed down to us. */
static const struct cg_hier *hier_with(const struct cg *cg, unsigned bit, const char *name, int group,
				       const char *v1_file, const char *v2_file, char ret_path[static CG_PATH_MAX])
{
	for (size_t k = 0; k < cg->n; k++) {
		const struct cg_hier *h = &cg->hier[k];
		if (!(h->has & bit))
			continue;
		cg_path(h, name, group, h->v2 ? v2_file : v1_file, ret_path);
		if (access(ret_path, F_OK) == 0)
			return h;
	}
	return NULL;
}

int cg_limit_cpu(const struct cg *cg, const char *name, unsigned i, double cpus, struct err *e)
{
	char path[CG_PATH_MAX], text[64];
	const struct cg_hier *h = hier_with(cg, CG_CPU, name, (int)i, "cpu.cfs_quota_us", "cpu.max", path);
	if (!h && !(cpus > 0))
		return 0;
	if (!h)
		return err_set(e, -EOPNOTSUPP, "no cgroup controller for CPU quotas can be used on this machine");
	long quota = cpus > 0 ? (long)(cpus * CPU_PERIOD_US + 0.5) : -1;
	if (cpus > 0 && quota < CPU_QUOTA_MIN_US)
		return err_set(e, -ERANGE, "%g CPUs are too little: at least %g", cpus,
			       (double)CPU_QUOTA_MIN_US / CPU_PERIOD_US);
	if (h->v2) {
		if (quota > 0)
			(void)snprintf(text, sizeof text, "%ld %d", quota, CPU_PERIOD_US);
		else
			(void)snprintf(text, sizeof text, "max %d", CPU_PERIOD_US);
	} else {
		char period[CG_PATH_MAX];
		cg_path(h, name, (int)i, "cpu.cfs_period_us", period);
		(void)snprintf(text, sizeof text, "%d", CPU_PERIOD_US);
		int rc = file_write(period, text);
		if (rc < 0)
			return err_set(e, rc, "%s: %s", period, strerror(-rc));
		(void)snprintf(text, sizeof text, "%ld", quota);
	}
	int rc = file_write(path, text);
	return rc == 0 ? 0 : err_set(e, rc, "%s: %s", path, strerror(-rc));
}

int cg_limit_mem(const struct cg *cg, const char *name, unsigned i, uint64_t bytes, struct err *e)
{
	char path[CG_PATH_MAX], text[32];
	const struct cg_hier *h = hier_with(cg, CG_MEMORY, name, (int)i, "memory.limit_in_bytes", "memory.max", path);
	if (!h && bytes == 0)
		return 0;
	if (!h)
		return err_set(e, -EOPNOTSUPP, "no cgroup controller for memory limits can be used on this machine");
	if (bytes)
		(void)snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
	else
		(void)snprintf(text, sizeof text, "%s", h->v2 ? "max" : "-1");
	int rc = file_write(path, text);
	if (rc == -EBUSY)
		return err_set(e, rc, "node %u has more than that in use now, and it cannot be taken from it", i);
	return rc == 0 ? 0 : err_set(e, rc, "%s: %s", path, strerror(-rc));
}

void cg_usage(const struct cg *cg, const char *name, unsigned i, uint64_t *ret_cpu_ns, uint64_t *ret_mem)
{
	char path[CG_PATH_MAX], text[1024];
	*ret_cpu_ns = *ret_mem = 0;
	const struct cg_hier *h = hier_with(cg, CG_CPUACCT, name, (int)i, "cpuacct.usage", "cpu.stat", path);
	if (h && file_read(AT_FDCWD, path, text, sizeof text) > 0)
		*ret_cpu_ns =
		    h->v2 ? strtoull(text + strcspn(text, "0123456789"), NULL, 10) * 1000u : strtoull(text, NULL, 10);
	h = hier_with(cg, CG_MEMORY, name, (int)i, "memory.usage_in_bytes", "memory.current", path);
	if (h && file_read(AT_FDCWD, path, text, sizeof text) > 0)
		*ret_mem = strtoull(text, NULL, 10);
}

static int frozen_now(const struct cg_hier *h, const char *name, unsigned i, int on)
{
	char path[CG_PATH_MAX], text[256];
	cg_path(h, name, (int)i, h->v2 ? "cgroup.events" : "freezer.state", path);
	if (file_read(AT_FDCWD, path, text, sizeof text) < 0)
		return 0;
	if (h->v2)
		return strstr(text, on ? "frozen 1" : "frozen 0") != NULL;
	return strncmp(text, on ? "FROZEN" : "THAWED", 6) == 0;
}

int cg_freeze(const struct cg *cg, const char *name, unsigned i, int on, struct err *e)
{
	char path[CG_PATH_MAX];
	const struct cg_hier *h = NULL;
	for (size_t k = 0; k < cg->n && !(h && h->v2);
	     k++) /* version 2 if there is one: a frozen process dies there when killed */
		if (cg->hier[k].has & CG_FREEZER)
			h = &cg->hier[k];
	if (!h)
		return err_set(e, -EOPNOTSUPP, "this machine has no cgroup freezer");
	cg_path(h, name, (int)i, h->v2 ? "cgroup.freeze" : "freezer.state", path);
	int rc = h->v2 ? file_write(path, on ? "1" : "0") : file_write(path, on ? "FROZEN" : "THAWED");
	if (rc < 0)
		return err_set(e, rc, "%s: %s", path, strerror(-rc));
	uint64_t until = clock_ms() + FREEZE_MS;
	for (unsigned step = 0; !frozen_now(h, name, i, on); proc_nap(&step))
		if (proc_left(until) == 0)
			return err_set(e, -ETIMEDOUT, "node %u is not %s after %d s", i, on ? "frozen" : "thawed",
				       FREEZE_MS / 1000);
	return 0;
}

/* Calls fn for the group at path and all below it, innermost first. */
static int tree_each(const char *path, int (*fn)(void *ctx, const char *path), void *ctx, int depth)
{
	int rc = 0;
	DIR *d = depth < DEPTH_MAX ? opendir(path) : NULL;
	if (!d)
		return depth < DEPTH_MAX && errno == ENOENT ? 0 : -errno;
	for (struct dirent *de; (de = readdir(d));) {
		char sub[PATH_MAX];
		if (de->d_type != DT_DIR || strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    (size_t)snprintf(sub, sizeof sub, "%s/%s", path, de->d_name) >= sizeof sub)
			continue;
		int sub_rc = tree_each(sub, fn, ctx, depth + 1);
		if (rc == 0)
			rc = sub_rc;
	}
	(void)closedir(d);
	int own_rc = fn(ctx, path);
	return rc == 0 ? own_rc : rc;
}

static int group_kill(void *ctx, const char *path)
{
	int *killed = ctx;
	char file[PATH_MAX + 16], pid[32];
	(void)snprintf(file, sizeof file, "%s/cgroup.procs", path);
	_cleanup_(fclose_p) FILE *f = fopen(file, "re");
	if (!f)
		return 0;
	while (fgets(pid, sizeof pid, f)) {
		long n = strtol(pid, NULL, 10);
		if (n > 1 && n != getpid() && kill((pid_t)n, SIGKILL) == 0)
			(*killed)++;
	}
	return 0;
}

/* Version 1: a frozen process does not die before it is thawed. What is not frozen stays as it is. */
static int group_thaw(void *ctx, const char *path)
{
	char file[PATH_MAX + 16], state[32];
	(void)snprintf(file, sizeof file, "%s/freezer.state", path);
	if (file_read(AT_FDCWD, file, state, sizeof state) > 0 && strncmp(state, "THAWED", 6) != 0)
		(void)file_write(file, "THAWED");
	return 0;
}

/* Without cgroup.kill: stop them all, so that none can fork while we walk, kill each, let them go (to die). */
static void kill_by_walk(const struct cg_hier *h, const char *path)
{
	char file[CG_PATH_MAX + 16];
	(void)snprintf(file, sizeof file, "%s/%s", path, h->v2 ? "cgroup.freeze" : "freezer.state");
	int freezer = (h->has & CG_FREEZER) && file_write(file, h->v2 ? "1" : "FROZEN") == 0;
	for (int round = 0; round < 10; round++) {
		int killed = 0;
		(void)tree_each(path, group_kill, &killed, 0);
		if (killed == 0 || freezer)
			break;
	}
	if (freezer)
		(void)file_write(file, h->v2 ? "0" : "THAWED");
}

int cg_kill(const struct cg *cg, const char *name, int group, struct err *e)
{
	int done = 0;
	for (size_t k = 0; k < cg->n; k++) {
		char path[CG_PATH_MAX];
		if (!cg->hier[k].v2)
			continue;
		cg_path(&cg->hier[k], name, group, "cgroup.kill", path);
		done = file_write(path, "1") == 0;
	}
	for (size_t k = 0; k < cg->n; k++) {
		char path[CG_PATH_MAX];
		const struct cg_hier *h = &cg->hier[k];
		cg_path(h, name, group, "", path);
		if (access(path, F_OK) < 0)
			continue;
		/* The walk also finds processes that were between two hierarchies when somebody was interrupted. */
		if (!done && (h->has & CG_FREEZER))
			kill_by_walk(h, path);
		else {
			int killed = 0;
			(void)tree_each(path, group_kill, &killed, 0);
		}
		if (!h->v2 && (h->has & CG_FREEZER))
			(void)tree_each(path, group_thaw, NULL, 0);
	}
	return 0;
}

static int group_rmdir(void *ctx, const char *path)
{
	return rmdir(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int first_proc(void *ctx, const char *path)
{
	char *ret = ctx, file[PATH_MAX + 16];
	(void)snprintf(file, sizeof file, "%s/cgroup.procs", path);
	_cleanup_(fclose_p) FILE *f = *ret ? NULL : fopen(file, "re");
	if (f && fgets(ret, 32, f))
		ret[strcspn(ret, "\n")] = 0;
	return 0;
}

int cg_remove(const struct cg *cg, const char *name, int group, int ms, struct err *e)
{
	uint64_t until = clock_ms() + (uint64_t)ms;
	for (size_t k = 0; k < cg->n; k++) {
		char path[CG_PATH_MAX];
		cg_path(&cg->hier[k], name, group, "", path);
		int rc;
		unsigned step = 0;
		while ((rc = tree_each(path, group_rmdir, NULL, 0)) == -EBUSY && proc_left(until) > 0)
			proc_nap(&step);
		if (rc < 0) {
			char pid[32] = "";
			(void)tree_each(path, first_proc, pid, 0);
			return err_set(e, rc, "rmdir %s: %s%s%s", path, strerror(-rc), *pid ? ", process " : "", pid);
		}
		if (group == CG_CLUSTER && cg->hier[k].v2)
			root_return(&cg->hier[k]);
	}
	return 0;
}

int cg_exists(const struct cg *cg, const char *name)
{
	for (size_t k = 0; k < cg->n; k++) {
		char path[CG_PATH_MAX];
		cg_path(&cg->hier[k], name, CG_CLUSTER, "", path);
		if (access(path, F_OK) == 0)
			return 1;
	}
	return 0;
}

void cg_each_cluster(const struct cg *cg, void (*fn)(void *ctx, const char *name), void *ctx)
{
	size_t skip = strlen(DEV_PREFIX);
	for (size_t k = 0; k < cg->n; k++) {
		_cleanup_(closedir_p) DIR *d = opendir(cg->hier[k].mount);
		for (struct dirent *de; d && (de = readdir(d));)
			if (de->d_type == DT_DIR && strncmp(de->d_name, DEV_PREFIX, skip) == 0)
				fn(ctx, de->d_name + skip);
	}
}

void cg_load_source(const struct cg *cg, char *ret, size_t size)
{
	*ret = 0;
	for (size_t k = 0; k < cg->n && !*ret; k++)
		if (cg->hier[k].has & CG_CPUACCT)
			(void)snprintf(ret, size, "cgroup:%s", cg->hier[k].mount);
}
