#!/bin/bash
# Garbage, broken and repeated bytes for every socket of a node, from root, from an ordinary user and from another machine: the daemons live,
# answer others meanwhile, keep nothing of it, and say it in few lines.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || { echo "skip no python3"; exit 77; }
command -v openssl >/dev/null || { echo "skip no openssl"; exit 77; }
here=$(dirname "$(readlink -f "$0")")
user=65534

cluster_up 2 || exit 1
log=/var/tmp/pando-dev-$PANDO_DEV_NAME/node-1/service.log
run=$(on 1 sh -c 'echo "${PANDO_RUN:-/run/pando}"')

is_up() { on "$1" pando status | grep -q '2 of 2 nodes up'; }
daemons() { on 1 sh -c 'for p in /proc/[0-9]*; do read -r c <$p/comm 2>/dev/null || continue; case $c in pandod|pando-streams|pando-keeper|pando-procfs) echo "$c ${p#/proc/}";; esac; done' | sort; }
lines() { wc -l <"$log"; }
fds_of() { on 1 sh -c "ls /proc/$1/fd | wc -l"; }
kib_of() { on 1 awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
has_fds() { [ "$(fds_of "$1")" -le "$2" ]; }
attack() { on "$1" python3 "$here/hostile.py" "${@:2}"; }

for i in 1 2; do wait_for 20 "node $i is up" is_up $i; done
before=$(daemons)
pandod=$(echo "$before" | awk '$1 == "pandod" {print $2; exit}')
attack 1 control "$run/control.sock" >/dev/null # what is kept for good is kept now
declare -A fds
while read -r _ pid; do fds[$pid]=$(fds_of "$pid"); done <<<"$before"
kib=$(kib_of "$pandod")

# The node after a part: WHAT, how many lines it may have said.
is_well() {
	local said=$(($(lines) - had))
	check_eq "$1: no daemon has ended" "$before" "$(daemons)"
	check "$1: the node answers" on 1 pando status
	if [ "$said" -le "$2" ]; then ok "$1: said in $said lines"; else not_ok "$1: said in at most $2 lines" "$(tail -n "$said" "$log")"; fi
}

part() { # WHAT MOST_LINES NODE hostile.py's arguments...: so many lines, and as many again for each second
	local what=$1 most=$2 begun
	had=$(lines)
	begun=$(now_ms)
	shift 2
	check "$what" attack "$@"
	is_well "$what" $((most * (1 + ($(now_ms) - begun) / 1000)))
}

# A line a second at most.
part "control socket, as an ordinary user" 1 1 --uid $user control "$run/control.sock"
part "control socket, as root" 1 1 control "$run/control.sock"
for s in $(on 1 sh -c "cd $run && ls | grep 'sock\$'"); do
	[ "$s" = control.sock ] && continue
	part "$s lets no ordinary user in" 2 1 --uid $user denied "$run/$s" # what the part before has left to say
	part "$s, as root" 400 1 unix "$run/$s"                               # a line for each connection
done

# Ports: a line for each address in 10 s.
for port in $(on 1 ss -Hltn | awk '{sub(/.*:/, "", $4); print $4}' | sort -u); do
	for from in 1 2; do
		begun=$(now_ms)
		had=$(lines)
		check "port $port, from node $from" attack $from tcp node1 "$port"
		is_well "port $port, from node $from" $((2 * (($(now_ms) - begun) / 10000 + 2)))
		check "port $port, from node $from: it was said" [ "$(lines)" -gt "$had" ]
	done
done

while read -r name pid; do wait_for 20 "no descriptor is kept by $name" has_fds "$pid" "${fds[$pid]}"; done <<<"$before"
# A sanitizer keeps what was freed.
on 1 grep -q libasan "/proc/$pandod/maps" || check "no memory to speak of is kept" [ "$(kib_of "$pandod")" -lt $((kib + 65536)) ]
for i in 1 2; do wait_for 20 "node $i has its link" is_up $i; done
check "commands run" [ "$(on 1 pando run -- echo word)" = word ]
check "no sanitizer spoke" ! grep -E "Sanitizer|runtime error|assert" "$log"
