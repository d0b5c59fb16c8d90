#!/usr/bin/env bash
# Asks the real server, in test mode, what its OpenAPI document says it may be asked, and
# things it may not: no 5xx, no status and no answer that the document does not tell. That
# bad input is refused is not checked here: a batch answers one bad part with 200.
# One worker: with two CPython 3.11 now and then fails in the parser that hypothesis asks.
# Needs python3; schemathesis is installed below target/tools, or the run is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
seconds=75
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/tools/venv
skip() { echo "SKIPPED: $1; the server was not compared with its OpenAPI document" >&2; exit 0; }

command -v python3 >/dev/null || skip "python3 is not installed (apt-get install python3 python3-venv)"
if ! "$tools/bin/pip" show schemathesis 2>/dev/null | grep -qx "Version: $version"; then
    { python3 -m venv "$tools" && timeout 180 "$tools/bin/pip" install --quiet "schemathesis==$version"; } >/dev/null 2>&1 \
        || skip "schemathesis $version could not be installed (python3 -m venv $tools && $tools/bin/pip install schemathesis==$version)"
fi

directory=$(mktemp -d)
server=
end() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rm -rf "$directory"
}
trap end EXIT
export HONGBAO_ADMIN_KEY=key-of-the-schemathesis-run
"$target/debug/hongbao" serve --test --listen 127.0.0.1:0 --data "$directory/data" --webhook-allow hooks.example.com 2>"$directory/log" &
server=$!
address=
for _ in $(seq 300); do
    address=$(grep -a serving "$directory/log" | sed -n 's/.*address=\([0-9.:]*\).*/\1/p' | head -1 || true)
    [ -n "$address" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
[ -n "$address" ] || { cat "$directory/log" >&2; echo "the server did not start: cargo build --workspace --bins" >&2; exit 1; }

# It writes what it did where it runs.
cd "$directory"
# Faults and the clock are there to make other calls fail, and the feed waits when it has nothing to tell.
"$tools/bin/schemathesis" run "http://$address/openapi.json" \
    --header "Authorization: Bearer $HONGBAO_ADMIN_KEY" \
    --exclude-path-regex '^/v1/(test/|events)' \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --phases examples,coverage,fuzzing --max-examples 20 --max-time "$seconds" --seed 88 --workers 1 \
    --request-timeout 30 --generation-database none --warnings off --no-color
