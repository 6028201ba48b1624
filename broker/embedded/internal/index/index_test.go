package index_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/index"
)

func TestIndex_Lookup(t *testing.T) {
	t.Parallel()
	x := index.New()
	want := map[string][]int64{}
	for pos := range int64(1000) {
		key := fmt.Sprint("key-", pos%37)
		x.Add('k', "topic", key, pos)
		x.Add('k', "other", key, 10_000+pos)
		want[key] = append(want[key], pos)
	}
	for key, w := range want {
		if got := x.Lookup('k', "topic", key); !slices.Equal(got, w) {
			t.Errorf("%s: got %v, want %v", key, got, w)
		}
		if got := x.Lookup('i', "topic", key); got != nil {
			t.Errorf("%s as an id: got %v", key, got)
		}
	}
	if got := x.Lookup('k', "topic", "absent"); got != nil {
		t.Errorf("an absent key: got %v", got)
	}
	// Topic and key must not run into each other.
	if got := x.Lookup('k', "topi", "ckey-1"); got != nil {
		t.Errorf("another split of the same letters: got %v", got)
	}
}
