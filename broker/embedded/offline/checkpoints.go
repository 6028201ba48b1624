package offline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/internal/checkpoint"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// checkpoints judges the STATE- and BASE- files.
type checkpoints struct {
	fs     vfs.FS
	store  uint64
	report *Report

	base   *snapshot   // what the log begins with; nil if nothing is known
	states []*snapshot // that can be read, by position
}

// read reads all of them. The log begins at start.
func (c *checkpoints) read(f files, start int64) error {
	err := c.each(checkpoint.Base, f.bases, func(pos int64, s *snapshot, why error) {
		inUse := pos == start && start > 0
		if inUse {
			c.base = s
		}
		if why != nil {
			c.damage(checkpoint.Base.Name(pos), why, !inUse)
		}
	})
	if err == nil {
		err = c.each(checkpoint.State, f.states, func(pos int64, s *snapshot, why error) {
			switch {
			case why != nil:
				c.damage(checkpoint.State.Name(pos), why, true)
			case pos < start:
				c.note(checkpoint.State.Name(pos), "lies before the log begins: it is not used")
			default:
				c.states = append(c.states, s)
			}
		})
	}
	slices.Reverse(c.states)
	return err
}

// each decodes the files of a kind, at the positions, newest first, and calls f
// for each.
func (c *checkpoints) each(kind checkpoint.Kind, positions []int64, f func(pos int64, s *snapshot, why error)) error {
	for _, pos := range positions {
		got, payload, skipped, err := checkpoint.Load(c.fs, kind, c.store, func(p int64) bool { return p == pos })
		var s *snapshot
		switch {
		case err == nil && got == pos:
			s, err = decodeSnapshot(pos, payload)
		case errors.Is(err, checkpoint.ErrNone):
			if err = reason(kind.Name(pos), skipped); err == nil || vfs.IsNotExist(err) {
				continue // it was removed meanwhile
			}
		default:
			return err
		}
		f(pos, s, err)
	}
	return nil
}

// reason is why the file called name was skipped, nil if it was not there.
func reason(name string, skipped []error) error {
	for _, err := range skipped {
		if strings.Contains(err.Error(), name) {
			if inner := errors.Unwrap(err); inner != nil {
				return inner
			}
			return err
		}
	}
	return nil
}

// before compares the checkpoints up to pos with the state that follows from
// the frames before pos.
func (c *checkpoints) before(pos int64, f *fold) {
	for len(c.states) > 0 && c.states[0].pos <= pos {
		s := c.states[0]
		c.states = c.states[1:]
		if s.pos < pos {
			c.damage(checkpoint.State.Name(s.pos), errors.New("no frame of the log begins at its position"), true)
		} else if why := f.differs(s); why != "" {
			c.damage(checkpoint.State.Name(s.pos), errors.New(why), true)
		}
	}
}

// skip gives up on those whose position is lost.
func (c *checkpoints) skip(h hole) {
	c.states = slices.DeleteFunc(c.states, func(s *snapshot) bool { return h.pos < s.pos && s.pos < h.end })
}

// finish tells what the checkpoints say of the store; end is that of the log.
func (c *checkpoints) finish(f files, end int64) {
	for _, s := range c.states {
		c.note(checkpoint.State.Name(s.pos), "lies behind the end of the log at %d: it is not used", end)
	}
	if len(f.states) == 0 && end > 0 {
		c.note(string(checkpoint.State)+"*", "there is no checkpoint: the next start reads the whole log")
	}
}

func (c *checkpoints) damage(name string, why error, derived bool) {
	d := Damage{File: name, Reason: why.Error(), Derived: derived}
	if size, err := c.fs.Size(name); err == nil {
		d.Length = size
	}
	c.report.Damage = append(c.report.Damage, d)
}

func (c *checkpoints) note(name, format string, args ...any) {
	c.report.Notes = append(c.report.Notes, Note{name, fmt.Sprintf(format, args...)})
}
