package commitlog

// Sync makes everything that was flushed durable. After an error that is
// final: see [ErrFailed].
func (l *Log) Sync() error {
	if err := l.writable(); err != nil {
		return err
	}
	return l.syncTo(l.flushed.Load())
}

// SyncTo is Sync in two parts, so that the writer goes on with Append and Flush
// while the disk works. sync makes everything before to durable; it is called
// once at most, by any goroutine, at any time. What somebody else has made
// durable meanwhile, as a Flush that ends a segment, costs it nothing. Its
// error is final for the log, as that of Sync; after Close it is [ErrClosed].
func (l *Log) SyncTo() (to int64, sync func() error) {
	to = l.flushed.Load()
	return to, func() error { return l.syncTo(to) }
}

// syncTo makes what lies before to durable, the earliest first, so that synced
// never claims too much.
func (l *Log) syncTo(to int64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	from := l.synced.Load()
	if from >= to {
		return nil
	}
	if err := l.writable(); err != nil {
		return err // the kernel may have dropped these bytes: no second sync can be believed
	}
	if names := l.names.Load(); names != l.named {
		if err := l.opts.FS.SyncDir("."); err != nil {
			return l.fail("sync directory", err)
		}
		l.named = names
	}
	if l.mapped != nil { // what is not present is synced faster
		if err := l.mapped.keeper.unmap(); err != nil {
			return l.fail("unmap a full segment", err)
		}
	}
	segs := l.segments()
	for i := max(0, segmentAt(segs, from)); i < len(segs) && segs[i].base < to; i++ {
		end := to
		if i+1 < len(segs) {
			end = min(end, segs[i+1].base)
		}
		if lv := l.live.Load(); lv != nil && lv.base == segs[i].base {
			lv.m.release(max(0, from-lv.base), end-lv.base)
		}
		if err := segs[i].file.SyncData(); err != nil {
			return l.fail("sync "+segs[i].name, err)
		}
		l.synced.Store(end)
	}
	return nil
}

// Checkpoint notes in the manifest how much is durable and the time of the
// broker. It makes damage to the end of the log tell itself from a torn tail,
// and keeps time from going back if the wall clock is set back before the next
// Open. Call it when nothing else is urgent; it costs four syncs. An error that
// matches [ErrFull] changes nothing.
func (l *Log) Checkpoint() error {
	if err := l.writable(); err != nil {
		return err
	}
	return l.checkpoint(false)
}

// checkpoint may be called beside the writer.
func (l *Log) checkpoint(clean bool) error {
	return l.rewriteManifest(func(m *manifest) bool {
		m.clean = clean
		return true
	})
}

// note is a checkpoint unless the manifest says already that all before pos is
// durable.
func (l *Log) note(pos int64) error {
	return l.rewriteManifest(func(m *manifest) bool { return m.synced < pos })
}

// rewriteManifest makes the manifest that change has changed the current one,
// unless change answers false.
func (l *Log) rewriteManifest(change func(m *manifest) bool) error {
	l.noting.Lock()
	defer l.noting.Unlock()
	if err := l.Failed(); err != nil {
		return err
	}
	man := l.man
	if !change(&man) {
		return nil
	}
	man.synced = l.synced.Load()
	man.highWater = max(man.highWater, l.clock.now().UnixNano())
	if err := writeManifest(l.opts.FS, &man); err != nil {
		return l.ioError("write manifest", err)
	}
	l.man = man
	return nil
}
