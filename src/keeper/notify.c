#include "keeper/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/log.h"

static struct {
	struct sockaddr_un addr;
	socklen_t n; /* 0: nobody */
} g_notify;

void notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path ? strlen(path) : 0;
	if (n > 1 && n < sizeof g_notify.addr.sun_path && (*path == '/' || *path == '@')) {
		g_notify.addr.sun_family = AF_UNIX;
		memcpy(g_notify.addr.sun_path, path, n);
		if (*path == '@')
			g_notify.addr.sun_path[0] = 0; /* abstract: its length counts, not a NUL */
		g_notify.n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	} else if (n) {
		log_warn("NOTIFY_SOCKET: \"%s\" is no socket we know of; the service manager is told nothing", path);
	}
	(void)unsetenv("NOTIFY_SOCKET"); /* the name is fine */
}

void notify_send(const char *lines)
{
	if (!g_notify.n)
		return;
	_cleanup_(close_p) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || sendto(fd, lines, strlen(lines), MSG_NOSIGNAL, (struct sockaddr *)&g_notify.addr, g_notify.n) < 0)
		log_warn("telling the service manager: %m");
}
