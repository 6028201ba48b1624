// Package commitlog is the one durable file of the bundled broker: an
// append-only log of frames in segments, on a [vfs.FS]. It knows nothing about
// messages; what a frame means is its [Kind], and the caller's business.
//
// # Promise
//
// What Sync has made durable is found again by the next Open, in the same
// order and at the same positions, or Open fails. It never cuts off or skips a
// frame that was durable: a frame that was half written when the power went is
// told from a frame that rotted by the durable offset that manifests and later
// frames carry. A failed sync is final; only a new Open, which writes again
// whatever the kernel may have lost, ends it.
//
// One goroutine is the writer: Append, Reserve, NextPos, Flush, Sync,
// Checkpoint, TrimBefore and Close are its methods, one at a time. Everything
// else may be called by anybody at any time, also while the log is closed.
//
// The log holds no locks. Readers work on an immutable list of segments and a
// flushed position, both atomic, and the list is published first.
//
// # Files
//
//	LOCK                      held while the store is open, never deleted
//	CURRENT                   "MANIFEST-<generation> <crc32c of that, 8 hex digits>\n"
//	MANIFEST-<generation>     20 digits; the newest two are kept
//	<base>.log                a segment, 20 digits: the position of its first frame
//	*.tmp                     of these, left by a crash, removed by Open
//
// Positions are offsets in the concatenation of all segments, so they do not
// depend on the segment size; a frame never spans two. A segment is made whole
// (created, allocated, synced, renamed, directory synced) before its first
// frame, and only after everything before it was synced: a segment that exists
// proves that all earlier ones are complete. Behind its last frame a segment
// holds zeros.
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
//	     4    2  format version, 1
//	     6    2  flags, bit 0: closed cleanly
//	     8    4  length of the whole manifest, 80
//	    12    4  epoch
//	    16    8  store id
//	    24    8  generation
//	    32    8  start: the position of the first frame that is kept
//	    40    8  synced: everything before it was durable
//	    48    8  high water of broker time, Unix nanoseconds
//	    56    8  when the store was made, Unix nanoseconds
//	    64    8  largest payload that was allowed so far
//	    72    4  reserved, 0
//	    76    4  CRC-32C of everything before
//
// A manifest is written beside the others, synced and renamed, and then
// CURRENT in the same way. An unreadable one makes Open fall back to the one
// before it, with a warning; nothing is deleted because it cannot be read.
//
// # Recovery
//
// Open reads every frame. At the first position X that holds none it looks
// ahead. The place is corrupt, and Open fails with a [*CorruptError] and
// changes nothing, if the manifest says that more than X was durable, if a
// later segment exists, or if any valid frame behind it was built when more
// than X was durable. Else the bytes behind X are a torn tail: they are cut
// off and the epoch grows. Then everything behind the last position that is
// known to be durable is written again and synced, since it may be in the page
// cache only, and only then is the log served.
//
// A frame that rots after its Sync, without a later frame, checkpoint or close
// to tell of that Sync, cannot be told from a torn tail.
package commitlog
