/* Delegated descriptors between agents: what programs see. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-world.h"

static void test_pipe_is_written_from_afar(void)
{
	int p[2];
	char buf[64];
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	int fd = world_delegate(1, p[1], 2);
	(void)close(p[1]);
	CHECK(write(fd, "hello", 5) == 5);
	CHECK(read(p[0], buf, sizeof buf) == 5 && memcmp(buf, "hello", 5) == 0);
	(void)close(fd);
	CHECK(read(p[0], buf, sizeof buf) == 0);
	(void)close(p[0]);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	world_start(2, argv[1]);
	TEST(test_pipe_is_written_from_afar);
	world_stop();
	return 0;
}
