/* Between relay.c and keys.c. */
#pragma once

#include <jansson.h>

#include "cli/relay.h"

/* Sends a request of the session (req is taken over) and returns its id, 0 when pandod is not there. */
json_int_t relay_send(struct relay *r, json_t *req);

/* Drops the connection; the loop tries to come back. */
void relay_pandod_gone(struct relay *r);
