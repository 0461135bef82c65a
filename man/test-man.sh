#!/usr/bin/env bash
# The manual against the programs: every command and option of one is in the other. $PANDO: the program, $MAN: the built pages, $SOURCE: the tree.
set -u
export LC_ALL=C
failed=0
not_ok() { printf 'not ok %s\n' "$1"; failed=1; }
verdict() { # sentence, what is wrong
	if [ -z "$2" ]; then printf 'ok %s\n' "$1"; else not_ok "$1"; printf '%s\n' "$2" | sed 's/^/    /'; fi
}

# Long options of a help text.
help_options() { grep -oE -- '(^|[ ,[])--[a-z][a-z-]*' | grep -oE -- '--[a-z-]+' | sort -u; }

# Long options that a page describes: lines of its OPTIONS section that start an entry.
page_options() { sed -n '/^# OPTIONS/,/^# [^O]/p' "$SOURCE/man/$1.scd" | grep -E '^\*' | grep -oE -- '\*--[a-z-]+\*' | tr -d '*' | sort -u; }

page_of() { # command: the page that describes it
	case $1 in
	help | version | completion) echo pando.1 ;;
	get) echo pando-set.1 ;;
	*) echo "pando-${1%% *}.1" ;;
	esac
}

mapfile -t commands < <("$PANDO" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]\+\( [a-z]\+\)\?\)  .*/\1/p')
[ ${#commands[@]} -ge 20 ] || not_ok "the help lists the commands"

wrong=
for c in "${commands[@]}"; do
	page=$(page_of "$c")
	if [ ! -f "$SOURCE/man/$page.scd" ]; then wrong+="$c: no page $page"$'\n'; continue; fi
	grep -q "\*pando $c\*\|^\*$c\|^[|:\[].*\*$c[* ]\|\*$c\*" "$SOURCE/man/$page.scd" || wrong+="$page does not name \"$c\""$'\n'
	grep -q "pando-${c%% *}\*(1)\|\*$c" "$SOURCE/man/pando.1.scd" || wrong+="pando.1 does not name \"$c\""$'\n'
done
verdict "every command has a page" "$wrong"

# dev has a table of its own.
options_of() { if [ "$1" = dev ]; then "$PANDO" dev --help; for d in $dev_commands; do "$PANDO" dev "$d" --help; done; echo " --help"
	else "$PANDO" $1 --help; fi | sed -n '/^usage/,$p' | help_options; }
dev_commands=$("$PANDO" dev --help | sed -n 's/^  \([a-z]*\) .*/\1/p')

wrong=
declare -A in_page
for c in "${commands[@]}"; do in_page[$(page_of "$c")]+="$(options_of "$c")"$'\n'; done
in_page[pando.1]+="$("$PANDO" --help | help_options)"$'\n'
for page in "${!in_page[@]}"; do
	left=$(diff <(printf '%s' "${in_page[$page]}" | sort -u | sed '/^$/d') <(page_options "$page"))
	[ -z "$left" ] || wrong+="$page (<: in the program, >: in the page): $left"$'\n'
done
verdict "pages and programs have the same options" "$wrong"

wrong=
for d in $dev_commands; do grep -q "^\*$d\*" "$SOURCE/man/pando-dev.1.scd" || wrong+="dev $d"$'\n'; done
for d in $(sed -n '/^# COMMANDS/,/^# OPTIONS/s/^\*\([a-z]*\)\*.*/\1/p' "$SOURCE/man/pando-dev.1.scd"); do
	[[ " $(echo $dev_commands) " == *" $d "* ]] || wrong+="dev has no $d"$'\n'
done
verdict "the commands of dev are all described, and no others" "$wrong"

wrong=
for p in pandod pando-keeper pando-streams pando-procfs; do
	program=$(dirname "$PANDO")/$p
	[ -x "$program" ] || continue
	for o in $("$program" --help 2>&1 </dev/null | grep -i usage -A 9 | help_options); do
		grep -q -- "\*$o\*" "$SOURCE/man/$p.8.scd" || wrong+="$p.8: no $o"$'\n'
	done
done
verdict "the options of the daemons are described" "$wrong"

wrong=
for s in $(sed -n 's/^	{ "\([a-z-]*\)", SETTING_.*/\1/p' "$SOURCE/src/member/settings.c"); do
	grep -q "^\*$s\*" "$SOURCE/man/pando-set.1.scd" || wrong+="$s"$'\n'
done
verdict "the settings of the cluster are described" "$wrong"

wrong=
for f in "$SOURCE"/man/*.scd; do
	[ -n "$(sed -n '/^# NAME/,$p' "$f" | sed -n 3p | grep ' - ')" ] || wrong+="$(basename "$f"): NAME is not of the form \"name - what\""$'\n'
	page=$(basename "$f" .scd)
	grep -q "'$page'" "$SOURCE/man/meson.build" || wrong+="$page is not built"$'\n'
	[ "${page##*.}" = 7 ] && continue
	for section in SYNOPSIS DESCRIPTION OPTIONS "EXIT STATUS" "SEE ALSO"; do
		grep -qx "# $section" "$f" || wrong+="$page: no section $section"$'\n'
	done
	[ "${page##*.}" = 8 ] || grep -qx "# EXAMPLES" "$f" || wrong+="$page: no section EXAMPLES"$'\n'
done
for f in "$SOURCE"/man/*.scd; do # pages of ours that are referred to exist
	for r in $(grep -oE '\*pando[a-z-]*\*\([178]\)' "$f" | tr -d '*' | tr '()' '. ' | sed 's/\.$//' | sort -u); do
		[ -f "$SOURCE/man/$r.scd" ] || wrong+="$(basename "$f") refers to $r"$'\n'
	done
done
verdict "the pages have their sections, and refer to pages that exist" "$wrong"

if command -v mandoc >/dev/null; then
	verdict "mandoc finds no error" "$(mandoc -T lint -W error "$MAN"/*.[178] 2>&1)"
fi
exit "$failed"
