package ours

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// creators make topics at the same time.
const creators = 8

// defaultQueues is how many queues a topic gets by default.
const defaultQueues = 4

// Topics makes so many topics with the default number of queues, puts a
// message into each, and then publishes over all of them: the rate, seconds
// for making them, and the heap that each takes.
func Topics(dir string, topics int, l measure.Loop) (measure.Figures, error) {
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return nil, err
	}
	f, err := s.topics(topics, l)
	return f, errors.Join(err, s.Close())
}

func (s *Store) topics(topics int, l measure.Loop) (measure.Figures, error) {
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprintf("bench-%05d", i)
	}
	empty := measure.Heap()
	took, err := measure.Share(topics, creators, func(_, i int) error {
		return s.conn.Extensions().Topics.CreateTopic(context.Background(), driver.TopicInfo{Name: names[i], Queues: defaultQueues})
	})
	if err != nil {
		return nil, err
	}
	p := s.publisher(l.Workers, 1)
	if _, err := measure.Share(topics, l.Workers, func(w, i int) error {
		p.batches[w][0].Topic = names[i]
		return p.send(p.batches[w])
	}); err != nil {
		return nil, err
	}
	heap := (measure.Heap() - empty) / float64(topics)
	var next atomic.Int64
	r, err := l.Run(func(w int) (int, error) {
		p.batches[w][0].Topic = names[int(next.Add(1))*7919%topics]
		return p.Publish(w)
	})
	f := r.Figures()
	f["create_s"], f["heap_kib"] = took.Seconds(), heap/1024
	return f, err
}
