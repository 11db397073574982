//go:build programs

// Package critest names the packages of programs that are built without being tools: `go mod tidy` keeps what they need.
// critest is a test binary, so its dependencies stand here for it.
package critest

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
