package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/sdk/config"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	c := fromMap(t, map[string]string{
		"topic": "bills", "env": "prod", "full": "${env}-${topic}", "empty": "",
		"literal": "$${env}", "bills": "x",
	})
	for in, want := range map[string]string{
		"":                            "",
		"plain":                       "plain",
		"${topic}":                    "bills",
		"a-${topic}-b":                "a-bills-b",
		"${none:def}":                 "def",
		"${none:}":                    "",
		"${none:a:b}":                 "a:b",
		"${none:${topic}}":            "bills",
		"${none:${nil:${topic}}-x}":   "bills-x",
		"${empty:def}":                "",
		"${topic:${missing}}":         "bills", // an unused default may miss
		"${full}":                     "prod-bills",
		"$${topic}":                   "${topic}",
		"$${topic} ${topic}":          "${topic} bills",
		"${literal}":                  "${env}",
		"${none:$${x}}":               "${x}",
		`${none:{"a":{"b":1}}}`:       `{"a":{"b":1}}`,
		"cost $5 $":                   "cost $5 $",
		"$topic":                      "$topic",
		"}{":                          "}{",
		"${topic}${topic}":            "billsbills",
		"${none:http://h:1/${topic}}": "http://h:1/bills",
	} {
		if got, err := c.Expand(in); got != want || err != nil {
			t.Errorf("Expand(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestExpandErrors(t *testing.T) {
	t.Parallel()
	c := fromMap(t, map[string]string{
		"orders.topic": "o", "a": "${b}", "b": "x${c:1}", "c": "${a}", "self": "${self}",
		"deep": "${orders.tpic}", "broken": "${",
	})
	for in, want := range map[string]string{
		"${x}":                       "no value for ${x}",
		"${x} ${y.z} ${x}":           "no value for ${x}, ${y.z}",
		"${order.topic} ${zzzzz}":    "no value for ${order.topic} (did you mean ${orders.topic}?), ${zzzzz}",
		"${x:${y}}":                  "no value for ${y}",
		"${deep}":                    "no value for ${orders.tpic} (did you mean ${orders.topic}?)",
		"${a}":                       "placeholders go in a circle: a → b → c → a",
		"${self}":                    "placeholders go in a circle: self → self",
		"${":                         `placeholder "${" is not closed; the form is ${key} or ${key:default}`,
		"${x:${y}":                   "is not closed",
		"${}":                        "a key takes letters, digits, '.', '-' and '_'",
		"${a b}":                     "placeholder ${a b}: a key takes letters",
		"${a.${b}}":                  "a key takes letters",
		"${:x}":                      "a key takes letters",
		"${broken}":                  "${broken} (map): placeholder",
		strings.Repeat("${b}", 9999): "more than 10000 placeholders in one value",
	} {
		if len(in) > 1000 {
			in = strings.Repeat("${none:}", 10_001)
		}
		got, err := c.Expand(in)
		if err == nil {
			t.Errorf("Expand(%.60q) = %q, no error", in, got)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Expand(%.60q): %q lacks %q", in, err, want)
		}
	}
	_, err := c.Expand("${p}${q}")
	missing, ok := errors.AsType[*config.MissingError](err)
	if !ok || !slices.Equal(missing.Keys, []string{"p", "q"}) {
		t.Errorf("missing keys of %v", err)
	}
}

func TestExpandIsBounded(t *testing.T) {
	t.Parallel()
	m := map[string]string{"l0": strings.Repeat("ha", 64)}
	for i := 1; i < 30; i++ {
		prev := "${l" + string(rune('0'+(i-1)/10)) + string(rune('0'+(i-1)%10)) + "}"
		if i == 1 {
			prev = "${l0}"
		}
		m["l"+string(rune('0'+i/10))+string(rune('0'+i%10))] = prev + prev
	}
	_, err := fromMap(t, m).Expand("${l29}")
	if err == nil || !strings.Contains(err.Error(), "more than 10000 placeholders") && !strings.Contains(err.Error(), "longer than") {
		t.Errorf("values that double each other: %v", err)
	}
	big := fromMap(t, map[string]string{"big": strings.Repeat("x", 1<<20)})
	if _, err = big.Expand("${big}${big}"); err == nil || !strings.Contains(err.Error(), "the expanded text is longer than 1048576 bytes") {
		t.Errorf("two megabytes: %v", err)
	}
}

// FuzzExpand: no input panics or hangs; text without a dollar stays as it is;
// escaping every dollar brace makes any text expand to itself.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "${a}", "${a:b}", "${x:${a}}", "$${a}", "${", "}", "${a:{}}", "${c1}", "$$$${a}", "${a:$${}", "\x00${\xff}"} {
		f.Add(s)
	}
	c, err := config.New(config.FromMap(map[string]string{"a": "1", "b": "${a}", "c1": "${c2}", "c2": "${c1}"}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := c.Expand(s)
		if !strings.Contains(s, "$") && (got != s || err != nil) {
			t.Errorf("Expand(%q) = %q, %v", s, got, err)
		}
		if err != nil && got != "" {
			t.Errorf("Expand(%q) = %q beside the error %v", s, got, err)
		}
		escaped := strings.ReplaceAll(s, "${", "$${")
		if got, err := c.Expand(escaped); !strings.Contains(s, "$$") && (got != s || err != nil) {
			t.Errorf("Expand(%q) = %q, %v; want %q", escaped, got, err, s)
		}
		if v, err := c.Expand("${none:" + s + "}"); err == nil && !strings.ContainsAny(s, "${}") && v != s {
			t.Errorf("default %q became %q", s, v)
		}
	})
}
