// Package driver is the near end of the programs that run the foreign clients:
// it starts one, sends it commands, any number at a time, and sorts what its
// listeners see by the handle of the client that saw it.
package driver
