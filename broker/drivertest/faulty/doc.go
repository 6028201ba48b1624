// Package faulty wraps a driver and breaks it on purpose, for the tests of
// whoever stands above the seam: retries, MaybeDone, idempotency, lost lanes,
// a connection that dies.
//
//	faults := faulty.New()
//	d := faulty.Driver(embedded.Driver(), faults)
//	…
//	faults.Add(faulty.Fault{Op: faulty.Send, Answer: true}) // stored, but the answer is lost
//
// A [Fault] hits calls of one [Op], from the n-th on and as often as said:
// it delays or blocks the call, and answers an error instead of carrying it out
// or after carrying it out. [Faults.Duplicate] delivers twice, [Faults.LoseLanes]
// takes lanes away without asking, and [Faults.Kill] cuts every connection.
//
// Everything is safe for concurrent use. A wrapped Conn has the extensions of
// the inner one, each wrapped; a nil extension stays nil. No goroutine of the wrapper
// outlives the call that started it.
package faulty
