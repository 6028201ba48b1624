package remoting_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
)

// TestReader_GivesBack: readers that wait for their next frame keep little of
// what a large one has needed.
func TestReader_GivesBack(t *testing.T) {
	const readers, size = 64, 900 << 10
	frame, err := remoting.AppendFrame(nil, &remoting.Command{Body: make([]byte, size)})
	if err != nil {
		t.Fatal(err)
	}
	all := make([]*remoting.Reader, readers)
	held := func() uint64 {
		for range 3 { // what is in a pool goes by the second one
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	for i := range all {
		all[i] = remoting.NewReader(bytes.NewReader(frame), remoting.Limits{})
		if got, err := all[i].Next(); err != nil || len(got) != len(frame)-4 {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		if _, err := all[i].Next(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if after := held(); after > before+readers*(80<<10) {
		t.Errorf("%d readers that wait hold %d bytes", readers, after-before)
	}
	runtime.KeepAlive(all)
}
