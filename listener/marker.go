package listener

import (
	"fmt"
	"reflect"
)

// ownMarker is what the markers of this package add to [Annotation]: they keep
// placeholders as they are, so their keys are checked when Provide is called.
type ownMarker interface {
	Annotation
	own()
}

// On says what a listener listens to. Its keys are
//
//	topic        required here, by Topic or by configuration
//	group        required, as topic
//	tags         "a || b"; all by default; excludes sql
//	sql          an SQL92 expression over the properties, TAGS and KEYS; excludes tags
//	name         the name of the listener in control, configuration and logs; see [Provide] for the default
//	concurrency  handlers at a time; 16 by default
//	prefetch     messages that may wait in memory for a handler; as concurrency by default
//	buffer       bytes of messages held in memory, approximately; 64MiB by default
//	from         earliest (default), latest, or a time in RFC 3339; for a group without a stored position
//	timeout      of one run of the handler; 15m by default, 0s for none
type On struct{}

func (On) own() {}

// Annotate implements [Annotation].
func (On) Annotate(tag reflect.StructTag, s *Spec) error {
	return s.setAll(tag, map[string]string{}, keyTopic, keyGroup, keyTags, keySQL, keyName, keyConcurrency,
		keyPrefetch, keyBuffer, keyFrom, keyTimeout)
}

// Orderly makes a listener handle messages in order: one at a time for each
// queue, or for each ordering key of a queue. A message that fails is retried
// in place, and what comes after it waits. Its keys are
//
//	workers    handlers at a time over all queues; 16 by default
//	by         queue (default) or key
//	exhausted  what happens after the last attempt: block (default) goes on retrying in place and
//	           complains, deadletter moves the message away, skip drops it
//
// A group is in order for all of its topics or for none.
type Orderly struct{}

func (Orderly) own() {}

// Annotate implements [Annotation].
func (Orderly) Annotate(tag reflect.StructTag, s *Spec) error {
	return join([]error{
		s.Set(keyOrdered, "true"),
		s.setAll(tag, map[string]string{"workers": keyConcurrency}, "workers", keyBy, keyExhausted),
	})
}

// Broadcast gives every member of the group every message. Failed messages are
// retried in memory, and dropped with an error in the log after the last
// attempt: a dead letter of one member would be no statement about the others.
// It has no keys.
type Broadcast struct{}

func (Broadcast) own() {}

// Annotate implements [Annotation].
func (Broadcast) Annotate(tag reflect.StructTag, s *Spec) error {
	return join([]error{s.Set(keyBroadcast, "true"), s.setAll(tag, nil)})
}

// Retry says how failed deliveries are repeated; see [RetryPolicy]. Its keys are
//
//	attempts  runs of the handler for one message, the first one included; 17 by default
//	backoff   "10s..2h" doubles from the first to the second; "10s,30s,1m" goes through a list and
//	          repeats its last; "5s" is always the same. By default the sixteen delays of RocketMQ.
//	jitter    "10%" spreads each delay by up to a tenth to both sides; none by default
type Retry struct{}

func (Retry) own() {}

// Annotate implements [Annotation].
func (Retry) Annotate(tag reflect.StructTag, s *Spec) error {
	return s.setAll(tag, nil, keyAttempts, keyBackoff, keyJitter)
}

// StartPaused keeps a listener out of its group until its gates are green. Its
// key is
//
//	resume  auto (default): goes on by itself then; manual: waits for [Container.Resume]
type StartPaused struct{}

func (StartPaused) own() {}

// Annotate implements [Annotation].
func (StartPaused) Annotate(tag reflect.StructTag, s *Spec) error {
	return join([]error{s.Set(keyStart, startPaused), s.setAll(tag, nil, keyResume)})
}

// setAll sets what a tag holds; alias gives the setting behind a key of another
// name.
func (s *Spec) setAll(tag reflect.StructTag, alias map[string]string, known ...string) error {
	values, err := ParseTag(tag, known...)
	errs := []error{err}
	for _, k := range known {
		v, ok := values[k]
		if !ok {
			continue
		}
		key := k
		if a, renamed := alias[k]; renamed {
			key = a
			if old, set := s.settings[key]; set && old.Source != s.source {
				errs = append(errs, fmt.Errorf("%s says the same as %s in %s; keep one", k, key, old.Source))
				continue
			}
		}
		if err := s.Set(key, v); err != nil {
			errs = append(errs, err)
		}
	}
	return join(errs)
}
