package measure

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// fine is the precision of a [Histogram]: a bucket is at most 1/64 of its value wide.
const fine = 6

// buckets reach to about 70 minutes; what is longer counts as that.
const buckets = 38 << fine

// Histogram counts durations in buckets of a constant relative width. It is
// safe for concurrent use; the zero value is empty.
type Histogram struct {
	counts [buckets]atomic.Uint64
	total  atomic.Uint64
}

// Add counts d; a negative one counts as zero.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(d)].Add(1)
	h.total.Add(1)
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i := range o.counts {
		if n := o.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
	h.total.Add(o.total.Load())
}

// Count is how many durations were added.
func (h *Histogram) Count() uint64 { return h.total.Load() }

// Quantile is the duration that the share q, 0 to 1, of all durations does not
// exceed, zero for an empty histogram.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.total.Load()
	if total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(total)), total-1)
	seen := uint64(0)
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen > rank {
			return middle(i)
		}
	}
	return middle(buckets - 1)
}

// bucket numbers values below 128 by themselves; above, each power of two has
// 64 buckets.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<fine {
		return int(v)
	}
	shift := bits.Len64(v) - fine - 1
	return min(shift<<fine+int(v>>shift), buckets-1)
}

// middle is the value in the middle of a bucket.
func middle(i int) time.Duration {
	if i < 2<<fine {
		return time.Duration(i)
	}
	shift := i>>fine - 1
	low := (i - shift<<fine) << shift
	return time.Duration(low + 1<<shift/2)
}
