// Package sql92 reads and evaluates the expressions by which RocketMQ's
// consumers select messages: conditions over the properties of a message, in
// the grammar and with the answers of Apache RocketMQ 5.3.
//
//	condition:  x OR y · x AND y · NOT x · (x) · TRUE · FALSE · NULL · name
//	equality:   x = y · x <> y · x IS NULL · x IS NOT NULL
//	numbers:    x > y · x >= y · x < y · x <= y · x [NOT] BETWEEN low AND high
//	texts:      name [NOT] IN ('a', 'b') · x [NOT] CONTAINS 'a' ·
//	            x [NOT] STARTSWITH 'a' · x [NOT] ENDSWITH 'a'
//	operands:   name · 'text' ('' is one quote) · 12 · 12L · 1.5 · .5e-3 · -x · +x
//	comments:   -- to the end of the line · /* */
//
// Keywords may have any case. Names of properties have letters, digits, _ and
// $, and their case matters. From the loosest to the tightest bind OR, AND,
// equality, comparison, then NOT and the signs: NOT a = 1 means (NOT a) = 1, as
// it does in RocketMQ, so write NOT (a = 1).
//
// Every property is a text. Next to a number it is read as a number of the same
// kind: next to 12 a whole number of 32 bits, of 64 bits next to a literal that
// needs them, next to 1.5 a double. Two properties are compared by > and its
// like as doubles and by = as texts; next to a truth value a text is TRUE if it
// says true in any case. A name alone is never TRUE.
//
// Logic has three values. What is compared with a missing property is UNKNOWN,
// with the exceptions RocketMQ makes: = is FALSE, and <> TRUE, if only its right
// side is missing; two missing sides are equal; CONTAINS and its like are FALSE,
// negated or not. A text that is not a number where one is needed fails the
// evaluation as soon as it is met. UNKNOWN and failures select nothing.
//
// Two things differ from RocketMQ on purpose. What follows a complete condition
// is refused, where RocketMQ drops it silently (it takes a LIKE 'x' for a, and
// a = 1 + 2 for a = 1). And numbers in properties have ASCII digits only.
//
// Work is bounded, whoever wrote the expression and the properties: see
// [MaxLength], [MaxDepth] and [MaxSteps]. An [Expr] does not change and may be
// used by several goroutines; an evaluation allocates nothing, unless a
// property holds a number beyond the range of a double.
package sql92
