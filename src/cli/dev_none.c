/* Trial clusters, for a build without them. */
#include "cli/cli.h"

int cmd_dev(const struct cli_cmd *cmd, const struct cli_args *args)
{
	return cli_error(cmd, "this build has no trial clusters");
}
