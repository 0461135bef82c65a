/* deps: member */
/* Messages of raft from another node: refused, or such that they are the same bytes when written again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "member/raftmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct raft_message m, again;
	struct wr w = { 0 };
	if (raftmsg_decode(p, n, 3, &m) < 0)
		return 0;
	if (raftmsg_encode(&m, &w) < 0 || w.n != n || raftmsg_decode(w.p, w.n, 3, &again) < 0)
		abort();
	raftmsg_free(&again);
	raftmsg_free(&m);
	wr_fini(&w);
	return 0;
}
