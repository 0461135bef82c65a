/* The FUSE session on a loop.
 *
 * Happy path: requests are read straight into the journal, answered at once or later, and leave the journal when the answer is
 * written. A new mount begins with FUSE_INIT, which is kept; a server that takes a mount over feeds the kept one to libfuse (the
 * kernel does not know its number any more and refuses the answer, which is swallowed), then answers what the journal holds, then
 * goes on reading. Without the kept FUSE_INIT (the journal was lost) the first request that is none tells that the mount is older: one is
 * made up, and the kernel is asked to send again what was under way (Linux 6.9). */
#include "procfs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	TICK_MS = 50,
	READ_BURST = 64,            /* requests of one turn of the loop */
	NOTIFY_RESEND = 7,          /* FUSE_NOTIFY_RESEND: not in the headers of Linux 6.1 */
};

/* ---- operations that refuse ---- */

static void mknod_op(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)fuse_reply_err(req, ENOENT); /* as procfs says */
}

static void create_op(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	(void)fuse_reply_err(req, ENOENT);
}

static void mkdir_op(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)fuse_reply_err(req, ENOENT);
}

static void symlink_op(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)fuse_reply_err(req, ENOENT);
}

static void unlink_op(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)fuse_reply_err(req, EPERM);
}

static void rename_op(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *to_name, unsigned flags)
{
	(void)fuse_reply_err(req, EPERM);
}

static void link_op(fuse_req_t req, fuse_ino_t v, fuse_ino_t parent, const char *name)
{
	(void)fuse_reply_err(req, EPERM);
}

static void statfs_op(fuse_req_t req, fuse_ino_t v)
{
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255 };
	(void)fuse_reply_statfs(req, &st);
}

static void forget_op(fuse_req_t req, fuse_ino_t v, uint64_t n)
{
	path_node_forget(fuse_req_userdata(req), v, n);
	fuse_reply_none(req);
}

static void forget_multi_op(fuse_req_t req, size_t n, struct fuse_forget_data *v)
{
	for (size_t i = 0; i < n; i++)
		path_node_forget(fuse_req_userdata(req), v[i].ino, v[i].nlookup);
	fuse_reply_none(req);
}

static void init_op(void *userdata, struct fuse_conn_info *conn)
{
	/* A server that takes over must want the same as the one before: only what every kernel since 5.6 has. */
	conn->max_write = JOURNAL_MAX_WRITE;
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS);
}

static const struct fuse_lowlevel_ops ops = {
	.init = init_op, .lookup = lookup_op, .forget = forget_op, .forget_multi = forget_multi_op, .getattr = getattr_op,
	.setattr = setattr_op, .readlink = readlink_op, .mknod = mknod_op, .mkdir = mkdir_op, .unlink = unlink_op, .rmdir = unlink_op,
	.symlink = symlink_op, .rename = rename_op, .link = link_op, .open = open_op, .read = read_op, .write = write_op,
	.release = release_op, .opendir = opendir_op, .readdir = readdir_op, .readdirplus = readdirplus_op, .releasedir = releasedir_op,
	.statfs = statfs_op, .create = create_op,
};

/* ---- the device ---- */

/* Every answer passes here: its request leaves the journal once it is written. */
static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs *fs = userdata;
	struct fuse_out_header h = { 0 };
	if (fs->silent) {
		errno = ENOENT; /* libfuse takes it for a caller that is gone */
		return -1;
	}
	if (count > 0 && iov[0].iov_len >= sizeof(h))
		memcpy(&h, iov[0].iov_base, sizeof(h));
	ssize_t n = writev(fd, iov, count);
	int error = errno;
	if (n < 0 && error != ENOENT && h.unique) {
		/* The kernel found fault with the answer: one that it accepts has to follow, or the caller waits for ever. */
		log_warn("fuse: answer refused: %s, caller gets EIO", strerror(error));
		struct fuse_out_header eio = { .len = sizeof(eio), .error = -EIO, .unique = h.unique };
		struct iovec v = { .iov_base = &eio, .iov_len = sizeof(eio) };
		(void)!writev(fd, &v, 1);
	}
	journal_answered(fs->journal, h.unique);
	errno = error;
	return n;
}

/* libfuse wants one, but requests are read by fuse_read. */
static ssize_t io_read(int fd, void *buf, size_t size, void *userdata)
{
	errno = EIO;
	return -1;
}

static void process(struct fs *fs, void *msg, size_t n)
{
	struct fuse_in_header h;
	memcpy(&h, msg, sizeof(h));
	struct fuse_buf buf = { .mem = msg, .size = n };
	fuse_session_process_buf(fs->se, &buf);
	if (h.opcode == FUSE_FORGET || h.opcode == FUSE_BATCH_FORGET || h.opcode == FUSE_INTERRUPT)
		journal_answered(fs->journal, h.unique); /* no answer passes io_writev */
}

/* Lets libfuse believe in a mount that began before this server: with the FUSE_INIT that was kept, or one that fits. */
static void init_replay(struct fs *fs)
{
	size_t n;
	const void *kept = journal_init(fs->journal, &n);
	union {
		struct fuse_in_header h;
		uint8_t b[JOURNAL_INIT_MAX];
	} m = { 0 };
	if (n) {
		memcpy(m.b, kept, n);
	} else {
		struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = 128 << 10, .flags = UINT32_MAX & ~(uint32_t)FUSE_INIT_EXT };
		n = sizeof(m.h) + sizeof(in);
		m.h = (struct fuse_in_header){ .len = (uint32_t)n, .opcode = FUSE_INIT, .unique = 1 };
		memcpy(m.b + sizeof(m.h), &in, sizeof(in));
	}
	process(fs, m.b, n);
}

static void process_first(struct fs *fs, void *slot, size_t n)
{
	struct fuse_in_header h;
	memcpy(&h, slot, sizeof(h));
	if (h.opcode == FUSE_INIT) {
		journal_init_set(fs->journal, slot, n);
	} else if (!fs->inited) {
		log_notice("fuse: mount taken over without its journal");
		init_replay(fs);
	}
	fs->inited = 1;
	process(fs, slot, n);
}

static void on_left(void *ctx, void *slot, size_t n)
{
	struct fs *fs = ctx;
	struct fuse_in_header h;
	memcpy(&h, slot, sizeof(h));
	if (n < sizeof(h) || h.opcode == FUSE_FORGET || h.opcode == FUSE_BATCH_FORGET || h.opcode == FUSE_INTERRUPT ||
	    (h.opcode == FUSE_INIT && fs->inited)) {
		journal_answered(fs->journal, h.unique);
		return;
	}
	process_first(fs, slot, n);
}

/* A request read: 1; none there: 0; -ENODEV: the mount is gone; another -errno. */
static int fuse_read(struct fs *fs)
{
	void *slot = journal_slot(fs->journal);
	if (!slot)
		return 0; /* all under way: answers make room, the tick comes back here */
	ssize_t n = read(fs->fuse_fd, slot, JOURNAL_SLOT_SIZE);
	if (n < 0)
		return errno == EAGAIN ? 0 : errno == EINTR || errno == ENOENT ? 1 : -errno;
	if ((size_t)n < sizeof(struct fuse_in_header))
		return -EIO;
	journal_taken(fs->journal, slot);
	if (fs->inited)
		process(fs, slot, (size_t)n);
	else
		process_first(fs, slot, (size_t)n);
	return 1;
}

static void fs_stop(struct fs *fs, int error)
{
	if (fs->stopped)
		return;
	fs->stopped = 1;
	(void)uv_poll_stop(&fs->poll); /* cannot fail */
	fs->on_gone(fs, error);
}

static int fuse_burst(struct fs *fs)
{
	int rc = 1, i = 0;
	for (; i < READ_BURST && rc > 0; i++)
		rc = fuse_read(fs);
	if (rc < 0)
		fs_stop(fs, rc == -ENODEV ? 0 : rc);
	return rc < 0 ? rc : i - (rc == 0);
}

static void on_fuse(uv_poll_t *h, int status, int events)
{
	struct fs *fs = h->data;
	if (status < 0 && status != UV_EBADF) {
		fs_stop(fs, status);
		return;
	}
	(void)fuse_burst(fs); /* it stops by itself */
}

/* ---- time ---- */

static void on_tick(uv_timer_t *t)
{
	struct fs *fs = t->data;
	uint64_t now = clock_ms();
	call_expire(fs, now);
	gather_expire(fs, now);
	where_expire(fs, now);
	if (fs->serving && !fs->stopped && journal_used(fs->journal) == JOURNAL_SLOTS)
		return; /* the device is not looked at while all slots are in use */
	if (!fs->calls && !fs->gathers && !fs->wheres)
		(void)uv_timer_stop(t); /* cannot fail */
}

void fs_tick(struct fs *fs)
{
	if (!uv_is_active((uv_handle_t *)&fs->tick))
		(void)uv_timer_start(&fs->tick, on_tick, TICK_MS, TICK_MS); /* cannot fail with a callback */
}

/* ---- who asks ---- */

/* A number of /proc/TID/status of this node, field with its line feed and colon ("\nTgid:"); 0: no such task. */
static uint32_t status_number(struct fs *fs, uint32_t tid, const char *field)
{
	char path[32], text[1024];
	if (!tid)
		return 0;
	(void)snprintf(path, sizeof(path), "%u/status", tid); /* fits */
	_cleanup_(close_p) int fd = openat(fs->proc_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	const char *p = strstr(text, field);
	return p ? (uint32_t)strtoul(p + strlen(field), NULL, 10) : 0;
}

uint32_t fs_tgid(struct fs *fs, uint32_t tid)
{
	return status_number(fs, tid, "\nTgid:");
}

enum { ANCESTORS_MAX = 256 };

uint32_t fs_features(struct fs *fs, uint32_t tid)
{
	if (!fs->table.features)
		return fs->table.features_default;
	uint32_t pid = fs_tgid(fs, tid);
	for (int depth = 0; pid > 1 && depth < ANCESTORS_MAX; depth++) { /* what the nearest ancestor with sets of its own passes on */
		struct table_features *e;
		HASH_FIND(hh, fs->table.features, &pid, sizeof(pid), e);
		if (e)
			return e->flags;
		pid = status_number(fs, pid, "\nPPid:");
	}
	return fs->table.features_default;
}

/* ---- begin and end ---- */

void fs_init(struct fs *fs, uv_loop_t *loop)
{
	*fs = (struct fs){ .loop = loop, .fuse_fd = -1, .proc_fd = -1 };
	table_init(&fs->table);
	(void)uv_timer_init(loop, &fs->tick); /* always 0 */
	fs->tick.data = fs;
	/* Numbers of paths and open files that a server before gave out shall mean nothing to this one. */
	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
	uint64_t epoch = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	fs->next_path = (epoch & 0xffffff) << 32;
	fs->next_fh = epoch << 22;
}

static int session_new(struct fs *fs, struct err *e)
{
	static char arg0[] = "pando-procfs";
	char *argv[] = { arg0, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	static const struct fuse_custom_io io = { .writev = io_writev, .read = io_read };
	fs->se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args); /* libfuse made its own copy in it */
	if (!fs->se)
		return err_set(e, -ENOMEM, "fuse session");
	int fd = fcntl(fs->fuse_fd, F_DUPFD_CLOEXEC, 0); /* the session closes its own */
	if (fd < 0)
		return err_set(e, -errno, "fuse: %m");
	int rc = fuse_session_custom_io(fs->se, &io, fd);
	if (rc < 0)
		(void)close(fd);
	return rc < 0 ? err_set(e, rc, "fuse session: %s", strerror(-rc)) : 0;
}

int fs_serve(struct fs *fs, int fuse_fd, int proc_fd, int journal_fd, struct err *e)
{
	_cleanup_(close_p) int jfd = journal_fd;
	fs->fuse_fd = fuse_fd;
	fs->proc_fd = proc_fd;
	struct stat st;
	int flags = fcntl(fuse_fd, F_GETFL);
	if (flags < 0 || fcntl(fuse_fd, F_SETFL, flags | O_NONBLOCK) < 0 || fstat(jfd, &st) < 0)
		return err_set(e, -errno, "descriptors of the mount: %m");
	fs->journal_ino = st.st_ino;
	int rc = journal_open(jfd, &fs->journal, e);
	if (rc == 0)
		rc = session_new(fs, e);
	if (rc < 0)
		return rc;
	rc = uv_poll_init(fs->loop, &fs->poll, fuse_fd);
	if (rc < 0)
		return err_set(e, rc, "fuse: %s", uv_strerror(rc));
	fs->poll.data = fs;
	fs->serving = 1;
	return 0;
}

void fs_go(struct fs *fs)
{
	size_t n;
	if (fs->going)
		return;
	fs->going = 1;
	(void)journal_init(fs->journal, &n);
	if (n) {
		fs->inited = 1;
		init_replay(fs);
	} else {
		/* Either a new mount, for which this does nothing, or one whose journal is lost. */
		struct fuse_out_header h = { .len = sizeof(h), .error = NOTIFY_RESEND };
		if (write(fs->fuse_fd, &h, sizeof(h)) < 0)
			log_debug("fuse: resend: %s", strerror(errno));
	}
	if (journal_used(fs->journal))
		log_notice("fuse: answering requests=%zu that an earlier server left", journal_used(fs->journal));
	journal_left(fs->journal, on_left, fs);
	int rc = uv_poll_start(&fs->poll, UV_READABLE, on_fuse);
	if (rc < 0)
		fs_stop(fs, rc);
	else
		(void)fuse_burst(fs); /* it stops by itself */
}

void fs_fini(struct fs *fs)
{
	fs->silent = 1;
	call_fail_all(fs, -ECANCELED);
	gather_fini(fs);
	dir_fini(fs);
	file_fini(fs);
	entry_fini(fs);
	where_expire(fs, UINT64_MAX);
	table_fini(&fs->table);
	table_fini(&fs->table_next);
	if (fs->serving)
		uv_close((uv_handle_t *)&fs->poll, NULL);
	uv_close((uv_handle_t *)&fs->tick, NULL);
	if (fs->se)
		fuse_session_destroy(fs->se);
	journal_close(fs->journal);
	fs->fuse_fd = close_fd(fs->fuse_fd);
}
