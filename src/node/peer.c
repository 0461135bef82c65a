#include "node/peer.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/procinfo.h"

static int number_of(pid_t pid, const char *what, int base)
{
	char path[64], text[32];
	(void)snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
	_cleanup_(fclose_p) FILE *f = fopen(path, "re");
	return f && fgets(text, sizeof text, f) ? (int)strtol(text, NULL, base) : 0;
}

static int is_same_process(const struct ctl_peer *peer)
{
	if (peer->pidfd < 0)
		return 1; /* old kernel: the start of this request is as near as one gets */
	return syscall(SYS_pidfd_send_signal, peer->pidfd, 0, NULL, 0) == 0 || errno == EPERM;
}

/* A process of a container that has our socket must not get a command outside of its container. */
static int at_home(pid_t pid, struct err *e)
{
	static const char *const names[] = { "user", "mnt", "net" };
	char root[8];
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (procinfo_same_ns(pid, getpid(), names[i]) == 0)
			return err_set(e, -EXDEV, "you are in a %s namespace of your own: the command would run outside of it", names[i]);
	if (procinfo_link(pid, "root", root, sizeof root) != 1)
		return err_set(e, -EXDEV, "your root directory is not that of this node: the command would run outside of it");
	return 0;
}

static void affinity_read(pid_t pid, struct exec_image *im)
{
	cpu_set_t theirs, ours;
	CPU_ZERO(&theirs);
	CPU_ZERO(&ours);
	if (sched_getaffinity(pid, sizeof theirs, &theirs) < 0 || sched_getaffinity(0, sizeof ours, &ours) < 0 || CPU_EQUAL(&theirs, &ours))
		return; /* nobody asked for certain CPUs */
	for (unsigned i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &theirs))
			im->cpus[i / 64] |= 1ull << (i % 64);
}

int peer_image(const struct ctl_peer *peer, struct exec_image *im, struct err *e)
{
	struct procinfo info;
	if (peer->pid <= 0)
		return err_set(e, -EXDEV, "you are in a pid namespace that this node does not see");
	int rc = procinfo_read(peer->pid, &info);
	if (rc < 0)
		return err_set(e, -ESRCH, "the caller is gone");
	rc = at_home(peer->pid, e);
	if (rc < 0)
		return rc;
	if (info.seccomp_filters > 0)
		return err_set(e, -EXDEV, "you are under a seccomp filter: the command would run without it");
	for (int i = 0; i < 3; i++) {
		im->uid[i] = info.uid[i];
		im->gid[i] = info.gid[i];
	}
	im->groups = calloc(info.n_groups + 1, sizeof *im->groups);
	if (!im->groups)
		return err_set(e, -ENOMEM, "no memory");
	memcpy(im->groups, info.groups, info.n_groups * sizeof *im->groups);
	im->n_groups = info.n_groups;
	im->cap_effective = info.cap_effective;
	im->cap_permitted = info.cap_permitted;
	im->cap_inheritable = info.cap_inheritable;
	im->cap_bounding = info.cap_bounding;
	im->cap_ambient = info.cap_ambient;
	im->no_new_privs = info.no_new_privs;
	im->oom_score_adj = number_of(peer->pid, "oom_score_adj", 10);
	im->personality = (uint32_t)number_of(peer->pid, "personality", 16);
	affinity_read(peer->pid, im);
	if (!is_same_process(peer) || info.uid[1] != peer->uid)
		return err_set(e, -ESRCH, "the caller is gone, or not who it was when it connected");
	return 0;
}

/* --- the program --- */

static const char *env_get(char **envp, const char *name)
{
	size_t n = strlen(name);
	for (char **p = envp; *p; p++)
		if (strncmp(*p, name, n) == 0 && (*p)[n] == '=')
			return *p + n + 1;
	return NULL;
}

static int in_groups(const struct exec_image *im, gid_t gid)
{
	if (im->gid[1] == gid)
		return 1;
	for (uint32_t i = 0; i < im->n_groups; i++)
		if (im->groups[i] == gid)
			return 1;
	return 0;
}

/* 0, -ENOENT or -EACCES: only a choice between candidates; the kernel decides at the execve. */
static int candidate(const struct exec_image *im, const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0)
		return errno == EACCES ? -EACCES : -ENOENT;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	if (im->uid[1] == 0)
		return st.st_mode & 0111 ? 0 : -EACCES;
	unsigned shift = im->uid[1] == st.st_uid ? 6 : in_groups(im, st.st_gid) ? 3 : 0;
	return (st.st_mode >> shift) & 1 ? 0 : -EACCES;
}

static int program_find(const struct run_request *r, struct exec_image *im)
{
	const char *name = r->argv[0];
	if (strchr(name, '/')) {
		im->path = strdup(name);
		return im->path ? 0 : -ENOMEM;
	}
	const char *dirs = env_get(r->envp, "PATH");
	int rc = -ENOENT;
	if (!*name)
		return rc;
	if (!dirs)
		dirs = "/bin:/usr/bin";
	for (const char *p = dirs;; p++) {
		size_t n = strcspn(p, ":");
		char rel[EXEC_PATH_MAX], full[2 * EXEC_PATH_MAX];
		int len = n ? snprintf(rel, sizeof rel, "%.*s/%s", (int)n, p, name) : snprintf(rel, sizeof rel, "%s", name);
		if (len > 0 && (size_t)len < sizeof rel) {
			(void)snprintf(full, sizeof full, "%s%s%s", rel[0] == '/' ? "" : r->cwd, rel[0] == '/' ? "" : "/", rel);
			int got = candidate(im, full);
			if (got == 0) {
				im->path = strdup(n ? rel : full);
				return im->path ? 0 : -ENOMEM;
			}
			rc = got == -EACCES ? -EACCES : rc;
		}
		p += n;
		if (!*p)
			return rc;
	}
}

static int strings_copy(const struct run_request *r, struct exec_image *im)
{
	size_t n = 0;
	for (char **p = r->argv; *p; p++, im->argc++)
		n += strlen(*p) + 1;
	for (char **p = r->envp; *p; p++, im->envc++)
		n += strlen(*p) + 1;
	im->args = malloc(n + 1);
	if (!im->args)
		return -ENOMEM;
	char *at = im->args;
	for (char **p = r->argv; *p; p++)
		at = stpcpy(at, *p) + 1;
	for (char **p = r->envp; *p; p++)
		at = stpcpy(at, *p) + 1;
	im->args_n = n;
	return 0;
}

static int fds_copy(const struct run_request *r, struct exec_image *im)
{
	im->fds = calloc(r->n_fds + 1, sizeof *im->fds);
	if (!im->fds)
		return -ENOMEM;
	for (size_t i = 0; i < r->n_fds; i++) {
		struct exec_fd *f = &im->fds[i];
		f->number = (uint32_t)r->fds[i].number;
		f->kind = r->fds[i].kind == RUN_FD_PTY ? EXEC_FD_TTY : EXEC_FD_DELEGATED;
		f->path = strdup("");
		if (!f->path)
			return -ENOMEM;
		im->n_fds++;
	}
	return 0;
}

int peer_request(const struct run_request *r, struct exec_image *im, struct err *e)
{
	int rc = program_find(r, im);
	if (rc < 0)
		return err_set(e, rc, "%s: %s", r->argv[0], strerror(-rc));
	rc = strings_copy(r, im);
	if (rc == 0)
		rc = fds_copy(r, im);
	im->cwd = strdup(r->cwd);
	if (rc < 0 || !im->cwd)
		return err_set(e, -ENOMEM, "no memory");
	im->umask = r->umask;
	im->nice = r->nice;
	im->sig_blocked = r->blocked;
	im->sig_ignored = r->ignored;
	for (int i = 0; i < EXEC_RLIMITS; i++) {
		im->rlimit[i][0] = r->rlimits[i].rlim_cur;
		im->rlimit[i][1] = r->rlimits[i].rlim_max;
	}
	return 0;
}
