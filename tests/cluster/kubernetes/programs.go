//go:build programs

// Names what tests/cluster/run builds, so that its modules stay in go.mod.
package programs

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
