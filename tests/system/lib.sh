# Harness of the system tests: sourced by bash scripts that try pando on trial clusters.
#
#   . "$(dirname "$0")/lib.sh"
#   cluster_up 3                            # ends by itself when the test ends, whatever ends it
#   check "a sentence" command args...      # ok when it exits with 0; "!" before the command turns that round
#   check_eq "a sentence" expected actual
#   wait_for 5 "what" command args...       # polls; not ok when it is still not so after 5 s
#   on 2 command args...                    # in node 2
#
# $PANDO is the program under test. Each check prints "ok sentence" or "not ok sentence"; the last one is that nothing is left: no process, network,
# mount, cgroup or file. Exit status: 0 all ok, 1 not, 77 skipped. Nothing here sleeps in the hope that it is long enough.

set -u
: "${PANDO:=$(command -v pando || true)}"
if [ ! -x "$PANDO" ]; then echo "skip: set PANDO to the pando program"; exit 77; fi
if [ "$(id -u)" != 0 ]; then echo "skip: needs root"; exit 77; fi
PANDO=$(readlink -f "$PANDO")
PATH=$(dirname "$PANDO"):$PATH:/usr/sbin:/sbin
export PANDO PATH

TEST_ID="t$$-$(basename "$0" .sh)"
TEST_ID=${TEST_ID:0:24}
T=$(mktemp -d "${TMPDIR:-/tmp}/$TEST_ID.XXXXXX") # for the test's files; the nodes see it too
# Everything that descends from this script carries the mark in its environment: so leftovers are told from other people's processes.
export PANDO_TEST_MARK=$TEST_ID
export PANDO_DEV_NAME=$TEST_ID

n_ok=0
n_failed=0
clusters=()
net_namespaces=() # of nodes and switches, as far as they were seen

say() { printf '%s\n' "$*"; }

ok() { n_ok=$((n_ok + 1)); say "ok $1"; }

not_ok() {
	n_failed=$((n_failed + 1))
	say "not ok $1"
	shift
	[ $# = 0 ] || say "$*" | sed 's/^/    /' | tail -20
}

# check "sentence" [!] command args...: its output is shown when it fails.
check() {
	local sentence=$1 want=0 got
	shift
	if [ "$1" = "!" ]; then want=1; shift; fi
	"$@" >"$T/check.out" 2>&1 </dev/null
	got=$?
	if [ $((got != 0)) = $want ]; then ok "$sentence"; return 0; fi
	not_ok "$sentence" "status $got of: $*
$(cat "$T/check.out")"
	return 1
}

# check_eq "sentence" expected actual
check_eq() {
	if [ "$2" = "$3" ]; then ok "$1"; return 0; fi
	not_ok "$1" "expected: $2
got: $3"
	return 1
}

# check_match "sentence" pattern actual: a pattern of [[ == ]].
check_match() {
	# shellcheck disable=SC2053
	if [[ $3 == $2 ]]; then ok "$1"; return 0; fi
	not_ok "$1" "expected: $2
got: $3"
	return 1
}

now_ms() { local t=${EPOCHREALTIME/[.,]/}; echo "${t%???}"; }

# wait_for SECONDS "what" command args...: 0 as soon as the command exits with 0; else "not ok what".
wait_for() {
	local seconds=$1 what=$2 until
	shift 2
	until=$(($(now_ms) + seconds * 1000))
	while ! "$@" >"$T/wait_for.out" 2>&1 </dev/null; do
		if [ "$(now_ms)" -ge "$until" ]; then
			not_ok "$what (within $seconds s)" "last: $(tail -5 "$T/wait_for.out")"
			return 1
		fi
		sleep 0.05
	done
	ok "$what"
}

# on I command args...: in node I of the current cluster ($PANDO_DEV_NAME).
on() {
	local i=$1
	shift
	"$PANDO" dev exec "$i" -- "$@"
}

namespaces_note() {
	local name=$1 pid ns
	# By indentation: the switch's pid, and those of the nodes (not those of their services, which are numbers of the nodes').
	for pid in $("$PANDO" dev status --name "$name" --format=json | sed -n 's/^\( "lan_\|   "\)pid": \([0-9]*\),\?$/\2/p'); do
		ns=$(readlink "/proc/$pid/ns/net" 2>/dev/null)
		[ -n "$ns" ] && [ "$ns" != "$(readlink /proc/self/ns/net)" ] && net_namespaces+=("$ns")
	done
}

# cluster_up N [options of pando dev up]: starts a cluster that the end of the test ends. With --name it is not the current one.
cluster_up() {
	local name=$PANDO_DEV_NAME k
	for ((k = 1; k < $#; k++)); do
		if [ "${!k}" = --name ]; then k=$((k + 1)); name=${!k}; fi
	done
	clusters+=("$name")
	if ! "$PANDO" dev up "$@" --quiet; then
		not_ok "$name starts"
		return 1
	fi
	namespaces_note "$name"
}

cluster_down() { "$PANDO" dev down --name "${1:-$PANDO_DEV_NAME}"; }

# --- what is left ---

host_mounts() { cut -d' ' -f5- /proc/self/mountinfo | sort; }
host_links() { ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | sort; }

process_words() { # PID: who it is; nothing for this script and its children (what it runs just now)
	local pid=$1 ppid
	ppid=$(awk '{print $4}' "/proc/$pid/stat" 2>/dev/null) || return 0
	[ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] || [ "$ppid" = $$ ] || [ "$ppid" = "$BASHPID" ] && return 0
	echo "process $pid: $({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null)"
}

marked_processes() {
	local f pid
	for f in $(grep -lzx "PANDO_TEST_MARK=$TEST_ID" /proc/[0-9]*/environ 2>/dev/null); do
		pid=${f%/environ}
		process_words "${pid#/proc/}"
	done
}

namespace_processes() {
	local link ns
	[ ${#net_namespaces[@]} -gt 0 ] || return 0
	find /proc -maxdepth 3 -path '/proc/[0-9]*/ns/net' -printf '%p %l\n' 2>/dev/null | while read -r link ns; do
		case " ${net_namespaces[*]} " in *" $ns "*) link=${link#/proc/}; process_words "${link%%/*}" ;; esac
	done
}

leftovers() {
	local name
	marked_processes
	namespace_processes
	for name in "${clusters[@]:-none}"; do
		find $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts) -maxdepth 1 -name "pando-dev-$name" 2>/dev/null | sed 's/^/cgroup /'
		grep -F "pando-dev-$name" /proc/self/mountinfo | sed 's/^/mount /'
		[ -e "/var/tmp/pando-dev-$name" ] && echo "directory /var/tmp/pando-dev-$name"
	done
	host_mounts | comm -13 "$T/mounts.before" - | sed 's/^/mount /'
	host_links | comm -13 "$T/links.before" - | sed 's/^/network interface /'
	[ ! -e "$T/run.before" ] && [ -e /run/pando ] && echo "directory /run/pando"
	return 0
}

finish() {
	local status=$? name left until
	[ "$BASHPID" = $$ ] || exit "$status" # a child that was hit before it was something else
	trap - EXIT
	trap '' INT TERM HUP
	for name in "${clusters[@]:-}"; do
		[ -n "$name" ] && [ -e "/var/tmp/pando-dev-$name" ] && { "$PANDO" dev down --name "$name" || not_ok "$name ends"; }
	done
	# Processes that were killed may still be on their way out: look again, for 3 s at most.
	until=$(($(now_ms) + 3000))
	while left=$(leftovers); [ -n "$left" ] && [ "$(now_ms)" -lt "$until" ]; do sleep 0.05; done
	if [ -z "$left" ]; then ok "nothing is left"; else not_ok "nothing is left" "$left"; fi
	rm -rf "$T"
	say "$n_ok ok, $n_failed not ok"
	[ "$n_failed" = 0 ] || exit 1
	exit "$status"
}

host_mounts >"$T/mounts.before"
host_links >"$T/links.before"
[ -e /run/pando ] && : >"$T/run.before"
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
