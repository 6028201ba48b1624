package commitlog

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const (
	lockName       = "LOCK"
	currentName    = "CURRENT"
	manifestPrefix = "MANIFEST-"
	segmentSuffix  = ".log"
	tmpSuffix      = ".tmp"
	digits         = 20

	manifestMagic   = 0x534C4D46
	manifestVersion = 1
	manifestLen     = 80
	flagClean       = 1
)

// manifest is the small state of the store.
type manifest struct {
	clean      bool
	epoch      uint32
	store      uint64
	generation uint64
	start      int64
	synced     int64
	highWater  int64 // Unix nanoseconds
	created    int64 // Unix nanoseconds
	maxFrame   int64
}

func newManifest(now time.Time) manifest {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return manifest{epoch: 1, store: binary.BigEndian.Uint64(b[:]), highWater: now.UnixNano(), created: now.UnixNano()}
}

func (m manifest) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, 0, manifestLen)
	b = be.AppendUint32(b, manifestMagic)
	b = be.AppendUint16(b, manifestVersion)
	var flags uint16
	if m.clean {
		flags |= flagClean
	}
	b = be.AppendUint16(b, flags)
	b = be.AppendUint32(b, manifestLen)
	b = be.AppendUint32(b, m.epoch)
	for _, v := range []uint64{
		m.store, m.generation, uint64(m.start), uint64(m.synced),
		uint64(m.highWater), uint64(m.created), uint64(m.maxFrame),
	} {
		b = be.AppendUint64(b, v)
	}
	b = be.AppendUint32(b, 0)
	return be.AppendUint32(b, castagnoli(b))
}

func decodeManifest(b []byte) (m manifest, err error) {
	be := binary.BigEndian
	if len(b) < 8 || be.Uint32(b) != manifestMagic {
		return m, errors.New("it does not begin as a manifest")
	}
	if len(b) != manifestLen || be.Uint32(b[manifestLen-crcLen:]) != castagnoli(b[:manifestLen-crcLen]) {
		// A newer version may be longer; without its checksum it is no proof.
		if v := be.Uint16(b[4:]); v > manifestVersion && len(b) > manifestLen && be.Uint32(b[len(b)-crcLen:]) == castagnoli(b[:len(b)-crcLen]) {
			return m, fmt.Errorf("%w: version %d, this program reads up to %d", ErrVersion, v, manifestVersion)
		}
		return m, errors.New("its checksum does not match")
	}
	if v := be.Uint16(b[4:]); v != manifestVersion {
		return m, fmt.Errorf("%w: version %d, this program reads up to %d", ErrVersion, v, manifestVersion)
	}
	m = manifest{
		clean: be.Uint16(b[6:])&flagClean != 0, epoch: be.Uint32(b[12:]), store: be.Uint64(b[16:]), generation: be.Uint64(b[24:]),
		start: int64(be.Uint64(b[32:])), synced: int64(be.Uint64(b[40:])),
		highWater: int64(be.Uint64(b[48:])), created: int64(be.Uint64(b[56:])), maxFrame: int64(be.Uint64(b[64:])),
	}
	return m, nil
}

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
	case len(l.foreign) > 0:
		return fmt.Errorf("%w: there is no manifest, but %q and %d other entries; name an empty directory or an existing store",
			ErrNotAStore, l.foreign[0], len(l.foreign)-1)
	case l.current || len(l.segments) > 0:
		return fmt.Errorf("%w: its manifests are missing, %d segments are there; restore the files %s*",
			ErrNotAStore, len(l.segments), manifestPrefix)
	}
	return nil
}

// loadManifest answers the manifest that CURRENT names, or the newest one that
// can be read; why says what was wrong then.
func loadManifest(fsys vfs.FS, l listing) (m manifest, why string, err error) {
	order := l.manifests
	if l.current {
		g, err := readCurrent(fsys)
		switch {
		case err != nil:
			why = err.Error()
		default:
			order = append([]uint64{g}, slices.DeleteFunc(slices.Clone(order), func(o uint64) bool { return o == g })...)
		}
	}
	for _, g := range order {
		name := manifestName(g)
		b, rerr := readSmall(fsys, name)
		if rerr == nil {
			m, rerr = decodeManifest(b)
			if rerr == nil && m.generation == g {
				if why != "" {
					// What could not be read stays where it is: new
					// generations neither replace nor remove it.
					m.generation = l.manifests[0] + 2
				}
				return m, why, nil
			}
			if rerr == nil {
				rerr = fmt.Errorf("it holds generation %d", m.generation)
			}
		}
		if errors.Is(rerr, ErrVersion) {
			return m, "", fmt.Errorf("read %s: %w", name, rerr)
		}
		if why == "" {
			why = "read " + name + ": " + rerr.Error()
		}
	}
	return m, "", &CorruptError{Segment: manifestName(order[0]), Length: manifestLen, Reason: "no manifest can be read: " + why}
}

func encodeCurrent(generation uint64) []byte {
	name := manifestName(generation)
	return fmt.Appendf(nil, "%s %08x\n", name, castagnoli([]byte(name)))
}

func readCurrent(fsys vfs.FS) (uint64, error) {
	b, err := readSmall(fsys, currentName)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", currentName, err)
	}
	name, _, _ := strings.Cut(string(b), " ")
	g, ok := parseManifestName(name)
	if !ok || string(b) != string(encodeCurrent(g)) {
		return 0, fmt.Errorf("read %s: it names no manifest, or its checksum does not match", currentName)
	}
	return g, nil
}

// smallLimit bounds what is read of a file that should be small.
const smallLimit = 4096

func readSmall(fsys vfs.FS, name string) (_ []byte, err error) {
	f, err := fsys.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, smallLimit)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// writeManifest makes m the current one. On success m.generation is its own.
func writeManifest(fsys vfs.FS, m *manifest) error {
	next := *m
	next.generation++
	if err := writeAtomically(fsys, manifestName(next.generation), next.encode()); err != nil {
		return err
	}
	if err := writeAtomically(fsys, currentName, encodeCurrent(next.generation)); err != nil {
		return err
	}
	m.generation = next.generation
	if next.generation < 3 {
		return nil
	}
	// The one before stays. That an older one stays too is no harm.
	if err := fsys.Remove(manifestName(next.generation - 2)); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	return nil
}

// writeAtomically makes name hold b, durable, or leaves what it held.
func writeAtomically(fsys vfs.FS, name string, b []byte) error {
	tmp := name + tmpSuffix
	if err := fsys.Remove(tmp); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = asSync(f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		return err
	}
	return asSync(fsys.SyncDir("."))
}
