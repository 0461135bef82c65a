/* deps: member */
/* Beats and answers given to the pulse of a node that knows three members. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "member/pulse.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct cluster c;
	static struct pulse pulse;
	struct pulse_out out;
	struct nodeset voters = { .w = { 7, 0 } };
	if (n < 3)
		return 0;
	if (!c.created_ms) {
		c.created_ms = c.version = 1;
		for (uint16_t i = 1; i <= 3; i++)
			c.members[i] = (struct cluster_member){ .id = i, .state = MEMBER_ACTIVE, .incarnation = 1, .suspect = i == 3 };
	}
	pulse_init(&pulse, 1, 1000, 1, 0, &c);
	pulse_raft(&pulse, 1000, 1, 1, true, &voters, &out);
	uint64_t now = 1000;
	uint16_t from = (uint16_t)(p[0] % 140);
	struct wr w = { 0 };
	if (p[1] & 1)
		(void)pulse_answer(&pulse, now += p[2], from, p + 3, n - 3, &out);
	else
		(void)pulse_beat(&pulse, now += p[2], from, p + 3, n - 3, &w, &out);
	for (unsigned i = 0; i < 4; i++)
		pulse_tick(&pulse, now += 600, &out);
	wr_fini(&w);
	return 0;
}
