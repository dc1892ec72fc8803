//go:build tools

// Package tools pins what deploy/tools/get.sh builds.
package tools

import _ "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"
