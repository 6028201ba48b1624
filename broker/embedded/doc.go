// Package embedded is the bundled broker and its driver for the process that
// holds it: topics with queues, consumer groups, retries and dead letters,
// messages delayed to any time, half messages with check-back, an index by key,
// on one durable log. [Open] needs neither fx nor package sdk; [Module] is for
// applications that use both. It is one node on purpose.
//
// # What is promised
//
//   - What Send answered as Stored survives a kill of the process, and in the
//     default mode [SyncAlways] a power cut. What a consumer sees is durable by
//     the same measure.
//   - The order of a queue is the order of the answers of Send.
//   - Delivery is at least once: a message comes again after a crash if its
//     settlement was less than a second old. A hand-over of a lane inside the
//     process, and a clean close, repeat only what was not settled.
//   - A half message has one decision, made by one frame of the log, and keeps
//     it through any crash.
//   - A failed sync is final: writing ends with [driver.Unavailable], reading
//     goes on, Health reports it, and only opening the store again ends it. A
//     full disk is not: new messages are answered [driver.ResourceExhausted]
//     until there is room, while a ballast, the space of one file of the log,
//     lets what is stored be settled, decided and removed.
//   - What is lost, by damage or because [Retention] was faster than a group, is
//     told to the group by a [driver.GapError], counted by [Broker.Stats] and in
//     metrics, and its queue offsets are never used again. The same gap tells,
//     and nothing counts, what damage may have taken where the log leaves open
//     whether there was anything.
//   - Memory follows the number of queues and of files of the log, not of
//     messages; so does the time to open, after a crash by at most what one
//     file holds, or a few where answers mean no sync.
//
// # What is not
//
//   - Delays of Retry and Return on ordered and on broadcast lanes, and the
//     attempts counted there, are kept in memory and begin anew with a restart.
//   - How often a half message was asked for is kept in memory as well.
//   - The decisions of the last 131072 half messages are remembered, as long as
//     the log holds them. A Resolve that repeats an older one is told
//     [driver.NotFound], and an older unique id may be prepared anew.
//   - DeleteTopic frees no space; retention does, by whole files. A message that
//     is not due yet, or an undecided half message, holds up retention behind it.
//   - With [Quarantine], a topic of which the log says nothing outside of the
//     damaged range is forgotten with its messages; only Stats and the log tell.
//
// # How it works
//
// Everything is a fold over the log of package commitlog: messages in
// RocketMQ's stored layout, and small frames for topics, positions, rollbacks
// and parked half messages. Where messages lie and which keys they have is kept
// in an index file for each full file of the log, the rest in checkpoints, so
// that opening reads little; both can be deleted and are made again. Where an
// answer means no sync the sender itself writes; else senders join a round that
// one goroutine ends with one write and one sync.
//
// Lanes are the queues of a topic, and one more for redeliveries unless the
// subscription is ordered or broadcast. Queues go to the members of a group in
// equal parts, in the order of their client ids, and change hands only after
// the former owner has settled its work or has had Config.RevokeTimeout to.
//
// Tags select in the index, where their hashes are; SQL92 selects by reading
// each message and asking package sql92, with the properties under their names
// on the wire. What is not selected counts as settled and does not come back
// with another filter. Redeliveries are not filtered.
//
// Retry and dead letters are copies in the topics %RETRY%group and %DLQ%group.
// They keep unique id, keys, tag, properties and time of birth.
package embedded
