package interop

// Differences are the deliberate differences between Apache's server and this
// one that a client can see. docs/compatibility.md lists the same rows.
var Differences = []Difference{}
