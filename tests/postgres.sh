#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, whose address is in
# STEERSMAN_TEST_POSTGRES; both are gone afterwards.  usage: tests/postgres.sh COMMAND [ARGUMENT...]
# Needs the `postgresql` package; in CI, as root, it is installed where it is missing.
set -euo pipefail

find_binaries() {
  local candidate
  # Debian keeps them off the path, one folder a version
  for candidate in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) \
    "$(dirname "$(command -v initdb || echo /none/initdb)")"; do
    if [ -x "$candidate/initdb" ] && [ -x "$candidate/postgres" ]; then
      echo "$candidate"
      return
    fi
  done
}

bin=$(find_binaries)
if [ -z "$bin" ] && [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ]; then
  apt-get update -qq && apt-get install -y -qq postgresql >/dev/null
  bin=$(find_binaries)
fi
if [ -z "$bin" ]; then
  echo 'no PostgreSQL server is installed; apt-get install postgresql' >&2
  exit 1
fi

work=$(mktemp -d)
as_owner=()
if [ "$(id -u)" = 0 ]; then
  # the server refuses to run as root
  chown postgres "$work"
  as_owner=(setpriv --reuid postgres --regid postgres --init-groups)
fi
server=
finish() {
  if [ -n "$server" ]; then
    kill -INT "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT

(cd "$work" && "${as_owner[@]}" "$bin/initdb" --pgdata "$work/data" --username steersman \
  --auth trust --encoding UTF8 --locale C.UTF-8 >"$work/initdb.log" 2>&1) ||
  { cat "$work/initdb.log" >&2; exit 1; }

start() {
  (cd "$work" && exec "${as_owner[@]}" "$bin/postgres" -D "$work/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 \
    >"$work/log" 2>&1) &
  server=$!
}
answers() { grep -q 'ready to accept connections' "$work/log" 2>/dev/null; }

# a port that is free now may be taken a moment later: try several
for _ in 1 2 3 4 5; do
  port=$((20000 + RANDOM % 12000))
  rm -f "$work/log"
  start
  for _ in $(seq 100); do
    answers && break 2
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -INT "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
done
if [ -z "$server" ]; then
  cat "$work/log" >&2
  exit 1
fi

STEERSMAN_TEST_POSTGRES="postgres://steersman@127.0.0.1:$port/postgres" "$@"
