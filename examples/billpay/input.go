package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// item is one row, or why one was not read: a [*rowError] is skipped, any other
// error ends the input.
type item struct {
	row row
	err error
}

// openInput opens the file of bills; "-" is standard input and "" is no input,
// for a run that only finishes an earlier one. It reads the header.
func openInput(path string, stdin io.Reader) (*rowReader, io.Closer, error) {
	switch path {
	case "":
		return nil, io.NopCloser(nil), nil
	case "-":
		r, err := newRowReader(stdin)
		if err != nil {
			return nil, nil, fmt.Errorf("standard input: %w", err)
		}
		return r, io.NopCloser(nil), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open the bills: %w", err)
	}
	r, err := newRowReader(f)
	if err != nil {
		_ = f.Close() // it was only read
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, f, nil
}

// stream reads ahead by one batch, until the input or ctx ends. Its goroutine
// ends with them, but for a Read of a terminal or pipe that nobody writes to:
// that one ends with the process.
func stream(ctx context.Context, r *rowReader) <-chan item {
	items := make(chan item, announceBatch)
	if r == nil {
		close(items)
		return items
	}
	go func() {
		defer close(items)
		for {
			next, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			select {
			case items <- item{next, err}:
			case <-ctx.Done():
				return
			}
			if _, skipped := errors.AsType[*rowError](err); err != nil && !skipped {
				return
			}
		}
	}()
	return items
}
