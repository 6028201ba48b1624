package drivertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// checkCases: check-back of undecided half messages.
func checkCases() []testCase {
	const g = "check_back"
	return []testCase{
		{g, "asks_and_obeys", needTx, checkDecides},
		{g, "counts_and_spaces", needTx, checkCounts},
		{g, "decided_is_not_asked", needTx, func(e *env) {
			topic := e.topic(1)
			c := e.checks(e.main, e.its("producers"), 1, func(driver.Half, int) driver.Decision { return driver.Undecided })
			for i, d := range []driver.Decision{driver.Commit, driver.Rollback} {
				e.resolve(e.prepare(e.its("producers"), message(topic, i)), d)
			}
			e.advance(e.lim.CheckAfter + 2*e.lim.CheckEvery)
			if got := c.calls(); len(got) > 0 {
				e.Errorf("decided half messages were asked for: %+v", got)
			}
		}},
		{g, "no_member_no_check_consumed", needTx | needDecidesOnce, checkNoMember},
		{g, "one_answer_of_two_members", needTx, checkTwoMembers},
		{g, "other_groups_are_not_asked", needTx, func(e *env) {
			topic := e.topic(1)
			wrong := e.checks(e.main, e.its("strangers"), 1, func(driver.Half, int) driver.Decision { return driver.Commit })
			right := e.checks(e.connect("other"), e.its("producers"), 1, func(driver.Half, int) driver.Decision { return driver.Rollback })
			e.prepare(e.its("producers"), message(topic, 1))
			right.await(1)
			if got := wrong.calls(); len(got) > 0 {
				e.Errorf("a member of another producer group was asked: %+v", got)
			}
		}},
		{g, "parallel_is_a_bound", needTx, checkParallel},
		{g, "ends_with_ctx", needTx, func(e *env) {
			c := e.checks(e.main, e.its("producers"), 2, func(driver.Half, int) driver.Decision { return driver.Undecided })
			e.settleDown()
			if err := c.end(); err != nil {
				e.Errorf("Checks after its ctx has ended: got %v, want nil", err)
			}
		}},
		{g, "after_restart", needTx | needDurable | needCrash, checkRestart},
		{g, "parked_and_listed", needTx, func(e *env) { checkParked(e) }},
		{g, "parked_and_resolved", needTx | needDecidesOnce, checkParkedResolved},
		{g, "resolve_while_asked", needTx, checkResolveMeanwhile},
	}
}

// asked is one call of a CheckFunc.
type asked struct {
	tx    string
	body  string
	check int
	at    time.Time
}

// checker is a member of a producer group.
type checker struct {
	e      *env
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	mu     sync.Mutex
	got    []asked
}

// checks runs Transactor.Checks on c until the test ends.
func (e *env) checks(c driver.Conn, group string, parallel int, f func(h driver.Half, check int) driver.Decision) *checker {
	e.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	k := &checker{e: e, cancel: cancel, done: make(chan struct{})}
	tx := c.Extensions().Tx
	go func() {
		defer close(k.done)
		k.err = tx.Checks(ctx, group, parallel, func(_ context.Context, h driver.Half, d *driver.Delivery, check int) driver.Decision {
			k.mu.Lock()
			k.got = append(k.got, asked{tx: h.TxID, body: string(d.Body), check: check, at: time.Now()})
			k.mu.Unlock()
			if h.Group != group {
				e.Errorf("a member of group %s was asked for a half of group %s", group, h.Group)
			}
			return f(h, check)
		})
	}()
	e.mu.Lock()
	e.checkers = append(e.checkers, k)
	e.mu.Unlock()
	return k
}

// end leaves the producer group.
func (k *checker) end() error {
	k.cancel()
	k.e.returns("Checks", k.done, k.e.lim.Within)
	select {
	case <-k.done:
		return k.err
	default:
		return nil // reported above
	}
}

func (k *checker) calls() []asked {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.got)
}

// await waits until n calls were made.
func (k *checker) await(n int) []asked {
	k.e.Helper()
	limit := k.e.lim.CheckAfter + time.Duration(n)*k.e.lim.CheckGap + k.e.lim.Within
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		got := k.calls()
		if len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			k.e.Fatalf("waited %v for %d check-backs, got %+v", limit, n, got)
		}
	}
}

func checkDecides(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	start := time.Now()
	yes, no := message(topic, 1), message(topic, 2)
	yes.ID, no.ID = "YES", "NO"
	c := e.checks(e.main, e.its("producers"), 1, func(h driver.Half, _ int) driver.Decision {
		if h.TxID == "YES" {
			return driver.Commit
		}
		return driver.Rollback
	})
	e.prepare(e.its("producers"), yes)
	h := e.prepare(e.its("producers"), no)
	got := c.await(2)
	for _, a := range got {
		if want := map[string]string{"YES": "m1", "NO": "m2"}[a.tx]; a.body != want || a.check != 1 {
			e.Errorf("check-back of %s: got body %q, check %d; want %q, 1", a.tx, a.body, a.check, want)
		}
		if early := start.Add(e.lim.CheckAfter).Sub(a.at); early > time.Millisecond {
			e.Errorf("first check of %s came %v before CheckAfter, %v", a.tx, early, e.lim.CheckAfter)
		}
		if late := a.at.Sub(start); late > e.lim.CheckAfter+e.lim.CheckGap {
			e.Errorf("first check of %s came after %v; CheckAfter is %v, CheckGap %v", a.tx, late, e.lim.CheckAfter, e.lim.CheckGap)
		}
	}
	if a := m.take(1)[0]; string(a.d.Body) != "m1" {
		e.Errorf("got %v, want m1: the check answered commit", a)
	}
	m.none("the other check answered rollback")
	e.advance(2 * e.lim.CheckEvery)
	if n := len(c.calls()); n != 2 {
		e.Errorf("two half messages were decided by one check each, but %d checks were made", n)
	}
	e.wantCode("commit after the check said rollback", e.ext.Tx.Resolve(e.ctx(), h, driver.Commit), driver.FailedPrecondition)
}

func checkCounts(e *env) {
	topic := e.topic(1)
	n := min(3, e.lim.CheckMax)
	c := e.checks(e.main, e.its("producers"), 1, func(_ driver.Half, check int) driver.Decision {
		if check < n {
			return driver.Undecided
		}
		return driver.Rollback
	})
	start := time.Now()
	e.prepare(e.its("producers"), message(topic, 1))
	got := c.await(n)
	for i, a := range got {
		if a.check != i+1 {
			e.Errorf("call %d says check %d, want %d", i, a.check, i+1)
		}
		// Not by the pause before it: a check that arrives late makes the next
		// pause short.
		earliest := e.lim.CheckAfter + time.Duration(i)*(e.lim.CheckEvery-e.lim.CheckEvery/10)
		if after := a.at.Sub(start); after < earliest-time.Millisecond {
			e.Errorf("check %d came after %v; want %v at least", a.check, after, earliest)
		}
		if i == 0 {
			continue
		}
		if gap := a.at.Sub(got[i-1].at); gap > e.lim.CheckGap+time.Second {
			e.Errorf("check %d came %v after the one before; want %v at most", a.check, gap, e.lim.CheckGap)
		}
	}
}

// checkNoMember: without a member of the producer group nothing is counted.
func checkNoMember(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.prepare(e.its("producers"), message(topic, 1))
	// Long enough to use up every check, were they counted.
	e.advance(e.lim.CheckAfter + time.Duration(e.lim.CheckMax+1)*e.lim.CheckEvery)
	if parked := e.parked(); len(parked) > 0 {
		e.Errorf("no member was there to ask, yet Parked answers %+v", parked)
	}
	start := time.Now()
	c := e.checks(e.main, e.its("producers"), 1, func(driver.Half, int) driver.Decision { return driver.Commit })
	got := c.await(1)
	if got[0].check != 1 {
		e.Errorf("first check after a time without members is number %d, want 1", got[0].check)
	}
	if took := got[0].at.Sub(start); took > e.lim.CheckEvery+e.lim.CheckAfter+time.Second {
		e.Errorf("a member came back and was asked after %v only; one check interval, %v, is allowed", took, e.lim.CheckEvery)
	}
	m.take(1)
}

func checkTwoMembers(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	commit := func(driver.Half, int) driver.Decision { return driver.Commit }
	a, b := e.checks(e.main, e.its("producers"), 1, commit), e.checks(e.connect("other"), e.its("producers"), 1, commit)
	e.settleDown()
	const n = 10
	for i := range n {
		e.prepare(e.its("producers"), message(topic, i))
	}
	m.takeWithin(n, e.lim.CheckAfter+2*e.lim.CheckGap+e.lim.Within)
	m.none("each half message is committed once, whoever was asked")
	if total := len(a.calls()) + len(b.calls()); total != n {
		e.Errorf("%d checks were made for %d half messages that were decided at once", total, n)
	}
	if err := a.end(); err != nil {
		e.Errorf("Checks: %v", err)
	}
	e.prepare(e.its("producers"), message(topic, n))
	m.takeWithin(1, e.lim.CheckAfter+2*e.lim.CheckGap+e.lim.Within) // the other member goes on
}

func checkParallel(e *env) {
	topic := e.topic(1)
	const parallel = 2
	var now, most atomic.Int32
	c := e.checks(e.main, e.its("producers"), parallel, func(driver.Half, int) driver.Decision {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		now.Add(-1)
		return driver.Rollback
	})
	for i := range 8 {
		e.prepare(e.its("producers"), message(topic, i))
	}
	c.await(8)
	if most.Load() > parallel {
		e.Errorf("%d calls ran at once, %d are allowed", most.Load(), parallel)
	}
}

func checkRestart(e *env) {
	topic := e.topic(1)
	e.prepare(e.its("producers"), message(topic, 1))
	c := e.checks(e.main, e.its("producers"), 1, func(driver.Half, int) driver.Decision { return driver.Undecided })
	c.await(1)
	e.crash()
	m := e.member(e.its("group"), topic)
	c = e.checks(e.main, e.its("producers"), 1, func(driver.Half, int) driver.Decision { return driver.Commit })
	got := c.await(1)
	if got[0].check < 1 || got[0].check > 2 || got[0].body != "m1" {
		e.Errorf("first check after a crash: got %+v, want body m1 and check 2, or 1 if the count was lost", got[0])
	}
	m.take(1)
	m.none("it was committed once")
}

// parked lists the parked halves of this test; a broker may have others.
func (e *env) parked() []driver.ParkedHalf {
	e.Helper()
	all, err := e.ext.Tx.Parked(e.ctx(), 1000)
	e.must("list parked halves", err)
	return slices.DeleteFunc(all, func(p driver.ParkedHalf) bool { return !strings.HasPrefix(p.Half.Group, e.b.Space) })
}

// checkParked lets two half messages be parked.
func checkParked(e *env) (m *member, parked []driver.ParkedHalf) {
	topic := e.topic(1)
	m = e.member(e.its("group"), topic)
	c := e.checks(e.main, e.its("producers"), 1, func(driver.Half, int) driver.Decision { return driver.Undecided })
	ids := []string{"PARK-A", "PARK-B"}
	for i, id := range ids {
		msg := message(topic, i)
		msg.ID = id
		e.prepare(e.its("producers"), msg)
	}
	c.await(2 * e.lim.CheckMax)
	deadline := time.Now().Add(e.lim.CheckGap + e.lim.Within)
	for len(parked) < 2 && time.Now().Before(deadline) {
		parked = e.parked()
		time.Sleep(20 * time.Millisecond)
	}
	if len(parked) != 2 {
		e.Fatalf("after %d undecided checks of each Parked answers %+v, want both halves", e.lim.CheckMax, parked)
	}
	for _, p := range parked {
		i := slices.Index(ids, p.Half.TxID)
		if i < 0 || p.Half.Group != e.its("producers") || p.Message == nil || string(p.Message.Body) != fmt.Sprint("m", i) ||
			p.Checks != e.lim.CheckMax || p.ParkedAt.IsZero() {
			e.Errorf("parked: got %+v, want one of %q with its message, %d checks and a time", p, ids, e.lim.CheckMax)
		}
	}
	if one, err := e.ext.Tx.Parked(e.ctx(), 1); err != nil || len(one) != 1 {
		e.Errorf("Parked with limit 1: got %d halves, %v", len(one), err)
	}
	before := len(c.calls())
	e.advance(2 * e.lim.CheckEvery)
	if after := len(c.calls()); after != before {
		e.Errorf("%d more checks were made after the last one", after-before)
	}
	m.none("a parked half message is invisible")
	return m, parked
}

func checkParkedResolved(e *env) {
	m, parked := checkParked(e)
	e.resolve(parked[0].Half, driver.Commit)
	e.resolve(parked[1].Half, driver.Rollback)
	e.resolve(parked[0].Half, driver.Commit)
	e.wantCode("commit a parked half after its rollback", e.ext.Tx.Resolve(e.ctx(), parked[1].Half, driver.Commit), driver.FailedPrecondition)
	if a := m.take(1)[0]; a.d.ID != parked[0].Half.TxID {
		e.Errorf("got %v with id %q, want %q", a, a.d.ID, parked[0].Half.TxID)
	}
	m.none("the other parked half was rolled back")
	if left := e.parked(); len(left) > 0 {
		e.Errorf("both parked halves were decided, Parked still answers %+v", left)
	}
}

// checkResolveMeanwhile: the sender decides while the check is being answered.
func checkResolveMeanwhile(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	inside, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c := e.checks(e.main, e.its("producers"), 1, func(driver.Half, int) driver.Decision {
		once.Do(func() { close(inside) })
		<-answer
		return driver.Rollback
	})
	defer func() { _ = c.end() }()
	defer close(answer)
	h := e.prepare(e.its("producers"), message(topic, 1))
	if !e.returns("the first check-back", inside, e.lim.CheckAfter+e.lim.CheckGap+e.lim.Within) {
		return
	}
	e.resolve(h, driver.Commit)
	m.take(1)[0].ack()
	answer <- struct{}{} // the late rollback must change nothing
	e.settleDown()
	e.resolve(h, driver.Commit)
	e.wantCode("roll back what was committed", e.ext.Tx.Resolve(e.ctx(), h, driver.Rollback), driver.FailedPrecondition)
	m.none("it was committed once")
}
