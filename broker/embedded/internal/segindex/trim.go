package segindex

import (
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// TrimBefore forgets the parts of all segments that end at or before base, and
// removes their files; the active part stays. [Queue.Min] moves up. If the
// directory of the oldest part that stays cannot be read nothing changes. If a
// file cannot be removed it is forgotten all the same, and removed by the next
// call or the next [Set.Load].
func (s *Set) TrimBefore(base int64) error {
	s.files.Lock()
	defer s.files.Unlock()
	if s.closed.Load() {
		return ErrClosed
	}
	old, keep := s.split(base)
	if len(old) > 0 {
		if err := s.raise(keep); err != nil {
			return fmt.Errorf("trim the index before %d: %w", base, err)
		}
		s.list.Lock()
		next := append([]*part(nil), (*s.parts.Load())[len(old):]...)
		s.parts.Store(&next)
		s.list.Unlock()
	}
	var errs []error
	for _, p := range old {
		p.gone.Store(true)
		p.release()
		if d := p.disk.Load(); d != nil {
			errs = append(errs, d.file.Close())
			s.garbage = append(s.garbage, d.name)
		}
	}
	return errors.Join(append(errs, s.collect())...)
}

// split answers the parts that end at or before base, and the others.
func (s *Set) split(base int64) (old, keep []*part) {
	s.list.Lock()
	defer s.list.Unlock()
	parts := *s.parts.Load()
	n := 0
	for n < len(parts) && parts[n].sealed && parts[n].end <= base {
		n++
	}
	return parts[:n], parts[n:]
}

// raise moves the begin of every queue up to what is in keep.
func (s *Set) raise(keep []*part) error {
	queues := s.all()
	if len(keep) == 0 || keep[0].disk.Load() == nil {
		for _, q := range queues {
			if q != nil {
				q.raiseInMemory(keep)
			}
		}
		return nil
	}
	first := make([]int64, 0, len(queues)) // nothing changes if there is an error
	sc := s.scratch()
	defer s.pool.Put(sc)
	err := keep[0].disk.Load().eachRow(sc, func(_ uint32, r dirRow) { first = append(first, r.first()) })
	if err != nil {
		return err
	}
	for i, to := range first {
		if i < len(queues) && queues[i] != nil {
			queues[i].raise(to)
		}
	}
	return nil
}

// raiseInMemory moves Min up to the first entry in one of the parts, all of
// which are in memory.
func (q *Queue) raiseInMemory(keep []*part) {
	q.mu.Lock()
	defer q.mu.Unlock()
	to := q.max.Load()
	for r := q.oldest; r != nil; r = r.next {
		if len(keep) > 0 && r.part.base >= keep[0].base {
			to = r.first
			break
		}
	}
	if to > q.min.Load() {
		q.min.Store(to)
	}
}

// collect removes files that nobody needs.
func (s *Set) collect() error {
	var errs []error
	var left []string
	for _, name := range s.garbage {
		if err := s.fs.Remove(name); err != nil && !vfs.IsNotExist(err) {
			errs = append(errs, fmt.Errorf("remove index: %w", err))
			left = append(left, name)
		}
	}
	s.garbage = left
	return errors.Join(errs...)
}

// Close closes the files and writes nothing. Who reads later is answered
// [ErrClosed]. A second call does nothing.
func (s *Set) Close() error {
	s.files.Lock()
	defer s.files.Unlock()
	if s.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, p := range *s.parts.Load() {
		if d := p.disk.Load(); d != nil {
			errs = append(errs, d.file.Close())
		}
	}
	return errors.Join(errs...)
}
