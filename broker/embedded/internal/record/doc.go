// Package record is what the frames of the commit log hold: the kinds of
// frames, and the encoding of those that are not messages.
//
// Message frames (Message, Fired, Committed, Half) hold one record of package
// message. A Delayed frame holds its due time, 8 bytes big endian in
// milliseconds, and then one such record. Control frames begin with a version
// byte, followed by unsigned varints and by strings with their length as a
// varint in front; bytes behind the last field are an error. The version is 1,
// and 2 for a TopicCreated frame with the numbers and offsets of its queues.
package record
