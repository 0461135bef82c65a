#include "transport/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "check.h"

static void test_addresses_are_split(void)
{
	char host[ADDR_HOST_SIZE];
	uint16_t port;
	static const struct {
		const char *text, *host;
		uint16_t port;
	} good[] = {
		{ "10.0.0.1:4840", "10.0.0.1", 4840 }, { "[fe80::1%lo]:1", "fe80::1%lo", 1 }, { "n1.example:65535", "n1.example", 65535 },
		{ "[::]:0", "::", 0 },		       { "a:00080", "a", 80 },
	};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		CHECK(addr_split(good[i].text, host, &port, NULL) == 0);
		CHECK(strcmp(host, good[i].host) == 0 && port == good[i].port);
	}
}

static void test_what_is_no_address_is_refused_with_words(void)
{
	char host[ADDR_HOST_SIZE], longer[2 * ADDR_HOST_SIZE];
	uint16_t port;
	struct err e;
	static const char *const bad[] = { "",	    ":",      ":80",	 "a",	   "a:",       "a:65536",  "a:-1", "a:+1",   "a: 1",
					   "a:1 ",  "a:0x10", "a:123456", "[::1]", "[::1]80", "[::1]:x", "[]:1", "[::1:80", "::1:80" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		e.text[0] = 0;
		CHECK(addr_split(bad[i], host, &port, &e) == -EINVAL && strstr(e.text, "not an address"));
	}
	memset(longer, 'a', sizeof longer);
	memcpy(longer + ADDR_HOST_SIZE - 1, ":80", 4);
	CHECK(addr_split(longer, host, &port, NULL) == 0 && strlen(host) == ADDR_HOST_SIZE - 1);
	memset(longer, 'a', sizeof longer);
	memcpy(longer + ADDR_HOST_SIZE, ":80", 4);
	CHECK(addr_split(longer, host, &port, NULL) == -EINVAL);
}

static void test_numeric_addresses_are_written_as_they_are_read(void)
{
	struct sockaddr_storage sa;
	char text[ADDR_TEXT_SIZE];
	CHECK(addr_numeric("10.1.2.3", 80, &sa) == 0 && sa.ss_family == AF_INET);
	addr_text((struct sockaddr *)&sa, text);
	CHECK(strcmp(text, "10.1.2.3:80") == 0 && addr_port((struct sockaddr *)&sa) == 80);
	CHECK(addr_numeric("fd00::1", 65535, &sa) == 0 && sa.ss_family == AF_INET6);
	addr_text((struct sockaddr *)&sa, text);
	CHECK(strcmp(text, "[fd00::1]:65535") == 0);
	CHECK(addr_numeric("::ffff:1.2.3.4", 1, &sa) == 0);
	addr_text((struct sockaddr *)&sa, text);
	CHECK(strcmp(text, "1.2.3.4:1") == 0);
	addr_port_set(&sa, 7);
	CHECK(addr_port((struct sockaddr *)&sa) == 7);
	CHECK(addr_numeric("n1", 1, &sa) == -EINVAL && addr_numeric("1.2.3", 1, &sa) == -EINVAL && addr_numeric("", 1, &sa) == -EINVAL);
	memset(&sa, 0, sizeof sa);
	sa.ss_family = AF_UNIX;
	addr_text((struct sockaddr *)&sa, text);
	CHECK(strcmp(text, "?") == 0 && addr_port((struct sockaddr *)&sa) == 0);
}

int main(void)
{
	TEST(test_addresses_are_split);
	TEST(test_what_is_no_address_is_refused_with_words);
	TEST(test_numeric_addresses_are_written_as_they_are_read);
	return 0;
}
