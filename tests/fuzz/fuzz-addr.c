/* deps: transport */
/* host:port texts: what is taken apart numerically and written again is the same address. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transport/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char text[600], host[ADDR_HOST_SIZE], back[ADDR_TEXT_SIZE];
	struct sockaddr_storage sa, again;
	uint16_t port;
	if (n >= sizeof text)
		n = sizeof text - 1;
	memcpy(text, p, n);
	text[n] = 0;
	if (addr_split(text, host, &port, NULL) < 0)
		return 0;
	if (strlen(host) == 0 || strlen(host) >= sizeof host)
		abort();
	if (addr_numeric(host, port, &sa) < 0)
		return 0;
	addr_text((struct sockaddr *)&sa, back);
	if (addr_port((struct sockaddr *)&sa) != port || addr_split(back, host, &port, NULL) < 0 || addr_numeric(host, port, &again) < 0 ||
	    addr_port((struct sockaddr *)&again) != port)
		abort();
	return 0;
}
