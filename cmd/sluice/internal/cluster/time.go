package cluster

import "time"

// Time is a time of the protocol, which has milliseconds. In JSON it always has
// the same form, such as 2026-01-31T18:00:00.000Z, so that texts sort as times.
type Time struct{ time.Time }

// MarshalJSON writes it in UTC.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}

// Millis is a time of the protocol; the zero time if there is none.
func Millis(ms int64) Time {
	if ms <= 0 {
		return Time{}
	}
	return Time{time.UnixMilli(ms).UTC()}
}
