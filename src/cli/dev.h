/* pando dev: trial clusters on this machine. */
#pragma once

/* Runs `pando dev ARGUMENTS...`; argv[0] is "dev". Returns the exit status: 0 done, 1 failed, 2 wrong usage; for exec
 * that of the command (125: it could not be started). */
int cli_dev(int argc, char **argv);
