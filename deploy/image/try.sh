#!/usr/bin/env bash
# try.sh [TAG]: runs the image as the chart would: read-only root, not root, no capability, little memory. Migrates, starts a
# worker, publishes, stops it, and looks at what happened. The store and the broker are CONSUMER_STORE and CONSUMER_BROKER;
# without them: SQLite in the container, embedded topics.
set -euo pipefail
tag=${1:-consumer:dev}
name=consumer-try-$$
payment=try-$(date +%s%N)
confined=(--network host --read-only --user 10001:10001 --cap-drop ALL --security-opt no-new-privileges --memory 384m --pids-limit 128
    --tmpfs /tmp:rw,noexec,nosuid,size=64m -e "CONSUMER_STORE=${CONSUMER_STORE:-sqlite:////tmp/shop.db}" -e "CONSUMER_BROKER=${CONSUMER_BROKER:-embedded:}")
refuse() { echo "FAILED: $*" >&2; docker logs "$name" 2>&1 | tail -20 >&2; exit 1; }
trap 'docker rm --force "$name" >/dev/null 2>&1 || true' EXIT

# The store's tables are made where the worker runs: with SQLite it is the same container's.
docker run --detach --name "$name" "${confined[@]}" --entrypoint python "$tag" -c \
    "import os, subprocess, sys; subprocess.run(['consumer', 'migrate', 'handlers.app:app'], check=True); os.execvp('consumer', ['consumer', 'run', 'handlers.app:app', *sys.argv[1:]])" \
    ${WORKER_ARGS:-} >/dev/null
for _ in $(seq 100); do docker logs "$name" 2>/dev/null | grep -q '^ready' && break; sleep 0.2; done
docker logs "$name" 2>/dev/null | grep '^ready' || refuse "it is not ready after 20 s"

docker exec "$name" sh -c 'id -u; grep -E "CapEff|NoNewPrivs|Seccomp:" /proc/1/status' | tr '\n' ' '; echo
[[ $(docker exec "$name" cat /proc/1/comm) == consumer ]] || refuse "process 1 is not the worker: signals would not reach it"
if docker exec "$name" sh -c 'touch /app/x || touch /opt/venv/x' 2>/dev/null; then refuse "its root can be written"; fi
docker exec "$name" consumer publish handlers.app:app payments.requested \
    "{\"payment_id\":\"$payment\",\"account\":\"a\",\"amount\":5,\"currency\":\"EUR\"}" || refuse publish
for _ in $(seq 100); do docker exec "$name" consumer inbox show "$payment" --handler payments.requested -o json 2>/dev/null | grep -q '"state": *"done"' && break; sleep 0.2; done
docker exec "$name" consumer inbox show "$payment" --handler payments.requested -o json | tr -d '\n ' | grep -o '"state":"done"' || refuse "the payment is not done"

began=$(date +%s%N)
docker stop --time 45 "$name" >/dev/null
echo "stopped in $((($(date +%s%N) - began) / 1000000)) ms, exit code $(docker inspect "$name" --format '{{.State.ExitCode}}')"
[[ $(docker inspect "$name" --format '{{.State.ExitCode}}') == 0 ]] || refuse "it did not end cleanly"
