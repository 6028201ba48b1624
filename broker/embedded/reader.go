package embedded

import (
	"errors"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// runBytes is the most that is read at once, and runGap the distance
	// between two messages that are still read at once: reading a little too
	// much is cheaper than another call of the operating system.
	runBytes = 256 << 10
	runGap   = 2 << 10
	// slabBytes is how much memory messages share that are read one by one:
	// what the allocator still serves from its lists.
	slabBytes = 28 << 10
)

// reader reads the messages of a Fetch. All bodies of a call share memory, and
// so do all texts, so that a call costs a few allocations, however many
// messages it answers.
type reader struct {
	views  []message.View
	text   []byte
	filled []text
	slab   []byte // not used yet; never used twice, deliveries keep it
}

// text is one message whose texts are on their own.
type text struct {
	stored   message.Stored
	offsetID string
}

// read reads messages in the order of got. It answers how many it has read; an
// error belongs to the one behind them.
func (r *reader) read(log *commitlog.Log, got []catch) (int, error) {
	r.views, r.slab = r.views[:0], nil
	for i := 0; i < len(got); {
		run, end := 1, got[i].end()
		for i+run < len(got) {
			next := got[i+run].token
			if next.pos < end || next.pos-end > runGap || got[i+run].end()-got[i].token.pos > runBytes {
				break
			}
			end = got[i+run].end()
			run++
		}
		size := int(end - got[i].token.pos)
		r.room(size, (len(got)-i)*size/run)
		n, err := r.readRun(log, got[i:i+run], size)
		if i += n; err != nil {
			return i, err
		}
	}
	return len(got), nil
}

// room makes memory for size bytes now, and for more of the all that are likely
// to come.
func (r *reader) room(size, all int) {
	if len(r.slab) < size && size <= slabBytes/2 {
		r.slab = make([]byte, max(size, min(all, slabBytes)))
	}
}

// readRun reads messages that lie close together, within size bytes.
func (r *reader) readRun(log *commitlog.Log, got []catch, size int) (int, error) {
	first := got[0].token.pos
	var buf []byte
	if len(r.slab) >= size {
		buf, r.slab = r.slab[:0:size], r.slab[size:]
	}
	raw, err := log.ReadRaw(first, size, buf)
	if err != nil && len(got) > 1 {
		// A segment ends within the run, or something cannot be read: one by one.
		for i := range got {
			if _, err := r.readRun(log, got[i:i+1], int(got[i].end()-got[i].token.pos)); err != nil {
				return i, err
			}
		}
		return len(got), nil
	}
	if err != nil {
		return 0, err
	}
	for i, c := range got {
		kind, payload, err := log.ParseFrame(c.token.pos, raw[c.token.pos-first:c.end()-first])
		if err != nil {
			return i, err
		}
		_, payload, err = storedPart(record.Kind(kind), payload)
		if err != nil {
			return i, errors.Join(commitlog.ErrCorrupt, err)
		}
		v, _, err := message.DecodeView(payload)
		if err != nil {
			return i, errors.Join(commitlog.ErrCorrupt, err)
		}
		r.views = append(r.views, v)
	}
	return len(got), nil
}

// texts answers what was read; topic is that of the queue they were read from,
// which most of them have.
func (r *reader) texts(topic string) []text {
	r.text = r.text[:0]
	for i := range r.views {
		v := &r.views[i]
		r.text = append(r.text, v.PropertyBytes...)
		r.text = message.AppendOffsetID(r.text, v.StoreHost, v.PhysicalOffset)
	}
	all := string(r.text)
	r.filled = r.filled[:0]
	for i := range r.views {
		v := &r.views[i]
		t := text{stored: v.Stored}
		if t.stored.Topic = topic; string(v.TopicBytes) != topic {
			t.stored.Topic = string(v.TopicBytes)
		}
		n := len(v.PropertyBytes)
		t.stored.Properties, all = all[:n], all[n:]
		n = message.OffsetIDLen(v.StoreHost)
		t.offsetID, all = all[:n], all[n:]
		r.filled = append(r.filled, t)
	}
	return r.filled
}

// forget lets go of what was answered.
func (r *reader) forget() {
	clear(r.views)
	clear(r.filled)
}
