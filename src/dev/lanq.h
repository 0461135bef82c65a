/* The wire of LAN=user: when does a frame arrive? Pure: no I/O, no clock, no randomness; the caller brings time and
 * dice.
 *
 * A frame passes three stages: the sender's link (its rate, a queue of 200 ms at most), the way from the one to the
 * other (cut, loss, delay, jitter; frames of one pair stay in order), and the receiver's link (its rate, a queue
 * again). The caller keeps the frame between the stages.
 *
 * Recipe: lanq_new; for each frame lanq_send; for each receiver lanq_way; when that time has come lanq_arrive;
 * lanq_free. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct lanq;

enum { LANQ_DROP = 1 };

/* For nodes 1..n. NULL when there is no memory. */
struct lanq *lanq_new(unsigned n);
void lanq_free(struct lanq *q);

/* -EINVAL for a node that is not there. */
int lanq_set_pair(struct lanq *q, unsigned from, unsigned to, uint64_t delay_us, uint64_t jitter_us, uint32_t loss_ppm,
		  int cut);
/* Bits per second, each way; 0: no limit. */
int lanq_set_rate(struct lanq *q, unsigned node, uint64_t bits_per_s);

/* Node from hands over a frame of size bytes at now_ns. 0 and when it leaves the sender's link, or LANQ_DROP (queue
 * full). */
int lanq_send(struct lanq *q, uint64_t now_ns, unsigned from, size_t size, uint64_t *ret_ns);

/* It left at left_ns; dice are two random numbers. 0 and when it arrives at the receiver's link, or LANQ_DROP (cut,
 * lost). */
int lanq_way(struct lanq *q, uint64_t left_ns, unsigned from, unsigned to, const uint32_t dice[2], uint64_t *ret_ns);

/* It arrived at the receiver's link at now_ns. 0 and when the receiver has it, or LANQ_DROP (queue full). */
int lanq_arrive(struct lanq *q, uint64_t now_ns, unsigned to, size_t size, uint64_t *ret_ns);
