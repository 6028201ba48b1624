package embedded

import (
	"errors"
	"log/slog"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// ballastName is the file whose space is given up when the disk is full.
const ballastName = "BALLAST"

// roomEvery is how often a full store looks whether there is room again.
const roomEvery = time.Second

// errFull is what new messages meet while the store lives on its ballast.
var errFull = errors.New("the disk is full; what is stored is served, settled and removed, new messages wait for room")

// ballast is as much space as one file of the log takes, kept for the day on
// which the disk is full: then it is given up, and what is stored can still be
// decided, settled, retried and deleted, though nothing new is taken. It belongs
// to the keeper, once the store is open.
type ballast struct {
	fs   vfs.FS
	size int64
	have bool
}

// take reserves the space; an error that tells want of space changes nothing.
func (b *ballast) take() error {
	if b.have {
		return nil
	}
	f, err := b.fs.Create(ballastName)
	if errors.Is(err, vfs.ErrReadOnly) {
		return err
	}
	if err != nil { // it is there, of whatever size
		if f, err = b.fs.OpenReadWrite(ballastName); err != nil {
			return err
		}
	}
	err = errors.Join(f.Allocate(b.size), f.Close())
	if err != nil {
		return errors.Join(err, b.drop())
	}
	b.have = true
	return nil
}

// drop gives the space up.
func (b *ballast) drop() error {
	b.have = false
	err := b.fs.Remove(ballastName)
	if vfs.IsNotExist(err) {
		return nil
	}
	return err
}

// fullError refuses a new message while the store is full.
func fullError() *driver.Error {
	return &driver.Error{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: roomEvery, Err: errFull}
}

// exhausted is told, on the write path, that there was no space.
func (k *keeper) exhausted() {
	if k.ballast == nil || !k.e.w.full.CompareAndSwap(false, true) {
		return
	}
	k.e.cfg.Logger.Error("the disk is full: nothing new is taken until there is room", slog.String("path", k.e.path))
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// room gives the ballast up if the store is full, and takes messages again once
// it can be had back. It reports whether the store is full still.
func (k *keeper) room() bool {
	w := k.e.w
	if k.ballast == nil || !w.full.Load() {
		return false
	}
	if k.ballast.have {
		if err := k.ballast.drop(); err != nil {
			k.e.cfg.Logger.Error("the ballast was not given up", slog.Any("error", err))
		}
		return true // what it left is for what must go on; look again later
	}
	if err := k.ballast.take(); err != nil {
		if !vfs.IsNoSpace(err) {
			k.e.cfg.Logger.Error("there may be room, but the ballast cannot be made", slog.Any("error", err))
		}
		return true
	}
	w.full.Store(false)
	k.e.cfg.Logger.Info("there is room again, new messages are taken", slog.String("path", k.e.path))
	return false
}

// recoverFull is [engine.recover] on a disk that may be full: then the ballast
// goes first.
func (e *engine) recoverFull() (commitlog.Recovery, error) {
	rec, err := e.recover()
	if !errors.Is(err, commitlog.ErrFull) || e.memory {
		return rec, err
	}
	b := ballast{fs: e.fs}
	if _, serr := e.fs.Size(ballastName); serr != nil || b.drop() != nil {
		return rec, err
	}
	e.log, e.st = nil, nil
	return e.recover()
}
