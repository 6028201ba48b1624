// Package vfs is the file system as the bundled broker sees it: one directory
// tree, a handful of operations, every one of which can fail in a test.
//
// [Dir] is the real one. It resolves every name below one directory (through
// [os.Root]), makes directories with mode 0700 and files with mode 0600, and
// its locks refuse a second opener also in the same process. With [ReadOnly] it
// writes nothing at all.
//
// [Mem] keeps everything in memory. It is fast enough for brokers that need no
// disk, and strict enough to prove those that do: it knows which bytes and
// which directory entries were made durable, and [Mem.CrashClone] answers what
// a power cut would leave of the rest.
//
// [Inject] puts a decision in front of each operation of another FS, for tests
// that fail the n-th call.
//
// # Durability
//
// [File.Sync] makes the content and the size of a file durable, not its name.
// [File.SyncData] does the same and may leave out what is not needed to read
// the bytes back.
// [FS.SyncDir] makes the names in one directory durable: those that were made
// by Create, Rename, Remove and MkdirAll before. A failed Sync may have lost
// what it was to write, for good, even when a later Sync succeeds.
//
// # Memory
//
// Files of [Dir] on Linux can be written through memory, see [Mapper]. What is
// written so is in the kernel without a call, and follows the same rules: a
// Sync makes it durable, and whatever that Sync fails on may be lost. Neither
// [Mem] nor [Inject] sees it, so crashes are modelled for WriteAt only.
//
// # Concurrency
//
// Every method of an [FS] and of a [File] is safe for concurrent use. A File
// that is closed while another goroutine reads answers that read with
// [io/fs.ErrClosed] or completes it.
package vfs
