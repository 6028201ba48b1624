package world

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Kind is a kind of operation.
type Kind uint8

// What a schedule is made of.
const (
	Send Kind = iota
	Batch
	Delayed
	Prepare
	PrepareAgain
	Commit
	Rollback
	Ack
	Retry
	Dead
	Return
	Leave
	Create
	Delete
	Roll
	Reset
	Pass
	Reopen
	Query
	Keep
	Forget
	kinds
)

func (k Kind) String() string {
	return [...]string{
		"send", "batch", "delayed", "prepare", "prepare again", "commit", "rollback", "ack", "retry", "dead letter", "return",
		"leave", "create topic", "delete topic", "roll", "reset", "pass", "reopen", "query", "keep settings", "forget group",
	}[k]
}

// Op is one operation. N is a number of messages, X picks among what there is.
type Op struct {
	Kind  Kind
	Topic int
	N, X  int
}

// String is what a failing test prints.
func (o Op) String() string {
	return fmt.Sprintf("%s %s n=%d x=%d", o.Kind, topicName(o.Topic), o.N, o.X)
}

func topicName(n int) string { return [...]string{"alpha", "beta", "gamma"}[n%3] }

// Life is what happens from one opening of the store to its end.
type Life struct {
	Ops []Op
	// CutAt is the change in front of which the power goes, 0 for none.
	CutAt int
	// Clean ends the life by a close, if it gets there; else the power goes
	// while nothing is under way.
	Clean bool
	Mode  Survival
}

// Schedule is what one random test does.
type Schedule struct {
	Seed  uint64
	Lives []Life
}

// String lists the operations.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "SEED=%d\n", s.Seed)
	for i, l := range s.Lives {
		end := "power cut at rest"
		switch {
		case l.CutAt > 0:
			end = fmt.Sprintf("power cut in front of change %d", l.CutAt)
		case l.Clean:
			end = "clean close"
		}
		fmt.Fprintf(&b, "life %d, %s, %s survives:\n", i+1, end, l.Mode.Name)
		for _, o := range l.Ops {
			fmt.Fprintf(&b, "  %s\n", o)
		}
	}
	return b.String()
}

// Rand is the source of randomness of a seed; salt separates its uses.
func Rand(seed, salt uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, salt)) }

// Generate makes the schedule of a seed.
func Generate(seed uint64) Schedule {
	rng := Rand(seed, 1)
	s := Schedule{Seed: seed}
	modes := Survivals()
	for range 1 + rng.IntN(3) {
		l := Life{Mode: modes[rng.IntN(len(modes))], Clean: rng.IntN(3) == 0}
		l.Ops = Ops(rng, rng.IntN(24))
		if rng.IntN(4) > 0 {
			l.CutAt = 1 + rng.IntN(20+4*len(l.Ops))
		}
		s.Lives = append(s.Lives, l)
	}
	return s
}

// Ops makes n operations.
func Ops(rng *rand.Rand, n int) []Op {
	weights := [kinds]int{
		Send: 30, Batch: 12, Delayed: 7, Prepare: 9, PrepareAgain: 2, Commit: 8, Rollback: 4, Ack: 12, Retry: 4, Dead: 3,
		Return: 4, Leave: 5, Create: 4, Delete: 3, Roll: 2, Reset: 1, Pass: 5, Reopen: 2, Query: 3, Keep: 5, Forget: 1,
	}
	total := 0
	for _, w := range weights {
		total += w
	}
	ops := make([]Op, n)
	for i := range ops {
		at := rng.IntN(total)
		k := Kind(0)
		for at >= weights[k] {
			at -= weights[k]
			k++
		}
		topic := 0
		if rng.IntN(3) == 0 {
			topic = 1 + rng.IntN(2)
		}
		ops[i] = Op{Kind: k, Topic: topic, N: 1 + rng.IntN(6), X: rng.IntN(1000)}
	}
	return ops
}

// delayOf is the delay that X picks.
func delayOf(x int) time.Duration {
	return [...]time.Duration{time.Millisecond, 20 * time.Millisecond, 700 * time.Millisecond, 5 * time.Second, time.Hour}[x%5]
}
