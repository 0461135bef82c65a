#include "cli/identity.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

/* ---- addresses ---- */

/* The address that packets to far away would have: connecting a datagram socket asks the routing table and sends nothing. */
static int route_addr(int family, char ret[static INET6_ADDRSTRLEN])
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} to = { .sa.sa_family = (sa_family_t)family };
	socklen_t len = family == AF_INET ? sizeof to.in : sizeof to.in6;
	to.in.sin_port = htons(9); /* the same place in both */
	const char *far = family == AF_INET ? "192.0.2.1" : "2001:db8::1"; /* documentation's: nobody's */
	void *bytes = family == AF_INET ? (void *)&to.in.sin_addr : (void *)&to.in6.sin6_addr;
	if (inet_pton(family, far, bytes) != 1)
		return -EINVAL;
	_cleanup_(close_p) int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, &to.sa, len) < 0 || getsockname(fd, &to.sa, &len) < 0)
		return -errno;
	if (!inet_ntop(family, bytes, ret, INET6_ADDRSTRLEN))
		return -errno;
	return 0;
}

/* Of an interface that is up; IPv4 before IPv6, never link-local (needs a scope that means nothing elsewhere). */
static int interface_addr(char ret[static INET6_ADDRSTRLEN])
{
	struct ifaddrs *all = NULL;
	int found = 0;
	if (getifaddrs(&all) < 0)
		return -errno;
	for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
		if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
			continue;
		if (i->ifa_addr->sa_family == AF_INET && found != AF_INET) {
			struct sockaddr_in in;
			memcpy(&in, i->ifa_addr, sizeof in);
			found = inet_ntop(AF_INET, &in.sin_addr, ret, INET6_ADDRSTRLEN) ? AF_INET : found;
		} else if (i->ifa_addr->sa_family == AF_INET6 && !found) {
			struct sockaddr_in6 in6;
			memcpy(&in6, i->ifa_addr, sizeof in6);
			if (!IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr))
				found = inet_ntop(AF_INET6, &in6.sin6_addr, ret, INET6_ADDRSTRLEN) ? AF_INET6 : found;
		}
	}
	freeifaddrs(all);
	return found ? 0 : -EADDRNOTAVAIL;
}

static int own_addr(char ret[static INET6_ADDRSTRLEN], struct err *e)
{
	if (route_addr(AF_INET, ret) == 0 || route_addr(AF_INET6, ret) == 0 || interface_addr(ret) == 0)
		return 0;
	return err_set(e, -EADDRNOTAVAIL, "this machine has no address that others could reach; say it with --addr HOST:PORT");
}

int identity_addr(const char *text, unsigned port, char ret[static CLUSTER_ADDR_SIZE], struct err *e)
{
	struct in6_addr six;
	const char *colon = strrchr(text, ':');
	size_t n = strlen(text);
	int len;
	if (inet_pton(AF_INET6, text, &six) == 1)
		len = snprintf(ret, CLUSTER_ADDR_SIZE, "[%s]:%u", text, port);
	else if (n && (!colon || text[n - 1] == ']'))
		len = snprintf(ret, CLUSTER_ADDR_SIZE, "%s:%u", text, port);
	else
		len = snprintf(ret, CLUSTER_ADDR_SIZE, "%s", text);
	if (len >= CLUSTER_ADDR_SIZE)
		return err_set(e, -EINVAL, "\"%.60s...\": too long for an address", text);
	return cluster_addr_check(ret, e);
}

/* The address for streams: the same host, the next port. */
static int stream_default(const char *addr, char ret[static CLUSTER_ADDR_SIZE], struct err *e)
{
	const char *colon = strrchr(addr, ':');
	unsigned long port = strtoul(colon + 1, NULL, 10); /* addr was checked */
	if (port >= 65535)
		return err_set(e, -EINVAL, "there is no port after %lu for streams; say one with --stream-addr", port);
	if (snprintf(ret, CLUSTER_ADDR_SIZE, "%.*s:%lu", (int)(colon - addr), addr, port + 1) >= CLUSTER_ADDR_SIZE)
		return err_set(e, -EINVAL, "\"%.60s...\": too long for an address", addr);
	return 0;
}

static int addrs_make(const char *addr, const char *stream_addr, int ask, struct identity *id, struct err *e)
{
	int rc = 0;
	if (addr) {
		rc = identity_addr(addr, IDENTITY_PORT, id->addr, e);
	} else if (ask) {
		(void)snprintf(id->addr, sizeof id->addr, ":%d", IDENTITY_PORT);
	} else {
		char ip[INET6_ADDRSTRLEN];
		rc = own_addr(ip, e);
		if (rc == 0)
			rc = identity_addr(ip, IDENTITY_PORT, id->addr, e);
	}
	if (rc < 0)
		return rc;
	return stream_addr ? identity_addr(stream_addr, IDENTITY_PORT + 1, id->stream_addr, e) : stream_default(id->addr, id->stream_addr, e);
}

/* ---- what may be used ---- */

/* A limit of one control group, from its file; 0: none. v1 says "none" by a huge number or -1. */
static double limit_read(const char *dir, const char *path, const char *file, const char *period_file)
{
	char name[PATH_MAX];
	if (snprintf(name, sizeof name, "%s%s/%s", dir, path, file) >= (int)sizeof name)
		return 0;
	double limit = 0, period = 0;
	_cleanup_(fclose_p) FILE *f = fopen(name, "re");
	int n = f ? fscanf(f, "%lf %lf", &limit, &period) : 0; /* "max 100000" gives none */
	if (n < 1 || limit <= 0)
		return 0;
	if (!period_file)
		return limit;
	if (n == 1) { /* v1 has the period in a file of its own */
		_cleanup_(fclose_p) FILE *g = NULL;
		if (snprintf(name, sizeof name, "%s%s/%s", dir, path, period_file) >= (int)sizeof name || !(g = fopen(name, "re")) ||
		    fscanf(g, "%lf", &period) != 1)
			return 0;
	}
	return period > 0 ? limit / period : 0;
}

/* A kind of limit and its files in version 1 and 2. */
struct kind {
	const char *controller, *v1_file, *v1_period, *v2_file, *v2_period;
};

static const struct kind cpu_kind = { "cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max", "" };
static const struct kind memory_kind = { "memory", "memory.limit_in_bytes", NULL, "memory.max", NULL };

static int word_in(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (strncmp(p, word, n) == 0 && (p[n] == ',' || !p[n]))
			return 1;
	return 0;
}

/* The smallest limit from path up to the root of its hierarchy. */
static double limit_up(const char *dir, char *path, const char *file, const char *period_file, double least)
{
	for (;;) {
		double v = limit_read(dir, path, file, period_file);
		if (v > 0 && (least <= 0 || v < least))
			least = v;
		char *slash = strrchr(path, '/');
		if (!slash)
			return least;
		*slash = 0;
	}
}

/* The smallest limit of this kind on this process; 0: none. */
static double limit_own(const struct kind *k)
{
	char line[PATH_MAX], dir[PATH_MAX + 64];
	double least = 0;
	_cleanup_(fclose_p) FILE *f = fopen("/proc/self/cgroup", "re");
	while (f && fgets(line, sizeof line, f)) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = 0;
		list++;
		path[strcspn(path, "\n")] = 0;
		if (strcmp(path, "/") == 0)
			*path = 0;
		if (!*list) { /* version 2 */
			least = limit_up("/sys/fs/cgroup", path, k->v2_file, k->v2_period, least);
		} else if (word_in(list, k->controller)) {
			(void)snprintf(dir, sizeof dir, "/sys/fs/cgroup/%s", list);
			least = limit_up(dir, path, k->v1_file, k->v1_period, least);
		}
	}
	return least;
}

unsigned identity_cpus(void)
{
	cpu_set_t *set = CPU_ALLOC(8192);
	int n = 0;
	if (set && sched_getaffinity(0, CPU_ALLOC_SIZE(8192), set) == 0)
		n = CPU_COUNT_S(CPU_ALLOC_SIZE(8192), set);
	CPU_FREE(set);
	if (n < 1)
		n = 1;
	double quota = limit_own(&cpu_kind);
	if (quota > 0 && quota < n)
		n = quota > 1 ? (int)(quota + 0.5) : 1;
	return (unsigned)n;
}

uint64_t identity_memory(void)
{
	unsigned long long kb = 0;
	char line[256];
	_cleanup_(fclose_p) FILE *f = fopen("/proc/meminfo", "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "MemTotal: %llu kB", &kb) == 1)
			break;
	double limit = limit_own(&memory_kind);
	uint64_t bytes = (uint64_t)kb * 1024u;
	return limit > 0 && (bytes == 0 || limit < (double)bytes) ? (uint64_t)limit : bytes;
}

/* ---- all of it ---- */

static int name_make(const char *name, char ret[static CLUSTER_NAME_SIZE], struct err *e)
{
	char host[HOST_NAME_MAX + 1] = "";
	const char *hint = "";
	if (!name) {
		if (gethostname(host, sizeof host) < 0)
			return err_set(e, -errno, "the host name: %m");
		host[sizeof host - 1] = 0;
		name = host;
		hint = " (the host name; say another one with --name)";
	}
	if (cluster_name_check(name, e) < 0)
		return *hint ? err_set(e, -EINVAL, "\"%.70s\" cannot be a node's name%s", name, hint) : -EINVAL;
	if (strspn(name, "0123456789") == strlen(name))
		return err_set(e, -EINVAL, "\"%.70s\" would be taken for a node's number%s", name, hint);
	(void)strcpy(ret, name); /* checked to fit */
	return 0;
}

int identity_make(const char *name, const char *addr, const char *stream_addr, int ask, struct identity *ret, struct err *e)
{
	struct identity id = {};
	int rc = name_make(name, id.name, e);
	if (rc == 0)
		rc = addrs_make(addr, stream_addr, ask, &id, e);
	if (rc < 0)
		return rc;
	*ret = id;
	ret->self = (struct member_identity){ .name = ret->name, .addr = ret->addr, .stream_addr = ret->stream_addr,
					      .cpus = identity_cpus(), .memory = identity_memory() };
	return 0;
}
