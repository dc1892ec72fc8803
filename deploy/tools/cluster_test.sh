#!/usr/bin/env bash
# Installs, upgrades, rolls back, tests and removes the chart on a real API server whose namespace enforces the
# restricted Pod Security level. Containers do not run here: deploy/image/try.sh runs the image.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PWD/.cache/tools/bin:$PATH
chart=deploy/helm/consumer
dir=$(mktemp -d)
trap 'deploy/tools/cluster.sh down "$dir"; rm -rf "$dir"' EXIT

say() { printf '\n== %s\n' "$*"; }
refuse() { echo "FAILED: $*" >&2; exit 1; }

say "a control plane"
deploy/tools/cluster.sh up "$dir"
export KUBECONFIG=$dir/kubeconfig KUBECACHEDIR=$dir/kubecache HELM_CACHE_HOME=$dir/helm HELM_CONFIG_HOME=$dir/helm HELM_DATA_HOME=$dir/helm
kubectl version -o json | grep gitVersion

say "the custom resources' definitions"
crds=.cache/tools/crds
kubectl apply --server-side -f "$crds/keda/keda.sh_scaledobjects.yaml" \
    -f "$crds/prometheus/monitoring.coreos.com_podmonitors.yaml" -f "$crds/prometheus/monitoring.coreos.com_prometheusrules.yaml" \
    -f "$crds/gateway/gateway.networking.k8s.io_httproutes.yaml"
kubectl wait --for=condition=Established crd --all --timeout=60s >/dev/null

say "a namespace that is restricted"
kubectl create namespace prod
kubectl label namespace prod pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted
kubectl -n prod create secret generic shop-store --from-literal=url=postgresql://shop@db/shop
kubectl -n prod create secret generic shop-broker --from-literal=url=kafka://kafka:9092
kubectl -n prod create secret generic webhooks --from-literal=stripe=whsec_x --from-literal=standard=whsec_y

say "strict dry runs of every values file; a warning is a failure"
for values in "$chart"/ci/*-values.yaml; do
    helm template shop "$chart" -n prod -f "$values" 2>/dev/null |
        kubectl -n prod apply --dry-run=server --validate=strict --warnings-as-errors -f - >"$dir/out" || { cat "$dir/out"; refuse "$values"; }
    echo "$(wc -l <"$dir/out") objects of $(basename "$values")"
done

say "the restricted level does refuse what is not"
if helm template shop "$chart" -n prod -f "$chart/ci/minimal-values.yaml" 2>/dev/null | sed '/runAsNonRoot: true/d; /drop: \[ALL\]/d' |
    kubectl -n prod apply --dry-run=server --warnings-as-errors -f - >/dev/null 2>&1; then
    refuse "a pod that may be root was accepted"
fi
echo refused

say "install"
helm install shop "$chart" -n prod -f "$chart/ci/minimal-values.yaml" --wait --timeout 90s 2>"$dir/err" | sed -n '/^STATUS\|^REVISION/p' || { cat "$dir/err"; refuse install; }
kubectl -n prod get deployments,jobs,pods,pdb
say "upgrade: everything"
helm upgrade shop "$chart" -n prod -f "$chart/ci/full-values.yaml" --wait --timeout 90s 2>"$dir/err" | sed -n '/^STATUS\|^REVISION/p' || { cat "$dir/err"; refuse upgrade; }
kubectl -n prod get deployments,services,ingresses,httproutes,cronjobs,networkpolicies,podmonitors,prometheusrules
say "upgrade: KEDA"
helm upgrade shop "$chart" -n prod -f "$chart/ci/keda-values.yaml" --wait --timeout 90s 2>"$dir/err" | sed -n '/^STATUS\|^REVISION/p' || { cat "$dir/err"; refuse keda; }
kubectl -n prod get scaledobjects
[[ -z $(kubectl -n prod get services -o name) ]] || refuse "the ingest's Service is still there"
say "a wrong upgrade is refused and changes nothing"
if helm upgrade shop "$chart" -n prod -f "$chart/ci/minimal-values.yaml" --set worker.replicaCount=3 2>"$dir/err"; then refuse "it was accepted"; fi
grep -o "value must be 'write replicas'" "$dir/err"
say "roll back to the first"
helm rollback shop 1 -n prod --wait --timeout 90s 2>"$dir/err" || { cat "$dir/err"; refuse rollback; }
helm history shop -n prod
[[ -z $(kubectl -n prod get scaledobjects -o name) ]] || refuse "the ScaledObject is still there"
say "helm test"
helm test shop -n prod --timeout 60s 2>"$dir/err" | sed -n '/^Phase/p' || { cat "$dir/err"; refuse test; }
say "events of refused pods"
kubectl -n prod get events -o jsonpath='{range .items[?(@.type=="Warning")]}{.reason}{" "}{.message}{"\n"}{end}' | tee "$dir/warnings"
if grep -q 'violates PodSecurity\|FailedCreate' "$dir/warnings"; then refuse "pods were refused"; fi
say "uninstall"
helm uninstall shop -n prod --wait --timeout 90s
kubectl -n prod delete pod,job -l app.kubernetes.io/instance=shop --wait=false >/dev/null
left=$(kubectl -n prod get deployments,services,pdb,hpa,configmaps,networkpolicies,podmonitors,prometheusrules,cronjobs -l app.kubernetes.io/instance=shop -o name)
[[ -z $left ]] || refuse "left over: $left"
echo "nothing is left"
