#include "sched/policy.h"

#include <errno.h>
#include <string.h>

/* How much less loaded, in tasks at home, another node must be: half a task, so that equal nodes take turns and noise
 * moves nothing. */
#define MARGIN_TASKS 0.5
/* Up to this part of its CPUs busy a node gives a program all that a faster or emptier one could (hyperthreads share
 * the rest). */
#define IDLE_PART 0.5
#define MUCH_FASTER 1.25

static const struct sched_node *self_of(const struct sched_view *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->nodes[i].id == v->self)
			return &v->nodes[i];
	return NULL;
}

static int little_memory(const struct sched_node *n)
{
	return n->mem_total && n->mem_free < n->mem_total / 20;
}

/* What one more task would meet there. */
static double cost(const struct sched_node *n)
{
	double c = (n->load + 1) / (n->cpus * n->speed);
	return little_memory(n) ? c + 1000 : c;
}

static int idle_enough(const struct sched_node *n)
{
	return n->load + 1 <= n->cpus * IDLE_PART && !little_memory(n);
}

static int balance(uint64_t state[2], const struct sched_view *v, const struct sched_request *r, uint16_t *ret_node)
{
	const struct sched_node *self = self_of(v), *best = NULL;
	size_t start = v->n ? (size_t)(state[0] % v->n) : 0;
	for (size_t k = 0; k < v->n; k++) { /* equal ones take turns */
		const struct sched_node *n = &v->nodes[(start + k) % v->n];
		if (n == self || n->state != SCHED_NODE_ACTIVE || !n->known)
			continue;
		if (!best || cost(n) < cost(best))
			best = n;
	}
	int may_stay = self && self->state == SCHED_NODE_ACTIVE;
	if (!best) {
		if (!self)
			return -EHOSTUNREACH;
		*ret_node = self->id;
		return 0;
	}
	if (may_stay && self->known) {
		double margin = MARGIN_TASKS / (self->cpus * self->speed);
		if ((idle_enough(self) && best->speed < self->speed * MUCH_FASTER) ||
		    cost(self) <= cost(best) + margin) {
			*ret_node = self->id;
			return 0;
		}
	} else if (may_stay) { /* not even our own load is known: no ground to move anything */
		*ret_node = self->id;
		return 0;
	}
	state[0]++;
	*ret_node = best->id;
	return 0;
}

static int local(uint64_t state[2], const struct sched_view *v, const struct sched_request *r, uint16_t *ret_node)
{
	*ret_node = v->self;
	return 0;
}

static size_t active_count(const struct sched_view *v, uint16_t but)
{
	size_t n = 0;
	for (size_t i = 0; i < v->n; i++)
		n += v->nodes[i].state == SCHED_NODE_ACTIVE && v->nodes[i].id != but;
	return n;
}

/* The k-th active node other than `but`. */
static int active_pick(const struct sched_view *v, uint16_t but, size_t k, uint16_t *ret_node)
{
	for (size_t i = 0; i < v->n; i++) {
		if (v->nodes[i].state != SCHED_NODE_ACTIVE || v->nodes[i].id == but)
			continue;
		if (k-- == 0) {
			*ret_node = v->nodes[i].id;
			return 0;
		}
	}
	return -EHOSTUNREACH;
}

static int elsewhere(uint64_t state[2], const struct sched_view *v, const struct sched_request *r, uint16_t *ret_node)
{
	size_t n = active_count(v, v->self);
	if (!n)
		return local(state, v, r, ret_node);
	return active_pick(v, v->self, (size_t)(state[0]++ % n), ret_node);
}

static int round_robin(uint64_t state[2], const struct sched_view *v, const struct sched_request *r, uint16_t *ret_node)
{
	size_t n = active_count(v, 0);
	if (!n)
		return local(state, v, r, ret_node);
	return active_pick(v, 0, (size_t)(state[0]++ % n), ret_node);
}

/* xorshift64*, started from the seed. */
static int at_random(uint64_t state[2], const struct sched_view *v, const struct sched_request *r, uint16_t *ret_node)
{
	size_t n = active_count(v, 0);
	if (!state[0])
		state[0] = (state[1] + 1) * 0x9e3779b97f4a7c15u | 1;
	state[0] ^= state[0] >> 12;
	state[0] ^= state[0] << 25;
	state[0] ^= state[0] >> 27;
	if (!n)
		return local(state, v, r, ret_node);
	return active_pick(v, 0, (size_t)((state[0] * 0x2545f4914f6cdd1du >> 33) % n), ret_node);
}

const struct sched_policy policy_list[] = {
	{ "balance", "the least loaded node by its CPUs and speed; here when the difference is small", 1, balance },
	{ "local", "always here", 1, local },
	{ "elsewhere", "for tests: never here, the other nodes in turn", 0, elsewhere },
	{ "random", "for tests: any node, by a seed", 0, at_random },
	{ "round-robin", "all nodes in turn, whatever their load", 0, round_robin },
};
const size_t policy_n = sizeof policy_list / sizeof policy_list[0];

const struct sched_policy *policy_find(const char *name)
{
	for (size_t i = 0; i < policy_n; i++)
		if (strcmp(policy_list[i].name, name) == 0)
			return &policy_list[i];
	return NULL;
}
