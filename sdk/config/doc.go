// Package config gives an application its settings: from YAML files, from the
// environment and from maps, under flat dotted keys such as
// "listeners.red-packet.concurrency".
//
// # Sources
//
// [File], [FileIfExists], [Env], [Map] and [Override] are fx options; each adds
// one source. The precedence is Override, Map, Env, File. Two sources of the same
// kind that disagree about a key are refused, because fx does not keep the order
// in which options were written; layers of files are one source, written as
// File("base.yaml", "production.yaml"), where later files win.
//
// An environment variable is looked up per key: the prefix, then the key in
// upper case with '.' and '-' turned into '_'. With Env("BILLPAY_") the key
// sluice.send.timeout is BILLPAY_SLUICE_SEND_TIMEOUT.
//
// # Placeholders
//
// Values, and strings of the application that go through [Config.Expand], may
// hold placeholders: ${key}, ${key:default}, defaults may hold placeholders
// again, and $${ is a literal ${. All missing keys are reported together, and a
// cycle is reported with its path.
//
// # Strictness
//
// The sections sluice and listeners belong to the framework: a key that nobody
// knows is an error which names the source and the nearest known key. All other
// sections belong to the application; [Bind] reads one into a struct and is
// strict about it.
//
// # Secrets
//
// A field of type [Secret] prints as *** through fmt, slog and JSON. A Config
// never prints values, only the names of its sources.
//
// A Config does not change after [New] and is safe for concurrent use. Files are
// read once; there is no reload.
package config
