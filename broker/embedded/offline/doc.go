// Package offline reads the store of the bundled broker without opening it: it
// takes no lock, writes nothing, and needs of a file system only OpenRead, List
// and Size. So it can read a copy on a read-only disk, and a store that a
// process has open.
//
//	fs, err := vfs.Dir(path, vfs.ReadOnly)
//	report, err := offline.Verify(ctx, fs)
//
// [Verify] reads everything once and says what is damaged, [Dump] shows what
// the frames of the log say. Memory is that of the messages of one segment, of
// the topics, and of the messages that wait for a time or a decision.
//
// # A store that is open
//
// While a process writes, the log may grow during the call, so that the end
// seems torn, and files may appear, be replaced or vanish. What is reported
// then about the end of the log, or about a file that is gone, says nothing;
// everything before is as reported. Reading again tells.
//
// # Damage
//
// The log, its manifests and the base in use are the truth: what is damaged
// there is lost, or is what the next start refuses. Index files and checkpoints
// are derived: damage to them has [Damage.Derived] set, costs time and no
// message, and ends when they are deleted while the store is closed. A torn
// tail is not damage, nor is a range that was quarantined, nor is a derived
// file that is missing or old.
package offline
