package offline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/internal/checkpoint"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Names of files, as package embedded and its parts give them.
const (
	currentName    = "CURRENT"
	manifestPrefix = "MANIFEST-"
	segmentSuffix  = ".log"
	indexSuffix    = ".idx"
	tmpSuffix      = ".tmp"
	digits         = 20
)

func segmentName(base int64) string { return fmt.Sprintf("%0*d%s", digits, base, segmentSuffix) }

func indexName(base int64) string { return fmt.Sprintf("%0*d%s", digits, base, indexSuffix) }

// number reads what is between prefix and suffix of a name.
func number(name, prefix, suffix string) (int64, bool) {
	name, begins := strings.CutPrefix(name, prefix)
	name, ends := strings.CutSuffix(name, suffix)
	if !begins || !ends || len(name) != digits || strings.Trim(name, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(name, 10, 64)
	return n, err == nil
}

// files are the names in the directory of a store.
type files struct {
	segments  []int64 // ascending
	indexes   []int64 // ascending
	states    []int64 // newest first
	bases     []int64 // newest first
	current   bool
	temporary []string
	foreign   []string
}

func list(fs vfs.FS) (f files, err error) {
	names, err := fs.List(".")
	if err != nil {
		return f, fmt.Errorf("list the store: %w", err)
	}
	for _, name := range names {
		f.add(name)
	}
	slices.Sort(f.segments)
	slices.Sort(f.indexes)
	for _, newest := range [][]int64{f.states, f.bases} {
		slices.Sort(newest)
		slices.Reverse(newest)
	}
	return f, nil
}

func (f *files) add(name string) {
	for _, kind := range []struct {
		prefix, suffix string
		to             *[]int64
	}{
		{"", segmentSuffix, &f.segments},
		{"", indexSuffix, &f.indexes},
		{string(checkpoint.State), "", &f.states},
		{string(checkpoint.Base), "", &f.bases},
		{manifestPrefix, "", new([]int64)},
	} {
		if n, ok := number(name, kind.prefix, kind.suffix); ok {
			*kind.to = append(*kind.to, n)
			return
		}
	}
	switch {
	case name == currentName:
		f.current = true
	case strings.HasSuffix(name, tmpSuffix):
		f.temporary = append(f.temporary, name)
	case name != "LOCK" && name != "BALLAST" && name != "lost+found":
		f.foreign = append(f.foreign, name)
	}
}
