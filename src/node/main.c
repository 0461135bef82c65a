/* pandod: the daemon of a node. One loop thread; every part is a library of its own and is wired here. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "keeper/client.h"
#include "member/lease_file.h"
#include "node/node.h"
#include "stream/client.h"

enum { EXIT_USAGE = 64, STOP_MS = 8000 };

static const char *const phase_names[] = { [NODE_STARTING] = "starting", [NODE_UP] = "up", [NODE_FROZEN] = "frozen", [NODE_LEAVING] = "leaving" };

const char *node_phase_name(const struct node *n)
{
	const struct cluster_member *m = n->member ? cluster_member(member_cluster(n->member), n->self) : NULL;
	if (n->phase == NODE_UP && m && m->state == MEMBER_DRAINING) {
		struct space_counts c = { 0 };
		if (n->space)
			space_count(n->space, &c);
		return c.guests + c.sessions > 0 ? "draining" : "drained";
	}
	return phase_names[n->phase];
}

/* --- the end --- */

static void part_closed(void *ctx)
{
	struct node *n = ctx;
	if (--n->n_stopping == 0)
		uv_stop(&n->loop);
}

static void stop_parts(struct node *n)
{
	n->n_stopping = 1;
	placement_stop(n);
	features_stop(n);
	uv_close((uv_handle_t *)&n->sigterm, NULL);
	uv_close((uv_handle_t *)&n->sigint, NULL);
	streams_client_close(take_ptr(n->streams));
	if (n->procfs) {
		n->n_stopping++;
		procfs_server_close(take_ptr(n->procfs), part_closed, n);
	}
	if (n->ctl) {
		n->n_stopping++;
		ctl_server_close(take_ptr(n->ctl), part_closed, n);
	}
	if (n->member) {
		n->n_stopping++;
		member_close(take_ptr(n->member), part_closed, n);
	}
	if (n->links) {
		n->n_stopping++;
		links_close(take_ptr(n->links), part_closed, n);
	}
	part_closed(n);
}

static void on_left(void *ctx)
{
	stop_parts(ctx);
}

void node_stop(struct node *n)
{
	if (n->phase == NODE_LEAVING)
		return;
	log_notice("leaving");
	n->phase = NODE_LEAVING;
	node_space_end(n);
	member_leave(n->member, on_left, n);
}

static void on_signal(uv_signal_t *h, int signo)
{
	(void)signo;
	node_stop(h->data);
}

/* --- membership --- */

static void on_change(void *ctx, const struct cluster *c)
{
	struct node *n = ctx;
	placement_members(n, c);
	proc_glue_members(n, c);
	stream_glue_members(n, c);
}

static void on_dead(void *ctx, uint16_t node, uint32_t incarnation)
{
	struct node *n = ctx;
	log_notice("the space of node %u has ended (incarnation %u)", node, incarnation);
	if (n->space)
		space_node_dead(n->space, node);
	stream_glue_node_dead(n, node);
}

static void on_ended(void *ctx, enum member_end why)
{
	struct node *n = ctx;
	log_warn("%s: all processes of the space end here", why == MEMBER_END_DEAD ? "this node was cut off and declared dead" : "this node is being removed");
	node_space_end(n);
	member_reborn(n->member);
}

static void on_freeze(void *ctx)
{
	struct node *n = ctx;
	if (n->phase == NODE_LEAVING)
		return;
	log_warn("no majority of the cluster is heard: the space stands still");
	n->phase = NODE_FROZEN;
	node_space_freeze(n, true);
}

static void on_thaw(void *ctx)
{
	struct node *n = ctx;
	if (n->phase == NODE_LEAVING)
		return;
	n->phase = NODE_UP;
	if (n->space)
		node_space_freeze(n, false);
	else
		node_space_start(n);
}

static void on_node(void *ctx, uint16_t node, bool up)
{
	struct node *n = ctx;
	proc_glue_node(n, node, up);
	if (up && n->space)
		space_node_up(n->space, node);
}

static void on_removed(void *ctx)
{
	struct node *n = ctx;
	struct err e = { 0 };
	log_notice("this node has been removed from the cluster");
	node_space_end(n);
	n->phase = NODE_LEAVING;
	if (pki_remove(n->state_dir, &e) < 0)
		log_warn("%s", e.text);
	stop_parts(n);
}

static void on_error(void *ctx, int code, const char *words)
{
	log_error("membership: %s (%s)", words, strerror(-code));
	exit(1); /* the keeper starts us again; the space stays and stands still when its lease ends */
}

static void on_link_up(void *ctx, uint16_t node)
{
	struct node *n = ctx;
	if (n->member)
		member_link_up(n->member, node);
}

static void on_link_down(void *ctx, uint16_t node, const char *why)
{
	struct node *n = ctx;
	log_info("link to node %u is lost: %s", node, why);
	if (n->member)
		member_link_down(n->member, node);
}

static void on_heard(void *ctx, uint16_t node)
{
	struct node *n = ctx;
	if (n->member)
		member_heard(n->member, node);
}

static int listen_at(struct node *n, const char *addr, struct err *e)
{
	char any[64];
	const char *port = strrchr(addr, ':');
	(void)snprintf(any, sizeof any, "%s%s", addr[0] == '[' ? "[::]" : "0.0.0.0", port ? port : ":4840");
	return links_listen(n->links, any, e);
}

/* What the cluster's last known state says of this node. */
static int me_read(struct node *n, struct cluster_member *ret, struct err *e)
{
	struct cluster *c = NULL;
	int rc = member_state_read(n->state_dir, &c, e);
	if (rc < 0)
		return rc == -ENOENT ? err_set(e, rc, "%s: not a member of any cluster: \"pando init\" or \"pando join\" first", n->state_dir) : rc;
	const struct cluster_member *me = cluster_member(c, n->self);
	if (me)
		*ret = *me;
	else
		rc = err_set(e, -ENOENT, "%s: the cluster does not know node %u", n->state_dir, n->self);
	free(c);
	return rc;
}

static int member_begin(struct node *n, const struct cluster_member *me, struct err *e)
{
	char lease[PATHS_MAX];
	(void)snprintf(lease, sizeof lease, "%s/lease", n->run_dir);
	struct member_config cfg = {
		.node = n->self,
		.loop = &n->loop,
		.links = n->links,
		.pki = n->pki,
		.state_dir = n->state_dir,
		.lease_path = lease,
		.self = { .name = me->name, .addr = me->addr, .stream_addr = me->stream_addr, .cpus = me->cpus, .memory = me->memory },
		.fresh_space = !n->had_space,
		.ctx = n,
		.on_change = on_change,
		.on_dead = on_dead,
		.on_ended = on_ended,
		.on_freeze = on_freeze,
		.on_thaw = on_thaw,
		.on_node = on_node,
		.on_removed = on_removed,
		.on_error = on_error,
	};
	int rc = member_start(&cfg, &n->member, e);
	if (rc == 0)
		rc = listen_at(n, me->addr, e);
	if (rc < 0 || !n->had_space)
		return rc;
	/* Whether it may run is the lease's business; that its calls are answered is ours. */
	node_space_start(n);
	if (member_may_run(n->member))
		n->phase = NODE_UP;
	return 0;
}

/* --- the start --- */

static void help(void)
{
	(void)printf("usage: pandod [--state DIR] [--run DIR] [--load-source host|cgroup:PATH] [--cpus X] [--verbose]\n"
		     "The daemon of a Pando node; pando-keeper starts it. See pandod(8).\n");
}

static int options(struct node *n, int argc, char **argv)
{
	static const struct option opts[] = {
		{ "state", required_argument, NULL, 's' },	{ "run", required_argument, NULL, 'r' },
		{ "load-source", required_argument, NULL, 'l' }, { "cpus", required_argument, NULL, 'c' },
		{ "verbose", no_argument, NULL, 'v' },		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },		{ NULL, 0, NULL, 0 },
	};
	const char *state = getenv("PANDO_STATE"), *run = getenv("PANDO_RUN");
	n->state_dir = state && *state ? state : PANDO_STATE_DIR;
	n->run_dir = run && *run ? run : PANDO_RUN_DIR;
	n->load_source = "host";
	log_setup("pandod", getenv("PANDO_DEBUG") ? LOG_DEBUG : LOG_INFO, getenv("JOURNAL_STREAM") != NULL);
	for (int o = getopt_long(argc, argv, "h", opts, NULL); o >= 0; o = getopt_long(argc, argv, "h", opts, NULL)) {
		char *end = NULL;
		switch (o) {
		case 's':
			n->state_dir = optarg;
			break;
		case 'r':
			n->run_dir = optarg;
			break;
		case 'l':
			n->load_source = optarg;
			break;
		case 'c':
			n->cpus = strtod(optarg, &end);
			if (*end || !(n->cpus >= 0 && n->cpus <= 4096)) {
				(void)fprintf(stderr, "pandod: --cpus: \"%s\" is not a number from 0 to 4096\n", optarg);
				return EXIT_USAGE;
			}
			break;
		case 'v':
			log_setup("pandod", LOG_DEBUG, getenv("JOURNAL_STREAM") != NULL);
			break;
		case 'V':
			(void)printf("pandod %s\n", PANDO_VERSION);
			return -1;
		case 'h':
			help();
			return -1;
		default:
			(void)fprintf(stderr, "Try \"pandod --help\".\n");
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "pandod: too many arguments: \"%s\"\n", argv[optind]);
		return EXIT_USAGE;
	}
	return 0;
}

static void limits_raise(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l); /* less will do for a small node */
	}
}

/* Whether the keeper holds a space of a predecessor. */
static bool space_is_kept(struct node *n)
{
	_cleanup_(close_p) int fd = keeper_take(n->keeper, "space");
	return fd >= 0;
}

static int kernel_check(struct node *n, struct err *e)
{
	int rc = probe_run(&n->has);
	if (rc < 0)
		return err_set(e, rc, "the kernel's features cannot be tried: %s", strerror(-rc));
	const char *missing = probe_missing(&n->has);
	return missing ? err_set(e, -EOPNOTSUPP, "this kernel lacks \"%s\": see \"pando doctor\"", missing) : 0;
}

static int handles_start(struct node *n)
{
	int rc = uv_signal_init(&n->loop, &n->sigterm);
	if (rc == 0)
		rc = uv_signal_init(&n->loop, &n->sigint);
	n->sigterm.data = n->sigint.data = n;
	if (rc == 0)
		rc = uv_signal_start(&n->sigterm, on_signal, SIGTERM);
	return rc == 0 ? uv_signal_start(&n->sigint, on_signal, SIGINT) : rc;
}

static int ctl_begin(struct node *n, struct err *e)
{
	char path[PATHS_MAX];
	(void)snprintf(path, sizeof path, "%s/control.sock", n->run_dir);
	int rc = ctl_server_new(&n->loop, path, &n->ctl, e);
	if (rc < 0)
		return rc;
	sessions_start(n);
	answer_start(n);
	processes_start(n);
	doctor_start(n);
	return 0;
}

static int start(struct node *n, struct err *e)
{
	int rc = uv_loop_init(&n->loop);
	if (rc < 0)
		return err_set(e, rc, "loop: %s", uv_strerror(rc));
	rc = keeper_open(&n->keeper, e);
	if (rc == -ENOENT)
		log_notice("no keeper: nothing outlives this program");
	else if (rc < 0)
		return rc;
	n->had_space = space_is_kept(n);
	rc = kernel_check(n, e);
	if (rc == 0)
		rc = pki_load(n->state_dir, &n->pki, e);
	if (rc < 0)
		return rc;
	n->self = pki_node(n->pki);
	struct cluster_member me;
	rc = me_read(n, &me, e);
	if (rc < 0)
		return rc;
	rc = paths_libexec(n->libexec);
	if (rc < 0)
		return err_set(e, rc, "pando-zygote is not found beside pandod");
	rc = fileid_new(&n->fileid);
	if (rc < 0)
		return err_set(e, rc, "no memory");
	struct links_config lc = {
		.loop = &n->loop, .pki = n->pki, .self = n->self, .ctx = n, .on_up = on_link_up, .on_down = on_link_down, .on_heard = on_heard,
	};
	rc = links_new(&lc, &n->links, e);
	if (rc == 0)
		rc = handles_start(n) < 0 ? err_set(e, -EIO, "signals cannot be handled") : 0;
	if (rc == 0)
		rc = features_start(n) < 0 ? err_set(e, -ENOMEM, "no memory for features") : 0;
	if (rc == 0)
		rc = placement_start(n, e);
	if (rc == 0)
		rc = proc_glue_start(n, e);
	if (rc == 0)
		rc = stream_glue_start(n, me.stream_addr, e);
	far_start(n);
	if (rc == 0)
		rc = member_begin(n, &me, e);
	if (rc == 0)
		rc = ctl_begin(n, e);
	return rc;
}

int main(int argc, char **argv)
{
	static struct node n = { .root_fd = -1 };
	struct err e = { 0 };
	int rc = options(&n, argc, argv);
	if (rc != 0)
		return rc < 0 ? 0 : rc;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(022);
	limits_raise();
	n.start_ms = clock_ms();
	rc = start(&n, &e);
	if (rc < 0) {
		log_error("%s", e.text);
		return 1;
	}
	log_notice("node %u of cluster %s starts", n.self, pki_cluster_id(n.pki));
	(void)keeper_ready(n.keeper);
	(void)uv_run(&n.loop, UV_RUN_DEFAULT);
	(void)uv_run(&n.loop, UV_RUN_NOWAIT); /* handles that close */
	log_notice("ended");
	n.fileid = fileid_free(n.fileid);
	n.sched = sched_free(n.sched);
	n.pki = pki_free(n.pki);
	keeper_close(n.keeper);
	return 0;
}
