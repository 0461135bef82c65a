/* Joining a cluster: what the new machine asks and what a member answers, over a connection with ALPN "pando-join/1" (one request,
 * one answer; transport/frame.h); and the new machine's side of it. The member's side is in member_join.c, started by member_start.
 *
 *   request = u8 version (1), raw 16 secret of the token, u64 nonce, str name, str addr, str stream_addr, u32 cpus, u64 memory,
 *             bytes certificate request (DER)
 *   answer  = u8 version (1), i32 status; when 0: u16 node, bytes certificate, bytes CA with key (pki_ca_export), bytes snapshot of the
 *             cluster (cluster_encode); else: str words
 *
 * addr may begin with ':' (only the port): the member then puts before it the address from which the connection came. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "member/cluster.h"
#include "member/member.h"
#include "member/token.h"
#include "transport/pki.h"
#include "wire/wr.h"

struct join_request {
	uint8_t secret[TOKEN_SECRET_SIZE];
	uint64_t nonce; /* the same for each try */
	char name[CLUSTER_NAME_SIZE];
	char addr[CLUSTER_ADDR_SIZE];
	char stream_addr[CLUSTER_ADDR_SIZE];
	uint32_t cpus;
	uint64_t memory;
	const uint8_t *csr; /* borrowed from the message */
	size_t csr_n;
};

struct join_answer {
	int32_t status;
	char words[256];
	uint16_t node;
	const uint8_t *cert, *ca, *cluster; /* borrowed from the message */
	size_t cert_n, ca_n, cluster_n;
};

void join_request_encode(const struct join_request *q, struct wr *w);
/* 0 or -EBADMSG; *ret is then untouched. */
int join_request_decode(const void *p, size_t n, struct join_request *ret);

void join_answer_encode(const struct join_answer *a, struct wr *w);
/* 0 or -EBADMSG; *ret is then untouched. */
int join_answer_decode(const void *p, size_t n, struct join_answer *ret);

/* Joins the cluster that the token is about and fills the state directory (made if missing), so that pandod can start there. Blocks:
 * tries each address of the token for some seconds. *ret_node is the number that this machine got. Any thread (a program's main).
 * -EEXIST: the directory holds a membership already; -EINVAL: not a token; -ECONNREFUSED: no member could be reached; -EKEYREJECTED:
 * another cluster answered; or what the member said (with words). After a failure the directory holds no membership; the same token can
 * be used again unless the member said that it is used. */
int join_cluster(const char *token, const char *state_dir, const struct member_identity *self, uint16_t *ret_node, struct err *e);
