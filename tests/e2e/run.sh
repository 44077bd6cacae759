#!/usr/bin/env bash
# Starts the real server on free ports and asks it as users do: curl, three Python clients, cases
# drawn from its OpenAPI document, a crowd of streams, and a browser where one is installed or can
# be.  usage: tests/e2e/run.sh BINARY
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
server=
finish() { [ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"; }
trap finish EXIT

"$binary" serve --addr 127.0.0.1:0 --data-dir "$work/data" >"$work/out" 2>"$work/log" &
server=$!
for _ in $(seq 100); do
  grep -q ' ready on ' "$work/out" && break
  kill -0 "$server" || { cat "$work/log"; exit 1; }
  sleep 0.2
done
url=$(sed -n 's/.* ready on //p' "$work/out")
echo "server: $url"

curl -sf "$url/healthz" >/dev/null
curl -sf "$url/readyz" >/dev/null
ask() { curl -sf "$url/v1/generate" -H 'content-type: application/json' -d "$1"; }
said() { ask "{\"prompt\":\"What is the capital of France?\",\"objective_weights\":{\"$1\":1},\"temperature\":0}"; }
brief=$(said brevity) detailed=$(said detail)
printf '%s\n' "$brief" "$detailed"
[ "${#brief}" -lt "${#detailed}" ] || { echo 'the weights change nothing'; exit 1; }

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --requirement tests/e2e/requirements.txt
python="$work/venv/bin/python"
export STEERSMAN="$binary"
"$python" tests/e2e/clients.py
"$python" tests/e2e/openapi_cases.py
"$python" tests/e2e/tenants.py
"$python" tests/e2e/soak.py 20
"$python" tests/e2e/fine_tuning.py "$url"
"$python" tests/e2e/story.py
"$python" tests/e2e/bucket.py
"$python" tests/e2e/hub.py
if [ "${CI:-}" = true ] || command -v initdb >/dev/null || [ -d /usr/lib/postgresql ]; then
  tests/postgres.sh "$python" tests/e2e/hosts.py
fi
"$python" tests/e2e/kills.py 12

browser=$(command -v chromium || true)
if [ -z "$browser" ] && [ "${CI:-}" = true ]; then
  apt-get update -qq && apt-get install -y -qq chromium >/dev/null
  browser=$(command -v chromium)
fi
if [ -n "$browser" ]; then
  look() {
    "$browser" --headless --no-sandbox --disable-gpu --disable-background-networking \
      --disable-sync --no-first-run --user-data-dir="$work/profile" --virtual-time-budget=5000 \
      --dump-dom "$url$1" 2>/dev/null
  }
  look / | grep -q brevity || { echo "the playground shows no objective"; exit 1; }
  echo "playground: shows its objectives"
  look /docs | grep -q 'id="create_generation"' || { echo "/docs shows no route"; exit 1; }
  echo "docs: shows its routes"
fi

kill -TERM "$server"
wait "$server"
server=
echo "drained: exit 0"
