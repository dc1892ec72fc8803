{{/* A Deployment. Takes a dict: root, component, args, ports (name: number), probe (port name), grace, scaled, preStop. */}}
{{- define "consumer.deployment" -}}
{{- $root := .root -}}
{{- $pair := list .root .component -}}
{{- $own := get .root.Values .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "consumer.fullname" $root }}-{{ .component }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{ include "consumer.labels" $pair | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ $own.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector:
    matchLabels: {{ include "consumer.selector" $pair | nindent 6 }}
  template:
    metadata:
      labels: {{ include "consumer.labels" $pair | nindent 8 }}
        {{- with $own.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ $root.Values.config | sha256sum }}
        {{- with $own.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "consumer.podBase" $pair | nindent 6 }}
      terminationGracePeriodSeconds: {{ .grace }}
      {{- include "consumer.placement" $pair | nindent 6 }}
      containers:
        - name: {{ .component }}
          {{- include "consumer.containerBase" $pair | nindent 10 }}
          args:
            {{- range concat .args (ternary (list "--config" "/etc/consumer/consumer.toml") list (ne $root.Values.config "")) $own.extraArgs }}
            - {{ . | toString | quote }}
            {{- end }}
          ports:
            {{- range $name, $number := .ports }}
            - {name: {{ $name }}, containerPort: {{ $number }}, protocol: TCP}
            {{- end }}
          {{- include "consumer.probes" (list $root .probe) | nindent 10 }}
          {{- with .preStop }}
          lifecycle:
            # Not `preStop.sleep`, which Kubernetes has since 1.29 only.
            preStop: {exec: {command: [python, -c, "import time; time.sleep({{ . }})"]}}
          {{- end }}
          resources: {{ toYaml $own.resources | nindent 12 }}
{{- end }}
