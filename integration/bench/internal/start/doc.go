// Package start is what the programs below it share: small programs, one for
// each broker and one without, whose start and idle memory are measured. They
// are programs of their own because this benchmark links every peer, and a
// program pays for what it links.
package start

import (
	"fmt"
	"io"
	"os"
)

// Ready is the line that a program writes when it has done its part.
const Ready = "ready"

// Main runs the part of a program with the folder that is its argument, writes
// [Ready], and ends when its input does.
func Main(part func(dir string) (stop func() error, err error)) {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "start: the argument is a folder")
		os.Exit(2)
	}
	stop, err := part(os.Args[1])
	if err == nil {
		fmt.Println(Ready)
		_, _ = io.Copy(io.Discard, os.Stdin)
		err = stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start:", err)
		os.Exit(1)
	}
}
