package ours

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// OpenTime opens the store in dir, closes it again, and tells how long opening
// took: until it would take and give messages.
func OpenTime(dir string) (time.Duration, error) {
	begin := time.Now()
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, s.Close()
}

// Forget removes what a store derives from its log, so that the next opening
// has to read all of it.
func Forget(dir string) error {
	for _, pattern := range []string{"STATE-*", "*.idx"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, p := range paths {
			if err := os.Remove(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Interrupted opens the store in dir and adds so many messages; it is never
// closed: the process is to be killed.
func Interrupted(dir string, messages int) (*Store, error) {
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return nil, err
	}
	_, err = s.publisher(1, Window).publishAll(messages, nil)
	return s, err
}

// Work opens the store in dir, adds and consumes some messages, and leaves it
// open, so that its memory can be read.
func Work(dir, group string, messages int) (*Store, error) {
	s, err := Interrupted(dir, messages)
	if err != nil {
		return nil, err
	}
	_, err = s.drain(group, messages)
	return s, err
}

// Allocations counts the allocations of a message that is sent by itself, and
// of one that is fetched and settled, to a tenth: what runs beside is less.
func Allocations(dir string, messages int) (measure.Figures, error) {
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return nil, err
	}
	f := measure.Figures{}
	p := s.publisher(1, 1)
	_, err = p.publishAll(Window, nil) // the first ones make the topic and the pools
	begin := measure.Read()
	if err == nil {
		_, err = p.publishAll(messages, nil)
	}
	f["publish"] = tenths(begin, messages)
	begin = measure.Read()
	if err == nil {
		_, err = s.drain("allocations", messages)
	}
	f["deliver"] = tenths(begin, messages)
	return f, errors.Join(err, s.Close())
}

// tenths is the allocations of a message since begin.
func tenths(begin measure.Usage, messages int) float64 {
	return math.Round(float64(begin.Spent().Mallocs)/float64(messages)*10) / 10
}
