#include "stream/chan.h"

int chan_write(struct chan *c, const void *p, size_t n)
{
	return c->ops->write(c, p, n);
}

void chan_flush(struct chan *c)
{
	c->ops->flush(c);
}

size_t chan_queued(const struct chan *c)
{
	return c->ops->queued(c);
}

struct chan *chan_close(struct chan *c)
{
	if (c)
		c->ops->close(c);
	return NULL;
}
