/* Of <linux/ptrace.h>, which <sys/ptrace.h> of Debian 12 lacks in part and cannot be included beside. */
#pragma once

#include <sys/ptrace.h>

#ifndef PTRACE_SETSIGMASK
#define PTRACE_SETSIGMASK 0x420b
#endif
#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif
