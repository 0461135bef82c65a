/* What the kernel and the dynamic linker would open to start a program, found without running anything.
 *
 * Kernel: the file; "#!" scripts to five levels; PT_INTERP. glibc's ld.so (elf/dl-load.c), for each name breadth first,
 * after /etc/ld.so.preload and LD_PRELOAD: one that is loaded already by that name or soname; a name with a slash as it
 * is; else DT_RPATH of the one that needs it and of those that loaded it (unless it has DT_RUNPATH); LD_LIBRARY_PATH;
 * its DT_RUNPATH; /etc/ld.so.cache; the default directories; a file of another machine type is passed over. Each
 * directory stands for its variants glibc-hwcaps/LEVEL first. musl's: LD_LIBRARY_PATH, all RPATHs and RUNPATHs up the
 * chain, /etc/ld-musl-ARCH.path.
 *
 * Each directory looked at in vain is noted as a watch: as long as it did not change, nothing appeared in it. Not
 * followed: directories tls/ and haswell/ of before glibc 2.37, LD_AUDIT, DT_AUXILIARY, $PLATFORM. */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/cleanup.h"
#include "image/fileid-int.h"

enum { SCRIPT_DEPTH = 5, DIRS_MAX = 1024, PRELOAD_FILE_MAX = 16384, WATCHES_MAX = 2048 };

static const char *const default_dirs64[] = {
#if defined(__aarch64__)
	"/lib/aarch64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu",
#else
	"/lib/x86_64-linux-gnu",
	"/usr/lib/x86_64-linux-gnu",
#endif
	"/lib64",
	"/usr/lib64",
	"/lib",
	"/usr/lib",
	NULL,
};
static const char *const default_dirs32[] = {
	"/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu", "/lib32", "/usr/lib32", "/lib", "/usr/lib", NULL
};

/* A loaded object, in order of loading. */
struct object {
	size_t file;         /* its place in found->files */
	struct elf_info elf; /* owned */
	char *origin;        /* owned: the directory of $ORIGIN */
	char *name;          /* owned: what it was asked for by; NULL for the program and its loader */
	const struct object *loader;
};

/* A directory once looked at. */
struct dir {
	char *path; /* owned */
	bool absent;
};

struct find {
	const struct fileid_req *req;
	struct fileid_ldcache *ld;
	struct fileid_found *out;
	struct err *e;
	struct object *obj; /* owned; never moves: FILEID_FILES_MAX of them */
	size_t n_obj;
	struct dir *dir; /* owned */
	size_t n_dir;
	int kind; /* ldcache_kind of the program */
	int musl;
	char *musl_dirs;  /* owned; once it was read */
	char *exe_origin; /* owned */
};

/* --- noting what was found and what was not --- */

static int file_add(struct find *f, const char *path, enum fileid_role role, const struct fileid_stat *st)
{
	struct fileid_found *o = f->out;
	if (o->n == FILEID_FILES_MAX)
		return err_set(f->e, -E2BIG, "%s: more than %d files", f->req->path, FILEID_FILES_MAX);
	if (o->n == o->cap) {
		size_t cap = o->cap ? o->cap * 2 : 16;
		struct fileid_file *p = reallocarray(o->files, cap, sizeof *p);
		if (!p)
			return -ENOMEM;
		o->files = p;
		o->cap = cap;
	}
	struct fileid_file *file = &o->files[o->n];
	*file = (struct fileid_file){ .path = strdup(path), .role = role, .st = *st };
	if (!file->path)
		return -ENOMEM;
	o->n++;
	return 0;
}

/* st NULL: it was absent. */
static int watch_add(struct find *f, const char *path, const struct fileid_stat *st)
{
	struct fileid_found *o = f->out;
	if (o->n_watches == WATCHES_MAX)
		return err_set(f->e, -E2BIG, "%s: libraries are searched in more than %d places", f->req->path,
			       WATCHES_MAX);
	if (o->n_watches == o->cap_watches) {
		size_t cap = o->cap_watches ? o->cap_watches * 2 : 16;
		struct fileid_watch *p = reallocarray(o->watches, cap, sizeof *p);
		if (!p)
			return -ENOMEM;
		o->watches = p;
		o->cap_watches = cap;
	}
	struct fileid_watch *w = &o->watches[o->n_watches];
	*w = (struct fileid_watch){ .path = strdup(path), .absent = !st };
	if (!w->path)
		return -ENOMEM;
	if (st)
		w->st = *st;
	o->n_watches++;
	return 0;
}

/* A path of the process as this module stores it: relative ones are joined with the current directory. */
static int path_full(struct find *f, const char *path, char *ret, size_t size)
{
	int n;
	if (path[0] == '/') {
		n = snprintf(ret, size, "%s", path);
	} else {
		f->out->by_cwd = true;
		n = snprintf(ret, size, "%s/%s", f->req->cwd && strcmp(f->req->cwd, "/") != 0 ? f->req->cwd : "", path);
	}
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* --- the program --- */

static uint64_t caps_of(int path_fd)
{
	char path[32], caps[64];
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", path_fd);
	ssize_t n = getxattr(path, "security.capability", caps, sizeof caps);
	return n > 0 ? XXH3_64bits(caps, (size_t)n) | 1 : 0;
}

/* Opens one file that the kernel would execute, notes it, and gives a descriptor to read it by. */
static int program_open(struct find *f, const char *path, enum fileid_role role, int *ret_at, int *ret_fd)
{
	char full[2 * FILEID_PATH_MAX];
	int rc = path_full(f, path, full, sizeof full);
	if (rc < 0)
		return err_set(f->e, rc, "%s: the path is too long", path);
	_cleanup_(close_p) int at = fileid_open_at(f->req->root_fd, NULL, full);
	if (at < 0)
		return err_set(f->e, at, "%s: %s", full, strerror(-at));
	struct fileid_stat st;
	rc = fileid_stat_fd(at, &st);
	if (rc < 0)
		return err_set(f->e, rc, "%s: %s", full, strerror(-rc));
	if (!S_ISREG(st.mode))
		return err_set(f->e, -EACCES, "%s: not a regular file", full);
	rc = file_add(f, full, role, &st);
	if (rc < 0)
		return rc;
	f->out->files[f->out->n - 1].caps = caps_of(at);
	*ret_fd = fileid_reopen(at);
	if (*ret_fd < 0)
		return err_set(f->e, *ret_fd, "%s: %s", full, strerror(-*ret_fd));
	*ret_at = take_fd(&at);
	return 0;
}

/* Whether ld.so would run in secure mode: ids that change at this exec, or that differ already. */
static bool secure_by(const struct fileid_req *q, const struct fileid_file *file)
{
	bool suid = file->st.mode & S_ISUID && file->st.uid != q->ruid;
	bool sgid = (file->st.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && file->st.gid != q->rgid;
	return suid || sgid || q->euid != q->ruid || q->egid != q->rgid || (file->caps && q->ruid != 0);
}

/* Follows scripts to the binary. On 0 *ret_fd reads it and *ret_at is its place. 1: neither ELF nor script. */
static int program_follow(struct find *f, struct elf_info *ret_elf, int *ret_at)
{
	char path[FILEID_PATH_MAX];
	if (strlen(f->req->path) >= sizeof path)
		return err_set(f->e, -ENAMETOOLONG, "the path of the program is too long");
	(void)strcpy(path, f->req->path);
	for (int depth = 0; depth <= SCRIPT_DEPTH; depth++) {
		_cleanup_(close_p) int at = -1;
		_cleanup_(close_p) int fd = -1;
		char head[ELF_SCRIPT_HEAD], interp[ELF_SCRIPT_HEAD];
		int rc = program_open(f, path, depth ? FILEID_SCRIPT_INTERP : FILEID_PROGRAM, &at, &fd);
		if (rc < 0)
			return rc;
		ssize_t n = pread(fd, head, sizeof head, 0);
		if (n < 0)
			return err_set(f->e, -errno, "%s: %m", path);
		rc = elf_script_interp(head, (size_t)n, interp);
		if (rc < 0)
			return err_set(f->e, rc, "%s: its #! line names no interpreter", path);
		if (rc == 0) {
			(void)strcpy(path, interp);
			continue;
		}
		rc = elf_parse(&(struct elf_src){ .fd = fd }, ret_elf);
		if (rc < 0)
			return err_set(f->e, rc, "%s: not a sound ELF file", path);
		if (rc == ELF_E_OTHER)
			return 1;
		*ret_at = take_fd(&at);
		return 0;
	}
	return err_set(f->e, -ELOOP, "%s: scripts are nested too deeply", f->req->path);
}

/* --- objects --- */

static const char *file_path(const struct find *f, const struct object *o)
{
	return f->out->files[o->file].path;
}

/* Takes over elf. origin is the directory in which path lies. */
static int object_add(struct find *f, size_t file, struct elf_info *elf, const char *origin,
		      const struct object *loader)
{
	struct object *o = &f->obj[f->n_obj];
	o->file = file;
	o->elf = *elf;
	*elf = (struct elf_info){ 0 };
	o->loader = loader;
	struct fileid_file *ff = &f->out->files[file];
	ff->build_id_n = o->elf.build_id_n;
	memcpy(ff->build_id, o->elf.build_id, sizeof ff->build_id);
	f->n_obj++;
	o->origin = strdup(origin);
	return o->origin ? 0 : -ENOMEM;
}

static void dirname_of(const char *path, char *ret, size_t size)
{
	(void)snprintf(ret, size, "%s", path);
	char *slash = strrchr(ret, '/');
	if (slash)
		slash[slash == ret] = 0;
	else
		(void)strcpy(ret, "/");
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* Whether a library of that name is loaded: by the name it was found by, or its soname. */
static bool is_loaded(const struct find *f, const char *name)
{
	for (size_t i = 1; i < f->n_obj; i++) { /* not the program itself */
		const struct object *o = &f->obj[i];
		if ((o->elf.soname && strcmp(o->elf.soname, name) == 0) || (o->name && strcmp(o->name, name) == 0) ||
		    strcmp(file_path(f, o), name) == 0)
			return true;
	}
	return false;
}

/* Tries one path as a library. 0 loaded (or the same file is already); 1: not there, or nothing for this program. */
static int library_try(struct find *f, const char *path, enum fileid_role role, const struct object *loader)
{
	_cleanup_(close_p) int at = fileid_open_at(f->req->root_fd, NULL, path);
	struct fileid_stat st;
	if (at == -ENOMEM || at == -EMFILE || at == -ENFILE)
		return err_set(f->e, at, "%s: %s", path, strerror(-at));
	if (at < 0 || fileid_stat_fd(at, &st) < 0 || !S_ISREG(st.mode))
		return 1;
	for (size_t i = 0; i < f->n_obj; i++)
		if (fileid_stat_same(&f->out->files[f->obj[i].file].st, &st))
			return 0;
	_cleanup_(close_p) int fd = fileid_reopen(at);
	if (fd < 0)
		return 1;

	struct elf_info elf = { 0 };
	int rc = elf_parse(&(struct elf_src){ .fd = fd }, &elf);
	if (rc == -ENOMEM || rc == -EIO)
		return err_set(f->e, rc, "%s: %s", path, strerror(-rc));
	const struct elf_info *exe = &f->obj[0].elf;
	if (rc || elf.is64 != exe->is64 || elf.machine != exe->machine || elf.type != ET_DYN) {
		if (!rc)
			elf_info_fini(&elf);
		return 1;
	}
	char origin[FILEID_PATH_MAX];
	dirname_of(path, origin, sizeof origin);
	rc = file_add(f, path, role, &st);
	if (!rc)
		rc = object_add(f, f->out->n - 1, &elf, origin, loader);
	elf_info_fini(&elf);
	return rc;
}

/* --- directories --- */

/* Whether a directory is there; looked up once, and watched from then on. */
static int dir_there(struct find *f, const char *path, bool *ret)
{
	for (size_t i = 0; i < f->n_dir; i++) {
		if (strcmp(f->dir[i].path, path) == 0) {
			*ret = !f->dir[i].absent;
			return 0;
		}
	}
	if (f->n_dir == DIRS_MAX)
		return err_set(f->e, -E2BIG, "%s: libraries are searched in more than %d directories", f->req->path,
			       DIRS_MAX);
	struct fileid_stat st;
	bool there = fileid_stat_at(f->req->root_fd, NULL, path, &st) == 0 && S_ISDIR(st.mode);
	int rc = watch_add(f, path, there ? &st : NULL);
	if (rc < 0)
		return rc;
	struct dir *d = &f->dir[f->n_dir];
	*d = (struct dir){ .path = strdup(path), .absent = !there };
	if (!d->path)
		return -ENOMEM;
	f->n_dir++;
	*ret = there;
	return 0;
}

/* A library in one directory, or in its variants for this CPU. 0 loaded, 1 not there. */
static int dir_try(struct find *f, const char *dir, const char *name, enum fileid_role role,
		   const struct object *loader)
{
	char path[2 * FILEID_PATH_MAX], sub[2 * FILEID_PATH_MAX];
	bool there = false;
	int rc = dir_there(f, dir, &there);
	if (rc < 0 || !there)
		return rc < 0 ? rc : 1;
	const char *sep = dir[strlen(dir) - 1] == '/' ? "" : "/";
	const char *const *caps = f->musl ? NULL : elf_hwcaps();
	bool variants = false;
	if (caps && *caps) {
		if ((size_t)snprintf(sub, sizeof sub, "%s%sglibc-hwcaps", dir, sep) >= sizeof sub)
			return 1;
		rc = dir_there(f, sub, &variants);
		if (rc < 0)
			return rc;
	}
	for (; variants && *caps; caps++) {
		if ((size_t)snprintf(sub, sizeof sub, "%s%sglibc-hwcaps/%s", dir, sep, *caps) >= sizeof sub)
			return 1;
		rc = dir_there(f, sub, &there);
		if (rc < 0)
			return rc;
		if (!there || (size_t)snprintf(path, sizeof path, "%s/%s", sub, name) >= sizeof path)
			continue;
		rc = library_try(f, path, role, loader);
		if (rc != 1)
			return rc;
	}
	if ((size_t)snprintf(path, sizeof path, "%s%s%s", dir, sep, name) >= sizeof path)
		return 1;
	return library_try(f, path, role, loader);
}

/* The token at text[i], which is a '$': its name's place in names, or -1. *ret_n is how many bytes it takes. */
static int token_at(const char *text, size_t n, size_t i, const char *const *names, size_t *ret_n)
{
	bool braced = i + 1 < n && text[i + 1] == '{';
	size_t from = i + 1 + braced;
	for (int k = 0; names[k]; k++) {
		size_t len = strlen(names[k]);
		if (from + len + braced > n || strncmp(text + from, names[k], len) != 0 ||
		    (braced && text[from + len] != '}'))
			continue;
		*ret_n = from + len + braced - i;
		return k;
	}
	return -1;
}

/* Replaces $ORIGIN, ${ORIGIN} and the like. 1: a directory that ld.so would not take; -EOPNOTSUPP. */
static int tokens_expand(struct find *f, const char *text, size_t n, const char *origin, const char *lib, char *ret,
			 size_t size)
{
	static const char *const names[] = { "ORIGIN", "LIB", "PLATFORM", NULL };
	size_t at = 0;
	for (size_t i = 0; i < n;) {
		size_t skip = 1;
		int k = text[i] == '$' ? token_at(text, n, i, names, &skip) : -1;
		if (k == 2)
			return err_set(f->e, -EOPNOTSUPP, "%s: what $PLATFORM is in its library path is not known",
				       f->req->path);
		if (k == 0 && f->out->secure)
			return 1; /* a set-uid program must not load from where its user put it */
		const char *with = k == 0 ? origin : k == 1 ? lib : NULL;
		size_t len = with ? strlen(with) : 1;
		if (at + len >= size)
			return 1;
		memcpy(ret + at, with ? with : text + i, len);
		at += len;
		i += skip;
	}
	ret[at] = 0;
	return 0;
}

/* What $LIB is: it depends on the distribution's build of glibc, so each is tried. */
static const char *const libs64[] = {
#if defined(__aarch64__)
	"lib/aarch64-linux-gnu",
#else
	"lib/x86_64-linux-gnu",
#endif
	"lib64",
	"lib",
	NULL,
};
static const char *const libs32[] = { "lib/i386-linux-gnu", "lib32", "lib", NULL };

/* A library along a search path. 0 loaded, 1 not there. */
static int path_try(struct find *f, const char *list, const char *seps, const char *origin, const char *name,
		    enum fileid_role role, const struct object *loader)
{
	for (const char *p = list;; p++) {
		size_t n = strcspn(p, seps);
		const char *const *lib = f->obj[0].elf.is64 ? libs64 : libs32;
		bool has_lib = memmem(p, n, "LIB", 3) != NULL;
		for (; *lib; lib++) {
			char one[FILEID_PATH_MAX], full[2 * FILEID_PATH_MAX];
			int rc = tokens_expand(f, n ? p : ".", n ? n : 1, origin, *lib, one, sizeof one);
			if (rc == 0)
				rc =
				    path_full(f, one, full, sizeof full) < 0 ? 1 : dir_try(f, full, name, role, loader);
			if (rc != 1)
				return rc;
			if (!has_lib)
				break;
		}
		p += n;
		if (!*p)
			return 1;
	}
}

/* --- the search --- */

static int cache_try(struct find *f, const char *name, enum fileid_role role, const struct object *loader)
{
	const char *path;
	if (!f->ld->p || f->kind < 0 || ldcache_find(f->ld->p, f->ld->n, name, f->kind, elf_hwcaps(), &path) < 0)
		return 1;
	if (path[0] != '/' || strlen(path) >= FILEID_PATH_MAX)
		return 1;
	int rc = library_try(f, path, role, loader);
	if (rc == 1) { /* an outdated cache: should the file come, it would be found */
		int rc2 = watch_add(f, path, NULL);
		if (rc2 < 0)
			return rc2;
	}
	return rc;
}

static int defaults_try(struct find *f, const char *name, enum fileid_role role, const struct object *loader)
{
	for (const char *const *d = f->obj[0].elf.is64 ? default_dirs64 : default_dirs32; *d; d++) {
		int rc = dir_try(f, *d, name, role, loader);
		if (rc != 1)
			return rc;
	}
	return 1;
}

static bool env_counts(const struct find *f, const char *text)
{
	return !f->out->secure && text && *text;
}

static int glibc_search(struct find *f, const char *name, enum fileid_role role, const struct object *by)
{
	const char *env = f->req->ld_library_path;
	int rc = 1;
	for (const struct object *o = by; !by->elf.runpath && o && rc == 1; o = o->loader)
		if (o->elf.rpath)
			rc = path_try(f, o->elf.rpath, ":", o->origin, name, role, by);
	if (rc == 1 && env_counts(f, env))
		rc = path_try(f, env, ":;", f->exe_origin, name, role, by);
	if (rc == 1 && by->elf.runpath)
		rc = path_try(f, by->elf.runpath, ":", by->origin, name, role, by);
	if (rc == 1 && !by->elf.nodeflib)
		rc = cache_try(f, name, role, by);
	if (rc == 1 && !by->elf.nodeflib)
		rc = defaults_try(f, name, role, by);
	return rc;
}

/* Reads the directories in /etc/ld-musl-ARCH.path, or takes musl's own. */
static int musl_dirs_read(struct find *f)
{
	char path[256], text[4096] = "/lib:/usr/local/lib:/usr/lib", arch[64] = "";
	(void)sscanf(base_of(f->obj[0].elf.interp), "ld-musl-%63[^.]", arch); /* ld-musl-x86_64.so.1 */
	(void)snprintf(path, sizeof path, "/etc/ld-musl-%s.path", arch);
	_cleanup_(close_p) int at = fileid_open_at(f->req->root_fd, NULL, path);
	_cleanup_(close_p) int fd = at < 0 ? -1 : fileid_reopen(at);
	struct fileid_stat st;
	bool there = fd >= 0 && fileid_stat_fd(at, &st) == 0;
	int rc = watch_add(f, path, there ? &st : NULL);
	if (rc < 0)
		return rc;
	if (there) {
		ssize_t n = read(fd, text, sizeof text - 1);
		text[n > 0 ? n : 0] = 0;
		for (size_t len = strlen(text); len && text[len - 1] == '\n';)
			text[--len] = 0;
	}
	f->musl_dirs = strdup(text);
	return f->musl_dirs ? 0 : -ENOMEM;
}

static int musl_search(struct find *f, const char *name, enum fileid_role role, const struct object *by)
{
	static const char *const own[] = { "c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet." };
	const char *env = f->req->ld_library_path;
	int rc = 1;
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		if (strncmp(name, "lib", 3) == 0 && strncmp(name + 3, own[i], strlen(own[i])) == 0)
			return 0; /* the loader is these libraries */
	if (env_counts(f, env))
		rc = path_try(f, env, ":\n", f->exe_origin, name, role, by);
	for (const struct object *o = by; o && rc == 1; o = o->loader) {
		const char *list = o->elf.runpath ? o->elf.runpath : o->elf.rpath;
		if (list)
			rc = path_try(f, list, ":\n", o->origin, name, role, by);
	}
	if (rc == 1 && !f->musl_dirs) {
		int rc2 = musl_dirs_read(f);
		if (rc2 < 0)
			return rc2;
	}
	return rc == 1 ? path_try(f, f->musl_dirs, ":\n", "", name, role, by) : rc;
}

static int library_find(struct find *f, const char *name, enum fileid_role role, const struct object *by)
{
	char one[FILEID_PATH_MAX], full[2 * FILEID_PATH_MAX];
	if (!*name)
		return 1;
	if (is_loaded(f, name))
		return 0;
	if (!strchr(name, '/'))
		return f->musl ? musl_search(f, name, role, by) : glibc_search(f, name, role, by);
	for (const char *const *lib = f->obj[0].elf.is64 ? libs64 : libs32; *lib; lib++) {
		int rc = tokens_expand(f, name, strlen(name), by->origin, *lib, one, sizeof one);
		if (rc)
			return rc;
		if (path_full(f, one, full, sizeof full) < 0)
			return 1;
		rc = library_try(f, full, role, by);
		if (rc == 1 && (rc = watch_add(f, full, NULL)) == 0)
			rc = 1;
		if (rc != 1 || !strstr(name, "LIB"))
			return rc;
	}
	return 1;
}

/* Loads a library by name, for the object `by`. 0, 1 not found. */
static int library_load(struct find *f, const char *name, enum fileid_role role, const struct object *by)
{
	size_t before = f->n_obj;
	int rc = library_find(f, name, role, by);
	if (rc == 0 && f->n_obj > before) {
		f->obj[before].name = strdup(name);
		if (!f->obj[before].name)
			return -ENOMEM;
	}
	return rc;
}

/* A list of libraries to load first. One that is not found is passed over, as ld.so does, and may appear later. */
static int preload_list(struct find *f, const char *list, const char *seps)
{
	for (const char *p = list; *p;) {
		char name[FILEID_PATH_MAX];
		p += strspn(p, seps);
		size_t n = strcspn(p, seps);
		if (n && n < sizeof name) {
			memcpy(name, p, n);
			name[n] = 0;
			int rc = library_load(f, name, FILEID_PRELOAD, &f->obj[0]);
			if (rc < 0)
				return rc;
		}
		p += n;
	}
	return 0;
}

static int preload_file(struct find *f)
{
	static const char path[] = "/etc/ld.so.preload";
	char text[PRELOAD_FILE_MAX];
	_cleanup_(close_p) int at = fileid_open_at(f->req->root_fd, NULL, path);
	_cleanup_(close_p) int fd = at < 0 ? -1 : fileid_reopen(at);
	struct fileid_stat st;
	bool there = fd >= 0 && fileid_stat_fd(at, &st) == 0;
	int rc = watch_add(f, path, there ? &st : NULL);
	if (rc < 0 || !there)
		return rc;
	ssize_t n = read(fd, text, sizeof text - 1);
	if (n < 0)
		return err_set(f->e, -errno, "%s: %m", path);
	text[n] = 0;
	for (char *p = text; *p; p++) /* comments */
		if (*p == '#')
			while (*p && *p != '\n')
				*p++ = ' ';
	return preload_list(f, text, " \t\n:");
}

static int preload_all(struct find *f)
{
	const char *env = f->req->ld_preload;
	int rc = 0;
	/* Secure mode takes only set-uid libraries of the default directories; that is not followed. */
	if (env_counts(f, env))
		rc = preload_list(f, env, " :");
	if (!rc && !f->musl)
		rc = preload_file(f);
	return rc;
}

/* ld.so.cache of this root, read again when it changed. It is watched whether it is there or not. */
static int ldcache_load(struct find *f)
{
	static const char path[] = "/etc/ld.so.cache";
	struct fileid_ldcache *l = f->ld;
	struct fileid_stat st;
	_cleanup_(close_p) int at = fileid_open_at(f->req->root_fd, NULL, path);
	bool there = at >= 0 && fileid_stat_fd(at, &st) == 0 && S_ISREG(st.mode) && st.size <= LDCACHE_SIZE_MAX;
	int rc = watch_add(f, path, there ? &st : NULL);
	if (rc < 0)
		return rc;
	if (there && l->p && fileid_stat_same(&l->st, &st))
		return 0;
	free(l->p);
	*l = (struct fileid_ldcache){ 0 };
	if (!there || !st.size)
		return 0;
	_cleanup_(close_p) int fd = fileid_reopen(at);
	_cleanup_(free_p) uint8_t *p = malloc(st.size);
	if (!p)
		return -ENOMEM;
	if (fd < 0 || pread(fd, p, st.size, 0) != (ssize_t)st.size)
		return 0; /* as ld.so: without it */
	l->p = take_ptr(p);
	l->n = st.size;
	l->st = st;
	return 0;
}

static int libraries_load(struct find *f)
{
	int rc = preload_all(f);
	for (size_t i = 0; !rc && i < f->n_obj; i++) { /* n_obj grows: breadth first */
		const struct object *o = &f->obj[i];
		if (i == 1)
			continue; /* the loader loads nothing for itself */
		for (size_t k = 0; !rc && k < o->elf.n_needed; k++) {
			rc = library_load(f, o->elf.needed[k], FILEID_LIBRARY, o);
			if (rc == 1)
				rc = err_set(f->e, -ENOENT, "%s: needed by %s, not found", o->elf.needed[k],
					     file_path(f, o));
		}
	}
	return rc;
}

static int loader_add(struct find *f)
{
	const char *interp = f->obj[0].elf.interp;
	struct elf_info elf = { 0 };
	_cleanup_(close_p) int at = -1;
	_cleanup_(close_p) int fd = -1;
	int rc = program_open(f, interp, FILEID_LOADER, &at, &fd);
	if (rc < 0)
		return rc;
	rc = elf_parse(&(struct elf_src){ .fd = fd }, &elf);
	if (rc)
		return err_set(f->e, rc < 0 ? rc : -ENOEXEC, "%s: not a sound ELF file", interp);
	char origin[FILEID_PATH_MAX];
	dirname_of(interp, origin, sizeof origin);
	rc = object_add(f, f->out->n - 1, &elf, origin, NULL);
	elf_info_fini(&elf);
	return rc;
}

static int dynamic_find(struct find *f)
{
	int rc = loader_add(f);
	if (rc < 0)
		return rc;
	f->musl = strncmp(base_of(f->obj[0].elf.interp), "ld-musl-", 8) == 0;
	if (!f->musl)
		rc = ldcache_load(f);
	return rc < 0 ? rc : libraries_load(f);
}

static void find_fini(struct find *f)
{
	for (size_t i = 0; i < f->n_obj; i++) {
		elf_info_fini(&f->obj[i].elf);
		free(f->obj[i].origin);
		free(f->obj[i].name);
	}
	for (size_t i = 0; i < f->n_dir; i++)
		free(f->dir[i].path);
	free(f->obj);
	free(f->dir);
	free(f->exe_origin);
	free(f->musl_dirs);
}

static int find_run(struct find *f)
{
	struct elf_info elf = { 0 };
	char origin[FILEID_PATH_MAX];
	_cleanup_(close_p) int at = -1;
	int rc = program_follow(f, &elf, &at);
	if (rc == 1) {
		f->out->other = true;
		return 0;
	}
	if (rc < 0)
		return rc;
	const struct fileid_file *binary = &f->out->files[f->out->n - 1];
	f->out->secure = f->out->secure_given >= 0 ? f->out->secure_given : secure_by(f->req, binary);
	f->kind = ldcache_kind(elf.is64, elf.machine);
	rc = fileid_origin_of(f->req->root_fd, at, origin, sizeof origin);
	if (rc < 0)
		dirname_of(binary->path, origin, sizeof origin);
	rc = object_add(f, f->out->n - 1, &elf, origin, NULL);
	elf_info_fini(&elf);
	if (rc < 0)
		return rc;
	f->exe_origin = strdup(origin);
	if (!f->exe_origin)
		return -ENOMEM;
	return f->obj[0].elf.interp ? dynamic_find(f) : 0; /* static, or a loader that is started by name */
}

int fileid_find(const struct fileid_req *req, struct fileid_ldcache *ld, struct fileid_found *out, struct err *e)
{
	struct find f = { .req = req, .ld = ld, .out = out, .e = e };
	const char *env[] = { req->ld_library_path, req->ld_preload };
	for (size_t i = 0; i < 2; i++)
		if (env[i] && strlen(env[i]) > FILEID_ENV_MAX)
			return err_set(e, -E2BIG, "LD_LIBRARY_PATH or LD_PRELOAD is too long");
	f.obj = calloc(FILEID_FILES_MAX + 1, sizeof *f.obj);
	f.dir = calloc(DIRS_MAX, sizeof *f.dir);
	int rc = f.obj && f.dir ? find_run(&f) : -ENOMEM;
	if (rc == -ENOMEM)
		(void)err_set(e, rc, "%s: out of memory", req->path);
	find_fini(&f);
	return rc;
}

void fileid_found_fini(struct fileid_found *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->files[i].path);
	for (size_t i = 0; i < o->n_watches; i++)
		free(o->watches[i].path);
	free(o->files);
	free(o->watches);
	*o = (struct fileid_found){ 0 };
}
