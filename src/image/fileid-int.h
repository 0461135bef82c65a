/* Between the files of fileid. */
#pragma once

#include "image/fileid.h"

/* --- fileid-stat.c: looking at files --- */

/* Opens a path of the process's root with O_PATH. A relative one counts from cwd. -errno. */
int fileid_open_at(int root_fd, const char *cwd, const char *path);

int fileid_stat_fd(int fd, struct fileid_stat *ret);
int fileid_stat_at(int root_fd, const char *cwd, const char *path, struct fileid_stat *ret);

bool fileid_stat_same(const struct fileid_stat *a, const struct fileid_stat *b);

/* Reopens an O_PATH descriptor of a regular file for reading. */
int fileid_reopen(int path_fd);

/* The directory that a descriptor lies in, as a path from the process's root: what $ORIGIN of a program is. -errno. */
int fileid_origin_of(int root_fd, int fd, char *ret, size_t size);

/* Whether it changed so lately that a further change could leave no trace in its times. */
bool fileid_stat_fresh(const struct fileid_stat *st, int64_t now_ns);
int64_t fileid_now_ns(void);

/* --- fileid-find.c: what it takes to start a program --- */

/* A place that was looked at, to be looked at again before a cached answer is used. */
struct fileid_watch {
	char *path; /* owned */
	bool absent;
	struct fileid_stat st; /* when not absent */
};

struct fileid_found {
	struct fileid_file *files; /* owned */
	size_t n, cap;
	struct fileid_watch *watches; /* owned; places other than the files */
	size_t n_watches, cap_watches;
	bool secure, other, by_cwd; /* by_cwd: the answer depends on the current directory */
	int secure_given;           /* -1: find it out from the request; else 0 or 1, as the other node found */
};

/* Bytes of ld.so.cache of a root, kept by the caller between calls. */
struct fileid_ldcache {
	struct fileid_stat st;
	uint8_t *p; /* owned; NULL when there is none */
	size_t n;
};

/* Fills f, which is empty but for secure_given. On failure it is what was found until then; the caller frees it in any
 * case. */
int fileid_find(const struct fileid_req *req, struct fileid_ldcache *ld, struct fileid_found *f, struct err *e)
    __attribute__((warn_unused_result));
void fileid_found_fini(struct fileid_found *f);

/* --- fileid-wire.c --- */
struct fileid_set *fileid_set_new(void);

/* --- fileid-net.c --- */

/* Which network file system a device number is, by its kind and source; 0 for all others. Follows changes of the
 * mounts. */
struct fileid_net;
struct fileid_net *fileid_net_new(void);
struct fileid_net *fileid_net_free(struct fileid_net *n);
uint64_t fileid_net_of(struct fileid_net *n, uint32_t dev_major, uint32_t dev_minor);
