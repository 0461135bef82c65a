/* What a node sees as its file system: everything is shared with the machine, but for /proc, /sys, /dev/pts, /dev/shm,
 * /dev/mqueue, /run, /var/lib, and the few files of /etc that say who the node is. With a root of its own (--root),
 * /tmp, /var/tmp, /home, /root and /dev are still those of the machine, and so are pando's own programs. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dev/init.h"
#include "dev/node.h"
#include "dev/proc.h"

#define CGROUP_DIR "/sys/fs/cgroup"

struct view {
	const struct trial *c;
	const struct cg *cg;
	unsigned i;
	char root[256]; /* prefix of every path: "" or the tree that will be / */
};

static int path_in(const struct view *v, const char *path, char ret[static PATH_MAX], struct err *e)
{
	int n = snprintf(ret, PATH_MAX, "%s%s", v->root, path);
	return n < PATH_MAX ? 0 : err_set(e, -ENAMETOOLONG, "%s: too long", path);
}

/* mkdir -p */
static int make_dirs(const char *path, struct err *e)
{
	char p[PATH_MAX];
	(void)snprintf(p, sizeof p, "%s", path);
	for (char *slash = p + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = 0;
		if (mkdir(p, 0755) < 0 && errno != EEXIST && errno != EROFS)
			return err_set(e, -errno, "mkdir %s: %m", p);
	}
	if (mkdir(p, 0755) < 0 && errno != EEXIST)
		return err_set(e, -errno, "mkdir %s: %m", p);
	return 0;
}

static int there(const struct view *v, const char *path)
{
	char p[PATH_MAX];
	return path_in(v, path, p, NULL) == 0 && access(p, F_OK) == 0;
}

/* Mounts a file system of its own on path, in place of what is mounted there. */
static int fresh(const struct view *v, const char *path, const char *type, unsigned long flags, const char *options,
		 struct err *e)
{
	char p[PATH_MAX];
	int rc = path_in(v, path, p, e);
	if (rc < 0)
		return rc;
	while (umount2(p, MNT_DETACH) == 0)
		; /* until it is a mount point no more; the machine does not notice: our mounts are slaves */
	if (access(p, F_OK) < 0 && (rc = make_dirs(p, e)) < 0)
		return rc;
	if (mount(type, p, type, flags, options) < 0)
		return err_set(e, -errno, "mount %s on %s: %m", type, path);
	return 0;
}

static int bind_to(const struct view *v, const char *from, const char *to, unsigned long flags, struct err *e)
{
	char p[PATH_MAX];
	int rc = path_in(v, to, p, e);
	if (rc < 0)
		return rc;
	if (mount(from, p, NULL, MS_BIND | flags, NULL) < 0)
		return err_set(e, -errno, "bind %s to %s: %m", from, to);
	return 0;
}

static int cgroups(const struct view *v, struct err *e)
{
	int rc = 0;
	for (size_t k = 0; k < v->cg->n && rc == 0; k++)
		if (strncmp(v->cg->hier[k].mount, CGROUP_DIR "/", strlen(CGROUP_DIR "/")) == 0) {
			rc = fresh(v, CGROUP_DIR, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755", e);
			break;
		}
	for (size_t k = 0; k < v->cg->n && rc == 0; k++) {
		const struct cg_hier *h = &v->cg->hier[k];
		rc = fresh(v, h->mount, h->v2 ? "cgroup2" : "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			   h->v2 ? NULL : h->options, e);
		char p[PATH_MAX];
		if (rc < 0 || !h->v2 || path_in(v, h->mount, p, e) < 0)
			continue;
		/* Version 2 wants processes in leaves only: pid 1 goes into one, so that the node can hand controllers
		 * down from its root. */
		size_t n = strlen(p);
		(void)snprintf(p + n, sizeof p - n, "/init");
		if (mkdir(p, 0755) < 0 && errno != EEXIST)
			return err_set(e, -errno, "mkdir %s: %m", p);
		(void)snprintf(p + n, sizeof p - n, "/init/cgroup.procs");
		rc = file_write(p, "0");
		if (rc < 0)
			return err_set(e, rc, "%s: %s", p, strerror(-rc));
	}
	return rc;
}

static int kernel_file_systems(const struct view *v, struct err *e)
{
	int fusectl = access("/sys/fs/fuse/connections/.", F_OK) == 0;
	int rc = fresh(v, "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, e);
	if (rc == 0)
		rc = fresh(v, "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, e);
	if (rc == 0)
		rc = cgroups(v, e);
	if (rc == 0 && fusectl && there(v, "/sys/fs/fuse/connections"))
		(void)fresh(v, "/sys/fs/fuse/connections", "fusectl", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL,
			    NULL); /* for diagnosis only */
	return rc;
}

static int devices(const struct view *v, struct err *e)
{
	char p[PATH_MAX];
	if (path_in(v, "/dev/ptmx", p, NULL) == 0)
		(void)umount2(p, MNT_DETACH); /* in some containers it is a mount, of the wrong instance */
	int rc = fresh(v, "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5", e);
	if (rc == 0)
		rc = fresh(v, "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", e);
	if (rc == 0 && there(v, "/dev/mqueue"))
		rc = fresh(v, "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, e);
	return rc;
}

static int run_dir(const struct view *v, struct err *e)
{
	char p[PATH_MAX];
	int rc = fresh(v, "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755", e);
	if (rc == 0)
		rc = path_in(v, "/run/lock", p, e);
	if (rc == 0 && (mkdir(p, 01777) < 0 || chmod(p, 01777) < 0))
		return err_set(e, -errno, "mkdir %s: %m", p);
	return rc;
}

/* /var/lib is the node's disk: what it changes there is in its directory, and stays when the node is killed. What the
 * machine has there (data of installed programs) is seen too, where overlayfs can be had; /var/lib/pando is never the
 * machine's. */
static int disk(const struct view *v, struct err *e)
{
	char lib[PATH_MAX], upper[256], work[256], pando[256], options[PATH_MAX + 600];
	int rc = path_in(v, "/var/lib", lib, e);
	if (rc < 0)
		return rc;
	node_path(v->c, v->i, "lib", upper);
	node_path(v->c, v->i, "work", work);
	node_path(v->c, v->i, "pando", pando);
	(void)snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", lib, upper, work);
	if (access(lib, F_OK) < 0 && (rc = make_dirs(lib, e)) < 0)
		return rc;
	if (mount("overlay", lib, "overlay", MS_NODEV, options) < 0)
		rc = bind_to(v, upper, "/var/lib", 0, e);
	if (rc < 0)
		return rc;
	rc = path_in(v, "/var/lib/pando", lib, e);
	if (rc == 0 && mkdir(lib, 0700) < 0 && errno != EEXIST)
		return err_set(e, -errno, "mkdir %s: %m", lib);
	return rc == 0 ? bind_to(v, pando, "/var/lib/pando", 0, e) : rc;
}

static int identity(const struct view *v, struct err *e)
{
	static const char *const own[] = { "hostname", "machine-id" };
	char from[256], to[64];
	int rc = 0;
	(void)snprintf(from, sizeof from, "%s/hosts", v->c->dir);
	if (there(v, "/etc/hosts"))
		rc = bind_to(v, from, "/etc/hosts", 0, e);
	for (size_t k = 0; k < sizeof own / sizeof *own && rc == 0; k++) {
		char what[32];
		(void)snprintf(to, sizeof to, "/etc/%s", own[k]);
		(void)snprintf(what, sizeof what, "etc/%s", own[k]);
		node_path(v->c, v->i, what, from);
		if (there(v, to))
			rc = bind_to(v, from, to, 0, e);
	}
	return rc;
}

/* Makes path of the machine visible in the new root, at the same place. */
static int share(const struct view *v, const char *path, struct err *e)
{
	struct stat st;
	char p[PATH_MAX];
	int rc = path_in(v, path, p, e);
	if (rc < 0 || stat(path, &st) < 0)
		return rc;
	if (S_ISDIR(st.st_mode))
		rc = make_dirs(p, e);
	else {
		char *slash = strrchr(p, '/');
		*slash = 0;
		rc = make_dirs(p, e);
		*slash = '/';
		_cleanup_(close_p) int fd = rc == 0 ? open(p, O_WRONLY | O_CREAT | O_CLOEXEC, 0755) : -1;
		if (rc == 0 && fd < 0)
			return err_set(e, -errno, "%s: %m", p);
	}
	return rc == 0 ? bind_to(v, path, path, MS_REC, e) : rc;
}

/* The tree given by --root, with what the node changes in it kept apart. */
static int own_root(struct view *v, const char *tree, struct err *e)
{
	static const char *const shared[] = { "/dev", "/tmp", "/var/tmp", "/home", "/root" };
	char upper[256], work[256], options[PATH_MAX + 600];
	node_path(v->c, v->i, "root/merged", v->root);
	node_path(v->c, v->i, "root/upper", upper);
	node_path(v->c, v->i, "root/work", work);
	(void)snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", tree, upper, work);
	if (mount("overlay", v->root, "overlay", 0, options) < 0)
		return err_set(e, -errno, "overlay of %s for node %u: %m", tree, v->i);
	int rc = 0;
	for (size_t k = 0; k < sizeof shared / sizeof *shared && rc == 0; k++)
		rc = share(v, shared[k], e);
	if (rc == 0 && *v->c->libexec && !there(v, v->c->libexec))
		rc = share(v, v->c->libexec, e);
	if (rc == 0 && !there(v, v->c->exe))
		rc = share(v, v->c->exe, e);
	return rc;
}

static int enter_root(const struct view *v, struct err *e)
{
	if (chdir(v->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
	    chdir("/") < 0)
		return err_set(e, -errno, "make %s the root: %m", v->root);
	return 0;
}

int mounts_setup(const struct trial *c, const struct cg *cg, unsigned i, struct err *e)
{
	struct view v = { .c = c, .cg = cg, .i = i };
	/* Mounts made on the machine later are seen here, as in one shared tree; ours are not seen there. */
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return err_set(e, -errno, "make mounts slaves: %m");
	int rc = c->node[i].root ? own_root(&v, c->node[i].root, e) : 0;
	if (rc == 0)
		rc = disk(&v, e);
	if (rc == 0)
		rc = identity(&v, e);
	if (rc == 0)
		rc = devices(&v, e);
	if (rc == 0)
		rc = kernel_file_systems(&v, e);
	if (rc == 0)
		rc = run_dir(&v, e);
	return rc == 0 && *v.root ? enter_root(&v, e) : rc;
}

static int path_has(const char *list, const char *dir)
{
	size_t n = strlen(dir);
	for (const char *p = list; p; p = (p = strchr(p, ':')) ? p + 1 : NULL)
		if (strncmp(p, dir, n) == 0 && (p[n] == ':' || p[n] == 0))
			return 1;
	return 0;
}

int env_setup(const struct trial *c, unsigned i)
{
	static const char *const drop[] = { "PANDO_RUN", "PANDO_STATE", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
					    "NOTIFY_SOCKET" };
	static const char *const dirs[] = { "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
					    "/usr/bin",        "/sbin",          "/bin" };
	for (size_t k = 0; k < sizeof drop / sizeof *drop; k++)
		(void)unsetenv(drop[k]);

	char exe_dir[PATH_MAX], node[16];
	(void)snprintf(exe_dir, sizeof exe_dir, "%s", c->exe);
	char *slash = strrchr(exe_dir, '/');
	if (slash)
		*slash = 0;
	const char *old = getenv("PATH");
	_cleanup_(free_p) char *path = NULL;
	size_t size = (old ? strlen(old) : 0) + sizeof exe_dir + 128;
	path = malloc(size);
	if (!path)
		return -ENOMEM;
	(void)snprintf(path, size, "%s%s%s", old && path_has(old, exe_dir) ? "" : exe_dir,
		       old && path_has(old, exe_dir) ? "" : ":", old ? old : "");
	for (size_t k = 0; k < sizeof dirs / sizeof *dirs; k++)
		if (!path_has(path, dirs[k])) {
			size_t n = strlen(path);
			(void)snprintf(path + n, size - n, "%s%s", n && path[n - 1] != ':' ? ":" : "", dirs[k]);
		}
	(void)snprintf(node, sizeof node, "%u", i);
	if (setenv("PATH", path, 1) < 0 || setenv("PANDO_DEV_NODE", node, 1) < 0 || setenv("HOME", "/root", 0) < 0)
		return -ENOMEM;
	return 0;
}
