/* Inner side of the importer: requests of our own. */
#pragma once

#include <sys/ioctl.h>

#include "stream/import_int.h"

/* An ioctl that only we and root get an answer to: the number of the handle behind one of our descriptors. */
#define IMPORT_IDENT _IOR('P', 0xf1, uint64_t)

/* For answers that change nothing. */
void import_ignore(void *ctx, struct ireq *r, const struct pmsg *a);
