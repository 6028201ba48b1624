package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun_Refuses(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"no row R6":   {"-rows", "R6"},
		"invalid":     {"-warm", "soon"},
		"no argument": {"-quick", "more"},
	} {
		var out bytes.Buffer
		if _, err := bench().Run(args, &out, t.Output()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
