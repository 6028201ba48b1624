// Package marker decides local transactions by a row in the user's own database.
//
// [Table.Run] inserts the row (id, committed) in the same [sql.Tx] as the
// business change, before the business change. [Table.Decide], the check-back,
// inserts (id, rolled_back) and ignores a conflict, then answers from the row
// that is there. The primary key serialises the race between a slow sender and
// a check: whoever inserts first decides, and the other one learns it. So a
// local transaction that was judged dead can no longer commit; it fails with
// [ErrTombstone].
//
// While a local transaction is still open its outcome is not known: Decide then
// answers Undecided after a short lock timeout and never blocks the loop that
// asks. [Table.Prune] removes rows that no check can ask for any more.
//
// The idea is that of the barrier table of DTM.
package marker
