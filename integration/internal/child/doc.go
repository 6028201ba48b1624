// Package child runs other programs for the tests: each in a process group of
// its own that dies with this process, with its lines of output at hand, and
// ended by its id and nothing wider.
package child
