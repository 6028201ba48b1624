package processes

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// ledger notes the lines of workers over all their lives. Beyond the history it
// watches that no position moved over a message that nobody acknowledged, and
// that nothing comes again which a member had acknowledged before it left.
type ledger struct {
	t        *testing.T
	h        history.History
	next     [producers]int
	open     map[string]arrival         // by the id of the delivery, of this life
	settled  map[string][]history.Value // by client, of this life
	places   map[place]history.Value
	status   map[history.Value]status
	position map[string]int64 // by queue, of the live group
	lives    int
	wrong    []error
	answers  []answered // ok only, in their order
}

type arrival struct {
	*history.Delivery
	value history.Value
}

type place struct {
	lane   string
	offset int64
}

// answered is a value of which the broker said that it is stored.
type answered struct {
	at    place
	value history.Value
	read  time.Time // when this process learned of it
}

// status is what is known of a value.
type status struct {
	stored bool // the broker said so
	tried  bool // somebody began to acknowledge it in the live group
	final  bool // its acknowledgement was made durable
}

func newLedger(t *testing.T) *ledger {
	return &ledger{
		t: t, open: map[string]arrival{}, settled: map[string][]history.Value{}, places: map[place]history.Value{},
		status: map[history.Value]status{}, position: map[string]int64{},
	}
}

func (l *ledger) bad(format string, args ...any) {
	if len(l.wrong) < 20 {
		l.wrong = append(l.wrong, fmt.Errorf("life %d: "+format, append([]any{l.lives}, args...)...))
	}
}

// fault ends a life.
func (l *ledger) fault(what string) {
	l.lives++
	l.h.Fault(what)
	clear(l.open)
	clear(l.settled)
}

// note takes one line of a worker.
func (l *ledger) note(line string) {
	w := strings.Fields(line)
	if len(w) == 0 {
		return
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(w[i], 10, 64)
		if err != nil {
			l.t.Fatalf("line %q: word %d: %v", line, i, err)
		}
		return n
	}
	switch {
	case w[0] == "i" && len(w) == 4:
		v := history.Value{Process: w[1], Counter: int(number(2))}
		l.h.Invoke(v, w[3])
		if i, err := strconv.Atoi(strings.TrimPrefix(w[1], "p")); err == nil && i < producers {
			l.next[i] = v.Counter + 1
		}
	case w[0] == "a" && len(w) == 6:
		l.answer(history.Value{Process: w[1], Counter: int(number(2))}, w[3], number(4), w[5])
	case w[0] == "d" && len(w) == 7:
		l.delivery(w[1], w[2], w[3], number(4), history.Value{Process: w[5], Counter: int(number(6))})
	case w[0] == "t" && len(w) == 2:
		if a, ok := l.open[w[1]]; ok {
			st := l.status[a.value]
			st.tried = true
			l.status[a.value] = st
		}
	case w[0] == "s" && len(w) == 2:
		if a, ok := l.open[w[1]]; ok {
			l.h.Settle(a.Delivery, history.Acked)
			client, _, _ := strings.Cut(w[1], "@")
			l.settled[client] = append(l.settled[client], a.value)
		}
	case w[0] == "l" && len(w) == 2:
		for _, v := range l.settled[w[1]] {
			st := l.status[v]
			st.final = true
			l.status[v] = st
		}
		delete(l.settled, w[1])
	case w[0] == "at" && len(w) == 5:
		l.start(w[1], topic+"/"+w[2], number(3), number(4))
	case w[0] == "x":
		l.bad("a damaged delivery: %s", line)
	case w[0] == "ready", w[0] == "drained", w[0] == "read":
	default:
		l.t.Fatalf("line %q is not understood", line)
	}
}

func (l *ledger) answer(v history.Value, queue string, offset int64, outcome string) {
	switch outcome {
	case "ok":
		lane := topic + "/" + queue
		l.h.Answer(v, history.OK)
		l.h.Stored(v, lane, offset)
		l.places[place{lane, offset}] = v
		st := l.status[v]
		st.stored = true
		l.status[v] = st
		l.answers = append(l.answers, answered{place{lane, offset}, v, time.Now()})
	case "failed":
		l.h.Answer(v, history.Failed)
	}
}

func (l *ledger) delivery(id, group, lane string, offset int64, v history.Value) {
	l.open[id] = arrival{l.h.Deliver(group, history.Body(v, 0), lane, offset), v}
	l.places[place{lane, offset}] = v
	if group == liveGroup && l.status[v].final {
		l.bad("%v came again at %s/%d after its member had left the group in order", v, lane, offset)
	}
}

// start notes where a group stands when a life begins: that is on the disk.
func (l *ledger) start(group, lane string, committed, highest int64) {
	l.h.Position(group, lane, committed, highest, true)
	if group != liveGroup {
		return
	}
	for o := l.position[lane]; o < committed; o++ {
		if v, known := l.places[place{lane, o}]; known && !l.status[v].tried {
			l.bad("the position of %s moved to %d over %v at %d, which nobody acknowledged", lane, committed, v, o)
		}
	}
	l.position[lane] = committed
}

// check judges the whole run; the store was drained.
func (l *ledger) check() error {
	errs := append(l.wrong, l.h.Check(history.Rules{
		Groups: []string{liveGroup}, Final: []string{freshGroup}, SharedLanes: true,
	}).Err())
	for v, st := range l.status {
		if st.stored && !st.tried && len(errs) < 30 {
			errs = append(errs, fmt.Errorf("%v was stored, and nobody ever acknowledged it", v))
		}
	}
	return errors.Join(errs...)
}

// restored judges a store that was read from end to end and never consumed.
func (l *ledger) restored() error {
	return errors.Join(append(l.wrong, l.h.Check(history.Rules{Final: []string{readGroup}, SharedLanes: true}).Err())...)
}
