package java

import (
	"slices"
	"testing"
	"time"
)

func TestParseSent(t *testing.T) {
	t.Parallel()
	s, err := parseSent("done 3000 600000000 250000 1000000 900000000\n")
	want := Sent{Messages: 3000, Elapsed: 600 * time.Millisecond, P50: 250 * time.Microsecond, P99: time.Millisecond, CPU: 900 * time.Millisecond}
	if err != nil || s != want {
		t.Errorf("%+v, %v; want %+v", s, err, want)
	}
	f := s.Figures(300 * time.Millisecond)
	for name, want := range map[string]float64{"rate": 5000, "p50_us": 250, "p99_us": 1000, "cpu_us": 300, "server_us": 100} {
		if f[name] != want {
			t.Errorf("%s is %v, want %v", name, f[name], want)
		}
	}
	for _, line := range []string{"failed because", "done 1 2 3", "done 0 1 1 1 1", "done 1 0 1 1 1", ""} {
		if _, err := parseSent(line); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	cmd := Command("/home", "/jars", []string{"-Xmx1m"}, "Main", "-c", "file")
	for _, want := range []string{"-Duser.home=/home", "-Xmx1m", "/home:/jars/*"} {
		if !slices.Contains(cmd.Args, want) {
			t.Errorf("no argument %s in %q", want, cmd.Args)
		}
	}
	if n := len(cmd.Args); !slices.Equal(cmd.Args[n-3:], []string{"Main", "-c", "file"}) {
		t.Errorf("the class and its arguments are not the end of %q", cmd.Args)
	}
	if !slices.Contains(cmd.Env, "HOME=/home") {
		t.Error("the home is another one")
	}
}
