#!/usr/bin/env bash
# What webhooks cost grabs: the same load with none, with one that is told of envelopes, and with one that is told of every
# grab, in turns. Prints the table of docs/BENCHMARKS.md. Needs two cores, curl and Python.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${ROUNDS:-3}
rate=${RATE:-10000}
seconds=${SECONDS_EACH:-6}
for tool in python3 curl; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install python3 curl, then run this again" >&2; exit 1; }
done
cargo build --release --quiet --bin hongbao --bin hongbao-load
bin=${CARGO_TARGET_DIR:-target}/release

work=$(mktemp -d)
server=
receiver=
finish() {
    for pid in $server $receiver; do { kill "$pid" && wait "$pid"; } 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

# Takes everything and counts the events.
python3 - "$work" <<'PY' &
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

work, told = sys.argv[1], 0


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global told
        told += self.rfile.read(int(self.headers["content-length"])).count(b'"type":')
        self.send_response(204)
        self.end_headers()
        open(f"{work}/told", "w").write(str(told))

    def log_message(self, *_):
        pass


receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
open(f"{work}/receiver", "w").write(f"http://127.0.0.1:{receiver.server_port}")
receiver.serve_forever()
PY
receiver=$!
until [ -s "$work/receiver" ]; do sleep 0.1; done
target=$(cat "$work/receiver")
echo 0 >"$work/told"

export HONGBAO_ADMIN_KEY=hb_webhooks_0123456789abcdefghijklmnopqrstuvwxyz HONGBAO_KEY=hb_webhooks_0123456789abcdefghijklmnopqrstuvwxyz
for round in $(seq "$rounds"); do
    for types in none envelope share; do
        out=$work/$types-$round
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        "$bin/hongbao" serve --test --data "$out.data" --listen "127.0.0.1:$port" --webhook-allow "$target" >"$out.log" 2>&1 &
        server=$!
        until curl -sf "127.0.0.1:$port/readyz" >/dev/null; do sleep 0.1; done
        [ "$types" = none ] || curl -sf "127.0.0.1:$port/v1/webhooks" -H "Authorization: Bearer $HONGBAO_KEY" -H 'Content-Type: application/json' \
            -H 'Idempotency-Key: w' -d "{\"url\":\"$target/\",\"types\":[\"$types.*\"]}" >/dev/null
        before=$(cat "$work/told")
        "$bin/hongbao-load" run hot --rate "$rate" --duration "${seconds}s" --shares $((rate * seconds)) --threads 1 \
            --target "http://127.0.0.1:$port" --out "$out" >"$out.load" 2>&1 || [ -f "$out/summary.json" ] || { tail -n 5 "$out.load" >&2; exit 1; }
        # Its processor time until then, in clock ticks.
        awk '{print $14 + $15}' "/proc/$server/stat" >"$out.ticks"
        echo $(($(cat "$work/told") - before)) >"$out.told"
        kill "$server" && wait "$server" || true
        server=
        rm -rf "$out.data"
    done
done

python3 - "$work" "$rounds" <<'PY'
import json, os, statistics, sys

work, rounds = sys.argv[1], int(sys.argv[2])
tick = 1e6 / os.sysconf("SC_CLK_TCK")
ok = True
print("| told of | wins a second | p50 | p99 | processor time a win, all of the server | events told while it ran |")
print("|---|---|---|---|---|---|")
for types, what in (("none", "nothing"), ("envelope", "envelopes"), ("share", "every grab")):
    runs = []
    for round in range(1, rounds + 1):
        out = f"{work}/{types}-{round}"
        of = json.load(open(f"{out}/summary.json"))
        ok &= of["audit"]["ok"]
        wins = of["wins"]
        runs.append((of["wins_per_s"], of["latency_us"]["p50"], of["latency_us"]["p99"],
                     int(open(f"{out}.ticks").read()) * tick / wins, int(open(f"{out}.told").read())))
    wins, p50, p99, cost, told = (statistics.median(of) for of in zip(*runs))
    print(f"| {what} | {wins:.0f} | {p50} µs | {p99 / 1000:.1f} ms | {cost:.1f} µs | {told} |")
print(f"audits: {'nothing lost, doubled or oversold' if ok else 'DIFFERENCES'}")
sys.exit(0 if ok else 1)
PY
