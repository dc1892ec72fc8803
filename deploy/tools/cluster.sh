#!/usr/bin/env bash
# cluster.sh up|down DIR: a real Kubernetes control plane as plain processes on loopback; kwok plays the node.
# No container runs: pods are "running" because kwok says so. Keys and tokens are made anew and live in DIR.
set -euo pipefail
verb=${1:?up or down}
dir=${2:?a folder for its state}
here=$(cd "$(dirname "$0")" && pwd)
PATH=$here/../../.cache/tools/bin:$PATH
api=${API_PORT:-36443} etcd=${ETCD_PORT:-32379} peer=${PEER_PORT:-32380}

# Backwards, and by the ids that were written down when they were started.
down() {
    local name pid
    for name in kwok kube-scheduler kube-controller-manager kube-apiserver etcd; do
        [[ -f $dir/$name.pid ]] || continue
        pid=$(<"$dir/$name.pid")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
        rm -f "$dir/$name.pid"
    done
}

start() {
    local name=$1
    setsid "$@" >"$dir/$name.log" 2>&1 </dev/null &
    echo $! >"$dir/$name.pid"
}

keys() {
    openssl genrsa -out "$dir/sa.key" 2048
    openssl rsa -in "$dir/sa.key" -pubout -out "$dir/sa.pub"
    # Also for clients and the front proxy: without it the controllers look in vain for a ConfigMap.
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=deploy-test -keyout "$dir/ca.key" -out "$dir/ca.crt"
    openssl req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout "$dir/tls.key" -out "$dir/tls.csr"
    echo subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc >"$dir/san"
    openssl x509 -req -in "$dir/tls.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
        -extfile "$dir/san" -out "$dir/tls.crt"
    token=$(openssl rand -hex 16)
    echo "$token,admin,admin,system:masters" >"$dir/tokens.csv"
    cat >"$dir/kubeconfig" <<K
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:$api", certificate-authority: $dir/ca.crt}}]
users: [{name: admin, user: {token: $token}}]
contexts: [{name: c, context: {cluster: c, user: admin}}]
current-context: c
K
}

up() {
    umask 077
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    keys 2>"$dir/openssl.log"
    start etcd --data-dir "$dir/etcd" --unsafe-no-fsync --logger zap --log-level warn \
        --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
        --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
        --initial-cluster "default=http://127.0.0.1:$peer"
    start kube-apiserver --etcd-servers "http://127.0.0.1:$etcd" --bind-address 127.0.0.1 --advertise-address 127.0.0.1 \
        --secure-port "$api" --tls-cert-file "$dir/tls.crt" --tls-private-key-file "$dir/tls.key" \
        --service-account-key-file "$dir/sa.pub" --service-account-signing-key-file "$dir/sa.key" \
        --service-account-issuer https://kubernetes.default.svc --client-ca-file "$dir/ca.crt" \
        --requestheader-client-ca-file "$dir/ca.crt" --requestheader-allowed-names front-proxy \
        --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
        --requestheader-extra-headers-prefix X-Remote-Extra- --token-auth-file "$dir/tokens.csv" \
        --authorization-mode Node,RBAC --service-cluster-ip-range 10.96.0.0/16 --endpoint-reconciler-type none --profiling=false
    export KUBECONFIG=$dir/kubeconfig KUBECACHEDIR=$dir/kubecache
    for _ in $(seq 300); do
        kubectl get --raw /readyz >/dev/null 2>&1 && break
        kill -0 "$(<"$dir/kube-apiserver.pid")" || { tail -5 "$dir/kube-apiserver.log" >&2; exit 1; }
        sleep 0.2
    done
    start kube-controller-manager --kubeconfig "$KUBECONFIG" --authentication-kubeconfig "$KUBECONFIG" \
        --authorization-kubeconfig "$KUBECONFIG" --bind-address 127.0.0.1 --secure-port "${KCM_PORT:-36257}" --leader-elect=false \
        --use-service-account-credentials --service-account-private-key-file "$dir/sa.key" --root-ca-file "$dir/ca.crt" \
        --cert-dir "$dir/certs-kcm"
    start kube-scheduler --kubeconfig "$KUBECONFIG" --authentication-kubeconfig "$KUBECONFIG" \
        --authorization-kubeconfig "$KUBECONFIG" --bind-address 127.0.0.1 --secure-port "${SCHEDULER_PORT:-36259}" \
        --leader-elect=false --cert-dir "$dir/certs-scheduler"
    start kwok --kubeconfig "$KUBECONFIG" --manage-all-nodes=true --config "$here/kwok.yaml"
    kubectl apply -f - <<N
apiVersion: v1
kind: Node
metadata: {name: n0, labels: {kubernetes.io/hostname: n0, kubernetes.io/os: linux, kubernetes.io/arch: amd64, topology.kubernetes.io/zone: a}}
status: {allocatable: {cpu: "32", memory: 256Gi, pods: "110", ephemeral-storage: 100Gi}, capacity: {cpu: "32", memory: 256Gi, pods: "110", ephemeral-storage: 100Gi}}
N
    for _ in $(seq 150); do kubectl -n default get serviceaccount default >/dev/null 2>&1 && break; sleep 0.2; done
    kubectl wait --for=condition=Ready node/n0 --timeout=60s
}

"$verb"
