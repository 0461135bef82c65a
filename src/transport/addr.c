#include "transport/addr.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static int port_parse(const char *text, uint16_t *ret)
{
	unsigned long v = 0;
	if (!*text || strlen(text) > 5)
		return -EINVAL;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
		v = v * 10 + (unsigned long)(*p - '0');
	}
	if (v > 65535)
		return -EINVAL;
	*ret = (uint16_t)v;
	return 0;
}

int addr_split(const char *text, char ret_host[static ADDR_HOST_SIZE], uint16_t *ret_port, struct err *e)
{
	const char *host = text, *end, *port;

	if (*text == '[') {
		host = text + 1;
		end = strchr(host, ']');
		port = end && end[1] == ':' ? end + 2 : NULL;
	} else {
		end = strchr(text, ':');
		port = end ? end + 1 : NULL;
	}
	if (!port || end == host || (size_t)(end - host) >= ADDR_HOST_SIZE || port_parse(port, ret_port) < 0)
		return err_set(e, -EINVAL, "'%.100s' is not an address of the form host:port or [v6]:port", text);

	memcpy(ret_host, host, (size_t)(end - host));
	ret_host[end - host] = 0;
	return 0;
}

int addr_numeric(const char *host, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	memset(ret, 0, sizeof *ret);
	if (uv_ip4_addr(host, port, &v4) == 0) {
		memcpy(ret, &v4, sizeof v4);
		return 0;
	}
	if (uv_ip6_addr(host, port, &v6) == 0) {
		memcpy(ret, &v6, sizeof v6);
		return 0;
	}
	return -EINVAL;
}

void addr_text(const struct sockaddr *sa, char ret[static ADDR_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN];

	(void)snprintf(ret, ADDR_TEXT_SIZE, "?");
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in v4;
		memcpy(&v4, sa, sizeof v4);
		if (uv_ip4_name(&v4, host, sizeof host) == 0)
			(void)snprintf(ret, ADDR_TEXT_SIZE, "%s:%u", host, ntohs(v4.sin_port));
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 v6;
		memcpy(&v6, sa, sizeof v6);
		if (uv_ip6_name(&v6, host, sizeof host) < 0)
			return;
		if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
			(void)snprintf(ret, ADDR_TEXT_SIZE, "%s:%u", strrchr(host, ':') + 1, ntohs(v6.sin6_port));
		else if (v6.sin6_scope_id)
			(void)snprintf(ret, ADDR_TEXT_SIZE, "[%s%%%u]:%u", host, v6.sin6_scope_id, ntohs(v6.sin6_port));
		else
			(void)snprintf(ret, ADDR_TEXT_SIZE, "[%s]:%u", host, ntohs(v6.sin6_port));
	}
}

void addr_port_set(struct sockaddr_storage *sa, uint16_t port)
{
	if (sa->ss_family == AF_INET)
		((struct sockaddr_in *)sa)->sin_port = htons(port);
	else if (sa->ss_family == AF_INET6)
		((struct sockaddr_in6 *)sa)->sin6_port = htons(port);
}

uint16_t addr_port(const struct sockaddr *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if (sa->sa_family == AF_INET) {
		memcpy(&v4, sa, sizeof v4);
		return ntohs(v4.sin_port);
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(&v6, sa, sizeof v6);
		return ntohs(v6.sin6_port);
	}
	return 0;
}
