/* Switches of a process: what may be done with it. Each process has an effective set and an inheritable one, which its children start
 * with, both sets at once, as with Kerrighed's capabilities. In an image: inheritable << 32 | effective. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum feature {
	FEATURE_PLACE = 1 << 0,
	FEATURE_MIGRATE = 1 << 1,
	FEATURE_CHECKPOINT = 1 << 2,
	FEATURE_CLUSTER_CPUS = 1 << 3,
	FEATURE_LOCAL_PROC = 1 << 4,
	FEATURE_STREAMS = 1 << 5,
	FEATURE_REMOTE_MEMORY = 1 << 6,
	FEATURE_THREADS = 1 << 7,
	FEATURES_ALL = (1 << 8) - 1,
	FEATURES_INITIAL = FEATURE_PLACE | FEATURE_CLUSTER_CPUS,
};

struct feature_item {
	const char *name;
	uint32_t bit;
	int ready;         /* 0: of a part that comes later */
	const char *about; /* one line for a person */
};

enum { FEATURE_ITEMS = 8 };

static const struct feature_item feature_list[FEATURE_ITEMS] = {
	{ "place", FEATURE_PLACE, 1, "may be placed on another node at exec" },
	{ "migrate", FEATURE_MIGRATE, 0, "may be moved while it runs" },
	{ "checkpoint", FEATURE_CHECKPOINT, 0, "may be saved to an image" },
	{ "cluster-cpus", FEATURE_CLUSTER_CPUS, 1, "sees the CPUs of all nodes in /proc" },
	{ "local-proc", FEATURE_LOCAL_PROC, 1, "sees only the processes of its own node in /proc" },
	{ "streams", FEATURE_STREAMS, 0, "its sockets go along when it moves" },
	{ "remote-memory", FEATURE_REMOTE_MEMORY, 0, "may use memory of other nodes" },
	{ "threads", FEATURE_THREADS, 0, "its threads may run on several nodes" },
};
