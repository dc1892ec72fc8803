{{/* What a schema cannot see: values that do not go together. Every sentence names the mend. */}}
{{- define "consumer.validate" -}}
{{- $v := .Values -}}
{{- if not $v.image.repository }}{{ fail "image.repository is empty: name the image that you built from deploy/Dockerfile" }}{{ end -}}
{{- if not $v.store.existingSecret }}{{ fail "store.existingSecret is empty: put the store's URL into a Secret and name it here" }}{{ end -}}
{{- if and $v.broker.url $v.broker.existingSecret }}{{ fail "broker.url and broker.existingSecret are both set: keep one" }}{{ end -}}
{{- $broker := or $v.broker.url $v.broker.existingSecret -}}
{{- if and $v.relay.enabled (not $broker) }}{{ fail "relay.enabled wants a broker: set broker.url, or leave the relay out (embedded topics need none)" }}{{ end -}}
{{- if and (eq $v.ingest.webhooksTo "broker") (not $broker) }}{{ fail "ingest.webhooksTo broker wants a broker: set broker.url or broker.existingSecret, or ingest.webhooksTo: store" }}{{ end -}}
{{- if and (eq $v.ingest.webhooksTo "broker") (not $v.ingest.enabled) }}{{ fail "ingest.webhooksTo wants ingest.enabled: true" }}{{ end -}}
{{- if not (or $v.worker.enabled $v.relay.enabled $v.ingest.enabled) }}{{ fail "nothing is enabled: set worker.enabled, relay.enabled or ingest.enabled" }}{{ end -}}
{{- include "consumer.validateGrace" (list "worker" $v.worker (add $v.worker.grace 25) "worker.grace + 25") -}}
{{- include "consumer.validateGrace" (list "relay" $v.relay 50 "50") -}}
{{- include "consumer.validateGrace" (list "ingest" $v.ingest (add $v.ingest.preStopSeconds 50) "ingest.preStopSeconds + 50") -}}
{{- $scale := $v.worker.autoscaling -}}
{{- if eq $scale.mode "keda" -}}
{{- if not $scale.topics }}{{ fail "worker.autoscaling.mode keda wants worker.autoscaling.topics: name the topics whose lag counts" }}{{ end -}}
{{- if not $v.worker.group }}{{ fail "worker.autoscaling.mode keda wants worker.group: KEDA asks the broker for the lag of a consumer group by its name" }}{{ end -}}
{{- if not (include "consumer.bootstrap" .) }}{{ fail "worker.autoscaling.mode keda wants worker.autoscaling.bootstrapServers (or broker.url): KEDA cannot read the broker's Secret" }}{{ end -}}
{{- end -}}
{{- range $name := list "worker" "ingest" -}}
{{- $a := (get $v $name).autoscaling -}}
{{- if gt (int $a.minReplicas) (int $a.maxReplicas) }}{{ fail (printf "%s.autoscaling.minReplicas is above maxReplicas: raise maxReplicas" $name) }}{{ end -}}
{{- if and (eq $a.mode "hpa") (not (dig "requests" "cpu" "" (get $v $name).resources)) }}{{ fail (printf "%s.autoscaling.mode hpa wants %s.resources.requests.cpu: its percentage is of the request" $name $name) }}{{ end -}}
{{- end -}}
{{- if and $v.ingest.ingress.enabled (not $v.ingest.ingress.hosts) }}{{ fail "ingest.ingress.enabled wants ingest.ingress.hosts" }}{{ end -}}
{{- if and $v.ingest.httpRoute.enabled (not (and $v.ingest.httpRoute.parentRefs $v.ingest.httpRoute.paths)) }}{{ fail "ingest.httpRoute.enabled wants ingest.httpRoute.parentRefs and ingest.httpRoute.paths" }}{{ end -}}
{{- if and (or $v.ingest.ingress.enabled $v.ingest.httpRoute.enabled) (not $v.ingest.enabled) }}{{ fail "an Ingress or HTTPRoute wants ingest.enabled: true" }}{{ end -}}
{{- if and $v.purge.enabled (not $v.purge.handlers) }}{{ fail "purge.enabled wants purge.handlers: [{name: …, olderThan: 14d}]" }}{{ end -}}
{{- end }}

{{- define "consumer.validateGrace" -}}
{{- $given := (index . 1).terminationGracePeriodSeconds -}}
{{- if not (kindIs "invalid" $given) -}}
{{- if lt (int $given) (int (index . 2)) }}{{ fail (printf "%s.terminationGracePeriodSeconds is %d: set %d (%s) or more, or null; what is killed earlier is left in doubt" (index . 0) (int $given) (int (index . 2)) (index . 3)) }}{{ end -}}
{{- end -}}
{{- end }}
