#!/usr/bin/env bash
# The completion of bash: what it offers at places of a command line. $PANDO: the program.
set -u
failed=0
# shellcheck disable=SC1090
source <("$PANDO" completion bash)

# offers WORD...: what is offered for the last word, sorted, on one line.
offers() {
	COMP_WORDS=(pando "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_pando 2>/dev/null
	printf '%s\n' "${COMPREPLY[@]}" | sort -u | paste -sd' '
}
check() { # sentence, expected, got
	if [ "$2" = "$3" ]; then echo "ok $1"; else printf 'not ok %s\n    expected: %s\n    got: %s\n' "$1" "$2" "$3"; failed=1; fi
}

check "commands by their beginning" "set shell status" "$(offers s)"
check "a group has its commands" "drain label list remove" "$(offers node '')"
check "the commands of a group by their beginning" "label list" "$(offers node l)"
check "options of a command" "--feature= --help --node=" "$(offers run --)"
check "options of a command of a group" "--help --undo --wait" "$(offers node drain --)"
check "values of an option" "json table" "$(offers status --format = '')"
check "global options" "--help --run= --state= --version" "$(offers --)"
check "commands behind global options" "token" "$(offers --run /tmp tok)"
check "commands behind global options with =" "token" "$(offers --run = /tmp tok)"
check "topics of help" "doctor" "$(offers help doc)"
check "shells" "bash" "$(offers completion '')"
check "programs of the command line of run" "true" "$(offers run -- tru | tr ' ' '\n' | grep -x true)"
cd / || exit 1
check "files behind the program of run" "/etc/passwd" "$(offers run cat /etc/passw | tr ' ' '\n' | grep -x /etc/passwd)"
check "pids" "$$" "$(offers why "$$" | tr ' ' '\n' | grep -x "$$")"
check "the commands of dev" "down" "$(offers dev dow)"
check "options of commands of dev" "--name= --service=" "$(offers dev up -- | tr ' ' '\n' | grep -E 'name|service' | paste -sd' ')"
check "the command of dev exec" "true" "$(offers dev exec 1 -- tru | tr ' ' '\n' | grep -x true)"
check "nothing for what is not known" "" "$(offers nonsense '')"
for c in $("$PANDO" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]\+\).*/\1/p' | sort -u); do
	[ "$(offers "$c" | tr ' ' '\n' | grep -x "$c")" = "$c" ] || { echo "not ok $c is offered"; failed=1; }
done
exit "$failed"
