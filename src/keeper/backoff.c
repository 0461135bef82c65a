#include "keeper/backoff.h"

#include <sys/wait.h>
#include <sysexits.h>

uint32_t backoff_step(struct backoff *b, uint64_t lived_ms, int status)
{
	if (lived_ms >= BACKOFF_RESET_MS)
		b->next_ms = 0;
	uint32_t wait_ms = b->next_ms;
	b->next_ms = wait_ms ? wait_ms * 2 : BACKOFF_FIRST_MS;
	if (b->next_ms > BACKOFF_MAX_MS)
		b->next_ms = BACKOFF_MAX_MS;
	return WIFEXITED(status) && WEXITSTATUS(status) == EX_USAGE ? BACKOFF_USAGE_MS : wait_ms;
}
