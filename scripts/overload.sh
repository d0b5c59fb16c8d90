#!/usr/bin/env bash
# What a server does when it is asked for more than it can: server and generator have a core each.
# Prints the table of docs/BENCHMARKS.md. Needs two cores, taskset and Python.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_EACH:-10}
connections=${CONNECTIONS:-1000}
in_flight=${IN_FLIGHT:-4096}
for tool in taskset python3 curl; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install util-linux python3 curl, then run this again" >&2; exit 1; }
done
cargo build --release --quiet --bin hongbao --bin hongbao-load
bin=${CARGO_TARGET_DIR:-target}/release

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; } || true
    rm -rf "$work"
}
trap finish EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export HONGBAO_ADMIN_KEY=hb_overload_0123456789abcdefghijklmnopqrstuvwxyz HONGBAO_KEY=hb_overload_0123456789abcdefghijklmnopqrstuvwxyz
taskset -c 0 "$bin/hongbao" serve --test --data "$work/data" --listen "127.0.0.1:$port" --in-flight-max "$in_flight" \
    >"$work/server.log" 2>&1 &
server=$!
# A threshold or an audit that fails is in the summary; without one there is nothing to tell.
load() {
    local out=${*: -1}
    taskset -c 1 "$bin/hongbao-load" "$@" --target "http://127.0.0.1:$port" --connections "$connections" --threads 1 \
        >"$out.log" 2>&1 || [ -f "$out/summary.json" ] || { tail -n 5 "$out.log" >&2; exit 1; }
}
tell() { python3 - "$@" <<'PY'
import json, sys
out, *fields = sys.argv[1:]
summary = json.load(open(f"{out}/summary.json"))
for field in fields:
    value = summary
    for part in field.split("."):
        value = value[part]
    print(value)
PY
}
settle() { until curl -sf "127.0.0.1:$port/readyz" >/dev/null; do sleep 0.1; done; }
settle

# What it serves at its best: the most wins of runs that ask for more and more.
peak=0
rate=${RATE:-5000}
while load run hot --rate "$rate" --duration "${seconds}s" --shares 2000000 --out "$work/at-$rate"; do
    wins=$(tell "$work/at-$rate" wins_per_s | cut -d. -f1)
    echo "offered $rate/s: $wins wins/s" >&2
    if [ "$wins" -gt "$peak" ]; then peak=$wins best=$rate; fi
    [ "$wins" -gt $((rate * 7 / 10)) ] || break
    rate=$((rate * 5 / 4))
done

# Twice that; the same with one claim in ten; then nine in ten of one envelope beside one in ten of others.
twice=$((2 * peak))
load run hot --rate "$twice" --duration "${seconds}s" --shares 4000000 --out "$work/twice"
"$bin/hongbao-load" scenario hot | sed -e 's/^mass = .*/mass = 90/' -e 's/^claims = .*/claims = 10/' >"$work/claims.toml"
curl -sf "127.0.0.1:$port/metrics" >"$work/before"
load run "$work/claims.toml" --rate "$twice" --duration "${seconds}s" --shares 4000000 --out "$work/claims"
curl -sf "127.0.0.1:$port/metrics" >"$work/after"
load run groups --rate $((twice / 10)) --duration "${seconds}s" --out "$work/others" &
others=$!
# Names are made of the time.
sleep 0.5
load run hot --rate $((twice * 9 / 10)) --duration "${seconds}s" --shares 4000000 --out "$work/hot"
wait "$others"

python3 - "$work" "$peak" "$best" "$twice" <<'PY'
import json, re, sys

work, peak, best, twice = sys.argv[1], *map(int, sys.argv[2:])
summary = {name: json.load(open(f"{work}/{name}/summary.json")) for name in (f"at-{best}", "twice", "claims", "hot", "others")}


def refused(route):
    """The part of a route's requests that was answered 5xx while claims were made."""
    def count(file):
        lines = re.findall(r'hongbao_http_requests_total\{method="POST",route="([^"]+)",status="(\w+)"\} (\d+)', open(f"{work}/{file}").read())
        return {status: int(number) for of, status, number in lines if of == route}
    before, after = count("before"), count("after")
    asked = {status: number - before.get(status, 0) for status, number in after.items()}
    return asked.get("5xx", 0) / max(1, sum(asked.values()))


def ms(us):
    return f"{us / 1000:.0f} ms"


audits = all(of["audit"]["ok"] for of in summary.values())
goodput = summary["twice"]["wins_per_s"]
fair = peak / 10
others = summary["others"]["achieved_per_s"]
print("| what | figure | against | ratio | at least |")
print("|---|---|---|---|---|")
print(f"| overload: wins a second, {twice}/s offered | {goodput:.0f} | the most of any rate | {goodput / peak:.2f} | 0.8 |")
for name, what in ((f"at-{best}", "at its best"), ("twice", "at twice that")):
    of = summary[name]["service_us"]
    print(f"| overload: answered in, {what} | p50 {ms(of['p50'])}, p99 {ms(of['p99'])} | | | |")
claims, grabs = refused("/v1/envelopes/{id}/claim"), refused("/v1/envelopes/{id}/grab")
print(f"| overload: refused of claims, one in ten of twice | {claims:.4f} | of grabs {grabs:.4f} | | |")
print(f"| overload: grabs of other envelopes a second, nine in ten are of one | {others:.0f} | a tenth of the most | {others / fair:.2f} | 0.8 |")
print(f"audits: {'nothing lost, doubled or oversold' if audits else 'DIFFERENCES'}")
sys.exit(0 if audits else 1)
PY
