/* Long-lived exchanges as tables of states: a step that the table does not allow is a bug and stops the program. */
#pragma once

#include <stdint.h>

/* A state: its name and the bits of the states that may follow. */
struct sm_state {
	const char *name;
	uint32_t next;
};

#define SM_TO(s) (1u << (s))

/* Moves *state to `to`; asserts (also in release builds) that states[*state] allows it, and traces the step at debug level with
 * the machine's name and the number it concerns (a pid, an id). */
void sm_move(const struct sm_state *states, unsigned *state, unsigned to, const char *machine, uint64_t about);
