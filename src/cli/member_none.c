/* init and join, for a build without membership. */
#include "cli/cli.h"

int cmd_init(const struct cli_cmd *cmd, const struct cli_args *args)
{
	return cli_error(cmd, "this build has no clusters");
}

int cmd_join(const struct cli_cmd *cmd, const struct cli_args *args)
{
	return cli_error(cmd, "this build has no clusters");
}
