package world

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Place is where a message lies.
type Place struct {
	Topic  string
	Queue  int
	Offset int64
}

// Snapshot is all that can be seen of a store, in a form that two equal stores
// share. The zero value is an empty store.
type Snapshot struct {
	Topics   []string
	Messages map[string][]string // by lane, in order
	Keys     map[string][]string // by "topic key"
	Groups   []string
}

// Take reads a whole store. It stops at the first error.
func Take(ctx context.Context, c driver.Conn) (Snapshot, error) {
	s := Snapshot{Messages: map[string][]string{}, Keys: map[string][]string{}}
	ext := c.Extensions()
	topics, err := ext.Topics.Topics(ctx)
	if err != nil {
		return s, err
	}
	keys := map[string]bool{}
	for _, t := range topics {
		s.Topics = append(s.Topics, fmt.Sprintf("%s with %d queues", t.Name, t.Queues))
		for q := range t.Queues {
			lane := laneName(t.Name, q)
			err := Each(ctx, c, t.Name, q, func(d *driver.Delivery) {
				s.Messages[lane] = append(s.Messages[lane], Describe(d))
				for _, k := range d.Keys {
					keys[t.Name+" "+k] = true
				}
			})
			if err != nil {
				return s, err
			}
		}
	}
	for k := range keys {
		topic, key, _ := strings.Cut(k, " ")
		ds, err := ext.Query.ByKey(ctx, topic, key, driver.TimeRange{}, 1<<30)
		if err != nil {
			return s, err
		}
		for _, d := range ds {
			s.Keys[k] = append(s.Keys[k], fmt.Sprintf("%s at %d", d.ID, d.Offset))
		}
	}
	s.Groups, err = takeGroups(ctx, ext.Groups)
	return s, err
}

func takeGroups(ctx context.Context, g driver.GroupAdmin) ([]string, error) {
	infos, err := g.Groups(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, info := range infos {
		lags, err := g.Lag(ctx, info.Name)
		if err != nil {
			return nil, err
		}
		for _, l := range lags {
			out = append(out, fmt.Sprintf("%s on %s at %d of %d", info.Name, l.Name, l.Committed, l.Max))
		}
	}
	slices.Sort(out)
	return out, nil
}

// Each reads a queue in pages.
func Each(ctx context.Context, c driver.Conn, topic string, queue int, f func(*driver.Delivery)) error {
	const page = 256
	for next := int64(0); ; {
		ds, err := c.Extensions().Query.Browse(ctx, topic, queue, next, page)
		if err != nil {
			return err
		}
		for _, d := range ds {
			next = d.Offset + 1
			f(d)
		}
		if len(ds) < page {
			return nil
		}
	}
}

// Describe is all that matters of a message, in one line.
func Describe(d *driver.Delivery) string {
	var props []string
	for _, k := range slices.Sorted(maps.Keys(d.Properties)) {
		props = append(props, k+"="+d.Properties[k])
	}
	return fmt.Sprintf("%d: %s tag %q keys %q order %q %q body %d bytes %08x attempt %d stored %s",
		d.Offset, d.ID, d.Tag, d.Keys, d.OrderingKey, props, len(d.Body), crc32.ChecksumIEEE(d.Body), d.Attempt,
		d.StoredAt.UTC().Format(time.RFC3339Nano))
}

// WithoutTimes leaves out when messages were stored, for runs at different times.
func (s Snapshot) WithoutTimes() Snapshot {
	out := s
	out.Messages = map[string][]string{}
	for lane, ms := range s.Messages {
		for _, m := range ms {
			m, _, _ = strings.Cut(m, " stored ")
			out.Messages[lane] = append(out.Messages[lane], m)
		}
	}
	return out
}

// Lines is the whole snapshot as text.
func (s Snapshot) Lines() []string {
	out := slices.Clone(s.Topics)
	for _, lane := range slices.Sorted(maps.Keys(s.Messages)) {
		for _, m := range s.Messages[lane] {
			out = append(out, lane+"/"+m)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.Keys)) {
		out = append(out, fmt.Sprintf("key %s: %q", k, s.Keys[k]))
	}
	return append(out, s.Groups...)
}

// Diff answers what is in one of two snapshots only, at most 20 lines.
func (s Snapshot) Diff(o Snapshot) string { return Diff(s.Lines(), o.Lines()) }

// Diff answers the lines that are in want or in got only, at most 20.
func Diff(want, got []string) string {
	count := map[string]int{}
	for _, l := range want {
		count[l]++
	}
	for _, l := range got {
		count[l]--
	}
	var out []string
	note := func(lines []string, sign int, mark string) {
		for _, l := range lines {
			if count[l]*sign > 0 {
				count[l] -= sign
				out = append(out, mark+l)
			}
		}
	}
	note(want, 1, "missing ")
	note(got, -1, "new     ")
	if n := len(out); n > 20 {
		out = append(out[:20], fmt.Sprintf("and %d more", n-20))
	}
	return strings.Join(out, "\n")
}
