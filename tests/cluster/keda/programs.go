//go:build programs

// Names what tests/cluster/run builds, so that its modules stay in go.mod.
package programs

import _ "github.com/kedacore/keda/v2/cmd/operator"
