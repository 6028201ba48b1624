package delay_test

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/delay"
)

func TestQueue_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q, now, pos := delay.New(), int64(0), int64(0)
		var all []delay.Item
		drop := func(f func(delay.Item) bool) { all = slices.DeleteFunc(all, f) }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				it := delay.Item{
					DueMs: now + rapid.Int64Range(-5, 50).Draw(t, "in"), Pos: pos,
					Topic: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic"),
				}
				pos++ // a position is given once
				first := q.Add(it)
				all = append(all, it)
				slices.SortFunc(all, func(a, b delay.Item) int { return cmp.Or(cmp.Compare(a.DueMs, b.DueMs), cmp.Compare(a.Pos, b.Pos)) })
				if first != (all[0] == it) {
					t.Fatalf("Add of %+v says first is %v; all: %+v", it, first, all)
				}
			},
			"pass": func(t *rapid.T) { now += rapid.Int64Range(1, 20).Draw(t, "ms") },
			"due": func(t *rapid.T) {
				limit := rapid.IntRange(1, 4).Draw(t, "limit")
				var want []delay.Item
				for _, it := range all {
					if it.DueMs <= now && len(want) < limit {
						want = append(want, it)
					}
				}
				got := q.Due(now, limit, nil)
				if !slices.Equal(got, want) {
					t.Fatalf("due at %d: got %+v, want %+v", now, got, want)
				}
				for _, it := range got {
					if !q.Done(it.Pos) || q.Done(it.Pos) {
						t.Fatalf("Done of %+v must succeed once", it)
					}
				}
				drop(func(it delay.Item) bool { return slices.Contains(got, it) })
			},
			"dropTopic": func(*rapid.T) {
				q.DropTopic("a")
				drop(func(it delay.Item) bool { return it.Topic == "a" })
			},
			"": func(t *rapid.T) {
				head, ok := q.Head()
				if q.Len() != len(all) || ok != (len(all) > 0) || ok && head != all[0] {
					t.Fatalf("%d wait, head %+v; want %+v", q.Len(), head, all)
				}
			},
		})
	})
}
