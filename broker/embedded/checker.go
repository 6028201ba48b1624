package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
)

// checkGrowth bounds the pause between two checks of one half message, in
// multiples of Config.CheckEvery.
const checkGrowth = 16

// fate is what becomes of a check.
type fate uint8

const (
	// asked: there is nothing more to ask.
	asked fate = iota
	// askLater: at the time that the check says.
	askLater
	// askAgain: nobody has answered, the next member is asked at once.
	askAgain
)

// work is a goroutine of m: it asks for k, and then for one check after the
// other as long as some are ready and it is the turn of m.
func (c *checks) work(g *producerGroup, m *checker, k check) {
	for ok := true; ok; {
		f := c.answer(m, &k)
		k, ok = c.done(g, m, k, f)
	}
}

// answer asks and obeys.
func (c *checks) answer(m *checker, k *check) fate {
	c.e.st.mu.RLock()
	h, ok := c.e.st.halves.At(k.pos)
	c.e.st.mu.RUnlock()
	if !ok || h.State != halves.Open {
		return asked
	}
	if k.count >= c.e.cfg.CheckMax {
		return c.later(h, k) // the last one was asked elsewhere, and there was no answer
	}
	if m.abroad != nil {
		return c.askAbroad(m, h, k)
	}
	d, err := c.e.halfDelivery(h)
	if err != nil {
		c.e.cfg.Logger.Error("a half message cannot be read", slog.String("transaction", h.Tx), slog.Any("error", err))
		return asked // it stays undecided; the next start tries again
	}
	half := driver.Half{TxID: h.Tx, Group: h.Group, Handle: c.e.handle(k.pos)}
	switch decision := c.call(m, half, d, k.count+1); decision {
	case driver.Commit, driver.Rollback:
		return c.decide(h, k, decision)
	default:
		if m.ctx.Err() != nil {
			return askAgain // an answer in a hurry is no answer
		}
		k.count++
		return c.later(h, k)
	}
}

// call runs the user's function; a panic is an undecided answer.
func (c *checks) call(m *checker, h driver.Half, d *driver.Delivery, n int) (decision driver.Decision) {
	defer func() {
		if p := recover(); p != nil {
			decision = driver.Undecided
			c.e.cfg.Logger.Error("a check-back has panicked", slog.String("transaction", h.TxID), slog.String("group", h.Group),
				slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	return m.f(m.ctx, h, d, n)
}

// decide stores the decision of a check. The sender may have decided meanwhile;
// then the first decision counts.
func (c *checks) decide(h halves.Half, k *check, d driver.Decision) fate {
	err := c.e.resolve(context.WithoutCancel(c.e.root), nil, h.ID, h.Pos, d)
	switch {
	case err == nil:
	case err.Code == driver.FailedPrecondition:
		c.e.cfg.Logger.Warn("a check-back contradicts an earlier decision, which stays",
			slog.String("transaction", h.Tx), slog.String("group", h.Group), slog.String("answer", d.String()))
	case err.Code == driver.Closed, c.e.health() != nil:
	default:
		c.e.cfg.Logger.Warn("the decision of a check-back was not stored, asking again",
			slog.String("transaction", h.Tx), slog.Any("error", err))
		return c.later(h, k)
	}
	return asked
}

// later sets the time of the next check, or parks what was asked for often
// enough.
func (c *checks) later(h halves.Half, k *check) fate {
	if k.count < c.e.cfg.CheckMax {
		k.dueMs = c.e.nowMs() + c.pause(k.count)
		return askLater
	}
	j := &parkJob{id: h.ID, checks: k.count}
	err := c.e.w.do(context.WithoutCancel(c.e.root), nil, j, 0)
	if err == nil && j.frame != nil {
		err = j.frame.err
	}
	switch {
	case err == nil && j.frame != nil:
		c.e.cfg.Logger.Error("a half message stayed undecided and is parked until somebody decides it",
			slog.String("transaction", h.Tx), slog.String("group", h.Group), slog.Int("checks", k.count))
	case err != nil && err.Retryable:
		k.dueMs = c.e.nowMs() + c.pause(1)
		return askLater
	}
	return asked
}

// pause is how long it takes from question n to the next one, in milliseconds.
func (c *checks) pause(n int) int64 {
	growth := int64(1) << min(max(n-1, 0), 8)
	return ceilDuration(c.e.cfg.CheckEvery) * min(growth, checkGrowth)
}

// Checks answers check-backs until ctx ends; see [driver.Transactor].
func (t transactor) Checks(ctx context.Context, group string, parallel int, f driver.CheckFunc) error {
	op := "answer check-backs of group " + group
	err := driver.ValidGroup(group)
	switch {
	case err != nil:
		return driver.Errorf(driver.InvalidArgument, op, "%w", err)
	case parallel < 1:
		return driver.Errorf(driver.InvalidArgument, op, "parallel is %d, it takes 1 and more", parallel)
	case f == nil:
		return driver.Errorf(driver.InvalidArgument, op, "there is no function to call")
	}
	e, failure := t.c.use(ctx, op)
	if failure != nil {
		if failure.Code == driver.Canceled || failure.Code == driver.Timeout {
			return nil // ctx has ended, which is how Checks ends
		}
		return failure
	}
	if !t.c.begin() {
		return closedError(op)
	}
	defer t.c.calls.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &checker{ctx: ctx, parallel: parallel, f: f}
	e.checks.join(group, m)
	closed := false
	select {
	case <-ctx.Done():
	case <-t.c.done:
		closed = true
		cancel()
	}
	e.checks.leave(group, m)
	m.wg.Wait()
	if closed {
		return closedError(op)
	}
	return nil
}
