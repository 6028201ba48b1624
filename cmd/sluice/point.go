package main

import (
	"errors"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

// pointForm is how a place in a queue is written.
const pointForm = "first, last, a time such as 2026-01-31T18:00:00Z, a duration such as 2h for so long ago, or an offset"

var errPoint = errors.New("not a place in a queue")

// parsePoint reads a place in a queue.
func parsePoint(s string, now time.Time) (cluster.Point, error) {
	switch s {
	case "first":
		return cluster.Point{Kind: cluster.First}, nil
	case "last":
		return cluster.Point{Kind: cluster.Last}, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return cluster.Point{Kind: cluster.AtOffset, Offset: n}, nil
	}
	t, err := parseTime(s, now)
	if err != nil {
		return cluster.Point{}, errPoint
	}
	return cluster.Point{Kind: cluster.AtTime, Time: t}, nil
}

// timeForm is how a time in the past is written.
const timeForm = "a time such as 2026-01-31T18:00:00Z, or a duration such as 2h for so long ago"

// parseTime reads a time, or how long ago it was.
func parseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			return time.Time{}, errPoint
		}
		return now.Add(-d), nil
	}
	return parseMoment(s)
}

// parseMoment reads a time with its zone, or without one as of this machine's.
func parseMoment(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errPoint
}

// point declares a flag that is a place in a queue.
func (r *remote) point(name string, to *cluster.Point) {
	r.value(name, pointForm, func(s string) error {
		p, err := parsePoint(s, time.Now())
		if err != nil {
			return errForm
		}
		*to = p
		return nil
	})
}

// past declares a flag that is a time in the past.
func (r *remote) past(name string, to *time.Time) {
	r.value(name, timeForm, func(s string) error {
		t, err := parseTime(s, time.Now())
		if err != nil {
			return errForm
		}
		*to = t
		return nil
	})
}

// selection declares the flags that name some of the queues of a topic.
func (r *remote) selection() *cluster.Selection {
	x := &cluster.Selection{Queue: -1}
	r.text("broker", "the name of a broker", &x.Broker)
	r.value("queue", "a number from 0 on", func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return errForm
		}
		x.Queue = n
		return nil
	})
	return x
}
