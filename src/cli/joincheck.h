/* What becomes of this machine as a node, as far as it can be told: before, by looking around; afterwards, by asking pandod. */
#pragma once

#include "cli/cli.h"

/* Looks at the kernel, the clock, the shared tree; prints a warning with its consequence for each thing that is not as it should be. Changes
 * nothing; nothing of it is a reason not to go on. */
void joincheck_before(void);

/* Reports whether the daemon of this node is there: when a keeper runs, waits for at most 15 s until pandod says that it is up, and prints
 * what its checks find; else prints how to start it. CLI_OK, or CLI_FAIL (words were printed): it did not come up. */
int joincheck_after(const struct cli_cmd *cmd);
