// Package tx sends a message together with a local transaction: the message
// becomes visible exactly if the local transaction commits.
//
//	bills, err := tx.NewSender[BillSettled](tx.Params{Client: client, Local: table},
//		tx.Topic("bill-settled"), tx.Group("bills"))
//	res, err := bills.Send(ctx, BillSettled{ID: id}, func(ctx context.Context, t *sql.Tx) error {
//		return store.Settle(ctx, t, id)
//	})
//
// # What happens
//
// [Sender.Send] stores a half message, which no consumer sees; runs the local
// transaction through a [Local], which package marker implements with one row
// in the same SQL transaction; then tells the broker the end of it. Nothing is
// asked of the process after that: if it dies on the way, the broker asks any
// living member of the producer group, and [Checks] answers from the same row.
// No checker has to be written. One of your own is possible for each type, see
// [Checker].
//
// # What is promised
//
//   - A message is visible at most once, and only if its local transaction
//     committed.
//   - A nil error of Send means that the local transaction committed and that
//     the message is visible or will be, see [CommittedBrokerPending].
//   - A local transaction that a check judged dead can no longer commit.
//   - The end of the caller's context after the local commit does not keep the
//     broker from being told.
//
// Not promised: that a [CommittedBrokerPending] or [Unknown] message is decided
// while no member of the producer group lives. The broker asks when one does.
//
// # Under fx
//
// [Provide] gives a *Sender[T] to the graph. One check loop per producer group
// and process starts with the application, before the listeners, and ends after
// them, when running Sends have ended and check-backs under way are answered.
// A broker that stores no half messages is refused at the start.
package tx
