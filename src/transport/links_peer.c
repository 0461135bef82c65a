/* Peers: who connects to whom, when, and which connection becomes the link.
 *
 * Of two nodes the one with the higher id decides. It connects, and the lower one always follows: the connection on which the higher
 * one's hello came last is the link. The lower one connects too (knocks) when it has been without a link for a while, in case the higher
 * one has a wrong address; that connection becomes the link only if the higher one has none, and has not sent its hello on one of its
 * own. So both always agree. A connection of the higher one that is still without hello gives way to a knock.
 *
 * Failures: refused or silent: again after 50, 100, ... 1000 ms; a name that is unknown: the same. */
#include "transport/links_int.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

struct lookup {
	uv_getaddrinfo_t req;
	struct links *l;
	struct conn *c; /* NULL: nobody waits for it any more */
};

struct peer *link_peer_of(const struct links *l, uint16_t node)
{
	return node >= 1 && node <= NODE_MAX ? l->peers[node] : NULL;
}

struct conn *link_of(const struct links *l, uint16_t node)
{
	struct peer *p = link_peer_of(l, node);
	return p && p->use && p->use->state == CONN_UP ? p->use : NULL;
}

static int is_decider(const struct peer *p)
{
	return p->l->cfg.self > p->node;
}

/* ---- connecting ---- */

static void dial_to(struct conn *c, struct sockaddr_storage *sa)
{
	int rc = tls_connect(c->t, (struct sockaddr *)sa);
	if (rc < 0)
		link_conn_lose(c, uv_strerror(rc));
}

/* Picks another address of the name at each attempt. */
static void lookup_use(struct conn *c, const struct addrinfo *list)
{
	struct peer *p = link_peer_of(c->l, c->node);
	unsigned n = 0, at = 0;
	for (const struct addrinfo *a = list; a; a = a->ai_next)
		n++;
	if (!p || !n) {
		link_conn_lose(c, "no address");
		return;
	}
	for (const struct addrinfo *a = list; a; a = a->ai_next, at++) {
		struct sockaddr_storage sa = { 0 };
		if (at != p->tries % n || a->ai_addrlen > sizeof sa)
			continue;
		memcpy(&sa, a->ai_addr, a->ai_addrlen);
		addr_port_set(&sa, p->port);
		link_conn_move(c, CONN_CONNECT);
		dial_to(c, &sa);
		return;
	}
	link_conn_lose(c, "no usable address");
}

static void lookup_cb(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
	struct lookup *k = req->data;
	struct links *l = k->l;
	struct conn *c = k->c;

	if (c) {
		c->lookup = NULL;
		if (status < 0)
			link_conn_lose(c, uv_strerror(status));
		else
			lookup_use(c, list);
	}
	uv_freeaddrinfo(list);
	free(k);
	links_release(l);
}

static void lookup_start(struct conn *c, const char *host)
{
	static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct lookup *k = calloc(1, sizeof *k);
	if (!k) {
		link_conn_lose(c, "out of memory");
		return;
	}
	*k = (struct lookup){ .l = c->l, .c = c };
	k->req.data = k;
	int rc = uv_getaddrinfo(c->l->cfg.loop, &k->req, lookup_cb, host, NULL, &hints);
	if (rc < 0) {
		free(k);
		link_conn_lose(c, uv_strerror(rc));
		return;
	}
	c->l->n_open++;
	c->lookup = k;
}

void link_lookup_cancel(struct conn *c)
{
	if (!c->lookup)
		return;
	c->lookup->c = NULL;
	(void)uv_cancel((uv_req_t *)&c->lookup->req); /* running already: ends by itself */
	c->lookup = NULL;
}

static void dial(struct peer *p)
{
	struct sockaddr_storage sa;
	struct conn *c;

	p->tries++;
	if (link_conn_new(p->l, 1, &c) < 0) {
		link_peer_retry(p);
		return;
	}
	c->node = p->node;
	(void)snprintf(c->from, sizeof c->from, "%s", p->addr);
	p->dial = c;
	if (addr_numeric(p->host, p->port, &sa) < 0) {
		lookup_start(c, p->host);
		return;
	}
	link_conn_move(c, CONN_CONNECT);
	dial_to(c, &sa);
}

static void peer_timeout(struct deadline *d)
{
	struct peer *p = CONTAINER(d, struct peer, timer);
	if (!p->use && !p->dial)
		dial(p);
}

/* Up to a quarter more or less, so that nodes that lost each other at the same moment do not go on in step. */
static uint32_t jitter(uint32_t ms)
{
	uint8_t r = 128;
	(void)RAND_bytes(&r, 1); /* without: no jitter */
	return ms - ms / 4 + ms / 2 * r / 256;
}

void link_peer_retry(struct peer *p)
{
	uint32_t ms = LINK_KNOCK_MS;
	if (p->l->closing || p->use || p->dial)
		return;
	if (is_decider(p)) {
		p->delay_ms = p->delay_ms ? p->delay_ms * 2 : LINK_DELAY_MIN_MS;
		if (p->delay_ms > LINK_DELAY_MAX_MS)
			p->delay_ms = LINK_DELAY_MAX_MS;
		ms = p->delay_ms;
	}
	(void)links_after(p->l, &p->timer, jitter(ms)); /* without memory it is up to the other side */
}

void link_peer_lost(struct peer *p, struct conn *c)
{
	if (p->use == c)
		p->use = NULL;
	if (p->dial == c)
		p->dial = NULL;
	link_peer_retry(p);
}

/* ---- which connection is the link ---- */

int link_peer_takes(struct peer *p, struct conn *c)
{
	struct conn *use = p->use, *own = p->dial;

	if (c == own) { /* the other side took ours; it would not have, had it another */
		if (use)
			link_conn_lose(use, "replaced by a new connection");
		return c->state == CONN_HELLO;
	}
	if (is_decider(p) && (use || (own && own->state == CONN_HELLO)))
		return 0;
	/* Both are out of the peer before they are lost, so that no new attempt is begun for them. */
	p->use = c;
	p->dial = NULL;
	if (use)
		link_conn_lose(use, "replaced by a new connection");
	if (own)
		link_conn_lose(own, "the other side connected");
	return 1;
}

/* ---- members come and go ---- */

static int addr_set(struct peer *p, const char *addr, struct err *e)
{
	int rc = addr_split(addr, p->host, &p->port, e);
	if (rc == 0)
		(void)snprintf(p->addr, sizeof p->addr, "%s", addr);
	return rc;
}

/* Begins a new attempt, soon for who connects. */
static void peer_begin(struct peer *p)
{
	p->delay_ms = 0;
	if (!p->use && !p->dial)
		(void)links_after(p->l, &p->timer, is_decider(p) ? 0 : LINK_KNOCK_MS); /* as above */
}

int links_peer_set(struct links *l, uint16_t node, const char *addr, struct err *e)
{
	struct peer *p = link_peer_of(l, node);
	if (l->closing)
		return err_set(e, -ECANCELED, "closing");
	if (node < 1 || node > NODE_MAX || node == l->cfg.self)
		return err_set(e, -EINVAL, "no link to node %u", node);
	if (p) {
		struct peer other = { 0 };
		int rc = addr_set(&other, addr, e);
		if (rc < 0 || strcmp(other.addr, p->addr) == 0)
			return rc;
		(void)addr_set(p, addr, NULL); /* has just worked */
		if (p->dial && p->dial->state != CONN_HELLO)
			link_conn_lose(p->dial, "the peer's address changed");
		peer_begin(p);
		return 0;
	}
	p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	*p = (struct peer){ .l = l, .node = node, .timer.fn = peer_timeout };
	int rc = addr_set(p, addr, e);
	if (rc == 0 && links_after(l, &p->timer, is_decider(p) ? 0 : LINK_KNOCK_MS) < 0)
		rc = err_set(e, -ENOMEM, "out of memory");
	if (rc < 0) {
		free(p);
		return rc;
	}
	l->peers[node] = p;
	return 0;
}

void link_peer_free(struct peer *p)
{
	deadline_clear(&p->l->deadlines, &p->timer);
	free(p);
}

void links_peer_drop(struct links *l, uint16_t node)
{
	struct peer *p = link_peer_of(l, node);
	struct conn *c, *next;
	if (!p || l->closing)
		return;
	l->peers[node] = NULL;
	link_peer_free(p);
	DL_FOREACH_SAFE(l->conns, c, next)
		if (c->node == node)
			link_conn_lose(c, "not a member any more");
}
