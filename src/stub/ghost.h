/* The loop of every process inside the space that waits for pandod's commands: ghosts, session processes, arriving bodies. */
#pragma once

/* Asks for commands and carries them out; never returns. All signals must be blocked by the caller or are blocked here. */
void ghost_loop(void) __attribute__((noreturn));
