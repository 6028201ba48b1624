package rocketmq

import (
	"slices"
	"testing"
)

func TestBrokerSettings(t *testing.T) {
	t.Parallel()
	got := brokerSettings("/d", "127.0.0.1:1", Sync, 2, 3)
	for _, want := range []string{
		"brokerName=sync_flush", "flushDiskType=SYNC_FLUSH", "listenPort=2", "haListenPort=3", "namesrvAddr=127.0.0.1:1",
		"storePathCommitLog=/d/store/commitlog", "bindAddress=127.0.0.1",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no setting %s in %q", want, got)
		}
	}
}
