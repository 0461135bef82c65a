#include "space/gather.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/rmem.h"

enum { MAJOR_MEM = 1, MAJOR_PTS_FIRST = 136, MAJOR_PTS_LAST = 143, MAJOR_TTY = 5 };

void gather_fini(struct gather *g)
{
	for (uint32_t i = 0; g->fds && i < g->image.n_fds; i++)
		(void)close_fd(g->fds[i].fd);
	free(g->fds);
	exec_image_fini(&g->image);
	*g = (struct gather){ 0 };
}

/* --- what keeps a process where it is --- */

static int has_children(pid_t outer)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", outer, outer);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c;
	return fd >= 0 && read(fd, &c, 1) == 1;
}

/* Whether the file of this line of maps has a name still. The text cannot tell: sem_open links the name to a temporary one that it
 * removes, and "(deleted)" speaks of that. */
static int mapping_has_name(pid_t outer, const char *line)
{
	char path[128];
	struct stat st;
	(void)snprintf(path, sizeof path, "/proc/%d/map_files/%.*s", outer, (int)strcspn(line, " "), line);
	return stat(path, &st) < 0 || st.st_nlink > 0;
}

/* Memory that its parent shares with it, and by its name with what it will execute (named semaphores, shared memory objects, System V
 * segments): until memory reaches across nodes they stay together. */
static int memory_check(pid_t outer, struct err *e)
{
	char path[64], line[512];
	(void)snprintf(path, sizeof path, "/proc/%d/maps", outer);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		const char *mode = strchr(line, ' '), *name = strchr(line, '/');
		if (!mode || strlen(mode) < 5 || mode[4] != 's' || !name)
			continue;
		if (strncmp(name, "/SYSV", 5) == 0)
			return err_set(e, -EBUSY, "it shares a System V segment with its parent");
		if (strncmp(name, "/dev/shm/", 9) == 0 && mapping_has_name(outer, line))
			return err_set(e, -EBUSY, "it shares memory with its parent: %.*s", (int)strcspn(name, " \n"), name);
	}
	return 0;
}

static int movable_check(const struct space *s, pid_t outer, const struct procinfo *info, struct err *e)
{
	if (info->tracer)
		return err_set(e, -EBUSY, "it is traced by process %d", info->tracer);
	if (info->tgid != outer || info->n_threads != 1)
		return err_set(e, -EBUSY, "it has %u threads", info->n_threads);
	if (info->ns_levels != (uint32_t)s->ns_levels)
		return err_set(e, -EXDEV, "it is in a pid namespace of its own");
	static const char *const names[] = { "mnt", "user", "net", "ipc", "uts" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (procinfo_same_ns(outer, s->ends.init, names[i]) != 1)
			return err_set(e, -EXDEV, "it is in a %s namespace of its own", names[i]);
	if (info->seccomp_filters > 1)
		return err_set(e, -EBUSY, "it has a seccomp filter of its own");
	char root[8];
	if (procinfo_link(outer, "root", root, sizeof root) != 1)
		return err_set(e, -EXDEV, "its root directory is not that of the space");
	if (has_children(outer))
		return err_set(e, -ECHILD, "it has children here");
	return memory_check(outer, e);
}

/* --- descriptors --- */

static int fdinfo_read(pid_t outer, int number, uint64_t *ret_pos, uint32_t *ret_flags)
{
	char path[64], text[256];
	(void)snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", outer, number);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	unsigned long long pos;
	unsigned flags;
	if (sscanf(text, "pos: %llu flags: %o", &pos, &flags) != 2)
		return -EBADMSG;
	*ret_pos = pos;
	*ret_flags = flags;
	return 0;
}

static int is_plain_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && major(st->st_rdev) == MAJOR_MEM;
}

static int is_tty(const struct stat *st)
{
	unsigned maj = major(st->st_rdev);
	return S_ISCHR(st->st_mode) && ((maj >= MAJOR_PTS_FIRST && maj <= MAJOR_PTS_LAST) || maj == MAJOR_TTY);
}

/* The kind for one descriptor, or why it cannot be carried. */
static int fd_kind(int number, const struct stat *st, const char *link, struct err *e)
{
	if (S_ISSOCK(st->st_mode))
		return err_set(e, -ENOTSUP, "descriptor %d is a socket", number);
	if (strncmp(link, "anon_inode:", 11) == 0 && strcmp(link, "anon_inode:[eventfd]") != 0)
		return err_set(e, -ENOTSUP, "descriptor %d is %s", number, link + 11);
	if (strncmp(link, "/memfd:", 7) == 0)
		return err_set(e, -ENOTSUP, "descriptor %d is memory (%s)", number, link + 1);
	if (strncmp(link, "/proc/", 6) == 0)
		return err_set(e, -ENOTSUP, "descriptor %d is %s", number, link);
	if (is_plain_device(st) || S_ISDIR(st->st_mode))
		return EXEC_FD_REOPEN;
	if (S_ISCHR(st->st_mode) && !is_tty(st))
		return err_set(e, -ENOTSUP, "descriptor %d is the device %s", number, link);
	if (S_ISBLK(st->st_mode))
		return err_set(e, -ENOTSUP, "descriptor %d is the device %s", number, link);
	return EXEC_FD_DELEGATED;
}

static int fd_describe(pid_t outer, int number, struct exec_fd *ret, struct err *e)
{
	char path[64], link[EXEC_PATH_MAX], what[32];
	struct stat st;
	(void)snprintf(path, sizeof path, "/proc/%d/fd/%d", outer, number);
	(void)snprintf(what, sizeof what, "fd/%d", number);
	if (stat(path, &st) < 0)
		return err_set(e, -errno, "descriptor %d: %m", number);
	int n = procinfo_link(outer, what, link, sizeof link);
	if (n < 0)
		return err_set(e, n, "descriptor %d: no path", number);
	int kind = fd_kind(number, &st, link, e);
	if (kind < 0)
		return kind;
	ret->kind = (uint8_t)kind;
	if (S_ISCHR(st.st_mode))
		ret->offset = 0;
	ret->ino = S_ISCHR(st.st_mode) ? (uint64_t)st.st_rdev : (uint64_t)st.st_ino;
	ret->dev = (uint64_t)st.st_dev;
	ret->size = (uint64_t)st.st_size;
	ret->path = strdup(kind == EXEC_FD_REOPEN ? link : "");
	return ret->path ? 0 : err_set(e, -ENOMEM, "no memory");
}

static int same_description(pid_t outer, uint32_t a, uint32_t b)
{
	return syscall(SYS_kcmp, outer, outer, KCMP_FILE, (unsigned long)a, (unsigned long)b) == 0;
}

/* fdinfo shows O_CLOEXEC of the descriptor, and also that of the description, where TIOCGPTPEER may have put it. */
static int flag_is_of_description(int pidfd, int number)
{
	_cleanup_(close_p) int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	int fl = fd < 0 ? -1 : fcntl(fd, F_GETFL);
	return fl < 0 ? -1 : (fl & O_CLOEXEC) != 0;
}

static int fd_add(struct gather *g, pid_t outer, int pidfd, int number, struct err *e)
{
	struct exec_image *im = &g->image;
	uint64_t pos = 0;
	uint32_t flags = 0;
	int rc = fdinfo_read(outer, number, &pos, &flags);
	if (rc < 0)
		return err_set(e, rc, "descriptor %d: fdinfo: %s", number, strerror(-rc));
	if (flags & O_CLOEXEC) {
		rc = flag_is_of_description(pidfd, number);
		return rc == 0 ? 0 : err_set(e, -ENOTSUP, "descriptor %d: it cannot be told whether an exec closes it", number);
	}
	if (flags & O_PATH)
		return err_set(e, -ENOTSUP, "descriptor %d is only a path (O_PATH)", number);
	if (im->n_fds == EXEC_FDS_MAX)
		return err_set(e, -EMFILE, "it has more than %d descriptors", EXEC_FDS_MAX);

	struct exec_fd *f = &im->fds[im->n_fds];
	*f = (struct exec_fd){ .number = (uint32_t)number, .flags = flags, .offset = pos };
	g->fds[im->n_fds].number = number;
	g->fds[im->n_fds].fd = -1;
	rc = fd_describe(outer, number, f, e);
	if (rc < 0) {
		free(f->path);
		return rc;
	}
	if (f->kind == EXEC_FD_DELEGATED) {
		f->offset = 0;
		for (uint32_t k = 0; k < im->n_fds && !f->same_as; k++) {
			if (im->fds[k].kind == EXEC_FD_DELEGATED && same_description(outer, im->fds[k].number, f->number)) {
				f->same_as = 1;
				f->alias = im->fds[k].number;
			}
		}
		if (!f->same_as) {
			int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
			if (fd < 0) {
				free(f->path);
				return err_set(e, -errno, "descriptor %d: pidfd_getfd: %m", number);
			}
			g->fds[im->n_fds].fd = fd;
		}
	}
	im->n_fds++;
	return 0;
}

static int own_fd_add(struct gather *g, uint32_t i, const int *fds, struct err *e)
{
	struct exec_fd *f = &g->image.fds[i];
	uint64_t pos = 0;
	uint32_t flags = 0, number = f->number;
	int rc = fdinfo_read(getpid(), fds[i], &pos, &flags);
	if (rc < 0)
		return err_set(e, rc, "descriptor %u: fdinfo: %s", number, strerror(-rc));
	free(f->path);
	*f = (struct exec_fd){ .number = number, .flags = flags & ~(uint32_t)O_CLOEXEC, .offset = pos };
	rc = fd_describe(getpid(), fds[i], f, e);
	if (rc < 0 || f->kind != EXEC_FD_DELEGATED)
		return rc;
	f->offset = 0;
	for (uint32_t k = 0; k < i && !f->same_as; k++) {
		if (g->image.fds[k].kind == EXEC_FD_DELEGATED && same_description(getpid(), (uint32_t)fds[k], (uint32_t)fds[i])) {
			f->same_as = 1;
			f->alias = g->image.fds[k].number;
		}
	}
	if (f->same_as)
		return 0;
	g->fds[i].fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
	return g->fds[i].fd < 0 ? err_set(e, -errno, "descriptor %u: dup: %m", number) : 0;
}

int gather_own_fds(struct gather *g, const int *fds, struct err *e)
{
	g->fds = calloc(g->image.n_fds + 1, sizeof *g->fds);
	if (!g->fds)
		return err_set(e, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < g->image.n_fds; i++)
		g->fds[i] = (struct gather_fd){ (int)g->image.fds[i].number, -1 };
	for (uint32_t i = 0; i < g->image.n_fds; i++) {
		int rc = own_fd_add(g, i, fds, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int number_compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static int fds_add(struct gather *g, pid_t outer, struct err *e)
{
	char path[64];
	(void)snprintf(path, sizeof path, "/proc/%d/fd", outer);
	_cleanup_(closedir_p) DIR *d = opendir(path);
	if (!d)
		return err_set(e, -errno, "%s: %m", path);
	int numbers[EXEC_FDS_MAX];
	size_t n = 0;
	for (struct dirent *de = readdir(d); de; de = readdir(d)) {
		if (de->d_name[0] == '.')
			continue;
		if (n == EXEC_FDS_MAX)
			return err_set(e, -EMFILE, "it has more than %d descriptors", EXEC_FDS_MAX);
		numbers[n++] = atoi(de->d_name);
	}
	qsort(numbers, n, sizeof numbers[0], number_compare);
	g->image.fds = calloc(n + 1, sizeof *g->image.fds);
	g->fds = calloc(n + 1, sizeof *g->fds);
	if (!g->image.fds || !g->fds)
		return err_set(e, -ENOMEM, "no memory");
	_cleanup_(close_p) int pidfd = (int)syscall(SYS_pidfd_open, outer, 0);
	if (pidfd < 0)
		return err_set(e, -errno, "pidfd_open: %m");
	for (size_t i = 0; i < n; i++) {
		int rc = fd_add(g, outer, pidfd, numbers[i], e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- the rest of the image --- */

static int path_read(struct trap *t, struct exec_image *im, struct err *e)
{
	const struct seccomp_data *d = &t->req.data;
	pid_t tid = (pid_t)t->req.pid;
	char path[EXEC_PATH_MAX];
	int at = d->nr == SYS_execveat;
	int n = rmem_str(tid, (struct raddr){ d->args[at ? 1 : 0] }, path, sizeof path);
	if (n < 0)
		return err_set(e, n, "its program's path cannot be read");
	int by_dirfd = at && (int)d->args[0] != AT_FDCWD && path[0] != '/';
	if (by_dirfd || n == 0)
		return err_set(e, -ENOTSUP, "its program is named by a descriptor (execveat)");
	im->path = strdup(path);
	return im->path ? 0 : err_set(e, -ENOMEM, "no memory");
}

static int args_read(struct trap *t, struct exec_image *im, struct err *e)
{
	const struct seccomp_data *d = &t->req.data;
	unsigned first = d->nr == SYS_execveat ? 2 : 1;
	pid_t tid = (pid_t)t->req.pid;
	int rc = rmem_strv(tid, (struct raddr){ d->args[first] }, &im->args, &im->args_n, EXEC_ARGS_MAX, &im->argc);
	if (rc == 0)
		rc = rmem_strv(tid, (struct raddr){ d->args[first + 1] }, &im->args, &im->args_n, EXEC_ARGS_MAX, &im->envc);
	return rc < 0 ? err_set(e, rc, "its arguments cannot be carried: %s", strerror(-rc)) : 0;
}

static int limits_read(pid_t outer, struct exec_image *im, struct err *e)
{
	for (int i = 0; i < EXEC_RLIMITS; i++) {
		struct rlimit l;
		if (prlimit(outer, (__rlimit_resource_t)i, NULL, &l) < 0)
			return err_set(e, -errno, "its limits cannot be read: %m");
		im->rlimit[i][0] = l.rlim_cur;
		im->rlimit[i][1] = l.rlim_max;
	}
	return 0;
}

static int number_file(pid_t outer, const char *name, long fallback, int base)
{
	char path[64], text[32];
	(void)snprintf(path, sizeof path, "/proc/%d/%s", outer, name);
	_cleanup_(close_p) int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return (int)fallback;
	text[n] = 0;
	return (int)strtol(text, NULL, base);
}

static int creds_copy(const struct procinfo *info, struct exec_image *im, struct err *e)
{
	for (int i = 0; i < 3; i++) {
		im->uid[i] = info->uid[i];
		im->gid[i] = info->gid[i];
	}
	im->n_groups = info->n_groups;
	im->groups = calloc(info->n_groups + 1, sizeof *im->groups);
	if (!im->groups)
		return err_set(e, -ENOMEM, "no memory");
	memcpy(im->groups, info->groups, info->n_groups * sizeof *im->groups);
	im->cap_effective = info->cap_effective;
	im->cap_permitted = info->cap_permitted;
	im->cap_inheritable = info->cap_inheritable;
	im->cap_bounding = info->cap_bounding;
	im->cap_ambient = info->cap_ambient;
	im->no_new_privs = info->no_new_privs;
	im->umask = info->umask;
	im->nice = (int32_t)info->nice;
	im->sig_blocked = info->sig_blocked;
	im->sig_ignored = info->sig_ignored;
	return 0;
}

static int family_fill(struct space *s, const struct procinfo *info, struct exec_image *im, struct err *e)
{
	struct procinfo parent = { 0 };
	int ppid = nspid_tgid(&s->ns, info->ppid), pgid = info->pgid > 0 ? nspid_tid(&s->ns, info->pgid) : -1;
	int sid = info->sid > 0 ? nspid_tid(&s->ns, info->sid) : -1;
	if (ppid <= 0)
		return err_set(e, -ESRCH, "its parent is not in the space");
	if (procinfo_stat(info->ppid, &parent) < 0)
		return err_set(e, -ESRCH, "its parent is gone");
	int parent_pgid = parent.pgid > 0 ? nspid_tid(&s->ns, parent.pgid) : -1;
	int parent_sid = parent.sid > 0 ? nspid_tid(&s->ns, parent.sid) : -1;
	if (ppid < STUB_SLOT_SIZE)
		return err_set(e, -ESRCH, "its parent has ended");
	if (pgid <= 0 || sid <= 0 || parent_pgid <= 0 || parent_sid <= 0)
		return err_set(e, -ESRCH, "the leader of its group or session is gone");
	if (sid != parent_sid && sid != im->pid)
		return err_set(e, -ESRCH, "its session is not its parent's");
	if (sid == im->pid)
		return err_set(e, -EBUSY, "it leads a session");
	im->ppid = ppid;
	im->pgid = pgid;
	im->sid = sid;
	im->leads_group = pgid == im->pid;
	im->parent_pgid = parent_pgid;
	im->parent_sid = parent_sid;
	im->parent_leads_group = parent_pgid == ppid;
	return 0;
}

static int details_fill(struct trap *t, const struct procinfo *info, struct exec_image *im, struct err *e)
{
	struct space *s = t->s;
	pid_t outer = (pid_t)t->req.pid;
	char cwd[EXEC_PATH_MAX];

	int rc = creds_copy(info, im, e);
	if (rc == 0)
		rc = family_fill(s, info, im, e);
	if (rc == 0)
		rc = limits_read(outer, im, e);
	if (rc < 0)
		return rc;
	if (procinfo_link(outer, "cwd", cwd, sizeof cwd) < 0 || cwd[0] != '/')
		return err_set(e, -ENOENT, "its directory has no path");
	im->cwd = strdup(cwd);
	if (!im->cwd)
		return err_set(e, -ENOMEM, "no memory");
	im->oom_score_adj = number_file(outer, "oom_score_adj", 0, 10);
	im->personality = (uint32_t)number_file(outer, "personality", 0, 16);
	im->features = s->cfg.features ? s->cfg.features(s->cfg.ctx, im->pid, outer) : 0;
	return 0;
}

int gather_exec(struct trap *t, struct gather *ret, struct err *e)
{
	struct space *s = t->s;
	struct procinfo info;
	pid_t outer = (pid_t)t->req.pid;

	*ret = (struct gather){ 0 };
	struct gather g = { 0 };
	g.image.pid = t->pid;
	g.image.home = s->self;
	int rc = procinfo_read(outer, &info);
	if (rc < 0)
		return err_set(e, rc, "it is gone");
	rc = movable_check(s, outer, &info, e);
	if (rc == 0)
		rc = path_read(t, &g.image, e);
	if (rc == 0)
		rc = args_read(t, &g.image, e);
	if (rc == 0)
		rc = details_fill(t, &info, &g.image, e);
	if (rc == 0)
		rc = fds_add(&g, outer, e);
	if (rc < 0) {
		gather_fini(&g);
		return rc;
	}
	*ret = g;
	return 0;
}

int gather_check(struct space *s, pid_t outer, struct err *e)
{
	struct procinfo info;
	struct gather g = { 0 };
	int rc = procinfo_read(outer, &info);
	if (rc < 0)
		return err_set(e, rc, "it is gone");
	rc = movable_check(s, outer, &info, e);
	if (rc == 0)
		rc = fds_add(&g, outer, e);
	gather_fini(&g);
	return rc;
}
