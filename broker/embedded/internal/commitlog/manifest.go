package commitlog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const (
	manifestMagic   = 0x534C4D46
	manifestVersion = 2  // 1 had no holes and is the same otherwise
	manifestLen     = 80 // without holes
	holeLen         = 26 // without its reason
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
	holes      []Hole // ascending, never changed in place
}

func newManifest(now time.Time) manifest {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return manifest{epoch: 1, store: binary.BigEndian.Uint64(b[:]), highWater: now.UnixNano(), created: now.UnixNano()}
}

func (m manifest) encode() []byte {
	be := binary.BigEndian
	size := manifestLen
	for _, h := range m.holes {
		size += holeLen + len(h.Reason)
	}
	b := make([]byte, 0, size)
	b = be.AppendUint32(b, manifestMagic)
	b = be.AppendUint16(b, manifestVersion)
	var flags uint16
	if m.clean {
		flags |= flagClean
	}
	b = be.AppendUint16(b, flags)
	b = be.AppendUint32(b, uint32(size))
	b = be.AppendUint32(b, m.epoch)
	for _, v := range []uint64{
		m.store, m.generation, uint64(m.start), uint64(m.synced),
		uint64(m.highWater), uint64(m.created), uint64(m.maxFrame),
	} {
		b = be.AppendUint64(b, v)
	}
	b = be.AppendUint32(b, uint32(len(m.holes)))
	for _, h := range m.holes {
		b = be.AppendUint64(b, uint64(h.Pos))
		b = be.AppendUint64(b, uint64(h.End))
		b = be.AppendUint64(b, uint64(h.Pos-h.Offset))
		b = be.AppendUint16(b, uint16(len(h.Reason)))
		b = append(b, h.Reason...)
	}
	return be.AppendUint32(b, castagnoli(b))
}

func decodeManifest(b []byte) (m manifest, err error) {
	be := binary.BigEndian
	if len(b) < 8 || be.Uint32(b) != manifestMagic {
		return m, errors.New("it does not begin as a manifest")
	}
	// A newer version may be different; without its checksum it is no proof.
	n := len(b) - crcLen
	if len(b) < manifestLen || be.Uint32(b[n:]) != castagnoli(b[:n]) {
		return m, errors.New("its checksum does not match")
	}
	v := be.Uint16(b[4:])
	switch {
	case v == 0 || v > manifestVersion:
		return m, fmt.Errorf("%w: version %d, this program reads up to %d", ErrVersion, v, manifestVersion)
	case int64(be.Uint32(b[8:])) != int64(len(b)), v == 1 && len(b) != manifestLen:
		return m, errors.New("it has not the length that it says")
	}
	m = manifest{
		clean: be.Uint16(b[6:])&flagClean != 0, epoch: be.Uint32(b[12:]), store: be.Uint64(b[16:]), generation: be.Uint64(b[24:]),
		start: int64(be.Uint64(b[32:])), synced: int64(be.Uint64(b[40:])),
		highWater: int64(be.Uint64(b[48:])), created: int64(be.Uint64(b[56:])), maxFrame: int64(be.Uint64(b[64:])),
	}
	if v > 1 {
		m.holes, err = decodeHoles(b[76:n], be.Uint32(b[72:]))
	}
	return m, err
}

// decodeHoles reads n holes, which ascend and fill b.
func decodeHoles(b []byte, n uint32) (holes []Hole, err error) {
	be := binary.BigEndian
	wrong := errors.New("its list of holes is wrong")
	for last := int64(0); n > 0; n-- {
		if len(b) < holeLen || len(b) < holeLen+int(be.Uint16(b[24:])) {
			return nil, wrong
		}
		pos, end, base := int64(be.Uint64(b)), int64(be.Uint64(b[8:])), int64(be.Uint64(b[16:]))
		if pos < last || end <= pos || base < 0 || base > pos {
			return nil, wrong
		}
		size := holeLen + int(be.Uint16(b[24:]))
		holes = append(holes, newHole(pos, end, base, string(b[holeLen:size])))
		b, last = b[size:], end
	}
	if len(b) > 0 {
		return nil, wrong
	}
	return holes, nil
}

// loadManifest answers the manifest that CURRENT names, or the newest one that
// can be read, and the name of its file; why says what was wrong then.
func loadManifest(fsys vfs.FS, l listing) (m manifest, name, why string, err error) {
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
		name = manifestName(g)
		b, rerr := readSmall(fsys, name)
		if rerr == nil {
			m, rerr = decodeManifest(b)
			if rerr == nil && m.generation == g {
				if why != "" {
					// What could not be read stays where it is: new
					// generations neither replace nor remove it.
					m.generation = l.manifests[0] + 2
				}
				return m, name, why, nil
			}
			if rerr == nil {
				rerr = fmt.Errorf("it holds generation %d", m.generation)
			}
		}
		if errors.Is(rerr, ErrVersion) {
			return m, name, "", fmt.Errorf("read %s: %w", name, rerr)
		}
		if why == "" {
			why = "read " + name + ": " + rerr.Error()
		}
	}
	return m, "", "", &CorruptError{Segment: manifestName(order[0]), Length: manifestLen, Reason: "no manifest can be read: " + why}
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

// smallLimit bounds what is read of a file that should be small; the largest
// manifest is smaller.
const smallLimit = 1 << 20

func readSmall(fsys vfs.FS, name string) (_ []byte, err error) {
	f, err := fsys.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, smallLimit))
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
