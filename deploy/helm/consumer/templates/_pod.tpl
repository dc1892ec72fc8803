{{/* What all pods share. Takes (list $ COMPONENT). */}}
{{- define "consumer.podBase" -}}
{{- $root := first . -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  - name: store
    secret:
      secretName: {{ $root.Values.store.existingSecret }}
      defaultMode: 0440
      items: [{key: {{ $root.Values.store.key | quote }}, path: url}]
{{- with $root.Values.broker.existingSecret }}
  - name: broker
    secret:
      secretName: {{ . }}
      defaultMode: 0440
      items: [{key: {{ $root.Values.broker.key | quote }}, path: url}]
{{- end }}
{{- if and $root.Values.config (ne (last .) "migration") }}
  - name: config
    configMap: {name: {{ include "consumer.fullname" $root }}-config}
{{- end }}
{{- with $root.Values.handlersVolume }}
  - name: handlers {{- toYaml . | nindent 4 }}
{{- end }}
{{- with $root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What all containers share. Takes (list $ COMPONENT). */}}
{{- define "consumer.containerBase" -}}
{{- $root := first . -}}
image: {{ include "consumer.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
workingDir: /app
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
env:
  # By file and not by variable: it is in no process listing and in no crash report.
  - {name: CONSUMER_STORE_FILE, value: /run/consumer/store/url}
{{- if $root.Values.broker.existingSecret }}
  - {name: CONSUMER_BROKER_FILE, value: /run/consumer/broker/url}
{{- else if $root.Values.broker.url }}
  - {name: CONSUMER_BROKER, value: {{ $root.Values.broker.url | quote }}}
{{- end }}
  # The kubelet asks at the pod's address, and Prometheus too.
  - {name: CONSUMER_HEALTH_HOST, value: "0.0.0.0"}
  - {name: CONSUMER_LOG, value: json}
  - {name: CONSUMER_LOG_LEVEL, value: {{ $root.Values.logLevel }}}
{{- range $root.Values.secrets }}
  - name: {{ .env }}
    valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key | quote }}}}
{{- end }}
{{- with $root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.extraEnvFrom }}
envFrom: {{ toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: store, mountPath: /run/consumer/store, readOnly: true}
{{- if $root.Values.broker.existingSecret }}
  - {name: broker, mountPath: /run/consumer/broker, readOnly: true}
{{- end }}
{{- if and $root.Values.config (ne (last .) "migration") }}
  - {name: config, mountPath: /etc/consumer, readOnly: true}
{{- end }}
{{- if $root.Values.handlersVolume }}
  - {name: handlers, mountPath: /app, readOnly: true}
{{- end }}
{{- with $root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Takes (list $ PORT_NAME). */}}
{{- define "consumer.probes" -}}
{{- $root := first . -}}
{{- $port := last . -}}
{{- range $kind, $path := dict "startup" "/startupz" "liveness" "/livez" "readiness" "/readyz" }}
{{ $kind }}Probe:
  httpGet: {path: {{ $path }}, port: {{ $port }}}
  {{- toYaml (get $root.Values.probes $kind) | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where pods run. Takes (list $ COMPONENT). */}}
{{- define "consumer.placement" -}}
{{- $own := get (first .).Values (last .) -}}
{{- if kindIs "invalid" $own.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "consumer.selector" $ | fromYaml | toJson }}}
{{- end }}
{{- else if $own.topologySpreadConstraints }}
topologySpreadConstraints: {{ toYaml $own.topologySpreadConstraints | nindent 2 }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $own $key }}
{{ $key }}: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
