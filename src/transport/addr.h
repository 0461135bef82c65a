/* Addresses of sockets: text to sockaddr and back. Any thread; nothing blocks, names are not looked up here. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

enum {
	ADDR_HOST_SIZE = 256, /* a host name or numeric address, with NUL */
	ADDR_TEXT_SIZE = 72,  /* "[v6%scope]:port", with NUL */
};

/* Splits "host:port" ("10.0.0.1:4840", "[fe80::1%eth0]:4840", "n1.example:4840"). -EINVAL when it is not of that form. */
int addr_split(const char *text, char ret_host[static ADDR_HOST_SIZE], uint16_t *ret_port, struct err *e);

/* Makes a socket address of a numeric host. 0, or -EINVAL when host is a name. */
int addr_numeric(const char *host, uint16_t port, struct sockaddr_storage *ret);

/* The text of sa, as addr_split takes it; IPv4 within IPv6 is shown as IPv4. "?" for other families. */
void addr_text(const struct sockaddr *sa, char ret[static ADDR_TEXT_SIZE]);

/* Sets the port of an IPv4 or IPv6 address. */
void addr_port_set(struct sockaddr_storage *sa, uint16_t port);
uint16_t addr_port(const struct sockaddr *sa);
