#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

int cmd_version(const struct cli_cmd *cmd, const struct cli_args *args)
{
	if (args->opt[0] && strcmp(args->opt[0], "json") == 0)
		(void)printf("{\n  \"version\": \"%s\"\n}\n", PANDO_VERSION);
	else
		(void)printf("pando %s\n", PANDO_VERSION);
	return cli_done(cmd, CLI_OK);
}
