// Command godriver runs Apache's Go client (version 2) for the tests of
// integration/interop, as a process of its own: the client keeps state for the
// whole process, writes below $HOME and is killed in some scenarios.
//
// Commands come on standard input, one a line, `verb key=value key=value`, the
// values percent-encoded. They are done side by side and answered on standard
// output as JSON lines with the id of the command; what listeners see is told
// in between as events. The drivers of the other languages speak the same way.
package main
