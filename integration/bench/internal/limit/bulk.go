package limit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	bulkBuffer  = 1 << 20
	bulkSegment = 64 << 20
)

// Sustained writes so many messages as records into segments, each synced
// behind the writer's back when it is full, until all of it is on the disk.
func Sustained(dir string, messages int) (measure.Figures, error) {
	full, synced := make(chan *os.File, 2), make(chan error, 1)
	go func() {
		var err error
		for f := range full {
			err = errors.Join(err, unix.Fdatasync(int(f.Fd())), f.Close())
		}
		synced <- err
	}()
	begin := time.Now()
	err := writeSegments(dir, messages, full)
	close(full)
	if err = errors.Join(err, <-synced); err != nil {
		return nil, fmt.Errorf("sustained write: %w", err)
	}
	return measure.Figures{"rate": float64(messages) / time.Since(begin).Seconds()}, nil
}

// writeSegments hands each file to full when it is written.
func writeSegments(dir string, messages int, full chan<- *os.File) error {
	body, buffer := measure.Body(), make([]byte, 0, bulkBuffer)
	for i := 0; messages > 0; i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%06d", i)))
		if err != nil {
			return err
		}
		if err := unix.Fallocate(int(f.Fd()), 0, 0, bulkSegment); err != nil {
			return errors.Join(err, f.Close())
		}
		for at := 0; at+cap(buffer) <= bulkSegment && messages > 0; at += len(buffer) {
			buffer = buffer[:0]
			for ; messages > 0 && len(buffer)+RecordSize <= cap(buffer); messages-- {
				end := len(buffer)
				buffer = buffer[:end+RecordSize]
				put(buffer[end:], body)
			}
			if _, err := f.WriteAt(buffer, int64(at)); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		full <- f
	}
	return nil
}

// Scan reads a log of so many messages, written just before, in large pieces
// and checks every checksum: seconds for one GiB of records.
func Scan(dir string, messages int) (measure.Figures, error) {
	path := filepath.Join(dir, "log")
	if err := writeLog(path, messages); err != nil {
		return nil, fmt.Errorf("write log to scan: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	begin := time.Now()
	seen, err := checkLog(f)
	if err == nil && seen != messages {
		err = fmt.Errorf("%d records instead of %d", seen, messages)
	}
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	gib := float64(messages) * RecordSize / (1 << 30)
	return measure.Figures{"s_per_gib": time.Since(begin).Seconds() / gib}, nil
}

func writeLog(path string, messages int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	body := measure.Body()
	piece := make([]byte, stride*RecordSize)
	for i := range stride {
		put(piece[i*RecordSize:], body)
	}
	for left := messages; left > 0 && err == nil; left -= stride {
		_, err = f.Write(piece[:min(left, stride)*RecordSize])
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// checkLog counts the records of r.
func checkLog(r io.Reader) (int, error) {
	buffer := make([]byte, bulkBuffer)
	have, seen := 0, 0
	for {
		n, err := r.Read(buffer[have:])
		have += n
		at := 0
		for have-at >= RecordSize {
			size := int(binary.LittleEndian.Uint32(buffer[at:]))
			if size != RecordSize {
				return seen, fmt.Errorf("record %d has %d bytes", seen, size)
			}
			if crc32.Checksum(buffer[at+8:at+size], castagnoli) != binary.LittleEndian.Uint32(buffer[at+4:]) {
				return seen, fmt.Errorf("record %d has a wrong checksum", seen)
			}
			at += size
			seen++
		}
		have = copy(buffer, buffer[at:have])
		switch {
		case errors.Is(err, io.EOF):
			return seen, nil
		case err != nil:
			return seen, err
		}
	}
}
