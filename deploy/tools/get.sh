#!/usr/bin/env bash
# get.sh check|cluster: puts the tools of `make deploy-check` (and of `make deploy-test`) into .cache/tools, once.
# From nothing: five minutes for check, a quarter of an hour for cluster, on two cores. Wants Go 1.26, Python, Debian's apt.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/deploy/tools
tools=$PWD/.cache/tools
bin=$tools/bin
mkdir -p "$bin"
export CGO_ENABLED=0 GOBIN=$bin
slowly() { nice -n 10 "$@"; }

command -v go >/dev/null || { echo "Go 1.26 or newer is needed to build helm, kubeconform, kube-score, helm-unittest." >&2; exit 1; }

# install NAME MODULE@VERSION: what `go install` can build by itself. The version is in the mark, so a new pin builds anew.
install() {
    local mark=$tools/.${1}-${2##*@}
    [[ -x $bin/$1 && -e $mark ]] && return
    echo "building $1"
    slowly go install -trimpath -ldflags '-s -w' "$2"
    touch "$mark"
}

# build DIR NAME PACKAGE [LDFLAGS]: what needs a go.mod of our own.
build() {
    local mark=$tools/.${2}-$(sha256sum "$here/$1/go.sum" | cut -c1-12)
    [[ -x $bin/$2 && -e $mark ]] && return
    echo "building $2"
    (cd "$here/$1" && slowly go build -trimpath -ldflags "-s -w ${4:-}" -o "$bin/$2" "$3")
    touch "$mark"
}

# module MODULE@VERSION DIR INTO: data files of a published Go module: custom resources' definitions, Compose's schema.
# `go mod download` may call a module too new for this Go; its files are there all the same.
module() {
    [[ -d $tools/crds/$3 ]] && return
    local root
    root=$( (cd / && go mod download -json "$1" 2>/dev/null || true) | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')
    mkdir -p "$tools/crds/$3"
    install_files "$root/$2" "$tools/crds/$3"
}
install_files() { find "$1" -maxdepth 1 '(' -name '*.yaml' -o -name '*.json' ')' -exec cp -t "$2" {} + && chmod u+w "$2"/*; }

check() {
    install helm helm.sh/helm/v4/cmd/helm@v4.3.1
    install kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
    install kube-score github.com/zegl/kube-score/cmd/kube-score@v1.20.0
    build unittest helm-unittest github.com/helm-unittest/helm-unittest/cmd/helm-unittest
    module github.com/kedacore/keda/v2@v2.21.0 config/crd/bases keda
    module github.com/prometheus-operator/prometheus-operator@v0.85.0 example/prometheus-operator-crd prometheus
    module sigs.k8s.io/gateway-api@v1.4.0 config/crd/standard gateway
    module github.com/compose-spec/compose-go/v2@v2.16.2 schema compose
    local pins=$here/requirements.txt
    local mark=$tools/venv/.$(sha256sum "$pins" | cut -c1-12)
    if [[ ! -e $mark ]]; then
        "${PYTHON:-python3}" -m venv --clear "$tools/venv"
        "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$pins"
        touch "$mark"
    fi
    if [[ ! -x $tools/prometheus/usr/bin/promtool ]]; then
        mkdir -p "$tools/prometheus"
        if ! (cd "$tools/prometheus" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb); then
            echo "promtool cannot be had: Debian's package prometheus is wanted (apt-get update, as root, and again)." >&2
            exit 1
        fi
    fi
}

cluster() {
    check
    local v=k8s.io/component-base/version
    local flags="-X $v.gitVersion=v1.37.2 -X $v.gitMajor=1 -X $v.gitMinor=37 -X k8s.io/client-go/pkg/version.gitVersion=v1.37.2"
    build kubernetes etcd go.etcd.io/etcd/server/v3
    for name in kube-apiserver kube-controller-manager kube-scheduler kubectl; do
        build kubernetes "$name" "k8s.io/kubernetes/cmd/$name" "$flags"
    done
    install kwok sigs.k8s.io/kwok/cmd/kwok@v0.8.0
}

case ${1:-} in
check | cluster) "$1" ;;
*) echo "usage: get.sh check|cluster" >&2; exit 2 ;;
esac
