/* Messages of membership between nodes (wire/msg.h has the range).
 *
 *   beat, answer    member/beat.h
 *   stream open     u64 stream: the sender opens a byte stream of its raft to the receiver's
 *   stream data     u64 stream, raw bytes to the end
 *   stream close    u8 who (1: whoever opened it; 0: the other one), u64 stream
 *   propose (call)  a command (member/cluster.h); only the leader takes it. Answer: status 0 and i32 outcome, u32 value of
 *                   struct cluster_effect; or -EAGAIN: it does not lead */
#pragma once

#include "wire/msg.h"

enum {
	MSG_MEMBER_BEAT = MSG_MEMBER_FIRST,
	MSG_MEMBER_ANSWER,
	MSG_MEMBER_STREAM_OPEN,
	MSG_MEMBER_STREAM_DATA,
	MSG_MEMBER_STREAM_CLOSE,
	MSG_MEMBER_PROPOSE,
};
