#include "member/join.h"

#include <errno.h>
#include <string.h>

#include "wire/rd.h"

enum { JOIN_VERSION = 1 };

void join_request_encode(const struct join_request *q, struct wr *w)
{
	wr_u8(w, JOIN_VERSION);
	wr_raw(w, q->secret, sizeof q->secret);
	wr_u64(w, q->nonce);
	wr_str(w, q->name);
	wr_str(w, q->addr);
	wr_str(w, q->stream_addr);
	wr_u32(w, q->cpus);
	wr_u64(w, q->memory);
	wr_bytes(w, q->csr, q->csr_n);
}

int join_request_decode(const void *p, size_t n, struct join_request *ret)
{
	struct rd r;
	struct join_request q = { 0 };
	rd_init(&r, p, n);
	if (rd_u8(&r) != JOIN_VERSION)
		rd_fail(&r);
	const uint8_t *secret = rd_raw(&r, sizeof q.secret);
	q.nonce = rd_u64(&r);
	rd_str(&r, q.name, sizeof q.name);
	rd_str(&r, q.addr, sizeof q.addr);
	rd_str(&r, q.stream_addr, sizeof q.stream_addr);
	q.cpus = rd_u32(&r);
	q.memory = rd_u64(&r);
	q.csr = rd_bytes(&r, PKI_CSR_MAX, &q.csr_n);

	int rc = rd_done(&r);
	if (rc < 0 || !secret)
		return -EBADMSG;
	memcpy(q.secret, secret, sizeof q.secret);
	*ret = q;
	return 0;
}

void join_answer_encode(const struct join_answer *a, struct wr *w)
{
	wr_u8(w, JOIN_VERSION);
	wr_i32(w, a->status);
	if (a->status != 0) {
		wr_str(w, a->words);
		return;
	}
	wr_u16(w, a->node);
	wr_bytes(w, a->cert, a->cert_n);
	wr_bytes(w, a->ca, a->ca_n);
	wr_bytes(w, a->cluster, a->cluster_n);
}

int join_answer_decode(const void *p, size_t n, struct join_answer *ret)
{
	struct rd r;
	struct join_answer a = { 0 };
	rd_init(&r, p, n);
	if (rd_u8(&r) != JOIN_VERSION)
		rd_fail(&r);
	a.status = rd_i32(&r);
	if (a.status > 0)
		rd_fail(&r);
	if (a.status != 0) {
		rd_str(&r, a.words, sizeof a.words);
	} else {
		a.node = rd_u16(&r);
		if (a.node < 1 || a.node > NODE_MAX)
			rd_fail(&r);
		a.cert = rd_bytes(&r, PKI_CERT_MAX, &a.cert_n);
		a.ca = rd_bytes(&r, PKI_CA_MAX, &a.ca_n);
		a.cluster = rd_bytes(&r, CLUSTER_SNAPSHOT_MAX, &a.cluster_n);
	}
	int rc = rd_done(&r);
	if (rc < 0)
		return rc;
	*ret = a;
	return 0;
}
