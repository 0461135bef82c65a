/* The protocol between pandod and the stream agent of the same node: a SOCK_SEQPACKET unix socket (RUN/streams.sock, mode 0600,
 * root only), one message per packet, little endian (wire/rd.h). Any thread; no I/O in here.
 *
 * A request is: u16 type, u64 tag (the client's, given back), then the fields of its type in the order of enum sproto_field. An
 * answer is: u16 SPROTO_ANSWER, u64 tag, i32 status (0 or -errno), then the fields of the answered request's type, which are all
 * zero or empty on failure except the text. At most one descriptor travels with a packet (SCM_RIGHTS).
 *
 * | request   | fields                                | descriptor | answer                                        |
 * |-----------|---------------------------------------|------------|-----------------------------------------------|
 * | HELLO     | version, node, addr                   |            | instance, node, addr (where the agent listens) |
 * | PEER      | node, addr                            |            |                                               |
 * | PEER_DEAD | node                                  |            |                                               |
 * | PEERS_END |                                       |            |                                               |
 * | EXPORT    | node (allowed), flags, name           | the file   | home, id, key, kind, oflags, name             |
 * | UNEXPORT  | node, id, home                        |            |                                               |
 * | IMPORT    | home, id, key, flags                  |            | the new descriptor; id (import), kind         |
 * | BARRIER   | pid (for words only), ids (of imports) |           |                                               |
 * | STAT      |                                       |            | a memory file with JSON text                  |
 * | DESC      | op, off, whence or size, pid, addr    | the file   | value                                         |
 *
 * The agent listens; its listening socket is kept by the keeper, so a connection made while the agent is started again waits.
 *
 * HELLO: node is pandod's own node and addr where the agent shall listen for others ("" = does not matter). -ENOENT: this machine
 * has no membership yet; -EEXIST: it is another node. instance is new each time the agent starts; what was exported and imported
 * before goes on when the keeper held it.
 *
 * PEER for each member, then PEERS_END: nodes that were not told on this connection are dead.
 *
 * EXPORT of a file that is itself a delegated one (or a reference to it) answers with the original home: the importer then
 * talks to that node directly. name is the link text that users of the import see ("": as /proc shows it to the agent). EXPORT of an open description that is held already adds a reference for the node. IMPORT
 * uses up one reference; UNEXPORT gives one back that was not used; an unused one expires after SPROTO_UNUSED_MS. IMPORT on
 * the home node itself gives the real open description back.
 *
 * BARRIER is answered when everything that local users of imported files have written and closed by now has taken effect at the
 * homes. ids limits it to the homes of these imports; without ids it waits for all homes. A dead home counts as done.
 *
 * DESC does to the real description what the kernel does not pass on through a delegated file: see enum sproto_desc_op. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "wire/rd.h"
#include "wire/wr.h"

enum {
	SPROTO_VERSION = 1,
	SPROTO_MSG_MAX = 16 << 10,  /* bytes of one packet */
	SPROTO_NAME_MAX = 4096,     /* bytes of a link text, with the NUL */
	SPROTO_ADDR_MAX = 128,      /* bytes of host:port, with the NUL */
	SPROTO_TEXT_MAX = 240,      /* bytes of the words of an error, with the NUL */
	SPROTO_IDS_MAX = 256,       /* ids in one BARRIER */
	SPROTO_KEY_SIZE = 16,
	SPROTO_UNUSED_MS = 60000,   /* a reference that nobody imports is given up after this */
};

enum sproto_type {
	SPROTO_HELLO = 1,
	SPROTO_PEER,
	SPROTO_PEER_DEAD,
	SPROTO_EXPORT,
	SPROTO_UNEXPORT,
	SPROTO_IMPORT,
	SPROTO_BARRIER,
	SPROTO_STAT,
	SPROTO_DESC,
	SPROTO_PEERS_END,
	SPROTO_LAST,
	SPROTO_ANSWER = 0x8000,
};

/* What a stream is; decides what its importers see at the death of the home node and how poll and writes behave. */
enum stream_kind {
	STREAM_REG = 1, /* regular file or block device */
	STREAM_PIPE,    /* pipe or FIFO, either end */
	STREAM_EVENTFD, /* and other anonymous counters that can be read and polled */
	STREAM_CHR,     /* character device without a terminal's ways */
	STREAM_TTY,
};

/* Flags of EXPORT and IMPORT. */
enum {
	SPROTO_TRAPPED = 1, /* IMPORT: lseek, pread, pwrite, F_GETFL, F_SETFL of the users are trapped and come as DESC */
	SPROTO_BRIDGE = 2,  /* EXPORT: the only other users of this pipe end's opposite are at home: use a real pipe there */
};

enum sproto_desc_op {
	SPROTO_DESC_LSEEK = 1,  /* off, whence: value is the new offset */
	SPROTO_DESC_GETFL,      /* value is fcntl(F_GETFL) of the real description */
	SPROTO_DESC_SETFL,      /* off: the new flags */
	SPROTO_DESC_FIONREAD,   /* value is the number of bytes */
	SPROTO_DESC_GETPIPE_SZ,
	SPROTO_DESC_SETPIPE_SZ, /* off: the new size */
	SPROTO_DESC_PREAD,      /* off, size, pid, addr: into the memory of pid; value is the number of bytes */
	SPROTO_DESC_PWRITE,     /* off, size, pid, addr */
};

struct sproto_msg {
	uint16_t type; /* enum sproto_type; of an answer: of the request that is answered */
	uint64_t tag;
	int32_t status;                 /* answers only */
	uint16_t node;                  /* allowed node, peer, own node */
	uint16_t home;                  /* where the real description is */
	uint32_t version;
	uint32_t flags;                 /* SPROTO_TRAPPED ... */
	uint32_t kind;                  /* enum stream_kind */
	uint32_t oflags;                /* open flags as of F_GETFL */
	uint32_t op;                    /* enum sproto_desc_op */
	uint32_t whence;
	uint32_t size;
	uint32_t pid;
	uint64_t id;
	uint64_t instance;
	uint64_t mem;                   /* an address in the memory of pid */
	int64_t off;
	int64_t value;
	uint8_t key[SPROTO_KEY_SIZE];
	char addr[SPROTO_ADDR_MAX];
	char name[SPROTO_NAME_MAX];
	char text[SPROTO_TEXT_MAX];     /* words of a failure */
	uint32_t n_ids;
	uint64_t ids[SPROTO_IDS_MAX];
};

/* Appends the request m (type, tag and the fields of its type). -EINVAL for an unknown type, -ENOMEM. */
int sproto_request_encode(struct wr *w, const struct sproto_msg *m);

/* Appends the answer m to a request of m->type. -EINVAL for an unknown type, -ENOMEM. */
int sproto_answer_encode(struct wr *w, const struct sproto_msg *m);

/* Decodes a whole request; fields that its type does not have are zero. -EBADMSG; *ret is then undefined. */
int sproto_request_decode(struct rd *r, struct sproto_msg *ret);

/* Decodes the head of an answer, then, with the type of the request that had this tag, its fields. -EBADMSG. */
int sproto_answer_head(struct rd *r, uint64_t *ret_tag, int32_t *ret_status);
int sproto_answer_decode(struct rd *r, uint16_t type, struct sproto_msg *ret);
