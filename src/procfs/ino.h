/* Numbers of the files of /proc. The kernel keeps them while this server may be started again, so a number says by itself what it
 * is wherever that is possible; the few that cannot (paths deeper in processes of other nodes) are answered with ESTALE by a server that does not know
 * them, and the kernel then looks the names up again. Pure. */
#pragma once

#include <stdint.h>

enum ino_kind {
	INO_ROOT = 0,
	INO_CONST,  /* link in the root to .n/NAME; id: hash of the name */
	INO_GLOBAL, /* a file of the root that is merged of all nodes; id: enum remote_stats_file */
	INO_PID,    /* directory of a local process */
	INO_LINK,   /* link in it to ../.n/PID/NAME; id: hash of the name */
	INO_TEXT,   /* its exe, cwd or root; id: which of them, with a running number: the text is not to be cached */
	INO_NODES,  /* .nodes */
	INO_NODE,   /* .nodes/NAME */
	INO_NPID,   /* .nodes/NAME/PID, a link to ../../PID */
	INO_RPID,   /* directory of a process of another node */
	INO_RFILE,  /* a file or directory in it that every process has; id: hash of the name */
	INO_NDIR,   /* .n, seen only where the native procfs is not mounted on it */
	INO_SYS,    /* sys, likewise */
	INO_PATH,   /* any other path of a node's procfs; id: running number */
	INO_KINDS,
};

struct ino {
	enum ino_kind kind;
	uint16_t node; /* INO_NODE, INO_NPID, INO_RPID, INO_RFILE */
	uint32_t pid;  /* INO_PID, INO_LINK, INO_TEXT, INO_NPID, INO_RPID, INO_RFILE */
	uint64_t id;   /* INO_CONST, INO_PATH: 56 bits; INO_LINK, INO_TEXT: 32; INO_RFILE: 26; INO_GLOBAL */
};

uint64_t ino_pack(const struct ino *i);
/* 0, or -ESTALE for a number that is none. */
int ino_unpack(uint64_t v, struct ino *ret);

/* Hash of a name, 26 bits, never 0. */
uint32_t ino_hash(const char *name);
