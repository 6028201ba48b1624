// Package spin holds two models for the model checker Spin, and the test that
// checks them: tx.pml, half messages with check-back, and idem.pml, the
// idempotent consumer. Each model has variants with a mistake built in; the
// test requires that the right variant holds and that every mistake is found.
package spin
