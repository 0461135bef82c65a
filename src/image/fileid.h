/* "Is this the same file there?": the one place that answers it, for programs with all that it takes to start them, and
 * for open files and directories. Loop thread, but for fileid_hash_file (any thread).
 *
 * A program is the file itself, the chain of #! interpreters, the ELF interpreter, and the libraries as ld.so would
 * find them (also those of LD_PRELOAD). What a program opens later (dlopen, gconv, modules of scripts) is not known
 * beforehand.
 *
 * Recipe at the origin: fileid_exec, fileid_set_encode; if the other node says FILEID_NEED_HASH: fileid_set_hash and
 * send again. At the other node: fileid_set_decode, fileid_check. Paths are looked up in the root of the process
 * (root_fd: an O_PATH descriptor of /proc/PID/root), also there where it shall run. A path through a magic link
 * (/proc/self/exe, /dev/fd/N) means nothing to another process: -EXDEV or a wrong file; the caller puts the real path
 * in its place first.
 *
 * The same file is: the same device and inode on the same running kernel; the same inode, size, mtime and ctime (a
 * shared tree); the same inode, size and mtime of the same network file system; the same build id, size and mtime (the
 * same package); or the same size and content (XXH3-128). Mode, owner, group and file capabilities must be equal in any
 * case. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/fileid-elf.h"
#include "wire/rd.h"
#include "wire/wr.h"

enum {
	FILEID_FILES_MAX = 512,
	FILEID_PATH_MAX = 4096,
	FILEID_ENV_MAX = 32768,     /* bytes of LD_LIBRARY_PATH and the like; longer: not looked at, -E2BIG */
	FILEID_PROGRAMS_MAX = 1024, /* kept in the cache */
	FILEID_HASHES_MAX = 8192,
	FILEID_HASH_BYTES =
	    256 << 20, /* read at most in one call, some 50 ms: what is larger and not shared counts as different */
};

struct fileid; /* the cache of a node */

/* What tells two states of a file apart. */
struct fileid_stat {
	uint64_t ino, size;
	int64_t mtime_ns, ctime_ns;
	uint32_t dev_major, dev_minor;
	uint32_t mode, uid, gid;
};

enum fileid_role {
	FILEID_PROGRAM = 1, /* what execve names */
	FILEID_SCRIPT_INTERP,
	FILEID_LOADER, /* PT_INTERP */
	FILEID_PRELOAD,
	FILEID_LIBRARY,
	FILEID_OPEN, /* an open file or directory */
};

struct fileid_file {
	char *path; /* owned; as looked up, from the root of the process */
	enum fileid_role role;
	struct fileid_stat st;
	uint64_t net;  /* which network file system, by kind and source; 0: none, or not known to be one */
	uint64_t caps; /* hash of the file capabilities; 0: none */
	uint8_t build_id_n, build_id[ELF_BUILD_ID_MAX];
	bool hashed;
	uint64_t hash[2];
};

/* A program and its files, or one open file. Shared and read-only, but for the hashes; counted references. */
struct fileid_set {
	unsigned refs;
	char *path, *cwd;                   /* owned: what was asked */
	char *ld_library_path, *ld_preload; /* owned; "" when unset */
	bool secure;                        /* ld.so would not listen to the environment */
	bool other;       /* neither ELF nor script: ENOEXEC or binfmt_misc; only the file itself is listed */
	bool writable;    /* an open file that is written to */
	uint8_t boot[16]; /* the running kernel that the devices and inodes are from */
	size_t n;
	struct fileid_file *files; /* owned */
};

/* On 0 the caller owns *ret. */
int fileid_new(struct fileid **ret) __attribute__((warn_unused_result));
struct fileid *fileid_free(struct fileid *c);

struct fileid_req {
	int root_fd;                              /* borrowed */
	const char *path;                         /* as given to execve; relative ones count from cwd */
	const char *cwd;                          /* absolute, from the root; NULL: "/" */
	const char *ld_library_path, *ld_preload; /* of the given environment; NULL or "" when unset */
	uint32_t ruid, euid, rgid, egid;          /* of the caller, for what a set-uid program ignores */
};

/* Lists a program. On 0 the caller owns a reference to *ret. A program asked for before costs one look at each file and
 * at each directory where a library was sought in vain; replaced, changed, new and removed files are noticed. -ENOENT:
 * the program, an interpreter or a library is not there (which one: e); -EACCES: a directory or special file; -ENOEXEC,
 * -ELOOP (scripts) as execve; -EBADMSG: a broken ELF file; -E2BIG; other -errno of the look-up. With each of them the
 * right thing is to run it where it is, which gives the caller the true result. */
int fileid_exec(struct fileid *c, const struct fileid_req *req, struct fileid_set **ret, struct err *e)
    __attribute__((warn_unused_result));

/* The identity of an open regular file or directory: fd is a descriptor of ours for the same file (O_PATH will do),
 * path where it was opened. On 0 the caller owns a reference to *ret, a set of one file. -ESTALE: the path leads
 * elsewhere by now (deleted, renamed, another mount); -EOPNOTSUPP: neither regular nor directory. Not cached. */
int fileid_open_file(struct fileid *c, int root_fd, int fd, const char *path, bool writable, struct fileid_set **ret,
		     struct err *e) __attribute__((warn_unused_result));

struct fileid_set *fileid_set_ref(struct fileid_set *s);
struct fileid_set *fileid_set_unref(struct fileid_set *s);
void fileid_set_unref_p(struct fileid_set **s); /* for _cleanup_ */

void fileid_set_encode(struct wr *w, const struct fileid_set *s);
/* On 0 the caller owns a reference to *ret. -EBADMSG, -ENOMEM. The set must be the rest of the reader's message. */
int fileid_set_decode(struct rd *r, struct fileid_set **ret) __attribute__((warn_unused_result));

enum fileid_outcome {
	FILEID_SAME = 0,
	FILEID_DIFFERENT = 1,
	FILEID_ABSENT,
	FILEID_NEED_HASH, /* only the content can tell, and the sender did not hash it: fileid_set_hash there, then
			     again */
	FILEID_LIKE,      /* directories only: one with the same owner and mode is there, but not the same one */
};

struct fileid_verdict {
	enum fileid_outcome outcome;
	char why[320]; /* which file and why, for a person; "" for FILEID_SAME */
};

/* Compares a set of another node with what is here, in that root. Files whose content must decide are hashed here (a
 * few ms for the first look at a large program; then known). Returns the outcome, which is also in *ret with the words;
 * never fails: what cannot be found out is FILEID_DIFFERENT. */
enum fileid_outcome fileid_check(struct fileid *c, int root_fd, const struct fileid_set *theirs,
				 struct fileid_verdict *ret);

/* Fills the hashes of all regular files of a set of ours: reads them if they are not known yet. 0; -ESTALE when one
 * changed since; -EFBIG beyond FILEID_HASH_BYTES; -errno. */
int fileid_set_hash(struct fileid *c, int root_fd, struct fileid_set *s, struct err *e)
    __attribute__((warn_unused_result));

/* Hashes one file: reads all of it. -ESTALE: it is not (or no longer) in this state. Any thread. */
int fileid_hash_file(int root_fd, const char *path, const struct fileid_stat *st, uint64_t ret_hash[static 2])
    __attribute__((warn_unused_result));

/* How often fileid_exec was answered from the cache, and how often not; for tests and `pando status`. */
void fileid_counts(const struct fileid *c, uint64_t *ret_hits, uint64_t *ret_misses);
