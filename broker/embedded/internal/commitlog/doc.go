// Package commitlog is the one durable file of the bundled broker: an
// append-only log of frames in segments, on a [vfs.FS]. It knows nothing about
// messages; what a frame means is its [Kind], and the caller's business.
//
// # Promise
//
// What Sync has made durable is found again by the next Open, in the same
// order and at the same positions, or Open fails, or, if the caller asked for
// that, the damage is a [Hole] from then on. It never cuts off or skips a
// frame that was durable: a frame that was half written when the power went is
// told from a frame that rotted by the durable offset that manifests and later
// frames carry. A failed sync is final; only a new Open, which writes again
// whatever the kernel may have lost, ends it.
//
// One goroutine is the writer: Append, Reserve, NextPos, Flush, Sync, SyncTo,
// Checkpoint, TrimBefore and Close are its methods, one at a time. Everything
// else may be called by anybody at any time, also while the log is closed, and
// so may the function that SyncTo answers.
//
// Readers take no locks: they work on an immutable list of segments and a
// flushed position, both atomic, and the list is published first. Syncs take
// turns under one lock, and writes of the manifest under another.
//
// # Two ways of writing
//
// A log is written, or mapped; see [Options]. A store may change from one to
// the other with each Open, and its files do not tell the difference.
//
// Written: Append collects frames, Flush writes them, Sync makes them durable.
// The log has no goroutines. Where a segment ends, Flush syncs it, notes that
// in the manifest and makes the next one.
//
// Mapped: Append copies the frame into a segment that is allocated, synced and
// mapped before it is needed, by a goroutine of the log, which also makes the
// pages in front of the writer present; then the frame survives the end of the
// process. A second goroutine syncs segments that are full, the directory
// before, and notes it in the manifest. At most eight full segments wait for
// that, then Append waits. A page that the file system cannot provide is a
// failed log, not the end of the process. Reads go through the file, but for
// those of the last segment of a mapped log.
//
// # Files
//
//	LOCK                      held while the store is open, never deleted
//	CURRENT                   "MANIFEST-<generation> <crc32c of that, 8 hex digits>\n"
//	MANIFEST-<generation>     20 digits; the newest two are kept
//	<base>.log                a segment, 20 digits: the position of its first frame
//	NEXT.log.tmp              a segment that is made ahead, of a mapped log
//	*.tmp                     of these, left by a crash, removed by Open
//
// Positions are offsets in the concatenation of all segments, so they do not
// depend on the segment size; a frame never spans two. A segment is made whole
// (created, allocated, synced, renamed, and, in a written log, the directory
// synced) before its first frame. That a segment exists proves nothing of the
// ones before it. Behind its last frame a segment holds zeros.
//
// # Frame
//
// All integers of all files are big endian.
//
//	offset size  field
//	     0    4  magic 0x534C4631 "SLF1"
//	     4    1  kind
//	     5    1  length of the header, 38
//	     6    4  epoch, grows after every truncation of a torn tail
//	    10    8  store id, random, as in the manifest
//	    18    8  own position
//	    26    8  durable position when the frame was built
//	    34    4  length n of the payload
//	    38    n  payload
//	  38+n    4  CRC-32C of everything before
//
// Position, store and epoch are under the checksum, so bytes that are
// misplaced, recycled or foreign never pass.
//
// # Manifest
//
//	offset size  field
//	     0    4  magic 0x534C4D46 "SLMF"
//	     4    2  format version, 2
//	     6    2  flags, bit 0: closed cleanly
//	     8    4  length of the whole manifest, 80 without holes
//	    12    4  epoch
//	    16    8  store id
//	    24    8  generation
//	    32    8  start: the position of the first frame that is kept
//	    40    8  synced: everything before it was durable
//	    48    8  high water of broker time, Unix nanoseconds
//	    56    8  when the store was made, Unix nanoseconds
//	    64    8  largest payload that was allowed so far
//	    72    4  number of holes
//	    76       the holes, in order
//	end-4    4  CRC-32C of everything before
//
// A hole, a range of positions that was quarantined:
//
//	offset size  field
//	     0    8  position where it begins
//	     8    8  position where it ends
//	    16    8  base of the segment that it begins in
//	    24    2  length n of the reason, at most 200
//	    26    n  reason, text
//
// Version 1 is the same without holes, with 0 at 72; it is read, and never
// written.
//
// A manifest is written beside the others, synced and renamed, and then
// CURRENT in the same way. An unreadable one makes Open fall back to the one
// before it, with a warning; nothing is deleted because it cannot be read.
//
// # Recovery
//
// Open reads every frame, or those from where Options.From says unless a file in
// front of that is missing or too short for the positions in it. At the first
// position X that holds none, and that is in no known hole, it looks ahead,
// through all later segments. There is a proof that more than X was durable if
// the manifest says so, or if any valid frame, before or behind, was built when
// more than X was durable.
//
// With a proof the place is corrupt. Open fails with a [*CorruptError] and
// changes nothing; or, with [Quarantine], the range from X to the next valid
// frame is a hole: it is noted in the manifest before the log is served, its
// positions are never used again, and reading goes on behind it. Without a next
// frame the hole ends behind all that was durable and all that is not zero.
//
// Without a proof the bytes behind X are a torn tail: they are cut off, later
// segments are removed, and the epoch grows.
//
// Then everything behind the last position that is known to be durable is
// written again and synced, since it may be in the page cache only, and only
// then is the log served.
//
// A frame that rots after its Sync, without a later frame, checkpoint or close
// to tell of that Sync, cannot be told from a torn tail.
package commitlog
