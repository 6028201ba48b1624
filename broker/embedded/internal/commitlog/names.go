package commitlog

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const (
	lockName       = "LOCK"
	currentName    = "CURRENT"
	manifestPrefix = "MANIFEST-"
	segmentSuffix  = ".log"
	tmpSuffix      = ".tmp"
	digits         = 20
	// preparedName is a segment that is made before its base is known.
	preparedName = "NEXT" + segmentSuffix + tmpSuffix
)

func manifestName(generation uint64) string {
	return fmt.Sprintf("%s%0*d", manifestPrefix, digits, generation)
}

func segmentName(base int64) string { return fmt.Sprintf("%0*d%s", digits, base, segmentSuffix) }

// parseNumber reads a number of exactly 20 digits.
func parseNumber(s string) (int64, bool) {
	if len(s) != digits || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func parseSegmentName(name string) (base int64, ok bool) {
	s, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	return parseNumber(s)
}

func parseManifestName(name string) (generation uint64, ok bool) {
	s, ok := strings.CutPrefix(name, manifestPrefix)
	if !ok {
		return 0, false
	}
	n, ok := parseNumber(s)
	return uint64(n), ok
}

// isTemporary reports whether name is what a crash in this package leaves.
func isTemporary(name string) bool {
	if name == preparedName {
		return true
	}
	s, ok := strings.CutSuffix(name, tmpSuffix)
	if !ok {
		return false
	}
	_, seg := parseSegmentName(s)
	_, man := parseManifestName(s)
	return seg || man || s == currentName
}

// listing is what the directory of a store holds.
type listing struct {
	manifests []uint64 // newest first
	segments  []int64  // ascending
	temporary []string
	foreign   []string
	current   bool
}

func list(fsys vfs.FS) (l listing, err error) {
	names, err := fsys.List(".")
	if err != nil {
		return l, err
	}
	for _, name := range names {
		if g, ok := parseManifestName(name); ok {
			l.manifests = append(l.manifests, g)
			continue
		}
		if base, ok := parseSegmentName(name); ok {
			l.segments = append(l.segments, base)
			continue
		}
		switch {
		case isTemporary(name):
			l.temporary = append(l.temporary, name)
		case name == currentName:
			l.current = true
		case name != lockName && name != "lost+found": // the latter is in the root of ext file systems
			l.foreign = append(l.foreign, name)
		}
	}
	slices.SortFunc(l.manifests, func(a, b uint64) int { return cmp.Compare(b, a) })
	slices.Sort(l.segments)
	return l, nil
}

// check refuses a directory that is neither empty nor a store. With a
// manifest it is a store, and other files in it are none of our business.
func (l listing) check() error {
	if len(l.manifests) > 0 {
		return nil
	}
	switch {
	case len(l.segments) == 1: // whatever else is there: those names are nobody else's
		return fmt.Errorf("%w, a file of its log is there", ErrNoManifest)
	case len(l.segments) > 1:
		return fmt.Errorf("%w, %d files of its log are there", ErrNoManifest, len(l.segments))
	case len(l.foreign) == 1:
		return fmt.Errorf("%w: there is no manifest, but %q", ErrNotAStore, l.foreign[0])
	case len(l.foreign) == 2:
		return fmt.Errorf("%w: there is no manifest, but %q and %q", ErrNotAStore, l.foreign[0], l.foreign[1])
	case len(l.foreign) > 2:
		return fmt.Errorf("%w: there is no manifest, but %q and %d other entries", ErrNotAStore, l.foreign[0], len(l.foreign)-1)
	case l.current:
		return ErrNoManifest
	}
	return nil
}
