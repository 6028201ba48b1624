package config

import (
	"slices"
	"strings"
)

// Nearest finds the word that was probably meant: the one with the smallest
// Damerau-Levenshtein distance, if that is at most 2 or a third of the word's
// length, and less than half of it, so that short words do not match anything.
// Case does not count. Among equals the first in alphabetical order wins.
func Nearest(word string, among []string) (string, bool) {
	w := []rune(strings.ToLower(word))
	if len(w) == 0 || len(w) > 256 {
		return "", false
	}
	limit := min(max(2, len(w)/3), (len(w)-1)/2)
	best, found := "", false
	for _, candidate := range slices.Sorted(slices.Values(among)) {
		c := []rune(strings.ToLower(candidate))
		if len(c)-len(w) > limit || len(w)-len(c) > limit {
			continue
		}
		d := distance(w, c)
		if d > limit {
			continue
		}
		best, found = candidate, true
		if limit = d - 1; limit < 0 { // only something nearer is of interest
			break
		}
	}
	return best, found
}

// distance counts insertions, deletions, substitutions and swaps of neighbours.
func distance(a, b []rune) int {
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
