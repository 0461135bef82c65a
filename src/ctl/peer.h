/* Who is at the other end of a connection to the control socket. Any thread. */
#pragma once

#include "ctl/server.h"

/* Asks the kernel. On 0 the caller owns the content of *p; -errno: it is to be freed by ctl_peer_fini all the same. */
int ctl_peer_read(int fd, struct ctl_peer *p);

/* On 0 the caller owns the content of *to. -ENOMEM, -EMFILE: nothing is in it. */
int ctl_peer_copy(const struct ctl_peer *from, struct ctl_peer *to);

/* Frees the content; of one that was freed too. */
void ctl_peer_fini(struct ctl_peer *p);
