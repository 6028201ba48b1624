// Package apache runs the driver for RocketMQ against Apache RocketMQ itself: the
// suite of the seam over one master, a master with a slave, two name servers and
// two masters, faults of every kind with a ledger that counts what was sent,
// acknowledged and received, and the services of billpay as processes. It starts the servers and takes minutes, so it runs
// with SLUICE_APACHE=1 only, as make apache sets it. Without Java or Maven it is
// skipped with the reason; under CI that is a failure.
package apache
