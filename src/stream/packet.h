/* Packets of stream/proto.h on a SOCK_SEQPACKET socket, each with at most one descriptor. One thread at a time. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/wr.h"

struct packet {
	struct wr w; /* owned */
	int fd;      /* owned, or -1 */
	struct packet *next;
};

/* Those that wait for room. {0} is an empty one. */
struct packet_queue {
	struct packet *head, *tail;
	size_t n;
};

void packet_queue_fini(struct packet_queue *q);

/* Queues *w (emptied in any case) with fd (taken in any case, or -1). -ENOMEM. */
int packet_add(struct packet_queue *q, struct wr *w, int fd);

/* Sends what the socket takes: 0: all; 1: some wait for room; -errno: the connection is of no use. */
int packet_flush(struct packet_queue *q, int sock);

/* One packet; *ret_fd is the caller's (close-on-exec) or -1. Its length, 0 at the end, -EAGAIN, -EMSGSIZE (too
 * long), -EBADMSG (more than one descriptor), -errno. */
ssize_t packet_recv(int sock, uint8_t *p, size_t n, int *ret_fd);
