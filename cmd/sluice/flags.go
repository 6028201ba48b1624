package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// flagSet reads the flags of one command. Unlike package flag it goes on after
// a mistake, so that all of them are told at once, and it lets flags stand
// before and behind the arguments.
type flagSet struct {
	*flag.FlagSet
	name, usage string
	problems    []error
	truths      map[string]bool // those of truth
}

func newFlags(name, usage string) *flagSet {
	f := &flagSet{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), name: name, usage: usage, truths: map[string]bool{}}
	f.SetOutput(io.Discard)
	return f
}

// bad notes what is wrong with the command line.
func (f *flagSet) bad(format string, args ...any) {
	f.problems = append(f.problems, fmt.Errorf(format, args...))
}

// value is a flag with a form of its own, which set reads.
func (f *flagSet) value(name, form string, set func(s string) error) {
	f.Func(name, "", func(s string) error {
		if err := set(s); err != nil {
			f.bad("-%s takes %s, not %q%s", name, form, short(s), because(err))
		}
		return nil
	})
}

// text is a flag that takes any text but an empty one, which is mostly a
// variable of the shell that is not set: to go on as without the flag could be
// to serve everybody, or to talk to another cluster.
func (f *flagSet) text(name, form string, to *string) {
	f.value(name, form, func(s string) error {
		if s == "" {
			return errForm
		}
		*to = s
		return nil
	})
}

// truth is a flag that is left out, true or false. Its value stands behind =
// only, as with every flag that may have none.
func (f *flagSet) truth(name string, to **bool) {
	f.truths[name] = true
	f.BoolFunc(name, "", func(s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			f.bad("-%s takes true or false, not %q", name, short(s))
		}
		*to = &b
		return nil
	})
}

// apart notes a value that stands behind a flag of truth without =, and reports
// whether it was one.
func (f *flagSet) apart(before, args []string) bool {
	if len(args) == 0 || len(before) == len(args) {
		return false
	}
	name := strings.TrimLeft(before[len(before)-len(args)-1], "-")
	if _, err := strconv.ParseBool(args[0]); err != nil || !f.truths[name] {
		return false
	}
	f.bad("-%s takes its value behind =, as in -%s=%s", name, name, args[0])
	return true
}

var errForm = errors.New("") // the form says it all

func because(err error) string {
	if errors.Is(err, errForm) {
		return ""
	}
	return ": " + err.Error()
}

// parse reads args and answers the arguments that are no flags. If there is
// nothing left to do, done is set and code is the exit code.
func (f *flagSet) parse(args []string, stdout io.Writer) (rest []string, done bool) {
	for len(args) > 0 {
		before := args
		err := f.Parse(args)
		args = f.Args()
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, f.usage)
			return nil, true
		}
		if err != nil {
			args = f.mistake(err, before, args)
			continue
		}
		parsed := before[:len(before)-len(args)]
		if len(parsed) > 0 && parsed[len(parsed)-1] == "--" {
			return append(rest, args...), false // even if they begin with a dash
		}
		switch {
		case f.apart(before, args):
			args = args[1:]
		case len(args) > 0:
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	return rest, false
}

// mistake notes an error of package flag, and answers the arguments behind it.
func (f *flagSet) mistake(err error, before, args []string) []string {
	word := ""
	if i := len(before) - len(args) - 1; i >= 0 {
		word, _, _ = strings.Cut(strings.TrimLeft(before[i], "-"), "=")
	}
	if f.Lookup(word) == nil && strings.HasPrefix(err.Error(), "flag provided but not defined") {
		f.bad("%s%s", short(err.Error()), meant(word, f.flagNames()))
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !strings.Contains(before[len(before)-len(args)-1], "=") {
			args = args[1:] // probably its value
		}
		return args
	}
	if strings.HasPrefix(err.Error(), "invalid boolean value") {
		_, value, _ := strings.Cut(before[len(before)-len(args)-1], "=")
		f.bad("-%s takes true or false, not %q", word, short(value))
		return args
	}
	f.bad("%s", short(err.Error()))
	if strings.HasPrefix(err.Error(), "bad flag syntax") {
		return args[1:] // package flag has left it there
	}
	return args
}

func (f *flagSet) flagNames() []string {
	var names []string
	f.VisitAll(func(g *flag.Flag) { names = append(names, g.Name) })
	return names
}

// given reports whether a flag was set.
func (f *flagSet) given(name string) bool {
	found := false
	f.Visit(func(g *flag.Flag) { found = found || g.Name == name })
	return found
}

// report tells every problem, if there are any; ok is true if there are none.
func (f *flagSet) report(stderr io.Writer) (code int, ok bool) {
	if len(f.problems) == 0 {
		return 0, true
	}
	if len(f.problems) == 1 {
		return wrong(stderr, "sluice help "+f.name, "%s: %v", f.name, f.problems[0]), false
	}
	fmt.Fprintf(stderr, "sluice: %s:\n", f.name)
	for _, p := range f.problems {
		fmt.Fprintf(stderr, "  %v\n", p)
	}
	fmt.Fprintf(stderr, "see sluice help %s\n", f.name)
	return exitFailed, false
}
