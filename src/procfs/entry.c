/* What the names of /proc are: their numbers, attributes, and texts of links. */
#include "procfs/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "procfs/serve.h"

enum { TEXT_EXE = 1, TEXT_CWD, TEXT_ROOT, TEXT_SHIFT = 30 };

/* The kernel cuts the text of a cached link at the size of its attributes: where the text is not known yet, any fits. */
enum { LINK_SIZE_ANY = 4095 };

static const char *const global_names[GLOBALS] = { "stat", "meminfo", "loadavg", "uptime", "cpuinfo" };

void dent_fini(struct dent *d)
{
	free(d->name);
	free(d->path);
	free(d->link);
	*d = (struct dent){ 0 };
}

/* ---- names of the native procfs ---- */

static const struct native_name *names_add(struct native_names *names, const char *name, mode_t mode)
{
	struct native_name *v = reallocarray(names->v, names->n + 1, sizeof(*v));
	if (!v)
		return NULL;
	names->v = v;
	char *copy = strdup(name);
	if (!copy)
		return NULL;
	v[names->n] = (struct native_name){ .hash = ino_hash(name), .mode = mode, .name = copy };
	return &v[names->n++];
}

/* Reads the names that are no numbers. */
static void names_read(struct fs *fs, struct native_names *names, const char *path)
{
	int fd = openat(fs->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedir_p) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	while (d && (de = readdir(d))) {
		struct stat st;
		if (remote_pid_parse(de->d_name) || !remote_path_ok(de->d_name))
			continue;
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && names_add(names, de->d_name, st.st_mode))
			names->done = 1;
	}
}

const struct native_names *native_root(struct fs *fs)
{
	if (!fs->root_names.done)
		names_read(fs, &fs->root_names, ".");
	return &fs->root_names;
}

const struct native_names *native_pid(struct fs *fs)
{
	if (!fs->pid_names.done)
		names_read(fs, &fs->pid_names, "1");
	return &fs->pid_names;
}

const struct native_name *native_by_name(const struct native_names *names, const char *name)
{
	uint32_t hash = ino_hash(name);
	for (size_t i = 0; i < names->n; i++)
		if (names->v[i].hash == hash && strcmp(names->v[i].name, name) == 0)
			return &names->v[i];
	return NULL;
}

const struct native_name *native_by_hash(const struct native_names *names, uint32_t hash)
{
	for (size_t i = 0; i < names->n; i++)
		if (names->v[i].hash == hash)
			return &names->v[i];
	return NULL;
}

/* A name that was not there when the names were read (a module was loaded since). */
static const struct native_name *names_late(struct fs *fs, struct native_names *names, const char *dir, const char *name)
{
	char path[REMOTE_PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (n < 0 || (size_t)n >= sizeof(path) || names->n > 4096 || fstatat(fs->proc_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return NULL;
	return names_add(names, name, st.st_mode);
}

static void names_fini(struct native_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->v[i].name);
	free(names->v);
	*names = (struct native_names){ 0 };
}

/* ---- paths that the kernel knows ---- */

struct path_node *path_node_find(struct fs *fs, fuse_ino_t v)
{
	struct path_node *p;
	uint64_t key = v;
	HASH_FIND(hh_ino, fs->paths_by_ino, &key, sizeof(key), p);
	return p;
}

static void path_node_free(struct fs *fs, struct path_node *p)
{
	HASH_DELETE(hh_ino, fs->paths_by_ino, p);
	if (p->keyed)
		HASH_DELETE(hh_key, fs->paths_by_key, p);
	free(p->link);
	free(p);
}

void path_node_forget(struct fs *fs, fuse_ino_t v, uint64_t n)
{
	struct path_node *p = path_node_find(fs, v);
	if (!p)
		return;
	p->lookups -= n < p->lookups ? n : p->lookups;
	if (p->lookups == 0)
		path_node_free(fs, p);
}

static struct path_node *path_node_get(struct fs *fs, const struct dent *d)
{
	char key[REMOTE_PATH_MAX + 8];
	int n = snprintf(key, sizeof(key), "%u/%s", d->ino.node, d->path);
	if (n < 0 || (size_t)n >= sizeof(key))
		return NULL;
	int keyed = !S_ISLNK(d->attr.mode);
	struct path_node *p = NULL;
	if (keyed)
		HASH_FIND(hh_key, fs->paths_by_key, key, (unsigned)n, p);
	if (!p) {
		p = calloc(1, sizeof(*p) + (size_t)n + 1);
		if (!p)
			return NULL;
		memcpy(p->key, key, (size_t)n + 1);
		p->path = strchr(p->key, '/') + 1;
		p->node = d->ino.node;
		p->keyed = keyed;
		p->ino = ino_pack(&(struct ino){ .kind = INO_PATH, .id = ++fs->next_path });
		HASH_ADD(hh_ino, fs->paths_by_ino, ino, sizeof(p->ino), p);
		if (keyed)
			HASH_ADD(hh_key, fs->paths_by_key, key, (unsigned)n, p);
		p->link = d->link ? strdup(d->link) : NULL;
	}
	p->attr = d->attr;
	p->attr_ms = clock_ms();
	p->known = d->known;
	return p;
}

void entry_fini(struct fs *fs)
{
	struct path_node *p, *tmp;
	HASH_ITER(hh_ino, fs->paths_by_ino, p, tmp)
	path_node_free(fs, p);
	names_fini(&fs->root_names);
	names_fini(&fs->pid_names);
}

/* ---- attributes ---- */

static void attr_set(struct stat *st, fuse_ino_t v, mode_t mode, uint32_t uid, uint32_t gid, size_t size)
{
	*st = (struct stat){ .st_ino = v, .st_mode = mode, .st_nlink = S_ISDIR(mode) ? 2 : 1, .st_uid = uid, .st_gid = gid };
	st->st_size = (off_t)size;
	st->st_blksize = 1024;
}

static size_t decimals(uint32_t v)
{
	size_t n = 1;
	while (v >= 10) {
		v /= 10;
		n++;
	}
	return n;
}

/* Owner of a file of a process: that of the process if it is dumpable or the file is a directory open to all, else root. */
static void known_owner(struct remote_attr *a, const struct remote_owner *o)
{
	int owned = a->mode == (S_IFDIR | 0555) || (o->flags & REMOTE_PID_DUMPABLE);
	a->uid = owned ? o->uid : 0;
	a->gid = owned ? o->gid : 0;
}

static int attr_pid(struct fs *fs, fuse_ino_t v, uint32_t pid, struct stat *ret)
{
	char name[16];
	struct stat st;
	if (table_pid_get(&fs->table, pid))
		return -ENOENT;
	(void)snprintf(name, sizeof(name), "%u", pid); /* fits */
	if (fstatat(fs->proc_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	attr_set(ret, v, st.st_mode, st.st_uid, st.st_gid, 0);
	ret->st_nlink = st.st_nlink;
	ret->st_mtim = ret->st_ctim = ret->st_atim = st.st_mtim;
	return 0;
}

static double rfile_ttl(mode_t mode)
{
	return S_ISREG(mode) && (mode & S_IROTH) ? TTL_ATTR_OPEN : TTL_ATTR;
}

/* A file that every process has: its owner is that of the process. 1: it has to be asked for. */
static int attr_rfile(struct fs *fs, fuse_ino_t v, const struct ino *i, struct stat *ret)
{
	const struct native_name *name = native_by_hash(native_pid(fs), (uint32_t)i->id);
	struct where w;
	if (!name)
		return -ESTALE;
	int rc = where_find(fs, i->pid, 0, &w);
	if (rc != 0)
		return rc;
	if (w.node != i->node)
		return -ESTALE;
	struct remote_attr a = { .mode = name->mode };
	known_owner(&a, &w.owner);
	attr_set(ret, v, a.mode, a.uid, a.gid, 0);
	return 0;
}

static int attr_path(struct fs *fs, fuse_ino_t v, struct stat *ret)
{
	struct path_node *p = path_node_find(fs, v);
	if (!p)
		return -ESTALE;
	struct remote_attr *a = &p->attr;
	if (p->known) {
		struct where w;
		int rc = where_find(fs, remote_path_pid(p->path, NULL), 0, &w);
		if (rc < 0)
			return rc;
		if (rc == 0)
			known_owner(a, &w.owner);
		else if (clock_ms() - p->attr_ms > WHERE_FRESH_MS)
			return 1;
	} else if (!S_ISLNK(a->mode) && clock_ms() - p->attr_ms > WHERE_FRESH_MS) {
		return 1;
	}
	size_t size = S_ISLNK(a->mode) ? (p->link ? strlen(p->link) : LINK_SIZE_ANY) : (size_t)a->size;
	attr_set(ret, v, a->mode, a->uid, a->gid, size);
	if (a->nlink)
		ret->st_nlink = a->nlink;
	ret->st_mtim.tv_sec = ret->st_ctim.tv_sec = ret->st_atim.tv_sec = a->mtime;
	return 0;
}

static int attr_link(struct fs *fs, fuse_ino_t v, const struct ino *i, struct stat *ret)
{
	size_t n;
	const struct native_name *name;
	if (i->kind == INO_CONST) {
		name = native_by_hash(native_root(fs), (uint32_t)i->id);
		n = strlen(".n/") + (name ? strlen(name->name) : 0);
	} else {
		name = native_by_hash(native_pid(fs), (uint32_t)i->id);
		n = strlen("../.n//") + decimals(i->pid) + (name ? strlen(name->name) : 0);
	}
	if (!name)
		return -ESTALE;
	attr_set(ret, v, S_IFLNK | 0777, 0, 0, n);
	return 0;
}

int entry_attr(struct fs *fs, fuse_ino_t v, struct stat *ret, double *ret_ttl)
{
	struct ino i;
	struct where w;
	int rc = ino_unpack(v, &i);
	if (rc < 0)
		return rc;
	*ret_ttl = TTL_EVER;
	switch (i.kind) {
	case INO_ROOT:
	case INO_NODES:
	case INO_NDIR:
	case INO_SYS:
		attr_set(ret, v, S_IFDIR | 0555, 0, 0, 0);
		return 0;
	case INO_CONST:
	case INO_LINK:
		return attr_link(fs, v, &i, ret);
	case INO_GLOBAL:
		if (i.id >= GLOBALS)
			return -ESTALE;
		attr_set(ret, v, S_IFREG | 0444, 0, 0, 0);
		return 0;
	case INO_TEXT:
		attr_set(ret, v, S_IFLNK | 0777, 0, 0, LINK_SIZE_ANY);
		return 0;
	case INO_NPID:
		attr_set(ret, v, S_IFLNK | 0777, 0, 0, strlen("../../") + decimals(i.pid));
		return 0;
	case INO_NODE:
		*ret_ttl = TTL_ATTR;
		attr_set(ret, v, S_IFDIR | 0555, 0, 0, 0);
		return fs->table.nodes[i.node].present ? 0 : -ENOENT;
	case INO_PID:
		*ret_ttl = TTL_ATTR;
		return attr_pid(fs, v, i.pid, ret);
	case INO_RPID:
		*ret_ttl = TTL_ATTR;
		rc = where_find(fs, i.pid, 0, &w);
		if (rc == 0 && w.node != i.node)
			return -ESTALE;
		if (rc == 0)
			attr_set(ret, v, S_IFDIR | 0555, w.owner.uid, w.owner.gid, 0);
		return rc;
	case INO_RFILE:
		rc = attr_rfile(fs, v, &i, ret);
		*ret_ttl = rc == 0 ? rfile_ttl(ret->st_mode) : TTL_ATTR;
		return rc;
	case INO_PATH:
		*ret_ttl = TTL_ATTR;
		return attr_path(fs, v, ret);
	case INO_KINDS:
		break;
	}
	return -ESTALE;
}

/* ---- lookups ---- */

/* How long a name stands without being looked up again. */
static double entry_ttl(const struct dent *d, int listed)
{
	switch (d->ino.kind) {
	case INO_CONST:
	case INO_GLOBAL:
	case INO_LINK:
	case INO_NODES:
	case INO_NDIR:
	case INO_SYS:
	case INO_ROOT:
		return TTL_EVER;
	case INO_NODE:
	case INO_NPID:
		return TTL_ATTR;
	case INO_RFILE:
		return TTL_KNOWN;
	case INO_PATH:
		if (S_ISLNK(d->attr.mode))
			return 0;
		break;
	case INO_TEXT:
		return 0;
	case INO_RPID:
		return listed ? TTL_LISTED_REMOTE : 0;
	case INO_PID:
	case INO_KINDS:
		break;
	}
	return listed ? TTL_LISTED : 0;
}

int entry_fill(struct fs *fs, const struct dent *d, int listed, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .entry_timeout = entry_ttl(d, listed) };
	if (d->ino.kind == INO_PATH) {
		struct path_node *p = path_node_get(fs, d);
		if (!p)
			return -ENOMEM;
		ret->ino = p->ino;
		int rc = attr_path(fs, p->ino, &ret->attr);
		if (rc != 0) {
			/* The process has just gone, or its owner is unknown for the moment: as the answer said. */
			attr_set(&ret->attr, p->ino, d->attr.mode, d->attr.uid, d->attr.gid, 0);
		}
		ret->attr_timeout = TTL_ATTR;
		p->lookups++;
		return 0;
	}
	ret->ino = ino_pack(&d->ino);
	if (d->ino.kind == INO_RPID || d->ino.kind == INO_RFILE) {
		attr_set(&ret->attr, ret->ino, d->ino.kind == INO_RPID ? S_IFDIR | 0555 : d->attr.mode, d->attr.uid, d->attr.gid, 0);
		ret->attr_timeout = d->ino.kind == INO_RPID ? TTL_ATTR : rfile_ttl(d->attr.mode);
		return 0;
	}
	int rc = entry_attr(fs, ret->ino, &ret->attr, &ret->attr_timeout);
	return rc > 0 ? -EIO : rc; /* 1 is for the two kinds above only */
}

static int find_pid(struct fs *fs, uint32_t pid, uint32_t tid, struct dent *ret)
{
	char name[16];
	struct stat st;
	struct where w;
	if (!table_pid_get(&fs->table, pid)) {
		(void)snprintf(name, sizeof(name), "%u", pid); /* fits */
		if (fstatat(fs->proc_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			ret->ino = (struct ino){ .kind = INO_PID, .pid = pid };
			return 0;
		}
	}
	if (fs_features(fs, tid) & PROCFS_F_LOCAL_PROC)
		return -ENOENT;
	int rc = where_find(fs, pid, tid, &w);
	if (rc == 0) {
		ret->ino = (struct ino){ .kind = INO_RPID, .node = w.node, .pid = pid };
		ret->attr = (struct remote_attr){ .uid = w.owner.uid, .gid = w.owner.gid };
	}
	return rc;
}

static int find_root(struct fs *fs, const char *name, uint32_t tid, struct dent *ret)
{
	uint32_t pid = remote_pid_parse(name);
	if (pid)
		return find_pid(fs, pid, tid, ret);
	if (strcmp(name, ".n") == 0)
		ret->ino.kind = INO_NDIR;
	else if (strcmp(name, ".nodes") == 0)
		ret->ino.kind = INO_NODES;
	else if (strcmp(name, "sys") == 0)
		ret->ino.kind = INO_SYS;
	if (ret->ino.kind)
		return 0;
	for (uint64_t i = 0; i < GLOBALS; i++) {
		if (strcmp(name, global_names[i]) != 0)
			continue;
		ret->ino = (struct ino){ .kind = INO_GLOBAL, .id = i };
		return 0;
	}
	const struct native_name *n = native_by_name(native_root(fs), name);
	if (!n)
		n = names_late(fs, &fs->root_names, ".", name);
	if (!n)
		return -ENOENT;
	ret->ino = (struct ino){ .kind = INO_CONST, .id = n->hash };
	return 0;
}

/* The name of a file of a local process, known to exist. */
static void dent_local(struct fs *fs, uint32_t pid, const char *name, uint32_t hash, struct dent *ret)
{
	uint64_t text = strcmp(name, "exe") == 0 ? TEXT_EXE : strcmp(name, "cwd") == 0 ? TEXT_CWD : strcmp(name, "root") == 0 ? TEXT_ROOT : 0;
	if (text)
		text = text << TEXT_SHIFT | (++fs->next_text & ((1u << TEXT_SHIFT) - 1));
	ret->ino = (struct ino){ .kind = text ? INO_TEXT : INO_LINK, .pid = pid, .id = text ? text : hash };
}

static int find_local(struct fs *fs, uint32_t pid, const char *name, struct dent *ret)
{
	const struct native_name *n = native_by_name(native_pid(fs), name);
	char dir[16];
	(void)snprintf(dir, sizeof(dir), "%u", pid); /* fits */
	if (!n)
		n = names_late(fs, &fs->pid_names, dir, name);
	if (!n)
		return -ENOENT;
	dent_local(fs, pid, name, n->hash, ret);
	return 0;
}

static int find_known(struct fs *fs, const struct ino *parent, const char *name, uint32_t tid, struct dent *ret)
{
	const struct native_name *n = native_by_name(native_pid(fs), name);
	struct where w;
	if (!n)
		return 1;
	int rc = where_find(fs, parent->pid, tid, &w);
	if (rc != 0)
		return rc;
	ret->attr.mode = n->mode;
	known_owner(&ret->attr, &w.owner);
	if (!S_ISLNK(n->mode)) {
		ret->ino = (struct ino){ .kind = INO_RFILE, .node = w.node, .pid = parent->pid, .id = n->hash };
		return 0;
	}
	ret->ino = (struct ino){ .kind = INO_PATH, .node = w.node };
	ret->known = 1;
	return asprintf(&ret->path, "%u/%s", parent->pid, name) < 0 ? -ENOMEM : 0;
}

int entry_find(struct fs *fs, const struct ino *parent, fuse_ino_t parent_v, const char *name, uint32_t tid, struct dent *ret)
{
	*ret = (struct dent){ 0 };
	switch (parent->kind) {
	case INO_ROOT:
		return find_root(fs, name, tid, ret);
	case INO_PID:
		return find_local(fs, parent->pid, name, ret);
	case INO_NODES:
		ret->ino = (struct ino){ .kind = INO_NODE, .node = table_node_find(&fs->table, name) };
		return ret->ino.node ? 0 : -ENOENT;
	case INO_NODE:
		ret->ino = (struct ino){ .kind = INO_NPID, .node = parent->node, .pid = remote_pid_parse(name) };
		return ret->ino.pid ? 0 : serve_is_global(name) ? 1 : -ENOENT;
	case INO_RPID:
		return find_known(fs, parent, name, tid, ret);
	case INO_RFILE:
	case INO_NDIR:
	case INO_SYS:
		return 1;
	case INO_PATH:
		return path_node_find(fs, parent_v) ? 1 : -ESTALE;
	case INO_CONST:
	case INO_GLOBAL:
	case INO_LINK:
	case INO_TEXT:
	case INO_NPID:
	case INO_KINDS:
		break;
	}
	return -ENOTDIR;
}

int entry_from_remote(struct fs *fs, uint16_t node, const char *dir, const struct remote_entry *e, struct dent *ret)
{
	*ret = (struct dent){ .ino = { .kind = INO_PATH, .node = node }, .attr = e->attr };
	mode_t type = e->attr.mode & S_IFMT;
	if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK)
		return -EBADMSG;
	if (strlen(dir) + 1 + strlen(e->name) >= REMOTE_PATH_MAX)
		return -ENAMETOOLONG;
	ret->name = strdup(e->name);
	if (asprintf(&ret->path, *dir ? "%s/%s" : "%s%s", dir, e->name) < 0)
		ret->path = NULL;
	ret->link = *e->link ? strdup(e->link) : NULL;
	if (!ret->name || !ret->path) {
		dent_fini(ret);
		return -ENOMEM;
	}
	return 0;
}

int entry_path(struct fs *fs, fuse_ino_t v, uint16_t *ret_node, char ret_path[static REMOTE_PATH_MAX])
{
	struct ino i;
	int rc = ino_unpack(v, &i);
	if (rc < 0)
		return rc;
	*ret_node = fs->self;
	ret_path[0] = 0;
	const struct path_node *p;
	const struct native_name *name;
	switch (i.kind) {
	case INO_NDIR:
		return 0;
	case INO_SYS:
		memcpy(ret_path, "sys", sizeof("sys"));
		return 0;
	case INO_NODE:
		*ret_node = i.node;
		return 0;
	case INO_RPID:
		*ret_node = i.node;
		(void)snprintf(ret_path, REMOTE_PATH_MAX, "%u", i.pid); /* fits */
		return 0;
	case INO_RFILE:
		name = native_by_hash(native_pid(fs), (uint32_t)i.id);
		if (!name)
			return -ESTALE;
		*ret_node = i.node;
		(void)snprintf(ret_path, REMOTE_PATH_MAX, "%u/%s", i.pid, name->name); /* NAME_MAX: fits */
		return 0;
	case INO_PATH:
		p = path_node_find(fs, v);
		if (!p)
			return -ESTALE;
		*ret_node = p->node;
		memcpy(ret_path, p->path, strlen(p->path) + 1);
		return 0;
	case INO_ROOT:
	case INO_CONST:
	case INO_GLOBAL:
	case INO_PID:
	case INO_LINK:
	case INO_TEXT:
	case INO_NODES:
	case INO_NPID:
	case INO_KINDS:
		break;
	}
	return -EINVAL;
}

/* ---- links ---- */

static uint64_t mnt_ns(struct fs *fs, const char *path)
{
	struct stat st;
	return fstatat(fs->proc_fd, path, &st, 0) == 0 ? st.st_ino : 0;
}

/* exe, cwd and root of a local process: the true text, as far as it leads the reader to the same place. Where it does not (another
 * mount namespace, a deleted file) the link leads to the native one, which the kernel follows without looking at texts. */
static int link_true(struct fs *fs, uint32_t pid, unsigned which, const struct cred *c, char ret[static PATH_MAX])
{
	static const char *const names[4] = { [TEXT_EXE] = "exe", [TEXT_CWD] = "cwd", [TEXT_ROOT] = "root" };
	char path[64];
	if (which == 0 || which > TEXT_ROOT)
		return -ESTALE;
	(void)snprintf(path, sizeof(path), "%u/%s", pid, names[which]); /* fits */
	int rc = cred_enter(c);
	if (rc < 0)
		return rc;
	ssize_t n = readlinkat(fs->proc_fd, path, ret, PATH_MAX - 1);
	rc = -errno;
	cred_leave();
	if (n < 0)
		return rc;
	ret[n] = 0;

	static const char deleted[] = " (deleted)";
	size_t len = (size_t)n, tail = sizeof(deleted) - 1;
	int lost = len >= tail && strcmp(ret + (len - tail), deleted) == 0;
	if (!fs->init_mnt_ino)
		fs->init_mnt_ino = mnt_ns(fs, "1/ns/mnt");
	(void)snprintf(path, sizeof(path), "%u/ns/mnt", pid); /* fits */
	uint64_t mnt = mnt_ns(fs, path);
	if (lost || (mnt && mnt != fs->init_mnt_ino))
		(void)snprintf(ret, PATH_MAX, "../.n/%u/%s", pid, names[which]); /* fits */
	return 0;
}

int entry_link(struct fs *fs, fuse_ino_t v, const struct cred *c, char ret[static PATH_MAX])
{
	struct ino i;
	const struct native_name *name;
	const struct path_node *p;
	int rc = ino_unpack(v, &i);
	if (rc < 0)
		return rc;
	switch (i.kind) {
	case INO_CONST:
		name = native_by_hash(native_root(fs), (uint32_t)i.id);
		if (!name)
			return -ESTALE;
		(void)snprintf(ret, PATH_MAX, ".n/%s", name->name); /* fits */
		return 0;
	case INO_LINK:
		name = native_by_hash(native_pid(fs), (uint32_t)i.id);
		if (!name)
			return -ESTALE;
		(void)snprintf(ret, PATH_MAX, "../.n/%u/%s", i.pid, name->name); /* fits */
		return 0;
	case INO_NPID:
		(void)snprintf(ret, PATH_MAX, "../../%u", i.pid); /* fits */
		return 0;
	case INO_TEXT:
		return link_true(fs, i.pid, (unsigned)(i.id >> TEXT_SHIFT), c, ret);
	case INO_PATH:
		p = path_node_find(fs, v);
		if (!p)
			return -ESTALE;
		if (!p->link)
			return 1;
		(void)snprintf(ret, PATH_MAX, "%s", p->link); /* REMOTE_PATH_MAX is less */
		return 0;
	case INO_ROOT:
	case INO_GLOBAL:
	case INO_PID:
	case INO_NODES:
	case INO_NODE:
	case INO_RPID:
	case INO_RFILE:
	case INO_NDIR:
	case INO_SYS:
	case INO_KINDS:
		break;
	}
	return -EINVAL;
}
