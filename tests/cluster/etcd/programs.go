//go:build programs

// Names what tests/cluster/run builds, so that its modules stay in go.mod.
package programs

import _ "go.etcd.io/etcd/server/v3"
