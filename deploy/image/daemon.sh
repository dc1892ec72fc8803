#!/usr/bin/env bash
# daemon.sh up|down: a Docker daemon of our own, on a socket of its own, where the machine runs none. It changes neither the
# network (no bridge, no firewall rule) nor what other daemons hold. Wants root and Debian's docker.io and mmdebstrap.
#   deploy/image/daemon.sh up && export DOCKER_HOST=unix:///run/consumer-image/docker.sock && make image
set -euo pipefail
dir=/run/consumer-image
data=${DATA_ROOT:-/var/lib/consumer-image}

up() {
    command -v dockerd >/dev/null || { echo "dockerd is not there: apt-get install --no-install-recommends docker.io mmdebstrap" >&2; exit 1; }
    mkdir -p "$dir"
    setsid dockerd --host "unix://$dir/docker.sock" --data-root "$data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
        --bridge=none --iptables=false --ip6tables=false --storage-driver=vfs >"$dir/log" 2>&1 </dev/null &
    for _ in $(seq 100); do docker --host "unix://$dir/docker.sock" version >/dev/null 2>&1 && break; sleep 0.2; done
    docker --host "unix://$dir/docker.sock" version --format 'dockerd {{.Server.Version}} answers'
    echo "export DOCKER_HOST=unix://$dir/docker.sock"
}

# By the id that it wrote down itself.
down() {
    [[ -f $dir/pid ]] || return 0
    local pid
    pid=$(<"$dir/pid")
    kill "$pid"
    for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    # The daemon leaves the mount of its network namespace behind.
    umount "$dir/exec/netns/default" 2>/dev/null || true
    rm -rf "$dir" "$data"
}

case ${1:-} in
up | down) "$1" ;;
*) echo "usage: daemon.sh up|down" >&2; exit 2 ;;
esac
