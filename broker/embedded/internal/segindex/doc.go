// Package segindex finds messages in the log: by queue and offset, by time,
// and by the hash of a key. It is derived from the log and can be made again
// from it at any time.
//
// A [Set] is a list of parts, one for each segment of the log. The part of the
// segment that is being written, the active one, is kept in memory. When the
// next segment begins it is sealed, and [Set.WriteNext] writes it to a file
// beside the segment and frees its memory. So memory grows with the number of
// queues and segments, and not with the number of messages.
//
// # Goroutines
//
// One goroutine writes: [Set.Queue] when it makes a queue, [Queue.SetStart],
// [Set.Drop], [Set.Begin], [Set.Add] and [Set.AddKey] belong to it. Reading,
// writing files, trimming and closing may happen beside it and beside each
// other, in any goroutine. Who reads a file holds no lock meanwhile.
//
// Lock order: Set.files, Set.list, Set.mu, then Queue.mu or part.mu.
//
// # Index files
//
// The file of the segment that begins at position b has the name of b in 20
// digits and the suffix ".idx". It is a sequence of blocks of 4096 bytes.
// Numbers are big endian, signed ones in two's complement. A block is 4092
// bytes of content, the end of it zero where rows do not fill it, and a
// CRC-32C. Every block is verified each time that it is read: opening a store
// reads little, and damage is found wherever it is.
//
// Block 0 is the header. Its checksum is the CRC-32C of its first 4092 bytes.
//
//	offset  size  content
//	     0     4  magic, "SLIX"
//	     4     2  version, 1
//	     6     2  0
//	     8     8  identity of the store
//	    16     8  base: position at which the segment begins
//	    24     8  end: everything of the segment that lies before it is in the
//	              file; the base of the next segment if the segment was full
//	    32     4  number of rows in the directory
//	    36     4  number of rows in the section of entries
//	    40     4  number of keys
//	    44     4  number of directory rows with bit 63 set
//	    48     8  the latest time of an entry, Unix milliseconds;
//	              the least number if there are no entries
//	    56     4  number n of epochs, up to 300
//	    60  12*n  epochs: 4 bytes position minus base, 8 bytes Unix milliseconds
//	  4092     4  CRC-32C
//
// The other blocks are three sections: directory, entries, keys. Each begins
// with a block. The checksum of block i is the CRC-32C of its content, begun
// not with 0 but with the CRC-32C of the identity of the store and the base (8
// bytes each) exclusive-or i, so that a good block in a wrong place is found.
//
// Directory: a row for every queue, 255 in a block; the queue with number q
// has row q. A queue without a row did not exist.
//
//	offset  size  content
//	     0     8  bits 0..60: offset of the first of the entries, and if there
//	              are none the offset that is next;
//	              bit 61: some of its rows stand for more than one entry;
//	              bit 62: at the end of the segment there is no such queue;
//	              bit 63: it was empty and was told in this segment to begin
//	              at this offset
//	     8     4  number of the first of its rows in the section of entries
//	    12     4  number of its entries in this file
//
// Entries: those of queue 0 by offset, those of queue 1, and so on, 255 rows in
// a block. A row is an entry. Only lost entries that follow each other, which
// may be a great many, are one row together.
//
//	offset  size  content
//	     0     4  position minus base
//	     4     4  size of the payload of its frame; 0 for messages that are lost
//	     8     4  hash of its tag; if the size is 0, how many further entries
//	              the row stands for, without a sign
//	    12     4  milliseconds since the last epoch that begins at or before
//	              its position
//
// Keys: sorted by hash, then by position, 341 in a block.
//
//	offset  size  content
//	     0     8  hash of the key, the caller's
//	     8     4  position minus base
//
// A file is made under its name and ".tmp", synced, renamed, and the directory
// is synced: under its name it is complete. It never changes.
package segindex
