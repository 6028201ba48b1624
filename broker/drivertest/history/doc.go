// Package history checks what a run against a broker recorded: long runs,
// chaotic runs, runs over several processes, where no single assertion knows
// what has to come next.
//
// Every message carries a [Value]: the process that sent it, a counter and a
// checksum. Senders note what they tried and what the broker answered
// ([History.Invoke]), receivers what came ([History.Deliver]) and how it ended
// ([History.Settle]), and the run notes its faults ([History.Fault]). [History.Check]
// then answers:
//
//   - lost: stored, said the broker, and never delivered;
//   - phantom: delivered, but never sent, refused for certain, or damaged;
//   - duplicates: how many, and which of them nothing permits;
//   - order: per process, key and lane, first deliveries only;
//   - places: one lane and offset names one value, for ever;
//   - endings: what was given back comes again, what was given up is a dead letter;
//   - half messages: nothing before a commit, nothing after a rollback;
//   - delays: nothing before it is due;
//   - positions: never beyond the end, never back behind one that was durable;
//   - the end: a group that reads everything finds all that anybody saw, in
//     places without a gap.
//
// An answer that is unknown ("the broker may have done it") permits none or
// one delivery. A History is safe for concurrent use.
package history
