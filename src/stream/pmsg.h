/* The messages between the stream agents of two nodes. Any thread; no I/O in here.
 *
 * One session goes from an importer (who holds delegated files) to an exporter (who holds the real descriptions); a pair of nodes
 * has one for each direction in use. The importer connects (TLS, ALPN "pando-stream/1"). Frame:
 *   u32 length of what follows, u16 type, u64 seq, u64 ack, then the fields of the type in the order of enum pmsg_field.
 * seq numbers the frames of each direction of a session from 1; ack is the last seq received from the other side. PMSG_HELLO,
 * _WELCOME, _ACK and _PING have seq 0: they belong to the connection. All others are kept by the sender until acknowledged and
 * are sent again on the next connection of the session, so a lost connection neither loses nor repeats a request.
 *
 * The importer begins with HELLO (version in size, own node, instance in id, session in fh, last seq received in len), the exporter
 * answers WELCOME (instance, status, last seq received in len; flags PMSG_RESUMED when it knew the session, PMSG_RESTARTED when one of the
 * two agents has been started again since and knows the session's handles only; 0: the session is unknown, a new one begins).
 *
 * After PMSG_RESTARTED the importer sends KEEP, then all requests that it still wants an answer to, with the numbers they had, then
 * RESYNCED. The exporter does those that it has not done, and answers those that it had done with what was not acknowledged: a
 * request takes effect once, also when agents are killed (see ring.h; without io_uring an agent that is killed within a call may repeat it).
 * An importer acknowledges an answer only after its user has it.
 *
 * req: the number of the kernel's request, or bit 63 and a number of the importer's own. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "wire/rd.h"
#include "wire/wr.h"

enum {
	PMSG_VERSION = 1,
	PMSG_HEAD_SIZE = 4 + 2 + 8 + 8,
	PMSG_DATA_MAX = 1 << 20,              /* bytes of one read or write */
	PMSG_FRAME_MAX = PMSG_DATA_MAX + 8192, /* bytes of a frame without its length field */
	PMSG_NAME_MAX = 4096,
	PMSG_KEY_SIZE = 16,

	/* What an exporter keeps for one session; an importer that obeys them never sees -EDQUOT. */
	PMSG_REQS_MAX = 8192,           /* requests not answered */
	PMSG_BYTES_MAX = 64 << 20,      /* bytes of writes not answered */
	PMSG_DESC_BYTES_MAX = 16 << 20, /* the same, of one handle */
	PMSG_HANDLES_MAX = 65536,
};

enum pmsg_type {
	PMSG_HELLO = 1, /* size, node, id, fh, len */
	PMSG_WELCOME,   /* id, flags, status, len */
	PMSG_ACK,
	PMSG_PING,

	/* importer -> exporter; all with req are answered by PMSG_ANSWER */
	PMSG_ATTACH = 16, /* req, fh, id, key: a new handle fh uses up one reference; answer: id, kind, oflags, off, name, attr */
	PMSG_REOPEN,      /* req, fh (new), fh2 (existing), oflags, uid, gid: answer as ATTACH */
	PMSG_RELEASE,     /* fh */
	PMSG_CANCEL,      /* req: answer it now, with -EINTR or what was done */
	PMSG_READ,        /* req, fh, flags, size, off: answer: data */
	PMSG_WRITE,       /* req, fh, flags, off, data: answer: status is the number of bytes written */
	PMSG_GETATTR,     /* req, fh: answer: attr */
	PMSG_SETATTR,     /* req, fh, flags (PMSG_SET_*), attr: answer: attr */
	PMSG_FSYNC,       /* req, fh, flags (1: data only) */
	PMSG_FALLOCATE,   /* req, fh, flags (mode), off, len */
	PMSG_LSEEK,       /* req, fh, off, flags (whence): answer: off */
	PMSG_POLL,        /* req, fh, flags (PMSG_POLL_ARM), size (events): answer: flags (revents) */
	PMSG_IOCTL,       /* req, fh, size (command), off (value of the argument), len (bytes wanted), data: answer: off (result), data */
	PMSG_FLOCK,       /* req, fh, flags (as flock(2)) */
	PMSG_SETFL,       /* req, fh, oflags */
	PMSG_GETFL,       /* req, fh: answer: oflags */
	PMSG_PIPESZ,      /* req, fh, flags (1: set), off (size): answer: off */
	PMSG_GRANT,       /* req, fh, node: a reference to the description of fh for node; answer: id, key, kind, oflags, name */
	PMSG_UNGRANT,     /* req, fh, id, node: gives an unused one back */
	PMSG_SYNC,        /* req: answered when all before it has taken effect, closes included */
	PMSG_KEEP,        /* data (u64 each): the handles that the importer still has; all others of the session are released */
	PMSG_RESYNCED,    /* all requests that are still wanted have been sent again */

	/* exporter -> importer */
	PMSG_ANSWER = 64, /* req, status, then all answer fields */
	PMSG_NOTIFY,      /* fh, size (revents) */
	PMSG_LAST,
};

enum {
	PMSG_RESUMED = 1,   /* WELCOME: numbers go on where they were */
	PMSG_RESTARTED = 2, /* WELCOME: handles are kept, numbers start anew */

	PMSG_SEEK = 1,       /* READ, WRITE: first set the shared offset to off */
	PMSG_POSITIONAL = 2, /* READ, WRITE: at off, the shared offset stays */

	PMSG_SIGPIPE = 1,    /* ANSWER to WRITE: the pipe is broken, the writer gets the signal (also after a partial count) */

	PMSG_POLL_ARM = 1, /* POLL: NOTIFY at the next edge of one of these events */

	PMSG_SET_SIZE = 1, PMSG_SET_MODE = 2, PMSG_SET_OWNER = 4, PMSG_SET_ATIME = 8, PMSG_SET_MTIME = 16, /* SETATTR */
	PMSG_SET_ATIME_NOW = 32, PMSG_SET_MTIME_NOW = 64,
};

struct pmsg_time {
	int64_t sec;
	uint32_t nsec;
};

struct pmsg_attr {
	uint64_t ino, size, blocks;
	struct pmsg_time atime, mtime, ctime;
	uint32_t mode, nlink, uid, gid, blksize; /* uid and gid -1 in SETATTR: unchanged */
};

struct pmsg {
	uint16_t type;
	uint16_t node;
	int32_t status;
	uint64_t req, fh, fh2, id, len;
	int64_t off;
	uint32_t flags, oflags, kind, size, uid, gid;
	uint8_t key[PMSG_KEY_SIZE];
	struct pmsg_attr attr;
	const char *name;    /* borrowed; of a decoded message not terminated: n_name bytes without a NUL */
	size_t n_name;
	const uint8_t *data; /* borrowed */
	size_t n_data;
};

/* Appends the fields of m without the n_data bytes at its end (the caller puts them behind). -EINVAL for an unknown type or too
 * long a name or data, -ENOMEM. */
int pmsg_encode(struct wr *w, const struct pmsg *m);

/* Decodes the fields of a frame of the type; name and data are borrowed from it. -EBADMSG. */
int pmsg_decode(struct rd *r, uint16_t type, struct pmsg *ret);

/* Whether frames of the type are numbered and kept (0 for those of the connection and for unknown types). */
int pmsg_is_sequenced(uint16_t type);
