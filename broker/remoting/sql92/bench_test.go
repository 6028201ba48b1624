package sql92_test

import (
	"testing"

	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// BenchmarkMatch is what one message costs a lane with a filter, apart from
// finding its properties.
func BenchmarkMatch(b *testing.B) {
	get := func(name string) (string, bool) {
		switch name {
		case "color":
			return "red", true
		case "size":
			return "42", true
		default:
			return "", false
		}
	}
	for _, c := range []struct{ name, expr string }{
		{"text", "color = 'red'"},
		{"number", "size > 5"},
		{"double", "size > 5.5"},
		{"mixed", "color = 'red' AND size BETWEEN 5 AND 50 AND (region IS NULL OR region IN ('eu', 'us'))"},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := mustParse(b, c.expr)
			b.ReportAllocs()
			for b.Loop() {
				if !e.Match(get) {
					b.Fatal("no match")
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sql92.Parse("color = 'red' AND size BETWEEN 5 AND 50 AND (region IS NULL OR region IN ('eu', 'us'))"); err != nil {
			b.Fatal(err)
		}
	}
}
