/* The two kinds of switch behind switch.h; used by switch.c only. Contracts as there. */
#pragma once

#include "dev/switch.h"

/* bridge.c */
int bridge_setup(const struct trial *c, struct err *e); /* makes the bridge in the holder's namespace */
int bridge_plug(const struct trial *c, unsigned i, int netns_fd, struct err *e);
int bridge_unplug(const struct trial *c, unsigned i, struct err *e);
int bridge_apply_pairs(const struct trial *c, struct err *e);
int bridge_apply_rate(const struct trial *c, unsigned i, struct err *e);

/* userlan.c */
int userlan_listen(const struct trial *c, int *ret_fd, struct err *e); /* its socket, to be handed to pando-dev-lan */
int userlan_plug(const struct trial *c, unsigned i, int netns_fd, struct err *e);
int userlan_unplug(const struct trial *c, unsigned i, struct err *e);
int userlan_apply_pairs(const struct trial *c, struct err *e);
int userlan_apply_rate(const struct trial *c, unsigned i, struct err *e);
