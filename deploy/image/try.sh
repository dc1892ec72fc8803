#!/usr/bin/env bash
# try.sh [TAG]: runs the image as the chart would: read-only root, not root, no capability, little memory. Migrates, starts a
# worker, asks for its health, publishes, stops it, and looks at what happened.
# CONSUMER_STORE and CONSUMER_BROKER name real servers: then a relay and an ingest run beside the worker, and a payment by HTTP
# goes through all three. Without them: SQLite in the container, embedded topics, the worker alone.
set -euo pipefail
tag=${1:-consumer:dev}
store=${CONSUMER_STORE:-sqlite:////tmp/shop.db}
broker=${CONSUMER_BROKER:-embedded:}
own=consumer-try-$$
payment=try-$(date +%s%N)
grace=25
started=()
confined=(--network host --read-only --user 10001:10001 --cap-drop ALL --security-opt no-new-privileges --memory 384m --pids-limit 128
    --tmpfs /tmp:rw,noexec,nosuid,size=64m -e "CONSUMER_STORE=$store" -e "CONSUMER_BROKER=$broker"
    -e STRIPE_WEBHOOK_SECRET=whsec_try -e STANDARD_WEBHOOK_SECRET=whsec_Zm9yLXRyeWluZy1vbmx5LTI0Ynl0ZXM=)

refuse() {
    echo "FAILED: $*" >&2
    for name in "${started[@]}"; do echo "-- $name" >&2; docker logs "$name" 2>&1 | tail -20 >&2; done
    exit 1
}
trap '((${#started[@]} == 0)) || docker rm --force "${started[@]}" >/dev/null 2>&1 || true' EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
asked() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "$1"; }

# begin KIND PORT ARGUMENT...: a container that serves its health on PORT; waits until it says that it is ready.
begin() {
    local name=$own-$1 port=$2
    shift 2
    docker run --detach --name "$name" "${confined[@]}" -e "HEALTH_PORT=$port" "$@" >/dev/null
    started+=("$name")
    for _ in $(seq 150); do docker logs "$name" 2>/dev/null | grep -q '^ready' && break; sleep 0.2; done
    docker logs "$name" 2>/dev/null | grep '^ready' || refuse "$name is not ready after 30 s"
    for path in startupz livez readyz; do asked "http://127.0.0.1:$port/$path" >/dev/null || refuse "$name: /$path"; done
    echo "$name answers /startupz, /livez and /readyz on port $port"
}

# done_at HANDLER: waits until the payment is done there.
done_at() {
    for _ in $(seq 100); do
        docker exec "$own-worker" consumer inbox show "$payment" --handler "$1" -o json 2>/dev/null | tr -d '\n ' | grep -q '"state":"done"' && return
        sleep 0.2
    done
    refuse "$payment is not done at $1"
}

health=$(free_port)
if [[ $store == sqlite:* ]]; then
    # The store's tables are made where the worker runs: it is the same container's file.
    begin worker "$health" --entrypoint python "$tag" -c \
        "import os, subprocess, sys; subprocess.run(['consumer', 'migrate', 'handlers.app:app'], check=True); os.execvp('consumer', ['consumer', *sys.argv[1:]])" \
        run handlers.app:app --health-port "$health" --grace "$grace"
else
    docker run --rm "${confined[@]}" "$tag" migrate handlers.app:app
    begin worker "$health" "$tag" run handlers.app:app --health-port "$health" --no-relay --grace "$grace"
    port=$(free_port)
    begin relay "$port" "$tag" relay handlers.app:app --health-port "$port"
    http=$(free_port)
    begin ingest "$http" "$tag" ingest handlers.app:app --host 0.0.0.0 --port "$http"
fi

worker=$own-worker
docker exec "$worker" sh -c 'id -u; grep -E "CapEff|NoNewPrivs|Seccomp:" /proc/1/status' | tr '\n' ' '; echo
[[ $(docker exec "$worker" cat /proc/1/comm) == consumer ]] || refuse "process 1 is not the worker: signals would not reach it"
if docker exec "$worker" sh -c 'touch /app/x || touch /opt/venv/x' 2>/dev/null; then refuse "its root can be written"; fi

if [[ $store == sqlite:* ]]; then
    docker exec "$worker" consumer publish handlers.app:app payments.requested \
        "{\"payment_id\":\"$payment\",\"account\":\"a\",\"amount\":5,\"currency\":\"EUR\"}" || refuse publish
    done_at payments.requested
else
    python3 - "http://127.0.0.1:$http/payments" "$payment" <<'PY' || refuse "a payment by HTTP"
import sys, urllib.request
def pay():
    body = b'{"account":"a","amount":5,"currency":"EUR"}'
    headers = {"Idempotency-Key": sys.argv[2], "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, headers), timeout=10) as answer:
        return answer.status, answer.headers.get("Idempotent-Replayed"), answer.read()
first, second = pay(), pay()
assert first[0] == second[0] == 201 and first[2] == second[2] and (first[1], second[1]) == (None, "true"), (first, second)
print("POST /payments twice: 201, the second replayed, byte for byte")
PY
fi
done_at payments.settled
echo "$payment is done, and its settlement too"
metrics=$(asked "http://127.0.0.1:$health/metrics")
grep -m2 '^consumer_outcomes_total.*payments.settled' <<<"$metrics" || refuse "no metrics"
for _ in $(seq 60); do [[ $(docker inspect "$worker" --format '{{.State.Health.Status}}') == healthy ]] && break; sleep 0.5; done
[[ $(docker inspect "$worker" --format '{{.State.Health.Status}}') == healthy ]] || refuse "Docker's own health check fails"

for name in "${started[@]}"; do
    began=$(date +%s%N)
    docker stop --time $((grace + 20)) "$name" >/dev/null
    took=$((($(date +%s%N) - began) / 1000000))
    code=$(docker inspect "$name" --format '{{.State.ExitCode}}')
    echo "$name stopped in $took ms, exit code $code"
    ((code == 0 && took < grace * 1000)) || refuse "$name did not end cleanly"
done
