/* Messages of libraft as bytes of our own.
 *
 * libraft can encode its messages itself, but not so that its versions understand each other (0.15 refuses what 0.22 sends), and its
 * decoder trusts the sender. So nodes of Debian 12 and 13 can be in one cluster, and all bytes from others go through wire/rd.h.
 *
 *   u8 version (1), u8 type, u64 term, then by type:
 *   1 append entries         u64 previous index, u64 previous term, u64 commit index, u32 n { u64 term, u8 type, bytes data }
 *   2 append entries result  u64 rejected, u64 last index
 *   3 request vote           u64 candidate, u64 last index, u64 last term, u8 flags (1: disrupt leader, 2: pre-vote)
 *   4 request vote result    u8 flags (1: granted, 2: pre-vote)
 *   5 install snapshot       u64 last index, u64 last term, u64 index of the group, u32 n { u64 id, str address, u8 role }, bytes data
 *   6 timeout now            u64 last index, u64 last term
 *
 * Loop thread only (libraft's allocator). */
#pragma once

#include <raft.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wr.h"

/* Appends the message. -EINVAL for a type that is not known. */
int raftmsg_encode(const struct raft_message *msg, struct wr *w);

/* Decodes a message of node from. On 0 the memory in *ret is libraft's once it is given to it, else to be freed by raftmsg_free.
 * -EBADMSG: not well formed, or about another node than its sender; -ENOMEM. */
int raftmsg_decode(const void *p, size_t n, uint16_t from, struct raft_message *ret);

/* Frees what raftmsg_decode has allocated. */
void raftmsg_free(struct raft_message *msg);
