#!/usr/bin/env bash
# A Redis Cluster on the loopback, in a directory of its own, for trying and testing.
#
#   scripts/redis-cluster.sh up 3 1              three primaries, one replica each
#   scripts/redis-cluster.sh up 3 1 --aof no     without append-only files (for --redis-durability relaxed)
#   scripts/redis-cluster.sh up 3 0 --port 7000  ports from 7000; without it random free ones
#   scripts/redis-cluster.sh down                ends it and removes its directory
#
# The directory is $HONGBAO_CLUSTER_DIR, or hongbao-cluster under $TMPDIR or /tmp.
# Only servers started by `up` are talked to or ended, by their process ids.
set -euo pipefail

directory=${HONGBAO_CLUSTER_DIR:-${TMPDIR:-/tmp}/hongbao-cluster}
case "$directory" in /*) ;; *) directory=$PWD/$directory ;; esac
marker="$directory/made-by-redis-cluster.sh"

die() { echo "redis-cluster.sh: $*" >&2; exit 1; }
usage() { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# Whether the process in pid file $1 is the server that `up` started on port $2.
ours() {
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] || return 1
    case "$(ps -o args= -p "$pid" 2>/dev/null)" in
        *redis-server*":$2"*) return 0 ;;
        *) return 1 ;;
    esac
}

cli() { redis-cli -p "$@"; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Starts a server on port $1 in a directory of its own; fails if the port is taken.
start() {
    local port=$1 home="$directory/$1"
    if listens "$port" || listens "$((port + 10000))"; then return 1; fi
    mkdir -p "$home"
    cat > "$home/redis.conf" <<CONF
bind 127.0.0.1
port $port
dir "$home"
daemonize yes
pidfile "$home/pid"
logfile "$home/log"
save ""
appendonly $aof
appendfsync always
maxmemory-policy noeviction
cluster-enabled yes
cluster-node-timeout 5000
cluster-require-full-coverage no
repl-diskless-sync-delay 0
CONF
    redis-server "$home/redis.conf" >/dev/null || return 1
    for _ in $(seq 200); do
        if ours "$home/pid" "$port" && [ "$(cli "$port" PING 2>/dev/null)" = PONG ]; then return 0; fi
        sleep 0.05
    done
    return 1
}

# Until the condition "$@" holds; says what it waited for when it does not.
await() {
    local what=$1; shift
    for _ in $(seq 600); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    die "the cluster does not reach: $what; look at the logs under $directory, then run: $0 down"
}

all_met() {
    local port
    for port in "${ports[@]}"; do
        [ "$(cli "$port" CLUSTER NODES | grep -v handshake | grep -c ' connected')" = "${#ports[@]}" ] || return 1
    done
}

all_ok() {
    local port info
    for port in "${ports[@]}"; do
        info=$(cli "$port" CLUSTER INFO)
        case "$info" in *cluster_state:ok*cluster_slots_ok:16384*) ;; *) return 1 ;; esac
        info=$(cli "$port" INFO replication | tr -d '\r')
        case "$info" in
            *role:master*)
                [ "$(grep -c '^slave.*state=online' <<<"$info")" = "$replicas" ] || return 1 ;;
            *master_link_status:up*) ;;
            *) return 1 ;;
        esac
    done
}

up() {
    local first last
    command -v redis-server >/dev/null && command -v redis-cli >/dev/null \
        || die "redis-server is missing: apt-get install redis-server, or run scripts/test.sh, which does it"
    [ ! -e "$directory" ] || die "$directory is there already; run first: $0 down (or set HONGBAO_CLUSTER_DIR)"
    mkdir -p "$directory"
    touch "$marker"

    ports=()
    local next=${base:-0} tries=0
    while [ "${#ports[@]}" -lt "$((primaries * (1 + replicas)))" ]; do
        if [ -z "$base" ]; then next=$((11000 + RANDOM % 11000)); fi
        if start "$next"; then
            ports+=("$next")
        elif [ -n "$base" ]; then
            die "no server can be started on port $next; is it or $((next + 10000)) taken? Then run: $0 down"
        else
            rm -rf "${directory:?}/$next"
            tries=$((tries + 1))
            [ "$tries" -lt 50 ] || die "no server can be started; try one by hand: redis-server --port 0"
        fi
        next=$((next + 1))
    done

    for ((i = 0; i < ${#ports[@]}; i++)); do
        cli "${ports[i]}" CLUSTER SET-CONFIG-EPOCH "$((i + 1))" >/dev/null
        if [ "$i" -lt "$primaries" ]; then
            first=$((16384 * i / primaries)) last=$((16384 * (i + 1) / primaries - 1))
            # shellcheck disable=SC2046 # each slot is a word
            cli "${ports[i]}" CLUSTER ADDSLOTS $(seq "$first" "$last") >/dev/null
        fi
        if [ "$i" -gt 0 ]; then cli "${ports[i]}" CLUSTER MEET 127.0.0.1 "${ports[0]}" >/dev/null; fi
    done
    await "all nodes know each other" all_met
    for ((i = primaries; i < ${#ports[@]}; i++)); do
        cli "${ports[i]}" CLUSTER REPLICATE "$(cli "${ports[i % primaries]}" CLUSTER MYID)" >/dev/null
    done
    await "cluster_state:ok and replicas in step" all_ok

    echo "directory: $directory" >&2
    echo "end it with: $0 down" >&2
    for ((i = 0; i < primaries; i++)); do echo "redis://127.0.0.1:${ports[i]}"; done
}

down() {
    [ -e "$directory" ] || { echo "nothing to end: $directory is not there" >&2; return 0; }
    [ -e "$marker" ] || die "$directory was not made by \`up\`; it is left alone"
    local home port ended=()
    for home in "$directory"/*/; do
        port=$(basename "$home")
        # Nothing of it is kept, so there is no reason to ask politely.
        if ours "$home/pid" "$port"; then
            ended+=("$(cat "$home/pid")")
            kill -KILL "${ended[-1]}"
        fi
    done
    for pid in "${ended[@]}"; do
        while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    done
    rm -rf "${directory:?}"
}

number() { case "$1" in '' | *[!0-9]*) usage ;; esac; }

[ $# -ge 1 ] || usage
verb=$1; shift
case "$verb" in
    up)
        [ $# -ge 2 ] || usage
        primaries=$1 replicas=$2 aof=yes base=
        shift 2
        number "$primaries"; number "$replicas"
        [ "$primaries" -ge 1 ] || usage
        while [ $# -gt 0 ]; do
            case "$1" in
                --aof) [ "${2:-}" = yes ] || [ "${2:-}" = no ] || usage; aof=$2 ;;
                --port) number "${2:-}"; base=$2 ;;
                *) usage ;;
            esac
            shift 2
        done
        up ;;
    down) [ $# -eq 0 ] || usage; down ;;
    *) usage ;;
esac
