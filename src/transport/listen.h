/* A listening TCP socket. Loop thread only. */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct listener;

/* Called for each connection that waits: to be taken by tls_accept(t, stream) or listener_reject, else no further one is told. */
typedef void (*listener_fn)(void *ctx, uv_stream_t *stream);

/* Listens at addr (numeric host:port; port 0: any). On 0 listener_close must be called at some time. */
int listener_open(uv_loop_t *loop, const char *addr, listener_fn fn, void *ctx, struct listener **ret, struct err *e)
	__attribute__((warn_unused_result));

/* Takes and closes a connection for which there is no memory. */
void listener_reject(uv_stream_t *stream);

/* Stops; closed runs once, when the listener is gone. */
void listener_close(struct listener *l, void (*closed)(void *ctx), void *ctx);

/* The address, with the real port; valid until listener_close. */
const char *listener_text(const struct listener *l);
uint16_t listener_port(const struct listener *l);
