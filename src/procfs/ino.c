#include "procfs/ino.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "procfs/remote.h"
#include "procfs/table.h"

/* Bits 62..57 kind + 1 (so that none is below 2, the root's number is 1); then by kind: 24 bits pid and 32 bits id, 8 bits node and
 * 24 bits pid, or 56 bits id; INO_RFILE: 8 bits node, 23 bits pid, 26 bits id. */
enum { KIND_SHIFT = 57, HASH_BITS = 26, PID_BITS = 23 };

#define ID_MASK ((1ull << 56) - 1)

uint32_t ino_hash(const char *name)
{
	uint32_t h = XXH32(name, strlen(name), 0) & ((1u << HASH_BITS) - 1);
	return h ? h : 1;
}

uint64_t ino_pack(const struct ino *i)
{
	uint64_t v = (uint64_t)(i->kind + 1) << KIND_SHIFT;
	switch (i->kind) {
	case INO_ROOT:
		return 1;
	case INO_PID:
	case INO_LINK:
	case INO_TEXT:
		return v | (uint64_t)i->pid << 32 | (i->id & UINT32_MAX);
	case INO_NODE:
	case INO_NPID:
	case INO_RPID:
		return v | (uint64_t)i->node << 32 | i->pid;
	case INO_RFILE:
		return v | (uint64_t)i->node << (PID_BITS + HASH_BITS) | (uint64_t)i->pid << HASH_BITS | i->id;
	case INO_CONST:
	case INO_GLOBAL:
	case INO_PATH:
		return v | (i->id & ID_MASK);
	case INO_NODES:
	case INO_NDIR:
	case INO_SYS:
	case INO_KINDS:
		break;
	}
	return v;
}

int ino_unpack(uint64_t v, struct ino *ret)
{
	*ret = (struct ino){ .kind = INO_ROOT };
	if (v == 1)
		return 0;
	uint64_t kind = v >> KIND_SHIFT;
	if (kind <= INO_ROOT + 1 || kind > INO_KINDS)
		return -ESTALE;
	ret->kind = (enum ino_kind)(kind - 1);
	switch (ret->kind) {
	case INO_PID:
	case INO_LINK:
	case INO_TEXT:
		ret->pid = (uint32_t)(v >> 32) & ((1u << 24) - 1);
		ret->id = v & UINT32_MAX;
		return ret->pid && ret->pid <= REMOTE_PID_MAX ? 0 : -ESTALE;
	case INO_NODE:
	case INO_NPID:
	case INO_RPID:
		ret->node = (uint16_t)(v >> 32);
		ret->pid = (uint32_t)v;
		return ret->node && ret->node < TABLE_NODES && ret->pid <= REMOTE_PID_MAX ? 0 : -ESTALE;
	case INO_RFILE:
		ret->node = (uint16_t)(v >> (PID_BITS + HASH_BITS) & 0xff);
		ret->pid = (uint32_t)(v >> HASH_BITS) & ((1u << PID_BITS) - 1);
		ret->id = v & ((1u << HASH_BITS) - 1);
		return ret->node && ret->node < TABLE_NODES && ret->pid && ret->pid <= REMOTE_PID_MAX ? 0 : -ESTALE;
	case INO_CONST:
	case INO_GLOBAL:
	case INO_PATH:
		ret->id = v & ID_MASK;
		return 0;
	case INO_ROOT:
	case INO_NODES:
	case INO_NDIR:
	case INO_SYS:
	case INO_KINDS:
		break;
	}
	return 0;
}
