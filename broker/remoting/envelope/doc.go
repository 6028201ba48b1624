// Package envelope is what a message of the seam looks like as a stored message
// of RocketMQ: which fields travel in which properties, which names are
// therefore not for users, and what redeliveries and dead letters carry besides.
// The bundled broker and the driver for clusters share it, so that a service
// that changes from one to the other meets the same rules.
package envelope
