#!/usr/bin/env bash
# Runs every test. Needs Rust and a C compiler; says what it does.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.90 or newer, then run this again" >&2; exit 1; }
command -v cc >/dev/null || { echo "a C compiler is missing: apt-get install build-essential, then run this again" >&2; exit 1; }

# The crash and load tests start the real binaries.
say "building the binaries that tests start"
cargo build --workspace --bins

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
