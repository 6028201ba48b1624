//go:build !race

package tcp

// raced: the race detector is in here, and so in the server.
const raced = false
