#include "base/sm.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"

void sm_move(const struct sm_state *states, unsigned *state, unsigned to, const char *machine, uint64_t about)
{
	if (to >= 32 || !(states[*state].next & SM_TO(to))) {
		log_error("%s %" PRIu64 ": step from %s to state %u is not in the table", machine, about,
			  states[*state].name, to);
		abort();
	}
	log_debug("%s %" PRIu64 ": %s -> %s", machine, about, states[*state].name, states[to].name);
	*state = to;
}
