#!/usr/bin/env bash
# Runs every bench against its baseline and writes target/bench-report.txt,
# the table of docs/BENCHMARKS.md. With --quick: small sizes, a few minutes, to
# see that everything runs; its figures are not for showing.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never LC_ALL=C.UTF-8

usage() {
    echo "usage: $0 [--quick] [--only NAME[,NAME]]   NAME: grab journal durable due events http cost replay redis parts" >&2
    exit 2
}

quick=no
only=grab,journal,durable,due,events,http,cost,replay,redis,parts
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) quick=yes ;;
        --only)
            [ $# -ge 2 ] || usage
            only=$2
            shift
            ;;
        *) usage ;;
    esac
    shift
done
for name in ${only//,/ }; do
    [ -f "benches/benches/$name.rs" ] || { echo "there is no bench $name" >&2; usage; }
done

command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.90 or newer, then run this again" >&2; exit 1; }
case ",$only," in *,redis,*)
    command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null ||
        { echo "redis-server is missing: apt-get install redis-server, then run this again" >&2; exit 1; }
    ;;
esac

if [ "$quick" = yes ]; then
    export ROUNDS=3 MOST=100000 GRABS=100000 BATCHES=100 SUSTAINED_S=3 SLICE_MS=500 SHARES=500000 TAIL=200000 SETTLED=50000 REDIS_GRABS=20000 HOLDS=100000 GIFTS=10000 DUE_S=20
    parts_options=(--quick)
else
    parts_options=()
fi

mkdir -p target
report=target/bench-report.txt
: >"$report"
log=target/bench-log.txt
: >"$log"

# Everything is built before anything is measured.
echo "building (the log is $log)" >&2
cargo bench --package hongbao-benches --benches --no-run 2>>"$log" || { tail -n 30 "$log" >&2; exit 1; }

load() { cut -d' ' -f1 /proc/loadavg; }
mount_of() { findmnt --noheadings --output FSTYPE,SOURCE,OPTIONS --target target 2>/dev/null || df -T target | tail -n 1; }
about() {
    local commit
    commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
    [ -z "$(git status --porcelain 2>/dev/null)" ] || commit="$commit, with changes"
    echo "date: $(date -u +%Y-%m-%dT%H:%MZ)"
    echo "commit: $commit"
    echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    echo "memory: $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
    echo "kernel: $(uname -sr)"
    echo "file system of the journal: $(mount_of | tr -s ' ')"
    echo "compiler: $(rustc --version)"
    echo "load before: $(load)"
    echo "command: scripts/bench.sh$([ "$quick" = no ] || echo ' --quick')$([ "$only" = grab,journal,durable,due,events,http,cost,replay,redis,parts ] || echo " --only $only")"
    [ "$quick" = no ] || echo "QUICK: small sizes; these figures show only that everything runs"
}
about | tee -a "$report"

# A line of another machine's or another's build's work falls on both sides of
# a ratio, but widens its quartiles.
if awk -v load="$(load)" 'BEGIN { exit !(load > 0.5) }'; then
    echo "the machine is not idle (load $(load)); figures will be noisy" | tee -a "$report" >&2
fi

{
    echo
    echo "| what | median | against | its median | ratio (quartiles) | goal | | rounds |"
    echo "|---|---|---|---|---|---|---|---|"
} | tee -a "$report"
failed=()
for name in ${only//,/ }; do
    [ "$name" != parts ] || continue
    echo "== $name, from $(date -u +%H:%M)" >>"$log"
    # Rows go to the report as they come; the rest of what a bench says to the log.
    if ! cargo bench --quiet --package hongbao-benches --bench "$name" 2>>"$log" | tee -a "$log" |
        { grep --line-buffered '^| ' || true; } | { grep --line-buffered -v '^| what ' || true; } | tee -a "$report"; then
        failed+=("$name")
        echo "the bench $name failed; see $log" | tee -a "$report" >&2
    fi
done

case ",$only," in *,parts,*)
    echo "== parts" >>"$log"
    {
        echo
        echo "Parts, by criterion (low, estimate, high):"
        echo
        echo '```'
    } | tee -a "$report"
    # A long name stands on a line of its own before its time.
    if ! cargo bench --quiet --package hongbao-benches --bench parts -- --noplot "${parts_options[@]}" 2>>"$log" |
        tee -a "$log" |
        awk '/time:/ && !/%/ { own = $0; sub(/ *time:.*/, "", own); sub(/.*time: */, ""); print (own == "" ? name : own) ": " $0
                       fflush(); next }
             /^[^ ]/ { name = $0 }' | tee -a "$report"; then
        failed+=(parts)
        echo "the bench parts failed; see $log" | tee -a "$report" >&2
    fi
    echo '```' | tee -a "$report"
    ;;
esac
echo "load after: $(load)" | tee -a "$report"
echo "the report is $report" >&2
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
