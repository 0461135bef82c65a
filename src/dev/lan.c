/* pando-dev-lan: the network of a trial cluster whose links have delay, jitter and loss (pando dev up --lan user).
 *
 * One tap interface per node, opened in the node's network namespace by pando dev and handed over here. A frame is read
 * from the sender's tap, waits as lanq.h says, and is written to the receivers' taps: to the node that its address
 * names (the last byte of the address is the node's number), to all others when it is a broadcast or a stranger's
 * address. Frames carry a virtio header, so that the kernel's large segments pass as they are.
 *
 * Orders come on a unix socket, one a packet, each answered by "ok" or "no: why":
 *   port I (with a descriptor) | off I | pair FROM TO DELAY_US JITTER_US LOSS_PPM CUT | rate I BITS_PER_S
 *
 * Failure modes: a tap whose node has died gives errors: the port is closed. When too much waits for one node, frames
 * are dropped, as any switch does. If pando dev dies before it has written "stay" on the leash, this program ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dev/trial.h"
#include "dev/lanq.h"

enum {
	VNET_SIZE = 10, /* struct virtio_net_hdr */
	FRAME_MAX = VNET_SIZE + 14 + 65536,
	HELD_MAX = 32 << 20, /* bytes that wait for one node */
	CLIENTS_MAX = 8,
	BURST = 64, /* frames read from one tap before the others get their turn */
};

/* A frame under way. */
struct frame {
	uint64_t due_ns, seq;
	unsigned to;
	int arrived; /* it is through its way, and passes the receiver's link */
	size_t size;
	uint8_t bytes[];
};

struct lan {
	unsigned n;
	struct lanq *q;             /* owned */
	int tap[DEV_NODES_MAX + 1]; /* owned; -1: none */
	size_t held[DEV_NODES_MAX + 1];
	struct frame **heap; /* owned; the frame due first is heap[0] */
	size_t heap_n, heap_cap;
	uint64_t seq, dice;
	int listen_fd, leash_fd;
	int client[CLIENTS_MAX];
};

static int before(const struct frame *a, const struct frame *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

static int heap_push(struct lan *l, struct frame *f)
{
	if (l->heap_n == l->heap_cap) {
		size_t cap = l->heap_cap ? l->heap_cap * 2 : 256;
		struct frame **heap = realloc(l->heap, cap * sizeof(struct frame *));
		if (!heap)
			return -ENOMEM;
		l->heap = heap;
		l->heap_cap = cap;
	}
	size_t i = l->heap_n++;
	for (; i > 0 && before(f, l->heap[(i - 1) / 2]); i = (i - 1) / 2)
		l->heap[i] = l->heap[(i - 1) / 2];
	l->heap[i] = f;
	return 0;
}

static struct frame *heap_pop(struct lan *l)
{
	struct frame *top = l->heap[0], *f = l->heap[--l->heap_n];
	size_t i = 0;
	for (;;) {
		size_t k = 2 * i + 1;
		if (k >= l->heap_n)
			break;
		if (k + 1 < l->heap_n && before(l->heap[k + 1], l->heap[k]))
			k++;
		if (!before(l->heap[k], f))
			break;
		l->heap[i] = l->heap[k];
		i = k;
	}
	l->heap[i] = f;
	return top;
}

static uint32_t roll(struct lan *l)
{
	l->dice ^= l->dice << 13; /* xorshift: good enough for loss and jitter */
	l->dice ^= l->dice >> 7;
	l->dice ^= l->dice << 17;
	return (uint32_t)(l->dice >> 32);
}

static void tap_write(struct lan *l, unsigned to, const uint8_t *bytes, size_t size)
{
	if (l->tap[to] < 0)
		return;
	/* A link that is down or full loses frames; one whose node is gone is noticed by poll. */
	ssize_t w = write(l->tap[to], bytes, size);
	(void)w;
}

/* Keeps a copy until due_ns, or drops the frame. */
static void hold(struct lan *l, uint64_t due_ns, unsigned to, int arrived, const uint8_t *bytes, size_t size)
{
	if (l->held[to] + size > HELD_MAX)
		return;
	struct frame *f = malloc(sizeof *f + size);
	if (!f)
		return;
	*f = (struct frame){ .due_ns = due_ns, .seq = l->seq++, .to = to, .arrived = arrived, .size = size };
	memcpy(f->bytes, bytes, size);
	if (heap_push(l, f) < 0) {
		free(f);
		return;
	}
	l->held[to] += size;
}

/* The frame is at the receiver's link. */
static void arrive(struct lan *l, uint64_t now, unsigned to, const uint8_t *bytes, size_t size)
{
	uint64_t due;
	if (lanq_arrive(l->q, now, to, size - VNET_SIZE, &due) != 0)
		return;
	if (due <= now)
		tap_write(l, to, bytes, size);
	else
		hold(l, due, to, 1, bytes, size);
}

static void send_to(struct lan *l, uint64_t now, uint64_t left, unsigned from, unsigned to, const uint8_t *bytes,
		    size_t size)
{
	uint32_t dice[2] = { roll(l), roll(l) };
	uint64_t due;
	if (l->tap[to] < 0 || lanq_way(l->q, left, from, to, dice, &due) != 0)
		return;
	if (due <= now)
		arrive(l, now, to, bytes, size);
	else
		hold(l, due, to, 0, bytes, size);
}

static void frame_in(struct lan *l, uint64_t now, unsigned from, const uint8_t *bytes, size_t size)
{
	uint64_t left;
	if (size < VNET_SIZE + 14 || lanq_send(l->q, now, from, size - VNET_SIZE, &left) != 0)
		return;
	const uint8_t *mac = bytes + VNET_SIZE;
	unsigned to = mac[0] == 0x02 && mac[1] == 'P' ? mac[5] : 0;
	if (to >= 1 && to <= l->n) {
		if (to != from)
			send_to(l, now, left, from, to, bytes, size);
		return;
	}
	for (to = 1; to <= l->n; to++)
		if (to != from)
			send_to(l, now, left, from, to, bytes, size);
}

static void port_close(struct lan *l, unsigned i)
{
	l->tap[i] = close_fd(l->tap[i]);
}

static void tap_read(struct lan *l, unsigned i)
{
	static uint8_t bytes[FRAME_MAX];
	uint64_t now = clock_ns();
	for (int k = 0; k < BURST; k++) {
		ssize_t n = read(l->tap[i], bytes, sizeof bytes);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			port_close(l, i); /* EBADFD: the interface went with its namespace */
			return;
		}
		frame_in(l, now, i, bytes, (size_t)n);
	}
}

static void deliver_due(struct lan *l)
{
	uint64_t now = clock_ns();
	while (l->heap_n > 0 && l->heap[0]->due_ns <= now) {
		struct frame *f = heap_pop(l);
		l->held[f->to] -= f->size;
		if (f->arrived)
			tap_write(l, f->to, f->bytes, f->size);
		else
			arrive(l, f->due_ns, f->to, f->bytes, f->size);
		free(f);
	}
}

/* Carries out one order; fd (may be -1) came with it and is taken when used. NULL, or why not. */
static const char *order(struct lan *l, const char *text, int *fd)
{
	unsigned a, b;
	int cut;
	unsigned long long delay, jitter, loss, rate;
	if (sscanf(text, "port %u", &a) == 1) {
		if (a < 1 || a > l->n || *fd < 0 || fcntl(*fd, F_SETFL, O_NONBLOCK) < 0)
			return "no such port, or no tap";
		port_close(l, a);
		l->tap[a] = take_fd(fd);
		return NULL;
	}
	if (sscanf(text, "off %u", &a) == 1) {
		if (a < 1 || a > l->n)
			return "no such port";
		port_close(l, a);
		return NULL;
	}
	if (sscanf(text, "pair %u %u %llu %llu %llu %d", &a, &b, &delay, &jitter, &loss, &cut) == 6)
		return loss <= 1000000 && lanq_set_pair(l->q, a, b, delay, jitter, (uint32_t)loss, cut) == 0
			   ? NULL
			   : "out of range";
	if (sscanf(text, "rate %u %llu", &a, &rate) == 2)
		return lanq_set_rate(l->q, a, rate) == 0 ? NULL : "out of range";
	return "unknown order";
}

static ssize_t order_recv(int sock, char *text, size_t size, int *ret_fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = text, .iov_len = size - 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
	};
	ssize_t n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	*ret_fd = -1;
	if (n < 0)
		return -errno;
	text[n] = 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return n;
}

static void client_read(struct lan *l, int k)
{
	char text[128], answer[160];
	_cleanup_(close_p) int fd = -1;
	ssize_t n = order_recv(l->client[k], text, sizeof text, &fd);
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		l->client[k] = close_fd(l->client[k]);
		return;
	}
	const char *why = order(l, text, &fd);
	(void)snprintf(answer, sizeof answer, "%s%s", why ? "no: " : "ok", why ? why : "");
	if (send(l->client[k], answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		l->client[k] = close_fd(l->client[k]);
}

static void client_new(struct lan *l)
{
	_cleanup_(close_p) int fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	for (int k = 0; fd >= 0 && k < CLIENTS_MAX; k++)
		if (l->client[k] < 0)
			l->client[k] = take_fd(&fd);
}

/* The leash: "stay" lets go of it; its end means that pando dev was interrupted. 1: end. */
static int leash_read(struct lan *l)
{
	char word[16];
	ssize_t n = recv(l->leash_fd, word, sizeof word, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	l->leash_fd = close_fd(l->leash_fd);
	return !(n == 4 && memcmp(word, "stay", 4) == 0);
}

enum {
	WATCH_LISTEN,
	WATCH_LEASH,
	WATCH_CLIENT,
	WATCH_TAP = WATCH_CLIENT + CLIENTS_MAX,
	WATCH_MAX = WATCH_TAP + DEV_NODES_MAX
};

static int turn(struct lan *l)
{
	struct pollfd pf[WATCH_MAX];
	pf[WATCH_LISTEN] = (struct pollfd){ .fd = l->listen_fd, .events = POLLIN };
	pf[WATCH_LEASH] = (struct pollfd){ .fd = l->leash_fd, .events = POLLIN };
	for (int k = 0; k < CLIENTS_MAX; k++)
		pf[WATCH_CLIENT + k] = (struct pollfd){ .fd = l->client[k], .events = POLLIN };
	for (unsigned i = 1; i <= l->n; i++)
		pf[WATCH_TAP + i - 1] = (struct pollfd){ .fd = l->tap[i], .events = POLLIN };

	struct timespec wait = { 0 };
	if (l->heap_n > 0) {
		uint64_t now = clock_ns(), left = l->heap[0]->due_ns > now ? l->heap[0]->due_ns - now : 0;
		wait =
		    (struct timespec){ .tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u) };
	}
	if (ppoll(pf, WATCH_TAP + l->n, l->heap_n > 0 ? &wait : NULL, NULL) < 0 && errno != EINTR)
		return 1;
	deliver_due(l);
	if (pf[WATCH_LEASH].revents && leash_read(l))
		return 1;
	if (pf[WATCH_LISTEN].revents)
		client_new(l);
	for (int k = 0; k < CLIENTS_MAX; k++)
		if (pf[WATCH_CLIENT + k].fd >= 0 && pf[WATCH_CLIENT + k].revents)
			client_read(l, k);
	for (unsigned i = 1; i <= l->n; i++)
		/* The order above may have put another tap in its place. */
		if (pf[WATCH_TAP + i - 1].revents && l->tap[i] >= 0 && l->tap[i] == pf[WATCH_TAP + i - 1].fd)
			tap_read(l, i);
	return 0;
}

/* pando-dev-lan N LISTEN_FD LEASH_FD */
int main(int argc, char **argv)
{
	struct lan l = { .listen_fd = -1, .leash_fd = -1 };
	log_setup("pando-dev-lan", LOG_INFO, 0);
	if (argc != 4 || sscanf(argv[1], "%u", &l.n) != 1 || sscanf(argv[2], "%d", &l.listen_fd) != 1 ||
	    sscanf(argv[3], "%d", &l.leash_fd) != 1 || l.n < 1 || l.n > DEV_NODES_MAX) {
		log_error("this is started by pando dev up --lan user");
		return 2;
	}
	memset(l.tap, -1, sizeof l.tap);
	memset(l.client, -1, sizeof l.client);
	l.q = lanq_new(l.n);
	if (!l.q || getrandom(&l.dice, sizeof l.dice, 0) != (ssize_t)sizeof l.dice) {
		log_error("out of memory or randomness");
		return 1;
	}
	l.dice |= 1;                            /* zero would stay zero */
	(void)prctl(PR_SET_TIMERSLACK, 1000ul); /* 1 us instead of 50: delays are kept more exactly */
	(void)signal(SIGPIPE, SIG_IGN);
	if (send(l.leash_fd, "ready", 5, MSG_NOSIGNAL) < 0)
		return 1;
	while (turn(&l) == 0)
		;
	return 0;
}
