#!/bin/bash
# /proc of the space: its server with the mounts of a space, on a made-up cluster of spaces of this machine without pandod.
. "$(dirname "$0")/lib.sh"

: "${PROCFS_FAKE:?}" "${PROCFS_SERVER:?}"
[ -e /dev/fuse ] || { echo "skip no /dev/fuse"; exit 77; }
here=$(dirname "$(readlink -f "$0")")
export MARK=7 FAKE_EXE=$PROCFS_FAKE

# inside PART NODES PROCS [options]: a part of procfs-inside.sh in node 1; its checks are counted as ours.
inside() {
	local part=$1 line status
	mkdir "$T/$part"
	chmod 777 "$T" "$T/$part"
	timeout 300 "$PROCFS_FAKE" --server "$PROCFS_SERVER" --nodes "$2" --procs "$3" "${@:4}" -- bash "$here/procfs-inside.sh" "$T/$part" "$part" \
		</dev/null >"$T/$part.out" 2>"$T/$part.err"
	status=$?
	while IFS= read -r line; do
		case $line in
		"ok "*) ok "${line#ok }" ;;
		"not ok "*) not_ok "${line#not ok }" ;;
		*) say "$line" ;;
		esac
	done <"$T/$part.out"
	if [ $status = 77 ]; then say "skip $part: no such namespaces here"; return; fi
	check_eq "$part ran to its end" 0 $status || sed 's/^/    /' "$T/$part.err"
	if grep -E "Sanitizer|runtime error" "$T/$part.err"; then not_ok "$part: no sanitizer spoke" "$(cat "$T/$part.err")"; fi
}

for part in remote_files remote_users tools selves told deaths away; do inside $part 3 4; done
inside unfinished 3 4 --no-finish

# The same ps over the host's own procfs, which shows these processes as well (and the machine's others).
inside speed 3 1500 &
native() {
	local i best=9999999 a b
	until [ -e "$T/speed/measured" ]; do kill -0 $! || return; sleep 0.05; done
	for i in 1 2 3 4 5; do
		a=${EPOCHREALTIME/./}
		ps aux >"$T/native.out"
		b=$((${EPOCHREALTIME/./} - a))
		[ $b -lt $best ] && best=$b
	done
	say "native $best us for $(wc -l <"$T/native.out") processes"
	: >"$T/speed/native"
}
native
wait
