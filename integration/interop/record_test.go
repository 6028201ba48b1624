package interop

import (
	"encoding/json"
	"testing"
)

func record(events map[string]map[string]string) *Record { return &Record{events: events} }

func TestCompareFindsWhatDiffersAndNothingElse(t *testing.T) {
	apache := record(map[string]map[string]string{"send": {"status": "SEND_OK", "offset": "0"}, "only apache": {"x": "1"}, "same": {"a": "b"}})
	ours := record(map[string]map[string]string{"send": {"status": "SEND_OK", "offset": "1", "more": "m"}, "only ours": {"y": "2"}, "same": {"a": "b"}})
	got := Compare(apache, ours)
	want := []Deviation{
		{"only apache", "*", "(present)", absent},
		{"only ours", "*", absent, "(present)"},
		{"send", "more", absent, "m"},
		{"send", "offset", "0", "1"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %d deviations, want %d: %v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("deviation %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if d := Compare(apache, apache); len(d) != 0 {
		t.Errorf("a record differs from itself: %v", d)
	}
}

func TestADifferenceCoversWhatItsPatternsSay(t *testing.T) {
	v := Deviation{"clusterList", "version", "V5_3_3", "V5_3_3-sluice"}
	for _, c := range []struct {
		row  Difference
		want bool
	}{
		{Difference{}, true},
		{Difference{Client: "mqadmin", Scenario: "admin", Event: "cluster*", Field: "version", Apache: "V5*", Ours: "*-sluice"}, true},
		{Difference{Client: "go"}, false},
		{Difference{Field: "other"}, false},
		{Difference{Ours: "V5_3_3"}, false},
	} {
		if got := c.row.Covers("mqadmin", "admin", v); got != c.want {
			t.Errorf("%+v covers %v: got %v, want %v", c.row, v, got, c.want)
		}
	}
}

func TestARecordSurvivesItsFile(t *testing.T) {
	var r Record
	r.Note("e", "f", "v\x01")
	b, err := json.Marshal(&r)
	if err != nil {
		t.Fatal(err)
	}
	var back Record
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := Compare(&r, &back); len(d) != 0 {
		t.Errorf("differs after reading back: %v", d)
	}
}
