# shellcheck shell=bash
# Names, places, remembered choices, and how a stage is run and shown. Sourced by ./dev.

# One state directory for each copy of the repository, and one short tag made from it, so that two copies on
# one machine share nothing: devices, namespaces and ports all begin with, or follow from, the tag.
hash_of() { printf '%s' "$1" | sha256sum | cut -c "1-$2"; }
STATE=${MERIDIAN_STATE:-/var/lib/meridian-$(hash_of "$REPO" 8)}
# Four hexadecimal digits: the longest device name made from it, PREFIX-xxxxxxxx, has 14 of 15 characters.
PREFIX=m$(hash_of "$STATE" 4)
NAMESPACE=$PREFIX-host
# Where this cloud's own guests have their files: their processes are known by it.
GUESTS=$STATE/host/
# Another build of the program can be tried: MERIDIAN_BINARY=target/debug/meridian ./dev up builds nothing.
BINARY=$(realpath -m "${MERIDIAN_BINARY:-$REPO/target/release/meridian}")
CLIENT=$STATE/client
DEMO_KEY=$STATE/etc/demo-key

PERSON=${SUDO_USER:-}
[ "$PERSON" = root ] && PERSON=

die() {
	echo "./dev: $*" >&2
	exit 1
}
note() { printf '  %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# need_root COMMAND ARGUMENTS…: runs ./dev again under sudo when it was called from an ordinary account.
need_root() {
	[ "$(id -u)" = 0 ] && return 0
	have sudo || die "'./dev $1' makes network devices and runs guests, so it needs root (and there is no sudo here)"
	echo "./dev $1 makes network devices and runs guests: going on with sudo." >&2
	local keep=()
	[ -n "${MERIDIAN_STATE:-}" ] && keep+=("MERIDIAN_STATE=$MERIDIAN_STATE")
	[ -n "${MERIDIAN_BINARY:-}" ] && keep+=("MERIDIAN_BINARY=$BINARY")
	exec sudo "${keep[@]}" "$REPO/dev" "$@"
}

# Runs a command as the person who typed it: builds, and everything else that needs no root.
as_person() {
	if [ -z "$PERSON" ]; then
		"$@"
		return
	fi
	local home name pass=()
	home=$(getent passwd "$PERSON" | cut -d: -f6)
	for name in CARGO_HOME RUSTUP_HOME RUSTUP_TOOLCHAIN CARGO_BUILD_JOBS http_proxy https_proxy no_proxy SSL_CERT_FILE; do
		[ -n "${!name:-}" ] && pass+=("$name=${!name}")
	done
	# Only what a build may need is passed on; the rest of root's environment stays with root.
	setpriv --reuid "$PERSON" --regid "$(id -g "$PERSON")" --init-groups \
		env -i HOME="$home" USER="$PERSON" LOGNAME="$PERSON" LC_ALL="$LC_ALL" TERM="${TERM:-dumb}" \
		PATH="$home/.cargo/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" "${pass[@]}" "$@"
}

# What belongs to the person who typed the command is theirs to read.
give_to_person() {
	[ -n "$PERSON" ] || return 0
	chown "$PERSON:$(id -g "$PERSON")" "$@"
}

# --- remembered choices: one KEY=VALUE a line, read back exactly -----------------------------------------
CHOICES=$STATE/etc/dev.conf
recall() { if [ -r "$CHOICES" ]; then sed -n "s/^$1=//p" "$CHOICES" | tail -n 1; fi; }
remember() {
	mkdir -p "$STATE/etc"
	local new
	new=$(mktemp "$CHOICES.XXXXXX")
	{
		[ -f "$CHOICES" ] && grep -v "^$1=" "$CHOICES"
		printf '%s=%s\n' "$1" "$2"
	} >"$new" || true
	chmod 0644 "$new"
	mv "$new" "$CHOICES"
}
forget() { if [ -f "$CHOICES" ]; then sed -i "/^$1=/d" "$CHOICES"; fi; }

# alone: only one ./dev at a time changes a cloud. Stages, and with them everything that goes on after ./dev
# ends, run without the lock.
alone() {
	mkdir -p /run/lock
	exec 9>>"/run/lock/$PREFIX-dev"
	flock -n 9 || die "another ./dev is at work on the cloud in $STATE: wait for it, or end it"
}

# --- stages ----------------------------------------------------------------------------------------------
TIMINGS=()
STAGE_PID=
# now_ms: a clock that no one sets, in milliseconds.
now_ms() {
	local up
	read -r up _ </proc/uptime
	echo $((${up%.*} * 1000 + 10#${up#*.} * 10))
}
seconds() { printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# stage TITLE HINT FUNCTION…: runs the function with its output in a log, shows that it moves, and when it
# fails shows the end of the log and the hint. Runs in a subshell: results go through `remember`.
stage() {
	local title=$1 hint=$2
	shift 2
	local log began status=0 shown=0 line width
	mkdir -p "$STATE/log/dev"
	log=$STATE/log/dev/$(printf '%s' "$title" | tr -c 'A-Za-z0-9' '-').log
	began=$(now_ms)
	: >"$log"
	# With a process group of its own, so that it can be ended with everything that it started.
	set -m
	(
		set +m
		set -euo pipefail
		trap - EXIT INT TERM
		"$@"
	) </dev/null >"$log" 2>&1 9>&- &
	STAGE_PID=$!
	set +m
	while kill -0 $STAGE_PID 2>/dev/null; do
		sleep 0.2
		shown=$((shown + 1))
		line=$(tail -n 1 "$log" 2>/dev/null | tr '\r\t' '  ' | tr -dc '[:print:]')
		if [ -t 1 ]; then
			width=$(($(tput cols 2>/dev/null || echo 80) - 2))
			printf '\r\033[K%.*s' "$width" "  … $title: $line"
		elif [ $((shown % 75)) = 0 ]; then
			printf '  … %s (%d s): %.100s\n' "$title" $((($(now_ms) - began) / 1000)) "$line"
		fi
	done
	wait $STAGE_PID || status=$?
	STAGE_PID=
	[ -t 1 ] && printf '\r\033[K'
	if [ $status != 0 ]; then
		printf '\n%s failed. The end of %s:\n\n' "$title" "$log" >&2
		tail -n 20 "$log" | sed 's/^/    /' >&2
		printf '\nWhat to do: %s\nThen run ./dev up again: it goes on from here.\n' "$hint" >&2
		exit 1
	fi
	local took=$(($(now_ms) - began))
	TIMINGS+=("$took $title")
	printf '  ✓ %-46s %10s\n' "$title" "$(seconds $took)"
	# Lines that begin with "> " are for the person.
	sed -n 's/^> /      /p' "$log"
}
tell() { printf '> %s\n' "$*"; }

print_timings() {
	local total=0 entry
	echo
	echo "Time by stage:"
	for entry in "${TIMINGS[@]}"; do
		printf '  %10s  %s\n' "$(seconds "${entry%% *}")" "${entry#* }"
		total=$((total + ${entry%% *}))
	done
	printf '  %10s  in all\n' "$(seconds $total)"
}

# Ctrl-C ends the stage that runs, too.
interrupted() {
	trap - INT TERM
	if [ -n "$STAGE_PID" ]; then
		kill -- "-$STAGE_PID" 2>/dev/null || true
		wait "$STAGE_PID" 2>/dev/null || true
	fi
	echo
	die "stopped; ./dev up goes on from here"
}
trap interrupted INT TERM

# wait_until SECONDS WHAT COMMAND…: until the command succeeds, or fails with what it waited for.
wait_until() {
	local limit=$1 what=$2 began
	shift 2
	began=$(now_ms)
	until "$@" >/dev/null 2>&1; do
		if [ $(($(now_ms) - began)) -gt $((limit * 1000)) ]; then
			echo "waited $limit s for $what"
			return 1
		fi
		sleep 0.1
	done
}

confirm() {
	local answer
	[ -t 0 ] || die "there is nobody to ask: add --yes"
	printf '%s [y/N] ' "$1"
	read -r answer
	case $answer in y | Y | yes) return 0 ;; *) return 1 ;; esac
}

# alive PID WORD: whether the process is there, and is still the one whose command line holds WORD.
alive() {
	[ -n "${1:-}" ] && [ -r "/proc/$1/cmdline" ] && tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF -- "$2"
}
