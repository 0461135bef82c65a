/* What is typed: from the terminal into the pty of the command, when it is for the command. Part of the relay. */
#pragma once

#include <jansson.h>
#include <stdint.h>

struct relay;

/* Adds what to poll for. */
void keys_poll(const struct relay *r, uint64_t now, short *master_events, short *term_events);

/* How long the loop may sleep (timeout: at most, -1: for ever). */
int keys_timer(const struct relay *r, uint64_t now, int timeout);

/* Does what the events of a turn allow. */
void keys_turn(struct relay *r, short master_events, short term_events);

/* The answer to the question whether the command wants input. */
void keys_answered(struct relay *r, const json_t *answer);

/* The command has thrown its unread input away: so do we. */
void keys_flush(struct relay *r);

/* At the end: what was typed and not read goes back to the terminal. */
void keys_give_back(struct relay *r);
