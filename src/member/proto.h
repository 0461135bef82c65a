/* Messages of membership between nodes (wire/msg.h has the range).
 *
 *   beat, answer    member/beat.h
 *   raft            member/raftmsg.h
 *   propose (call)  a command (member/cluster.h); only the leader takes it. Answer: status 0 and i32 outcome, u32 value of
 *                   struct cluster_effect; or -EAGAIN: it does not lead */
#pragma once

#include "wire/msg.h"

enum {
	MSG_MEMBER_BEAT = MSG_MEMBER_FIRST,
	MSG_MEMBER_ANSWER,
	MSG_MEMBER_RAFT,
	MSG_MEMBER_PROPOSE,
};
