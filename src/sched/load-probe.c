/* The probe of this node's load.
 *
 * Each look takes the number of tasks that want a CPU now, and the CPU time used since the last look; both go into a
 * ring with the time that they stand for, and the figures are the averages over the part of the ring that lies in the
 * window. A count is one look at one moment and misses what ran between two looks; CPU time misses nobody but cannot
 * exceed the CPUs: so `running` is the greater of both averages.
 *
 * "host": runnable tasks from /proc/loadavg, CPU time from /proc/stat, memory from /proc/meminfo.
 * "cgroup:": CPU time from cpuacct.usage (v1) or cpu.stat (v2), memory from the memory controller, runnable tasks by
 * looking at the state of the group's tasks, because no cgroup file tells it. Looked at only while CPU time is used, at
 * most TASKS_LOOKED of them, the rest by proportion. Tasks that the quota holds back count too: they are runnable. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "sched/load.h"

enum { RING = 16, TASKS_LOOKED = 256, GROUPS_MAX = 64, DEPTH_MAX = 5, TEXT_MAX = 16384, IDLE_MILLI = 20 };

struct sample {
	uint64_t at_ms, for_ms; /* when, and for how long before it stands */
	double running, usage;
};

struct load_probe {
	int use_group;
	int cpu_dir, mem_dir, quota_dir; /* of the group; owned; -1 where there is none */
	int v2_cpu, v2_mem;
	double cpus, speed;
	struct sample ring[RING];
	unsigned next, n;
	uint64_t last_ms, last_cpu_us;
	int has_last;
	uint64_t host_mem; /* bytes */
};

/* The text of a file, cut at size - 1 bytes. */
static int text_read(int dir, const char *path, char *ret, size_t size)
{
	_cleanup_(close_p) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t n = 0;
	while (n < size - 1) {
		ssize_t r = read(fd, ret + n, size - 1 - n);
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		n += (size_t)r;
	}
	ret[n] = 0;
	return 0;
}

/* The number after a key at the start of a line. 0 or -ENOENT. */
static int number_after(const char *text, const char *key, uint64_t *ret)
{
	size_t n = strlen(key);
	for (const char *p = text; p; p = strchr(p, '\n'), p = p ? p + 1 : NULL) {
		if (strncmp(p, key, n) == 0 && (p[n] == ' ' || p[n] == ':' || p[n] == '\t' || !p[n])) {
			*ret = strtoull(p + n + (p[n] == ':'), NULL, 10);
			return 0;
		}
	}
	return -ENOENT;
}

static int number_read(int dir, const char *path, uint64_t *ret)
{
	char text[64], *end;
	int rc = text_read(dir, path, text, sizeof text);
	if (rc < 0)
		return rc;
	*ret = strtoull(text, &end, 10);
	return end == text ? -ENODATA : 0; /* "max" */
}

static uint16_t psi_read(int dir, const char *path)
{
	char text[256];
	double avg10;
	if (text_read(dir, path, text, sizeof text) < 0 || sscanf(text, "some avg10=%lf", &avg10) != 1 || avg10 < 0 ||
	    avg10 > 100)
		return LOAD_PSI_UNKNOWN;
	return (uint16_t)(avg10 * 10);
}

/* --- finding the group --- */

/* Opens rel below the mount point of a hierarchy: v1 with this controller, or v2 (NULL). Or -1. */
static int group_dir(const char *controller, const char *rel)
{
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_(free_p) char *line = NULL;
	size_t cap = 0;
	while (f && getline(&line, &cap, f) > 0) {
		char point[2048], type[32], super[512], path[4096];
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %*s %2047s", point) != 1 ||
		    sscanf(dash + 3, "%31s %*s %511s", type, super) != 2)
			continue;
		int found = !controller && strcmp(type, "cgroup2") == 0;
		char *save = NULL;
		if (controller && strcmp(type, "cgroup") == 0)
			for (char *o = strtok_r(super, ",", &save); o && !found; o = strtok_r(NULL, ",", &save))
				found = strcmp(o, controller) == 0;
		if (!found)
			continue;
		(void)snprintf(path, sizeof path, "%s/%s", point, rel);
		int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			return fd;
	}
	return -1;
}

/* The name of a directory below the root of its hierarchy, if it lies in one. */
static int group_rel(const char *dir, char *ret, size_t size)
{
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/mountinfo", "re");
	_cleanup_(free_p) char *line = NULL;
	size_t cap = 0, best = 0;
	while (f && getline(&line, &cap, f) > 0) {
		char point[2048], type[32];
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %*s %2047s", point) != 1 ||
		    sscanf(dash + 3, "%31s", type) != 1 || strncmp(type, "cgroup", 6) != 0)
			continue;
		size_t n = strlen(point);
		if (n > best && strncmp(dir, point, n) == 0 && (dir[n] == '/' || !dir[n]) && strlen(dir + n) < size) {
			best = n;
			(void)snprintf(ret, size, "%s", dir + n + strspn(dir + n, "/"));
		}
	}
	return best ? 0 : -ENOENT;
}

static int has_file(int dir, const char *name)
{
	return dir >= 0 && faccessat(dir, name, R_OK, 0) == 0;
}

static int group_open(struct load_probe *p, const char *path, struct err *e)
{
	char rel[4096];
	if (path[0] != '/')
		(void)snprintf(rel, sizeof rel, "%s", path);
	else if (group_rel(path, rel, sizeof rel) < 0)
		return err_set(e, -ENOENT, "load source: %s is not in a mounted cgroup hierarchy", path);

	p->cpu_dir = group_dir("cpuacct", rel);
	if (!has_file(p->cpu_dir, "cpuacct.usage")) {
		p->cpu_dir = close_fd(p->cpu_dir);
		p->cpu_dir = group_dir(NULL, rel);
		p->v2_cpu = 1;
		if (!has_file(p->cpu_dir, "cpu.stat"))
			return err_set(e, -ENOENT, "load source: no control group %s with cpuacct.usage or cpu.stat",
				       path);
	}
	p->mem_dir = group_dir("memory", rel);
	if (!has_file(p->mem_dir, "memory.usage_in_bytes")) {
		p->mem_dir = close_fd(p->mem_dir);
		p->mem_dir = group_dir(NULL, rel);
		p->v2_mem = 1;
		if (!has_file(p->mem_dir, "memory.current"))
			p->mem_dir = close_fd(p->mem_dir); /* no limit there: the machine's memory counts */
	}
	p->quota_dir = group_dir("cpu", rel);
	if (p->quota_dir < 0)
		p->quota_dir = group_dir(NULL, rel);
	p->use_group = 1;
	return 0;
}

/* --- CPUs --- */

static double cpus_allowed(void)
{
	size_t size = CPU_ALLOC_SIZE(8192);
	_cleanup_(free_p) cpu_set_t *set = malloc(size);
	if (!set || sched_getaffinity(0, size, set) < 0)
		return 1;
	int n = CPU_COUNT_S(size, set);
	return n > 0 ? n : 1;
}

static double cpus_quota(int dir)
{
	uint64_t quota, period;
	char text[64];
	unsigned long long q, per;
	if (dir < 0)
		return 0;
	if (text_read(dir, "cpu.max", text, sizeof text) == 0 && sscanf(text, "%llu %llu", &q, &per) == 2 && per)
		return (double)q / (double)per;
	/* v1: the quota is -1, thus a huge number here, where there is none */
	if (number_read(dir, "cpu.cfs_quota_us", &quota) == 0 && number_read(dir, "cpu.cfs_period_us", &period) == 0 &&
	    period && quota < 1000000000000u)
		return (double)quota / (double)period;
	return 0;
}

static void cpus_update(struct load_probe *p, double fixed)
{
	double n = fixed > 0 ? fixed : cpus_allowed();
	double quota = fixed > 0 || !p->use_group ? 0 : cpus_quota(p->quota_dir);
	p->cpus = quota > 0 && quota < n ? quota : n;
}

int load_probe_new(const struct load_config *cfg, struct load_probe **ret, struct err *e)
{
	struct load_probe *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, -ENOMEM, "load source: out of memory");
	p->cpu_dir = p->mem_dir = p->quota_dir = -1;

	int rc = 0;
	if (strncmp(cfg->source, "cgroup:", 7) == 0)
		rc = group_open(p, cfg->source + 7, e);
	else if (strcmp(cfg->source, "host") != 0)
		rc = err_set(e, -EINVAL, "load source \"%s\" is neither \"host\" nor \"cgroup:PATH\"", cfg->source);
	if (!rc && (cfg->cpus < 0 || cfg->cpus > 65536 || cfg->speed < 0 || cfg->speed > 1000))
		rc = err_set(e, -EINVAL, "number or speed of CPUs out of range");
	if (rc < 0) {
		(void)load_probe_free(p);
		return rc;
	}
	cpus_update(p, cfg->cpus);
	p->speed = cfg->speed > 0 ? cfg->speed : load_speed();
	*ret = p;
	return 0;
}

struct load_probe *load_probe_free(struct load_probe *p)
{
	if (p) {
		(void)close_fd(p->cpu_dir);
		(void)close_fd(p->mem_dir);
		(void)close_fd(p->quota_dir);
		free(p);
	}
	return NULL;
}

/* --- one look --- */

static int host_look(uint64_t *ret_cpu_us, double *ret_running, uint32_t *ret_tasks)
{
	char text[TEXT_MAX];
	unsigned running, tasks;
	unsigned long long user, nice, sys, idle, iowait, irq, soft, steal;

	int rc = text_read(AT_FDCWD, "/proc/loadavg", text, sizeof text);
	if (rc < 0)
		return rc;
	if (sscanf(text, "%*s %*s %*s %u/%u", &running, &tasks) != 2)
		return -EBADMSG;
	*ret_running = running > 1 ? running - 1 : 0; /* without this reader */
	*ret_tasks = tasks;

	_cleanup_(close_p) int fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, 512); /* the first line is enough */
	if (n < 0)
		return -errno;
	text[n] = 0;
	if (sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &sys, &idle, &iowait, &irq, &soft,
		   &steal) != 8)
		return -EBADMSG;
	*ret_cpu_us = (user + nice + sys + irq + soft + steal) * (1000000u / (unsigned long long)sysconf(_SC_CLK_TCK));
	return 0;
}

struct count {
	unsigned tasks, looked, runnable, groups;
	long self;
};

/* The state of one task: the letter after the last ')' of its stat. */
static int task_runs(long tid)
{
	char path[32], text[256];
	(void)snprintf(path, sizeof path, "/proc/%ld/stat", tid);
	if (text_read(AT_FDCWD, path, text, sizeof text) < 0)
		return 0; /* has ended */
	const char *p = strrchr(text, ')');
	return p && p[1] == ' ' && p[2] == 'R';
}

static void tasks_count(int dir, const char *file, struct count *c)
{
	_cleanup_(close_p) int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	_cleanup_(fclose_p) FILE *f = fd < 0 ? NULL : fdopen(fd, "re");
	long tid;
	if (!f)
		return;
	fd = -1;
	while (fscanf(f, "%ld", &tid) == 1) {
		c->tasks++;
		if (tid > 0 && tid != c->self && c->looked < TASKS_LOOKED) { /* 0: of another pid namespace */
			c->looked++;
			c->runnable += (unsigned)task_runs(tid);
		}
	}
}

/* A group and the groups below it. */
static void group_count(int dir, const char *file, int depth, struct count *c)
{
	tasks_count(dir, file, c);
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedir_p) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d && fd >= 0)
		(void)close_fd(fd);
	for (struct dirent *e; d && depth < DEPTH_MAX && (e = readdir(d));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.' || ++c->groups > GROUPS_MAX)
			continue;
		_cleanup_(close_p) int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (sub >= 0)
			group_count(sub, file, depth + 1, c);
	}
}

static int group_cpu_us(const struct load_probe *p, uint64_t *ret)
{
	char text[1024];
	if (!p->v2_cpu) {
		int rc = number_read(p->cpu_dir, "cpuacct.usage", ret);
		*ret = rc < 0 ? 0 : *ret / 1000;
		return rc;
	}
	int rc = text_read(p->cpu_dir, "cpu.stat", text, sizeof text);
	return rc < 0 ? rc : number_after(text, "usage_usec", ret);
}

static void group_running(const struct load_probe *p, double *ret_running, uint32_t *ret_tasks)
{
	struct count c = { .self = syscall(SYS_gettid) };
	group_count(p->cpu_dir, p->v2_cpu ? "cgroup.threads" : "tasks", 0, &c);
	*ret_tasks = c.tasks;
	*ret_running = c.runnable;
	if (c.looked == TASKS_LOOKED)
		*ret_running *= (double)c.tasks / (double)c.looked;
}

static int memory_look(struct load_probe *p, struct load_report *l)
{
	char text[TEXT_MAX];
	uint64_t total, avail, limit, used, cache = 0;
	int rc = text_read(AT_FDCWD, "/proc/meminfo", text, 4096);
	if (rc < 0)
		return rc;
	if (number_after(text, "MemTotal", &total) < 0 || number_after(text, "MemAvailable", &avail) < 0)
		return -EBADMSG;
	l->mem_total = total * 1024;
	l->mem_free = avail * 1024;
	if (p->mem_dir >= 0 &&
	    number_read(p->mem_dir, p->v2_mem ? "memory.max" : "memory.limit_in_bytes", &limit) == 0 &&
	    limit < l->mem_total &&
	    number_read(p->mem_dir, p->v2_mem ? "memory.current" : "memory.usage_in_bytes", &used) == 0) {
		if (text_read(p->mem_dir, "memory.stat", text, sizeof text) == 0 &&
		    number_after(text, p->v2_mem ? "inactive_file" : "total_inactive_file", &cache) < 0)
			cache = 0;
		used = used > cache ? used - cache : 0;
		uint64_t room = limit > used ? limit - used : 0;
		l->mem_total = limit;
		l->mem_free = room < l->mem_free ? room : l->mem_free;
	}
	if (l->mem_free > l->mem_total)
		l->mem_free = l->mem_total;
	return 0;
}

/* The averages over the window that ends now. */
static void averages(const struct load_probe *p, uint64_t now_ms, double *ret_running, double *ret_usage)
{
	double running = 0, usage = 0, weight = 0;
	for (unsigned i = 0; i < p->n; i++) {
		const struct sample *s = &p->ring[i];
		uint64_t begin = s->at_ms - s->for_ms, from = now_ms > LOAD_WINDOW_MS ? now_ms - LOAD_WINDOW_MS : 0;
		if (s->at_ms <= from || s->for_ms == 0)
			continue;
		double w = (double)(s->at_ms - (begin > from ? begin : from));
		running += s->running * w;
		usage += s->usage * w;
		weight += w;
	}
	*ret_running = weight > 0 ? running / weight : 0;
	*ret_usage = weight > 0 ? usage / weight : 0;
}

static uint32_t milli(double v, double max)
{
	return (uint32_t)((v < 0 ? 0 : v > max ? max : v) * 1000 + 0.5);
}

int load_probe_sample(struct load_probe *p, uint64_t now_ms, struct load_report *ret, struct err *e)
{
	struct load_report l = { .psi_cpu = LOAD_PSI_UNKNOWN, .psi_mem = LOAD_PSI_UNKNOWN };
	uint64_t cpu_us = 0;
	double running = 0, usage = 0;

	int rc = p->use_group ? group_cpu_us(p, &cpu_us) : host_look(&cpu_us, &running, &l.tasks);
	if (rc < 0)
		return err_set(e, rc, "load source: cannot read CPU time: %s", strerror(-rc));
	rc = memory_look(p, &l);
	if (rc < 0)
		return err_set(e, rc, "load source: cannot read memory: %s", strerror(-rc));

	uint64_t dt = p->has_last && now_ms > p->last_ms ? now_ms - p->last_ms : 0;
	if (dt && cpu_us > p->last_cpu_us)
		usage = (double)(cpu_us - p->last_cpu_us) / 1000.0 / (double)dt;
	if (p->use_group && (!dt || usage * 1000 > IDLE_MILLI))
		group_running(p, &running, &l.tasks);
	if (!p->has_last || dt) {
		p->ring[p->next] = (struct sample){ now_ms, dt ? dt : 1, running, usage };
		p->next = (p->next + 1) % RING;
		p->n += p->n < RING;
		p->last_ms = now_ms;
		p->last_cpu_us = cpu_us;
		p->has_last = 1;
	}

	averages(p, now_ms, &running, &usage);
	l.cpus_milli = milli(p->cpus, 65536);
	l.cpus_milli = l.cpus_milli ? l.cpus_milli : 1;
	l.speed_milli = milli(p->speed, 1000);
	l.speed_milli = l.speed_milli ? l.speed_milli : 1;
	l.usage_milli = milli(usage, 65536);
	l.running_milli = milli(running > usage ? running : usage, 4000000);
	int psi = p->use_group ? p->cpu_dir : AT_FDCWD;
	if (!p->use_group || p->v2_cpu) {
		l.psi_cpu = psi_read(psi, p->use_group ? "cpu.pressure" : "/proc/pressure/cpu");
		l.psi_mem = psi_read(psi, p->use_group ? "memory.pressure" : "/proc/pressure/memory");
	}
	*ret = l;
	return 0;
}
