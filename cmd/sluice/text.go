package main

import (
	"strconv"
	"strings"
	"time"
)

// text shows what others have written so that it stays one word of one line:
// as it is, or in quotation marks if it has blanks or anything that a terminal
// could take for a command.
func text(s string) string {
	plain := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '"' || r == '\'' || r == '=' || r == ',' || r >= 0x7f
	})
	if plain {
		return s
	}
	return strconv.QuoteToASCII(s)
}

// shortMost is how much of a word is told that is wrong, in characters.
const shortMost = 120

// short is the beginning of a word that is wrong: what a file or a program has
// put there by mistake may be long.
func short(s string) string {
	if r := []rune(s); len(r) > shortMost {
		return string(r[:shortMost]) + "…"
	}
	return s
}

// texts is a list of them, with commas.
func texts(all []string) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = text(s)
	}
	return strings.Join(quoted, ",")
}

// numbers is a list of numbers, with commas.
func numbers[N int | int64 | uint32](all []N) string {
	var b []byte
	for i, n := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(b)
}

// moment is a time to the millisecond.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
