// Package remoting is RocketMQ's remoting protocol: frames in both header
// forms, the fields of each command, the bodies with the peculiar JSON that
// Apache's peers read and write, compression, and signatures. The server and
// the client end of a connection (package rpc) share it. The layout of messages
// is in package message.
//
// A frame is, integers big endian:
//
//	offset size  field
//	     0    4  total = 4 + H + B, not counting itself
//	     4    1  form of the header: 0 JSON, 1 binary
//	     5    3  H, the length of the header
//	     8    H  header: code, language, version, opaque, flag, remark, fields
//	   8+H    B  body
//
// What it promises:
//
//   - Decoding never panics, whatever the bytes, and checks every length before
//     it spends memory: see [Limits] for headers. A body costs at most 64 KiB
//     and eight times its length.
//   - Decoding is tolerant where Apache's peers are: numbers for strings and
//     back, bare or object keys in JSON objects, trailing commas, raw control
//     characters. It is not where that would hide an attack: values of fields
//     are never objects or arrays, nothing may stand behind a value.
//   - Text that is not UTF-8 is not refused: each byte that belongs to no
//     character reads as U+FFFD, in headers and bodies alike. The same goes for
//     half a surrogate pair.
//   - Encoding appends to a buffer of the caller and writes one form only: the
//     members of an object sorted by name as Apache's do.
//
// Functions are safe for concurrent use. A [Command] and a [Reader] belong to
// one goroutine at a time.
package remoting
