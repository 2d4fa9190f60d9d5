#!/bin/bash
# Measures this cloud beside the real services whose API it speaks: one run, one machine, the same
# requests, first there and then here, and a table of the ratios. A figure means something only on
# a quiet machine; what is printed says how busy it was.
#
#   cargo build --release -p meridian && cargo build --release -p simulated_cloud
#   MERIDIAN_SHARED=DIR PEER=DIR bench/peer.sh [--only peer|meridian|table] [OPTIONS OF peer.py run]
#   IDENTITY=1 … bench/peer.sh …      who is who alone, with 10,000 people (PEOPLE=N)
#
# MERIDIAN_SHARED holds the scripts peer/*.sh, which have installed the real services under PEER.
# Both sides are asked over plain HTTP through an nginx on the loopback: the real services listen
# behind one anyway, and the load generator speaks no TLS. BIN names the directory of our binaries.
set -euo pipefail
export LC_ALL=C.UTF-8
REPO=$(cd "$(dirname "$0")/.." && pwd)
BIN=${BIN:-$REPO/target/release}
SCRIPTS=${MERIDIAN_SHARED:-}/peer
# What both sides measured is kept here, so that one side can be repeated.
OUT=${OUT:-/tmp/meridian-ratios.jsonl}
SERVERS=${SERVERS:-500} PEOPLE=${PEOPLE:-10000}
WHAT=run PARTS="10-infra 20-keystone 40-glance 60-neutron 50-placement-nova"
if [ "${IDENTITY:-0}" = 1 ]; then
	WHAT=identity PARTS="10-infra 20-keystone" OUT=${OUT%.jsonl}-identity.jsonl
	export NO_MQ=1
fi
ONLY=
if [ "${1:-}" = --only ]; then ONLY=$2; shift 2; fi
OPTIONS=("$@")
[ $WHAT = run ] || OPTIONS+=(--people "$PEOPLE")

die() { echo "$*" >&2; exit 1; }
[ -f "$SCRIPTS/load.py" ] || die "the real services' scripts are not here: MERIDIAN_SHARED must name a directory with peer/load.py"
wants() { [ -z "$ONLY" ] || [ "$ONLY" = "$1" ]; }
! wants peer || [ -x "${PEER:-}/venv/bin/python" ] || die "the real services are not installed: PEER must name the directory where $SCRIPTS/00-install.sh put them"
! wants meridian || { [ -x "$BIN/meridian" ] && [ -x "$BIN/simulated-host" ]; } || die "$BIN has no meridian or no simulated-host: build them (see the head of this file), or say BIN=DIR"

machine() { echo "machine: $(nproc) cores, $(awk '/^MemTotal/ { print int($2 / 1048576) }' /proc/meminfo) GiB, load $(cut -d' ' -f1-3 /proc/loadavg), $(date -u +%FT%TZ)"; }
forget() { # forget LABEL: drops its earlier rows
	[ -f "$OUT" ] || return 0
	grep -v "\"label\": \"$1\"" "$OUT" >"$OUT.new" || true
	mv "$OUT.new" "$OUT"
}

measure_peer() (
	# shellcheck source=/dev/null
	. "$SCRIPTS/env.sh"
	if [ -f "$RUN/keystone.pid" ] && kill -0 "$(cat "$RUN/keystone.pid")" 2>/dev/null; then
		echo "the real services run already; they are left running"
	else
		trap '"$SCRIPTS/stop.sh" >/dev/null 2>&1 || true' EXIT
		for part in $PARTS; do
			"$SCRIPTS/$part.sh" >>"$LOG/ratios.log" 2>&1 || die "$part.sh failed: $LOG/ratios.log"
		done
	fi
	if [ "$WHAT" = identity ]; then
		# A list of ten thousand assignments is more than its cache takes for one object, and the answer were 500.
		# Its last kill finds nobody, as it should.
		stop_one memcached || true
		spawn memcached memcached -u nobody -l "$PEER_HOST" -p "$MC_PORT" -m 256 -c 2048 -I 32m
		{ echo "SET @people = $PEOPLE;"; cat "$REPO/bench/keystone_people.sql"; } | db keystone
	fi
	echo "idle memory of the real services:"
	python3 "$SCRIPTS/mem.py" "$RUN"
	machine
	forget peer
	python3 "$REPO/bench/peer.py" $WHAT --load "$SCRIPTS/load.py" --label peer --out "$OUT" --auth-url "$KS" --password "$PW" \
		--at "compute=http://$PEER_HOST:$NOVA_PORT/v2.1" --pid-dir "$RUN" --servers "$SERVERS" \
		--filler "$VENV/bin/python $SCRIPTS/clone_servers.py" "${OPTIONS[@]}"
)

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

measure_meridian() (
	state=$(mktemp -d /tmp/meridian-ratios.XXXXXX)
	pids=$state/pids
	mkdir -p "$pids" "$state/nginx" "$state/simulated"
	end() {
		local file
		set +e
		for file in "$pids"/*.pid; do [ -f "$file" ] && kill -TERM -- "-$(cat "$file")" 2>/dev/null; done
		sleep 1
		for file in "$pids"/*.pid; do [ -f "$file" ] && kill -KILL -- "-$(cat "$file")" 2>/dev/null; done
		rm -rf "$state"
	}
	trap end EXIT
	start() { # start NAME COMMAND…: a session of its own, found by its pid file
		local name=$1
		shift
		setsid "$@" >"$state/$name.log" 2>&1 </dev/null &
		echo $! >"$pids/$name.pid"
	}
	export MERIDIAN_STATE=$state/cloud
	api=$(free_port) gateway=$(free_port) plain=$(free_port)
	"$BIN/meridian" init --listen "127.0.0.1:$api" --gateway-listen "127.0.0.1:$gateway" --prefix ratio \
		--database sqlite:db/meridian.sqlite >/dev/null
	start control-plane "$BIN/meridian" control-plane
	cat >"$state/nginx/nginx.conf" <<CONF
user root; worker_processes 1; daemon off; pid $state/nginx/pid; error_log $state/nginx/errors;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 100000000; keepalive_timeout 300;
  client_body_temp_path $state/nginx/a; proxy_temp_path $state/nginx/b; uwsgi_temp_path $state/nginx/c;
  fastcgi_temp_path $state/nginx/d; scgi_temp_path $state/nginx/e;
  upstream cloud { server 127.0.0.1:$api; keepalive 64; keepalive_requests 100000000; }
  server { listen 127.0.0.1:$plain backlog=512; client_max_body_size 0;
    location / { proxy_pass https://cloud; proxy_http_version 1.1; proxy_ssl_verify off; proxy_read_timeout 300;
      proxy_set_header Connection ""; proxy_set_header Host \$host:\$server_port; } } }
CONF
	start nginx nginx -c "$state/nginx/nginx.conf"
	for _ in $(seq 200); do curl -sf -o /dev/null "http://127.0.0.1:$plain/healthz" && break; sleep 0.1; done
	curl -sf -o /dev/null "http://127.0.0.1:$plain/healthz" || die "the control plane does not answer: $(tail -n 5 "$state/control-plane.log")"
	tokens=$(for _ in 1 2 3 4; do "$BIN/meridian" host token | tail -n 1; done | paste -sd,)
	start hosts "$BIN/simulated-host" --state "$state/simulated" --control-plane "https://127.0.0.1:$gateway" \
		--authority "$MERIDIAN_STATE/pki/ca.pem" --hosts 4 --vcpus 1000 --token "$tokens"
	password=$(sed -n '/^  meridian-admin:/,/password:/s/^ *password: //p' "$MERIDIAN_STATE/etc/clouds.yaml")
	echo "idle memory of this cloud:"
	python3 "$SCRIPTS/mem.py" "$pids"
	machine
	forget meridian
	at="http://127.0.0.1:$plain"
	python3 "$REPO/bench/peer.py" $WHAT --load "$SCRIPTS/load.py" --label meridian --out "$OUT" --auth-url "$at/identity/v3" \
		--password "$password" --at "image=$at/image" --at "network=$at/network" --at "compute=$at/compute/v2.1" \
		--pid-dir "$pids" --servers "$SERVERS" --hosts 4 "${OPTIONS[@]}"
	echo "memory of this cloud with $SERVERS servers:"
	python3 "$SCRIPTS/mem.py" "$pids"
)

machine
! wants peer || measure_peer
! wants meridian || measure_meridian
echo
python3 "$REPO/bench/peer.py" table "$OUT" meridian peer
machine
