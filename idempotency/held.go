package idempotency

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/internal/lease"
)

// ErrLeaseLost is the cause of a handler's ctx that ended because its claim on
// the key is not safe any more: somebody else may own it soon, or does already.
var ErrLeaseLost = errors.New("idempotency lease lost")

type heldKey struct{}

// held is what the ctx of a handler knows about its claim.
type held struct {
	fence uint64
	kept  *lease.Kept
}

// Fence returns the fence of the claim under which the handler runs. It grows
// with every owner of the key; a resource that remembers the highest it has seen
// can refuse the write of an owner that was overtaken. Without a claim (a
// listener that is not idempotent, or onError:"open" while the store is down) it
// is 0, false.
func Fence(ctx context.Context) (uint64, bool) {
	h, ok := ctx.Value(heldKey{}).(*held)
	if !ok {
		return 0, false
	}
	return h.fence, true
}

// Check returns an error if the handler must not cause an effect any more: its
// lease is lost ([ErrLeaseLost]), or its ctx has ended. Call it right before
// each effect that no transaction covers. It looks at the clock itself, so it is
// right in the first instant after a pause of the process, too; a pause between
// Check and the effect is beyond it. Without a claim it looks at ctx only.
func Check(ctx context.Context) error {
	h, ok := ctx.Value(heldKey{}).(*held)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ok && !h.kept.Held():
		return fmt.Errorf("%w: it was not renewed in time", ErrLeaseLost)
	default:
		return nil
	}
}
