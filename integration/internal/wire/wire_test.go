package wire_test

import (
	"strings"
	"testing"

	"github.com/sluicemq/sluice/integration/internal/wire"
)

func TestParseReadsWhatApacheWrites(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"brokerAddrs":{0:"127.0.0.1:30911"},"n":-3}`, "brokerAddrs.0=127.0.0.1:30911 n=-3"},
		{`{"offsetTable":{{"brokerName":"b1","queueId":2,"topic":"T"}:{"brokerOffset":7}}}`, "offsetTable.b1/2/T.brokerOffset=7"},
		{`[{"a":[1,"x,y"]},{},[]]`, `0.a.0=1 0.a.1=x,y 1={} 2=[]`},
		{`{"s":"q\"\u0001","f":0.5,"b":true,"z":null}`, "b=true f=0.5 s=q\"\x01 z=null"},
	} {
		v, err := wire.Parse([]byte(c.text))
		if err != nil {
			t.Fatalf("parse %s: %v", c.text, err)
		}
		var got []string
		wire.Leaves(v, func(path, value string) { got = append(got, path+"="+value) })
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("parse %s: got %q, want %q", c.text, s, c.want)
		}
	}
}

func TestParseRefusesWhatIsCutOrGoesOn(t *testing.T) {
	for _, text := range []string{``, `{`, `{"a":`, `{"a"}`, `[1`, `"x`, `1 2`, `{"a":1}x`, strings.Repeat("[", 100)} {
		if v, err := wire.Parse([]byte(text)); err == nil {
			t.Errorf("parse %q: got %v, want an error", text, v)
		}
	}
}
