package rocketmq

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// localOffsets keeps the positions of broadcast groups, which are this client's
// own: a file for each client id, cluster and group, written as a whole. No name
// of a cluster is its own; it is known by its name servers, one of which at least
// must be as it was.
type localOffsets struct {
	client  string   // folder of the client
	servers []string // sorted
	log     *slog.Logger

	mu     sync.Mutex
	sought bool
	dir    string                      // of the cluster, in that of the client; "" while there is none
	groups map[string]map[string]int64 // by group, by queue
}

// serversFile names the name servers of a cluster, one a line, in its folder.
const serversFile = "nameservers"

func newLocalOffsets(dir, clientID string, servers []string, log *slog.Logger) *localOffsets {
	return &localOffsets{
		client: filepath.Join(dir, fmt.Sprintf("%x", clientID)), servers: slices.Sorted(slices.Values(servers)), log: log,
		groups: map[string]map[string]int64{},
	}
}

func (l *localOffsets) file(dir, group string) string {
	return filepath.Join(dir, fmt.Sprintf("%x.json", group))
}

// find looks for the folder of the cluster once: that with the most of its name
// servers. mu is held.
func (l *localOffsets) find() error {
	if l.sought {
		return nil
	}
	entries, err := os.ReadDir(l.client)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	best, most, others := "", 0, 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(l.client, e.Name())
		b, err := os.ReadFile(filepath.Join(dir, serversFile))
		switch {
		case os.IsNotExist(err):
			continue // a crash left it behind
		case err != nil:
			return err
		}
		others++
		known := strings.Fields(string(b))
		n := 0
		for _, s := range l.servers {
			if slices.Contains(known, s) {
				n++
			}
		}
		if n > most {
			best, most = dir, n
		}
	}
	if best == "" && others > 0 {
		l.log.Warn("the positions of broadcast groups that this client has are of clusters with other name servers; it begins anew. "+
			"If this cluster is one of them, write one of its name servers into the file "+serversFile+" beside its positions",
			slog.String("folder", l.client), slog.Any("name_servers", l.servers))
	}
	if best != "" {
		if err := l.note(best); err != nil { // name servers come and go one by one
			return err
		}
	}
	l.dir, l.sought = best, true
	return nil
}

// note writes the name servers into the folder of the cluster.
func (l *localOffsets) note(dir string) error {
	return replaceFile(filepath.Join(dir, serversFile), []byte(strings.Join(l.servers, "\n")+"\n"))
}

// create makes the folder of the cluster if there is none. mu is held.
func (l *localOffsets) create() error {
	if l.dir != "" {
		return nil
	}
	if err := os.MkdirAll(l.client, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(l.client, "cluster-")
	if err != nil {
		return err
	}
	if err := l.note(dir); err != nil {
		return err
	}
	l.dir = dir
	return syncDir(l.client)
}

// adopt takes over the positions of a client that told no clusters apart. mu is
// held.
func (l *localOffsets) adopt(group string) error {
	old := l.file(l.client, group)
	if _, err := os.Stat(old); err != nil {
		return err
	}
	if err := l.create(); err != nil {
		return err
	}
	if err := os.Rename(old, l.file(l.dir, group)); err != nil {
		return err
	}
	return errors.Join(syncDir(l.dir), syncDir(l.client))
}

// load reads the positions of a group once. A file that cannot be read is an
// error: to begin anew in silence would skip or repeat. mu is held.
func (l *localOffsets) load(group string) (map[string]int64, error) {
	if g := l.groups[group]; g != nil {
		return g, nil
	}
	fail := func(err error) error { return fmt.Errorf("read the positions of broadcast group %s: %w", group, err) }
	if err := l.find(); err != nil {
		return nil, fail(err)
	}
	b, err := l.read(group)
	g := map[string]int64{}
	switch {
	case os.IsNotExist(err):
	case err != nil:
		return nil, fail(err)
	default:
		if err := json.Unmarshal(b, &g); err != nil {
			return nil, fail(fmt.Errorf("%s: %w", l.file(l.dir, group), err))
		}
	}
	l.groups[group] = g
	return g, nil
}

// read reads the file of a group, that of an older client if it has none. mu is
// held.
func (l *localOffsets) read(group string) ([]byte, error) {
	if l.dir != "" {
		if b, err := os.ReadFile(l.file(l.dir, group)); !os.IsNotExist(err) {
			return b, err
		}
	}
	if err := l.adopt(group); err != nil {
		return nil, err
	}
	return os.ReadFile(l.file(l.dir, group))
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
	return l.write(group, g)
}

// ready makes sure that the positions of a group can be read and kept.
func (l *localOffsets) ready(group string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, err := l.load(group)
	if err != nil {
		return err
	}
	if err := l.write(group, g); err != nil {
		return fmt.Errorf("keep the positions of broadcast group %s in a folder of its own: %w; Config.OffsetDir takes one that can be written", group, err)
	}
	return nil
}

// write replaces the file of a group. mu is held.
func (l *localOffsets) write(group string, g map[string]int64) error {
	b, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := l.create(); err != nil {
		return err
	}
	return replaceFile(l.file(l.dir, group), b)
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
