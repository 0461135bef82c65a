/* pando dev: trial clusters on this machine. */
#pragma once

#include <stddef.h>

/* Runs `pando dev ARGUMENTS...`; argv[0] is "dev". Returns the exit status: 0 done, 1 failed, 2 wrong usage; for exec
 * that of the command (125: it could not be started). */
int cli_dev(int argc, char **argv);

/* What `pando dev` knows, for completion: the name of its i-th command, NULL after the last; the name of the k-th option of that command, NULL
 * after the last, and whether it takes an argument. */
const char *cli_dev_command(size_t i);
const char *cli_dev_option(size_t i, size_t k, int *ret_arg);
