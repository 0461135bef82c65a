/* Set-up of an arriving body, freestanding. */
#pragma once

#include <stdint.h>

#include "stub/proto.h"

/* Turns the calling process into the program of the image (size bytes, fetched as descriptor index 0): descriptors, group,
 * terminal, limits, credentials, signals, execve. Returns only on failure, which it has then reported by STUB_FAILED. */
void body_run(uint32_t size);

/* The same for an image that is mapped already and whose descriptors are in place (processes without a filter). Returns
 * -errno on failure. */
long body_exec(struct stub_body *b);
