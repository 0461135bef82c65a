/* Arguments of a command by its table of options. */
#pragma once

#include "cli/cli.h"

enum { CLI_WANTS_HELP = 1 };

/* Parses argv (without the command's name; permuted in place: options may follow positional arguments). 0, CLI_WANTS_HELP, or
 * -EINVAL and the words were printed. ret borrows from argv. */
int args_parse(const struct cli_cmd *cmd, const struct cli_opt *opts, int argc, char **argv, struct cli_args *ret);

/* The name most like text, or NULL when none is near enough for a typing error. next gives the i-th name
 * or NULL; it may use one buffer for all. */
const char *args_suggest(const char *text, const char *(*next)(const void *ctx, size_t i), const void *ctx);
