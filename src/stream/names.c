#include "stream/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 255, DEPTH_MAX = 64 };

struct names {
	struct fnode *by_id; /* hash */
	struct fnode *root;
	uint64_t last_id;
};

static struct fnode *child(const struct fnode *dir, const char *name)
{
	struct fnode *f;
	HASH_FIND(hh_name, dir->children, name, strlen(name), f);
	return f;
}

static struct fnode *node_add(struct names *n, struct fnode *parent, const char *name, int is_dir)
{
	size_t len = strlen(name);
	struct fnode *f = calloc(1, sizeof *f + len + 1);
	if (!f)
		return NULL;
	memcpy(f->name, name, len + 1);
	f->nodeid = ++n->last_id;
	f->is_dir = is_dir;
	f->parent = parent;
	HASH_ADD(hh_id, n->by_id, nodeid, sizeof f->nodeid, f);
	if (parent)
		HASH_ADD_KEYPTR(hh_name, parent->children, f->name, len, f);
	return f;
}

/* Frees f when nobody needs it, then its parent likewise. */
static void node_prune(struct names *n, struct fnode *f)
{
	while (f->parent && !f->file && !f->n_lookup && !f->children) {
		struct fnode *parent = f->parent;
		HASH_DELETE(hh_name, parent->children, f);
		HASH_DELETE(hh_id, n->by_id, f);
		free(f);
		f = parent;
	}
}

int names_new(struct names **ret)
{
	struct names *n = calloc(1, sizeof *n);
	if (!n)
		return -ENOMEM;
	n->root = node_add(n, NULL, "", 1); /* FUSE_ROOT_ID is 1 */
	if (!n->root) {
		free(n);
		return -ENOMEM;
	}
	*ret = n;
	return 0;
}

void names_free(struct names *n)
{
	struct fnode *f, *tmp;
	if (!n)
		return;
	HASH_ITER(hh_id, n->by_id, f, tmp) {
		HASH_CLEAR(hh_name, f->children);
	}
	HASH_ITER(hh_id, n->by_id, f, tmp) {
		HASH_DELETE(hh_id, n->by_id, f);
		free(f);
	}
	free(n);
}

/* Next component of a path: 0 when there is none. Dots would lead elsewhere. */
static size_t component(const char **p, char ret[static NAME_BYTES_MAX + 1])
{
	while (**p == '/')
		(*p)++;
	size_t len = strcspn(*p, "/");
	size_t n = len < NAME_BYTES_MAX ? len : NAME_BYTES_MAX;
	memcpy(ret, *p, n);
	ret[n] = 0;
	if (strcmp(ret, ".") == 0 || strcmp(ret, "..") == 0)
		ret[0] = '_';
	*p += len;
	return n;
}

/* Puts the file at text below dir. -EEXIST when something is in the way. */
static int add_below(struct names *n, struct fnode *dir, const char *text, void *file, struct fnode **ret)
{
	char name[NAME_BYTES_MAX + 1], next[NAME_BYTES_MAX + 1];
	size_t len = component(&text, name);
	if (!len)
		strcpy(name, "delegated");
	for (int depth = 0; len && depth < DEPTH_MAX; depth++) {
		if (!component(&text, next))
			break;
		struct fnode *d = child(dir, name);
		if (d && !d->is_dir) {
			node_prune(n, dir);
			return -EEXIST;
		}
		if (!d && !(d = node_add(n, dir, name, 1)))
			return -ENOMEM;
		dir = d;
		strcpy(name, next);
	}
	if (child(dir, name)) {
		node_prune(n, dir);
		return -EEXIST;
	}
	struct fnode *f = node_add(n, dir, name, 0);
	if (!f)
		return -ENOMEM;
	f->file = file;
	*ret = f;
	return 0;
}

int names_add(struct names *n, const char *text, void *file, struct fnode **ret, unsigned *ret_index)
{
	int rc = add_below(n, n->root, text, file, ret);
	*ret_index = 0;
	for (unsigned i = 1; rc == -EEXIST && i < NAMES_INDEX_MAX; i++) {
		char dir[16];
		(void)snprintf(dir, sizeof dir, "~%u", i);
		struct fnode *d = child(n->root, dir);
		if (!d && !(d = node_add(n, n->root, dir, 1)))
			return -ENOMEM;
		if (!d->is_dir)
			continue;
		rc = add_below(n, d, text, file, ret);
		*ret_index = i;
	}
	return rc == -EEXIST ? -EMFILE : rc;
}

int names_path(const struct fnode *f, unsigned index, char ret[static NAMES_PATH_MAX])
{
	const struct fnode *chain[DEPTH_MAX + 4];
	size_t n = 0, at = 0;
	for (; f->parent; f = f->parent) {
		if (n == sizeof chain / sizeof *chain)
			return -ENAMETOOLONG;
		chain[n++] = f;
	}
	if (index && n)
		n--; /* the "~" directory is the root */
	while (n > 0) {
		size_t len = strlen(chain[--n]->name);
		if (at + len + 2 > NAMES_PATH_MAX)
			return -ENAMETOOLONG;
		if (at)
			ret[at++] = '/';
		memcpy(ret + at, chain[n]->name, len);
		at += len;
	}
	ret[at] = 0;
	return 0;
}

struct fnode *names_get(const struct names *n, uint64_t nodeid)
{
	struct fnode *f;
	HASH_FIND(hh_id, n->by_id, &nodeid, sizeof nodeid, f);
	return f;
}

struct fnode *names_lookup(const struct names *n, uint64_t parent, const char *name)
{
	struct fnode *dir = names_get(n, parent);
	struct fnode *f = dir && dir->is_dir ? child(dir, name) : NULL;
	return f && (f->is_dir || f->file) ? f : NULL;
}

struct fnode *names_retire(struct names *n, struct fnode *f)
{
	f->file = NULL;
	if (f->n_lookup)
		return f;
	node_prune(n, f);
	return NULL;
}

void names_forget(struct names *n, uint64_t nodeid, uint64_t count)
{
	struct fnode *f = names_get(n, nodeid);
	if (!f)
		return;
	f->n_lookup -= count < f->n_lookup ? count : f->n_lookup;
	node_prune(n, f);
}
