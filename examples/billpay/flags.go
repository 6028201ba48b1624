package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"
)

// Exit statuses.
const (
	exitDone        = 0   // also: a service of its own was told to end
	exitFailed      = 1   // nothing was done, or what was done does not add up
	exitRejected    = 2   // everything was done but for rows that were refused, or the flags are wrong
	exitInterrupted = 130 // stopped by Ctrl-C; the same -dir continues
)

// flags is the command line.
type flags struct {
	as       string
	bills    string
	dir      string
	broker   string
	redis    string
	config   string
	set      map[string]string
	trace    string
	chaos    chaos
	json     bool
	verbose  bool
	deadline time.Duration
}

const usage = `billpay pays bills, and pays a red packet for each, once, whatever goes wrong.

usage: billpay -bills FILE [flags]
       billpay -as SERVICE -dir DIR -broker URL [flags]

The bills are CSV with the header bill_id,account,kind,amount_cents,due_ms.
With -as a process is one service: bills reads the file, waits for the others and
reports; each of the others serves until it gets a signal.
Exit status: 0 done; 1 failed; 2 rows were refused or the flags are wrong; 130 interrupted.

`

// parseFlags reads the command line; flag.ErrHelp means that help was printed.
func parseFlags(args []string, stderr io.Writer) (flags, error) {
	f := flags{set: map[string]string{}}
	fs := flag.NewFlagSet("billpay", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&f.as, "as", "", "the one `SERVICE` that this process is: "+serviceNames()+"; all of them by default")
	fs.StringVar(&f.bills, "bills", "", "`FILE` of bills; - is standard input; may be left out to finish what -dir holds")
	fs.StringVar(&f.dir, "dir", "", "`DIR` that keeps the broker and the databases; a temporary one by default")
	fs.StringVar(&f.broker, "broker", "", "`URL` rocketmq://HOST:PORT of a cluster, or of sluice serve; the bundled broker in -dir by default")
	fs.StringVar(&f.redis, "redis", "", "`ADDR` of Redis for the locks; one inside the process by default")
	fs.StringVar(&f.config, "config", "", "YAML `FILE` with settings, such as listeners.red-packet.concurrency")
	fs.Func("set", "`KEY=VALUE` of one setting; may be repeated", func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return errors.New("it takes KEY=VALUE")
		}
		f.set[k] = v
		return nil
	})
	fs.StringVar(&f.trace, "trace", "", "`FILE` to write the spans to, as JSON")
	fs.Float64Var(&f.chaos.share, "chaos", 0, "`SHARE` of bills, 0 to 0.9, that meet each kind of fault")
	fs.Uint64Var(&f.chaos.seed, "seed", 1, "`SEED` of the faults")
	fs.BoolVar(&f.json, "json", false, "print the report as one line of JSON")
	fs.BoolVar(&f.verbose, "v", false, "log more")
	fs.DurationVar(&f.deadline, "deadline", 2*time.Minute, "how `LONG` the run may take before it fails")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stderr, usage)
		fs.SetOutput(stderr)
		fs.PrintDefaults()
		return flags{}, err
	case err != nil:
		return flags{}, err
	case fs.NArg() > 0:
		return flags{}, fmt.Errorf("unexpected argument %q; every input is a flag, see -help", fs.Arg(0))
	case !(f.chaos.share >= 0 && f.chaos.share <= 0.9):
		return flags{}, fmt.Errorf("-chaos %v is not a share; it takes 0 to 0.9", f.chaos.share)
	case f.deadline <= 0:
		return flags{}, fmt.Errorf("-deadline %s; it takes a duration above zero, such as 2m", f.deadline)
	case f.bills == "" && f.dir == "":
		return flags{}, errors.New("nothing to pay: name a file with -bills, or - for standard input, or an earlier run with -dir")
	}
	return f, f.checkAs()
}

// checkAs refuses what does not go with a process for one service.
func (f flags) checkAs() error {
	if f.as == "" {
		return nil
	}
	_, known := services()[f.as]
	switch {
	case !known:
		return fmt.Errorf("-as %s is no service; it takes one of %s", f.as, serviceNames())
	case f.broker == "" || f.dir == "":
		return fmt.Errorf("-as %s needs the -broker and the -dir that all services share", f.as)
	case f.bills != "" && !f.pays():
		return fmt.Errorf("-as %s does not read bills; give -bills to -as bills", f.as)
	default:
		return nil
	}
}

// runs reports whether this process runs the service.
func (f flags) runs(service string) bool { return f.as == "" || f.as == service }

// pays reports whether this process is the one that reads bills and reports.
func (f flags) pays() bool { return f.runs("bills") }
