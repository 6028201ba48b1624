// Package message is the layout in which RocketMQ stores a message and hands
// it to clients, and the small formats inside it: the string of properties, the
// unique id that a producer gives a message, the offset id that a broker gives
// its stored copy, the hash of a tag, and the body of a batch.
//
// A record is, all integers big endian and signed, with IPv4 hosts:
//
//	offset size  field
//	     0    4  total size, this field included
//	     4    4  magic: 0xDAA320A7, or 0xDAA320AB if the topic length has two bytes
//	     8    4  CRC-32 (IEEE) of the body & 0x7FFFFFFF
//	    12    4  queue id
//	    16    4  flag of the application
//	    20    8  queue offset
//	    28    8  physical offset
//	    36    4  system flag, see [SysCompressed] and its neighbours
//	    40    8  born timestamp, milliseconds
//	    48    8  born host: address, then the port in 4 bytes (20 with IPv6)
//	    56    8  store timestamp, milliseconds
//	    64    8  store host (20 with IPv6)
//	    72    4  reconsume times
//	    76    8  prepared transaction offset
//	    84  4+n  body length, body
//	       1+t  topic length, topic (2+t with the second magic)
//	       2+p  properties length, properties
//
// Encoding appends to a buffer of the caller. Decoding checks every length
// against what is there before it believes it, allocates nothing for bodies,
// and never panics, whatever the bytes. All functions are safe for concurrent
// use.
package message
