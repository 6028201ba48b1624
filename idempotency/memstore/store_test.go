package memstore_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/idempotency/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore_Conformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		Bubble: true,
		New:    func(testing.TB) idempotency.Store { return memstore.New(memstore.Options{}) },
	})
}

func TestStore_RefusesWhatItCannotRemember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{MaxKeys: 10})
		key := func(i int) idempotency.Key { return idempotency.NewKey("", "g", "t", fmt.Sprint(i)) }
		for i := range 10 {
			if _, err := s.Begin(t.Context(), key(i), "o", time.Second, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Begin(t.Context(), key(10), "o", time.Second, time.Second)
		if e, ok := errors.AsType[*idempotency.StoreError](err); !ok || !e.NotDone || !errors.Is(err, memstore.ErrFull) {
			t.Fatalf("an eleventh key: got %v, want a StoreError of ErrFull", err)
		}
		if _, err := s.Begin(t.Context(), key(3), "o", time.Second, time.Second); err != nil {
			t.Fatalf("a key that has its place: %v", err)
		}
		time.Sleep(3 * time.Second)
		if _, err := s.Begin(t.Context(), key(10), "o", time.Second, time.Second); err != nil {
			t.Fatalf("after the others expired: %v", err)
		}
	})
}

func TestStore_ForgetsExpiredKeysByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		for i := range 5000 {
			k := idempotency.NewKey("", "g", "t", fmt.Sprint(i))
			c, err := s.Begin(t.Context(), k, "o", time.Second, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Complete(t.Context(), k, "o", c.Fence, 2*time.Second); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		// 62 s of grace for the fence: about 62 keys are alive.
		if n := s.Len(); n > 300 {
			t.Fatalf("%d keys are kept, of which about 62 are alive", n)
		}
	})
}
