/* Channels over TLS 1.3 with certificates of the cluster both ways. Loop thread. */
#pragma once

#include "stream/chan.h"

struct pki;

/* Who may connect to us. */
struct chan_tls_gate {
	void *ctx;
	int (*is_member)(void *ctx, uint16_t node);
};

/* On 0 *ret is owned by the caller until (*ret)->close. pki is borrowed and outlives all channels. */
int chan_tls_net(uv_loop_t *loop, const struct pki *pki, const struct chan_tls_gate *gate, struct chan_net **ret, struct err *e);
