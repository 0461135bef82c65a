#include "base/paths.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int has_pandod(const char *dir)
{
	char path[PATHS_MAX + 16];
	(void)snprintf(path, sizeof path, "%s/pandod", dir);
	return access(path, X_OK) == 0;
}

int paths_libexec(char ret_dir[static PATHS_MAX])
{
	const char *env = secure_getenv("PANDO_LIBEXEC");
	if (env && *env && strlen(env) < PATHS_MAX) {
		strcpy(ret_dir, env);
		return has_pandod(ret_dir) ? 0 : -ENOENT;
	}

	ssize_t n = readlink("/proc/self/exe", ret_dir, PATHS_MAX - 32);
	if (n < 0)
		return -errno;
	ret_dir[n] = 0;
	char *slash = strrchr(ret_dir, '/');
	if (!slash)
		return -ENOENT;
	*slash = 0;
	if (has_pandod(ret_dir))
		return 0;
	slash = strrchr(ret_dir, '/');
	if (!slash)
		return -ENOENT;
	strcpy(slash, "/lib/pando");
	return has_pandod(ret_dir) ? 0 : -ENOENT;
}
