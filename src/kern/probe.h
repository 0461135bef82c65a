/* What this kernel can do for us, found by doing each thing once: never by its version number.
 *
 * Recipe: struct kern_has has; probe_run(&has) once at start; then read the fields, or walk probe_list for a person.
 * A thing counts as there when it worked now, for this user, in this container: a kernel that has it but refuses it to
 * us is the same to us as one without, and probe_why() gives the errno that tells the two apart. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROBE_MAX = 48 };

struct kern_has {
	/* seccomp */
	bool user_notif;    /* SECCOMP_RET_USER_NOTIF: a call is answered by us */
	bool notif_addfd;   /* a descriptor is put into the caller */
	bool addfd_send;    /* ... and returned by its call in one step */
	bool wait_killable; /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV */
	bool sync_wake_up;  /* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP */

	/* pids, namespaces */
	bool namespaces;   /* new pid, mount, ipc, uts, net and cgroup namespaces */
	bool time_ns;      /* a new time namespace with a shifted monotonic clock */
	bool set_tid;      /* clone3 with a wanted pid */
	bool ns_last_pid;  /* the allocator's cursor can be set */
	bool ns_pid_max;   /* pid_max is one per pid namespace */
	bool host_pid_max; /* pids up to 4194304 can exist in our namespaces */
	bool pid_in_pidns; /* NS_GET_PID_IN_PIDNS and its three sisters */
	bool pidfd_info;   /* PIDFD_GET_INFO */
	bool pidfd_exit;   /* ... gives the exit status of a reaped process too */
	bool pidfd_getfd;  /* a descriptor is taken from another process */
	uint32_t pid_max;  /* kernel.pid_max where we run; not in the list */

	/* other processes */
	bool vm_readv;        /* process_vm_readv and process_vm_writev */
	bool kcmp;            /* are two descriptors one open description? */
	bool seize;           /* ptrace SEIZE, INTERRUPT, GETREGSET */
	bool suspend_seccomp; /* PTRACE_O_SUSPEND_SECCOMP */

	/* cgroups */
	bool cgroup_v1_freezer;
	bool cgroup_v2;        /* a group is made, and a process is cloned into it */
	bool cgroup_v2_freeze; /* cgroup.freeze */
	bool cgroup_v2_kill;   /* cgroup.kill */
	bool psi;              /* /proc/pressure */

	/* files and mounts */
	bool dev_fuse;       /* /dev/fuse opens */
	bool fuse;           /* a FUSE file system is mounted and asked */
	bool fuse_resend;    /* FUSE_NOTIFY_RESEND: a successor gets the requests of a dead server */
	uint32_t fuse_minor; /* the kernel's protocol is 7.fuse_minor; 0 without fuse; not in the list */
	bool open_tree;      /* open_tree(CLONE) and move_mount */
	bool openat2;        /* RESOLVE_IN_ROOT */

	/* memory */
	bool uffd; /* userfaultfd for faults of the kernel too */
	bool uffd_wp_async;
	bool pagemap_scan;

	/* network */
	bool tcp_repair;
	bool tun;
	bool veth;       /* a veth pair and a bridge */
	bool nft_bridge; /* an nftables chain in the bridge family */

	/* used by programs; a process that uses them cannot move yet */
	bool landlock;
	bool io_uring;

	int why[PROBE_MAX]; /* by place in probe_list: 0, or -errno of the step that failed (-ETIMEDOUT: it hung) */
};

struct probe_item {
	const char *name;    /* short, for a table */
	size_t offset;       /* of the bool in struct kern_has */
	bool needed;         /* pandod does not start without it */
	const char *without; /* what is lost without it, in words */
};

extern const struct probe_item probe_list[];
extern const size_t probe_n; /* at most PROBE_MAX */

/* Tries everything in forked children, a few of them at once, and fills *ret: typically 0.1 s, at most PROBE_LIMIT_MS
 * (what hangs is killed and counts as absent). Leaves no process, mount, namespace, cgroup or interface behind and
 * changes nothing of the caller, but for the descriptors, which are the caller's as before. 0; or -errno when not even
 * that could be started (*ret then says that nothing is there). Any thread, blocking: call it before the loop runs. */
int probe_run(struct kern_has *ret) __attribute__((warn_unused_result));

enum { PROBE_LIMIT_MS = 5000 };

/* Whether this item of probe_list is there; and if not, the -errno of the step that failed. */
bool probe_present(const struct kern_has *has, const struct probe_item *item);
int probe_why(const struct kern_has *has, const struct probe_item *item);

/* The name of the first needed item that is absent, or NULL. */
const char *probe_missing(const struct kern_has *has);
