#!/usr/bin/env bash
# ci.sh: builds the image and runs its tests where that can be done: a Docker daemon that answers, or, as root on Debian, one of our
# own (daemon.sh), which is ended afterwards. Where neither is to be had it says NOT RUN, and why, and that is no failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

not_run() {
    echo "NOT RUN: the image was neither built nor tried: $*"
    exit 0
}

if ! docker version >/dev/null 2>&1; then
    ((EUID == 0)) && command -v apt-get >/dev/null || not_run "no Docker daemon answers, and only root on Debian can start one"
    missing=()
    command -v dockerd >/dev/null || missing+=(docker.io)
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    if ((${#missing[@]} > 0)); then
        apt-get update -qq
        apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null || not_run "${missing[*]} cannot be installed"
    fi
    log=$(mktemp)
    if ! deploy/image/daemon.sh up >"$log" 2>&1; then
        tail -3 "$log" /run/consumer-image/log 2>/dev/null || true
        deploy/image/daemon.sh down >/dev/null 2>&1 || true
        not_run "a Docker daemon does not start here"
    fi
    trap 'deploy/image/daemon.sh down' EXIT
    export DOCKER_HOST=unix:///run/consumer-image/docker.sock
fi

deploy/image/build.sh
deploy/image/try.sh
# TEST_SERVICES=local: the servers of these tests are processes; nothing is pulled.
REQUIRE_IMAGE=1 TEST_SERVICES=local .venv/bin/python -m pytest -q tests/deploy/test_image.py
