/* Channels over plain TCP, for tests on one machine: nothing is encrypted and the peer's node is what it claims. Loop thread. */
#pragma once

#include "stream/chan.h"

/* On 0 *ret is owned by the caller until (*ret)->close. Addresses are numeric (127.0.0.1:0, [::1]:0). -ENOMEM. */
int chan_plain_net(uv_loop_t *loop, struct chan_net **ret);
