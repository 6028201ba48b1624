package offline

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Dump calls f for every frame of the log that can be read, in order. An error
// of f, or the end of ctx, ends it with that error, unwrapped.
//
// If a part of the log cannot be shown, because it is damaged, it goes on, and
// answers an error that matches [ErrDamaged] at the end; [Verify] says what it
// is. Ranges that were quarantined count. Other errors: [ErrNotAStore],
// [ErrVersion], and what the file system says.
func Dump(ctx context.Context, fs vfs.FS, f func(Frame) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var stop error
	lost := 0
	_, err := commitlog.Inspect(fs, commitlog.Visitor{
		Frame: func(fr commitlog.Frame) error {
			frame := newFrame(fr)
			if frame.Reason != "" {
				lost++
			}
			if stop = ctx.Err(); stop == nil {
				stop = f(frame)
			}
			return stop
		},
		Damage: func(d commitlog.Damage) {
			if d.Pos >= 0 {
				lost++
			}
		},
	})
	switch {
	case stop != nil && errors.Is(err, stop):
		return stop
	case err != nil:
		return err
	case lost > 0:
		return fmt.Errorf("%w: %d places of the log cannot be shown", ErrDamaged, lost)
	}
	return nil
}
