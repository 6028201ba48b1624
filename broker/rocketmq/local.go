package rocketmq

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// localOffsets keeps the positions of broadcast groups, which are this client's
// own: a file for each client id and group, written as a whole.
type localOffsets struct {
	dir string // of the client

	mu     sync.Mutex
	groups map[string]map[string]int64 // by group, by queue
}

func newLocalOffsets(dir, clientID string) *localOffsets {
	return &localOffsets{dir: filepath.Join(dir, fmt.Sprintf("%x", clientID)), groups: map[string]map[string]int64{}}
}

func (l *localOffsets) file(group string) string {
	return filepath.Join(l.dir, fmt.Sprintf("%x.json", group))
}

// load reads the positions of a group once. A file that cannot be read is an
// error: to begin anew in silence would skip or repeat. mu is held.
func (l *localOffsets) load(group string) (map[string]int64, error) {
	if g := l.groups[group]; g != nil {
		return g, nil
	}
	g := map[string]int64{}
	b, err := os.ReadFile(l.file(group))
	switch {
	case os.IsNotExist(err):
	case err != nil:
		return nil, fmt.Errorf("read the positions of broadcast group %s: %w", group, err)
	default:
		if err := json.Unmarshal(b, &g); err != nil {
			return nil, fmt.Errorf("read the positions of broadcast group %s from %s: %w", group, l.file(group), err)
		}
	}
	l.groups[group] = g
	return g, nil
}

// get answers the position of a group on a queue, if it has one.
func (l *localOffsets) get(group string, q Queue) (int64, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, err := l.load(group)
	if err != nil {
		return 0, false, err
	}
	at, ok := g[q.String()]
	return at, ok, nil
}

// set stores a position: in a new file that replaces the old one.
func (l *localOffsets) set(group string, q Queue, at int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, err := l.load(group)
	if err != nil {
		return err
	}
	g[q.String()] = at
	b, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	return replaceFile(l.file(group), b)
}

// replaceFile writes a file so that a crash leaves the old or the new one.
func replaceFile(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(name))
}

// syncDir makes the names in a directory as durable as the files.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
