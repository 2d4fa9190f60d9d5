# shellcheck shell=bash
# PostgreSQL for a cloud made with `./dev up --database postgresql`: Debian's binaries and a cluster of this
# copy's own, in its state directory, reached by a socket there and by nothing else. The machine's own
# clusters, if there are any, are neither used nor touched.
#
# The supervisor runs the server (`meridian supervise --postgresql`); here it is made, and run for as long as
# `meridian init` needs it before there is a supervisor.

POSTGRESQL=$STATE/postgresql

# DATABASE is what the command line says; a cloud that exists remembers its own.
uses_postgresql() { [ "${DATABASE:-$(recall database)}" = postgresql ]; }
postgresql_url() { printf 'postgres://postgres@%s/meridian' "${POSTGRESQL//\//%2F}"; }
postgresql_running() { alive "$(head -n 1 "$POSTGRESQL/data/postmaster.pid" 2>/dev/null)" "$POSTGRESQL/data"; }

# The server refuses root: it runs as the account of Debian's package.
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups env -C / LC_ALL=C.UTF-8 "$@"; }
postgresql_program() {
	local directory
	directory=/usr/lib/postgresql/$(cat "$POSTGRESQL/data/PG_VERSION" 2>/dev/null || echo 15)/bin
	[ -x "$directory/$1" ] || { echo "$directory/$1 is missing: Debian's package postgresql-15 has it" >&2; return 1; }
	echo "$directory/$1"
}

# Who comes in is decided by the kernel (peer): root, which the control plane runs as, and the account itself.
postgresql_make() {
	[ -f "$POSTGRESQL/data/PG_VERSION" ] && return 0
	local new=$POSTGRESQL/data.new
	install -d -m 0700 -o postgres -g postgres "$POSTGRESQL"
	rm -rf "$new"
	as_postgres "$(postgresql_program initdb)" --auth=peer --encoding=UTF8 --username=postgres --pgdata="$new" >/dev/null
	printf 'own root postgres\nown postgres postgres\n' | as_postgres tee "$new/pg_ident.conf" >/dev/null
	printf 'local all postgres peer map=own\n' | as_postgres tee "$new/pg_hba.conf" >/dev/null
	mv "$new" "$POSTGRESQL/data"
}

# with_postgresql COMMAND…: runs it while the server runs, which is started for it if it does not.
with_postgresql() {
	local status=0 control started=
	postgresql_make
	control=$(postgresql_program pg_ctl)
	if ! postgresql_running; then
		started=1
		as_postgres "$control" start --silent --wait --pgdata="$POSTGRESQL/data" --log="$POSTGRESQL/first-start.log" \
			--options="-k $POSTGRESQL -c listen_addresses="
	fi
	if [ -z "$("$(postgresql_program psql)" -h "$POSTGRESQL" -U postgres -d postgres -Atqc "SELECT 1 FROM pg_database WHERE datname = 'meridian'")" ]; then
		"$(postgresql_program createdb)" -h "$POSTGRESQL" -U postgres -T template0 meridian
	fi
	"$@" || status=$?
	[ -z "$started" ] || as_postgres "$control" stop --silent --wait --mode=fast --pgdata="$POSTGRESQL/data"
	return $status
}
