/* What /proc tells of a task, parsed with bounds. Outer numbers: read from our own /proc. Any thread. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

enum { PROCINFO_GROUPS = 1024 };

struct procinfo {
	/* /proc/PID/stat: numbers are of the reader's namespace */
	char state;
	pid_t ppid, pgid, sid;
	int tty_nr, tpgid;
	long nice;
	uint64_t start_ticks;
	/* /proc/PID/status */
	pid_t tgid, tracer;
	uint32_t umask, n_threads;
	uint32_t uid[4], gid[4]; /* real, effective, saved, fs */
	uint32_t groups[PROCINFO_GROUPS];
	uint32_t n_groups;
	uint64_t sig_pending, sig_shared, sig_blocked, sig_ignored, sig_caught;
	uint64_t cap_inheritable, cap_permitted, cap_effective, cap_bounding, cap_ambient;
	uint32_t no_new_privs, seccomp_filters;
	uint32_t ns_levels; /* how many pid namespaces deep, seen from ours */
};

/* Fills all of *ret. -ESRCH when there is no such task, -EBADMSG when the kernel's text is not as expected. */
int procinfo_read(pid_t tid, struct procinfo *ret);

/* Only the fields of /proc/PID/stat. */
int procinfo_stat(pid_t tid, struct procinfo *ret);

/* The target of /proc/PID/<what> ("exe", "cwd", "root", "fd/3"). Length, or -errno; -ENAMETOOLONG if it does not fit. */
int procinfo_link(pid_t tid, const char *what, char *ret, size_t size);

/* 1 if both tasks have the same /proc/PID/ns/<ns>, 0 if not, -errno. */
int procinfo_same_ns(pid_t a, pid_t b, const char *ns);
