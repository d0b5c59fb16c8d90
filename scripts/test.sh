#!/usr/bin/env bash
# Runs every test. Needs Rust and a C compiler; says what it does.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.90 or newer, then run this again" >&2; exit 1; }
command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install build-essential, then run this again" >&2; exit 1; }

# Tests start servers of their own, on random ports and in their own
# directories; whatever else listens is left alone, and so is the system:
# installing the package must not start its service.
install_redis() {
    say "installing redis-server"
    local root=() policy=/usr/sbin/policy-rc.d made=no
    local by_hand="redis-server is missing: apt-get install redis-server (6.2 or newer), then run this again"
    command -v apt-get >/dev/null || { echo "$by_hand" >&2; exit 1; }
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || { echo "$by_hand; without root this script cannot do it" >&2; exit 1; }
        root=(sudo -n)
    fi
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod +x "$policy"
        made=yes
    fi
    local installed=yes
    "${root[@]}" apt-get update \
        && "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server \
        || installed=no
    if [ "$made" = yes ]; then "${root[@]}" rm -f "$policy"; fi
    [ "$installed" = yes ] || { echo "$by_hand" >&2; exit 1; }
}
command -v redis-server >/dev/null && command -v redis-cli >/dev/null || install_redis

# The crash and load tests start the real binaries.
say "building the binaries that tests start"
cargo build --workspace --bins

# The version is fixed so that a test that passes today passes tomorrow.
tools=${CARGO_TARGET_DIR:-target}/tools
if [ ! -x "$tools/node_modules/.bin/tsc" ] && command -v npm >/dev/null; then
    say "installing the compiler of TypeScript below $tools"
    npm install --prefix "$tools" --silent --no-audit --no-fund typescript@5.9.3 \
        || echo "typescript could not be installed: the client in TypeScript is not tested (npm install --prefix $tools typescript@5.9.3)" >&2
fi

say "documentation tests"
cargo test --workspace --doc

say "planted bugs, each of which the simulation has to find"
cargo test -p hongbao-engine --features mutants --test simulation -- mutants

if cargo nextest --version >/dev/null 2>&1; then
    say "tests, with cargo-nextest"
    cargo nextest run --workspace --no-fail-fast
else
    say "tests, with cargo test (cargo-nextest is not installed; it would be faster)"
    cargo test --workspace --no-fail-fast --lib --bins --tests
fi
