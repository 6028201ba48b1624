package remoting_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting"
)

// drawCommand draws a command that JSON carries without loss.
func drawCommand(t *rapid.T) remoting.Command {
	c := remoting.Command{
		Code:     int(rapid.Int32().Draw(t, "code")),
		Language: remoting.Language(rapid.IntRange(0, 13).Draw(t, "language")),
		Version:  int(rapid.Int32().Draw(t, "version")),
		Opaque:   rapid.Int32().Draw(t, "opaque"),
		Flag:     rapid.Int32().Draw(t, "flag"),
		Remark:   rapid.String().Draw(t, "remark"),
	}
	for range rapid.IntRange(0, 10).Draw(t, "fields") {
		c.Fields.Add(rapid.StringN(0, -1, 128).Draw(t, "name"), rapid.String().Draw(t, "value"))
	}
	if b := rapid.SliceOf(rapid.Byte()).Draw(t, "body"); len(b) > 0 {
		c.Body = b
	}
	return c
}

func TestFrame_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawCommand(t)
		if rapid.Bool().Draw(t, "binary") {
			c.Binary = true
			c.Code, c.Version = int(int16(c.Code)), int(int16(c.Version))
			c.Fields = slices.DeleteFunc(c.Fields, func(f remoting.Field) bool { return f.Name == "" || f.Value == "" })
		}
		b, err := remoting.AppendFrame(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		got := remoting.Command{Remark: "old", Fields: remoting.Fields{{Name: "old", Value: "old"}}, Body: []byte("old")}
		if err := remoting.Decode(b[4:], &got, remoting.Limits{}); err != nil || !equal(got, c) {
			t.Fatalf("got %+v, %v\nwant %+v\nfrom %q", got, err, c, b)
		}
	})
}

func frame(header string) []byte {
	n := len(header)
	return append([]byte{0, byte(n >> 16), byte(n >> 8), byte(n)}, header...)
}

func TestDecode_TolerantHeaders(t *testing.T) {
	t.Parallel()
	base := command(11, remoting.LanguageOther, 0, 0, 0)
	with := func(f func(c *remoting.Command)) remoting.Command {
		c := base
		f(&c)
		return c
	}
	for header, want := range map[string]remoting.Command{
		`{"code":11}`:                           base,
		` { "code" : "11" , } ` + "\n":          base,
		`{"code":11,"extFields":null}`:          base,
		`{"code":11,"extFields":{}}`:            base,
		`{"code":11,"remark":null,"flag":null}`: base,
		`{"code":11,"opaque":-2147483648}`:      with(func(c *remoting.Command) { c.Opaque = math.MinInt32 }),
		`{"code":11,"language":"GO"}`:           with(func(c *remoting.Command) { c.Language = remoting.LanguageGo }),
		`{"code":11,"language":1}`:              with(func(c *remoting.Command) { c.Language = remoting.LanguageCPP }),
		`{"code":11,"language":99}`:             base,
		`{"code":11,"language":"KLINGON"}`:      base,
		`{"code":11,"language":"GO","language":null,"serializeTypeCurrentRPC":"JSON"}`: base,
		`{"x":[{"y":[[]]}],"code":11}`: base,
		`{"code":1,"code":11}`:         base,
		`{"code":11,"extFields":{"n":12,"f":-1.50,"e":1e5,"t":true,"no":false,"null":null}}`: with(func(c *remoting.Command) {
			c.Fields = remoting.Fields{{Name: "n", Value: "12"}, {Name: "f", Value: "-1.50"}, {Name: "e", Value: "1e5"}, {Name: "t", Value: "true"}, {Name: "no", Value: "false"}}
		}),
		`{"code":11,"extFields":{"a":"1","b":"2","a":null}}`: with(func(c *remoting.Command) { c.Fields = remoting.Fields{{Name: "b", Value: "2"}} }),
		"{\"code\":11,\"extFields\":{\"i\":\"KEYS\x01k\x02TAGS\\u0001t\\u0002\"}}": with(func(c *remoting.Command) {
			c.Fields = remoting.Fields{{Name: "i", Value: "KEYS\x01k\x02TAGS\x01t\x02"}}
		}),
		`{"code":11,"remark":"\ud83d\uDE00 \ud83d \u6807标\\\"\/"}`: with(func(c *remoting.Command) { c.Remark = "😀 \uFFFD 标标\\\"/" }),
		"{\"code\":11,\"remark\":\"\xff\xe6\xa0\"}":                with(func(c *remoting.Command) { c.Remark = "\uFFFD\uFFFD\uFFFD" }),
	} {
		var got remoting.Command
		if err := remoting.Decode(frame(header), &got, remoting.Limits{}); err != nil || !equal(got, want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", header, got, err, want)
		}
	}
}

func TestDecode_BinaryNulls(t *testing.T) {
	t.Parallel()
	c := binary(remoting.Command{Fields: remoting.Fields{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}})
	b, err := remoting.AppendFrame(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	// A field a without a value and one without a name behind the others.
	b = append(b, 0, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 'x')
	b[3] += 14 // total
	b[7] += 14 // header
	b[8+17+3] += 14
	// The language number of nobody, the smallest code.
	b[8], b[9], b[10] = 0x80, 0x00, 0xFF
	var got remoting.Command
	want := binary(command(math.MinInt16, remoting.LanguageOther, 0, 0, 0, remoting.Field{Name: "b", Value: "2"}))
	if err := remoting.Decode(b[4:], &got, remoting.Limits{}); err != nil || !equal(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	// Fields that say nothing are not written.
	empty := binary(remoting.Command{Fields: remoting.Fields{{Name: "a"}, {Value: "b"}}})
	if b, err := remoting.AppendFrame(nil, &empty); err != nil || len(b) != 8+21 {
		t.Errorf("got %x, %v", b, err)
	}
}

func TestDecode_Malformed(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 7) + "1" + strings.Repeat("}", 7)
	many := func(n int) string {
		return `{"code":1,"extFields":{` + strings.TrimSuffix(strings.Repeat(`"a":"b",`, n), ",") + `}}`
	}
	ok := func(header string) {
		var c remoting.Command
		if err := remoting.Decode(frame(header), &c, remoting.Limits{}); err != nil {
			t.Errorf("%.50s: got %v", header, err)
		}
	}
	ok(`{"x":` + deep + `}`)
	ok(many(128))
	ok(`{"extFields":{"` + strings.Repeat("n", 128) + `":"v"}}`)
	for name, c := range map[string]struct {
		frame []byte
		want  string
	}{
		"nothing":        {nil, "frame of 0, between 4 and 16777216 is possible"},
		"a form":         {[]byte{2, 0, 0, 0}, "form of header of 2, between 0 and 1 is possible"},
		"header length":  {[]byte{0, 0, 0, 1}, "header of 1, between 0 and 0 is possible"},
		"header limit":   {append([]byte{0, 1, 0, 1}, make([]byte, 70000)...), "header of 65537, between 0 and 65536 is possible"},
		"no JSON":        {frame(""), "decode JSON header: no { at byte 0"},
		"null":           {frame("null"), "decode JSON header: no { at byte 0"},
		"cut":            {frame(`{"code":1`), "decode JSON header: no comma at byte 9"},
		"rest":           {frame(`{"code":1}}`), "decode JSON header: text behind the value at byte 10"},
		"a zero behind":  {frame("{}\x00"), "decode JSON header: text behind the value at byte 2"},
		"no number":      {frame(`{"code":1.5}`), "decode JSON header: no integer in its range at byte 11"},
		"a large opaque": {frame(`{"opaque":2147483648}`), "decode JSON header: no integer in its range at byte 20"},
		"an object":      {frame(`{"extFields":{"a":{"b":"c"}}}`), "decode JSON header: an object or array where a text is due at byte 18"},
		"an array":       {frame(`{"extFields":{"a":[]}}`), "decode JSON header: an object or array where a text is due at byte 18"},
		"no fields":      {frame(`{"extFields":"a"}`), "decode JSON header: no { at byte 13"},
		"nine levels":    {frame(`{"x":{"x":` + deep + `}}`), "decode JSON header: too many levels at byte 40"},
		"129 fields":     {frame(many(129)), "decode JSON header: more than 128 fields at byte 1054"},
		"a long name":    {frame(`{"extFields":{"` + strings.Repeat("n", 129) + `":"v"}}`), "decode JSON header: the name of a field has more than 128 bytes at byte 149"},
		"short binary":   {unhex(t, "01000014 0022 09 013d 00000002 00000000 00000000 000000"), "decode binary header: end of the header at byte 20"},
		"long remark":    {unhex(t, "01000015 0022 09 013d 00000002 00000000 00000005 00000000"), "decode binary header: a length goes beyond the header at byte 17"},
		"negative":       {unhex(t, "01000015 0022 09 013d 00000002 00000000 ffffffff 00000000"), "decode binary header: a length goes beyond the header at byte 17"},
		"fields length":  {unhex(t, "01000015 0022 09 013d 00000002 00000000 00000000 00000001"), "decode binary header: the length of the fields is not that of the rest at byte 21"},
		"cut field":      {unhex(t, "01000018 0022 09 013d 00000002 00000000 00000000 00000003 000161"), "decode binary header: a length goes beyond the header at byte 24"},
		"negative name":  {unhex(t, "01000017 0022 09 013d 00000002 00000000 00000000 00000002 ffff"), "decode binary header: a length goes beyond the header at byte 23"},
	} {
		var got remoting.Command
		if err := remoting.Decode(c.frame, &got, remoting.Limits{}); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v\nwant %s", name, err, c.want)
		}
	}
	long := binary(remoting.Command{Fields: remoting.Fields{{Name: strings.Repeat("n", 129), Value: "v"}}})
	for range 129 {
		long.Fields.Add("a", "b")
	}
	for i, want := range []string{"decode binary header: the name of a field is too long at byte 21", "decode binary header: too many fields at byte 1045"} {
		b, err := remoting.AppendFrame(nil, &remoting.Command{Binary: true, Fields: long.Fields[i:]})
		if err != nil {
			t.Fatal(err)
		}
		var got remoting.Command
		if err := remoting.Decode(b[4:], &got, remoting.Limits{}); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestAppendFrame_Refusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]remoting.Command{
		"code":    {Binary: true, Code: remoting.ReqPopMessage},
		"version": {Binary: true, Version: math.MaxInt16 + 1},
		"name":    {Binary: true, Fields: remoting.Fields{{Name: strings.Repeat("n", math.MaxInt16+1), Value: "v"}}},
		"header":  {Remark: strings.Repeat("r", 1<<24)},
		"frame":   {Body: make([]byte, remoting.DefaultFrame)},
	} {
		b, err := remoting.AppendFrame([]byte("kept"), &c)
		var e *remoting.FrameError
		if !errors.As(err, &e) || string(b) != "kept" {
			t.Errorf("%s: got %d bytes, %v", name, len(b), err)
		}
	}
	if _, err := remoting.AppendFrameHead(nil, &remoting.Command{}, -1); err == nil {
		t.Error("a negative body was accepted")
	}
	var quoted remoting.Command
	b, err := remoting.AppendFrame(nil, &remoting.Command{Remark: "\x00\x1f\"\\\b\f\n\r\t\x7f标\xff"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"remark":"\u0000\u001F\"\\\b\f\n\r\t`+"\x7f标\uFFFD\"") {
		t.Errorf("got %q", b)
	}
	if err := remoting.Decode(b[4:], &quoted, remoting.Limits{}); err != nil || quoted.Remark != "\x00\x1f\"\\\b\f\n\r\t\x7f标\uFFFD" {
		t.Errorf("got %q, %v", quoted.Remark, err)
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	var f remoting.Fields
	f.Add("a", "1")
	f.AddInt("b", -2)
	f.AddBool("c", true)
	f.Add("a", "3")
	if v, ok := f.Lookup("a"); v != "3" || !ok || f.Get("b") != "-2" || f.Get("c") != "true" {
		t.Errorf("%+v", f)
	}
	f.Set("a", "4")
	f.Set("d", "5")
	if got := spell(f); got != "a=4 b=-2 c=true d=5" {
		t.Error(got)
	}
	f.Delete("b")
	if _, ok := f.Lookup("b"); ok || len(f) != 3 {
		t.Errorf("%+v", f)
	}
	c := remoting.Command{Code: 1, Flag: 3, Fields: f, Remark: "r", Body: []byte("b"), Binary: true}
	if !c.IsResponse() || !c.IsOneWay() {
		t.Error("flags")
	}
	if c.Reset(); !equal(c, remoting.Command{}) || cap(c.Fields) < 3 {
		t.Errorf("%+v", c)
	}
}

func TestVersionOf(t *testing.T) {
	t.Parallel()
	for release, want := range map[[3]int]int{
		{4, 1, 0}: 233, {4, 5, 2}: 317, {4, 9, 0}: 393, {4, 9, 8}: 409, {5, 0, 0}: 413, {5, 1, 0}: 433, {5, 2, 0}: 453, {5, 3, 0}: 473, {5, 3, 3}: remoting.Version, {6, 0, 0}: 612, {3, 4, 9}: 0,
		{4, 9, 4}: remoting.VersionStandardJSON,
	} {
		if got := remoting.VersionOf(release[0], release[1], release[2]); got != want {
			t.Errorf("%v: got %d, want %d", release, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{310: "SEND_MESSAGE_V2", 200050: "POP_MESSAGE", 22: "GET_TOPIC_CONFIG_LIST", 9999: "9999", -1: "-1"} {
		if got := remoting.RequestName(code); got != want {
			t.Errorf("%d: got %s, want %s", code, got, want)
		}
	}
	for l := range remoting.Language(14) {
		if got := remoting.ParseLanguage(l.String()); got != l {
			t.Errorf("%v: got %v", l, got)
		}
		if got := remoting.ParseLanguage(fmt.Sprint(int(l))); got != l {
			t.Errorf("%d: got %v", l, got)
		}
	}
	if remoting.Language(14).String() != "OTHER" {
		t.Error("unknown language")
	}
}

// chunks hands out what it has in pieces of n bytes, then err.
type chunks struct {
	b   []byte
	n   int
	err error
}

func (c *chunks) Read(p []byte) (int, error) {
	n := min(c.n, len(p), len(c.b))
	copy(p, c.b[:n])
	c.b = c.b[n:]
	if len(c.b) == 0 {
		return n, c.err
	}
	return n, nil
}

func TestReader_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want [][]byte
		for range rapid.IntRange(0, 20).Draw(t, "frames") {
			size := rapid.OneOf(rapid.IntRange(0, 50), rapid.IntRange(0, 70000), rapid.IntRange(4000, 5000)).Draw(t, "body")
			c := remoting.Command{Body: make([]byte, size), Opaque: int32(len(want))}
			at := len(stream)
			var err error
			if stream, err = remoting.AppendFrame(stream, &c); err != nil {
				t.Fatal(err)
			}
			want = append(want, stream[at+4:])
		}
		whole := len(stream)
		cut := rapid.IntRange(0, 3).Draw(t, "cut")
		stream = stream[:max(0, len(stream)-cut)]
		in := &chunks{stream, rapid.OneOf(rapid.IntRange(1, 10), rapid.IntRange(1, 100000)).Draw(t, "chunk"), io.EOF}
		r := remoting.NewReader(in, remoting.Limits{})
		for i, w := range want {
			left := len(in.b)
			ready := r.Ready()
			got, err := r.Next()
			if i == len(want)-1 && cut > 0 {
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("cut by %d: got %v", cut, err)
				}
				return
			}
			if w = w[:len(w):len(w)]; err != nil || string(got) != string(w[:len(got)]) {
				t.Fatalf("frame %d: got %d bytes, %v", i, len(got), err)
			}
			if ready && len(in.b) != left {
				t.Fatalf("frame %d was ready and yet the stream was read", i)
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) && whole == len(stream) {
			t.Fatalf("got %v, want the end", err)
		}
	})
}

var errTimeout = errors.New("timeout")

// timeouts answers an error before each byte.
type timeouts struct {
	b    []byte
	last bool
}

func (s *timeouts) Read(p []byte) (int, error) {
	if s.last = !s.last; s.last {
		return 0, errTimeout
	}
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b[:1])
	s.b = s.b[1:]
	return n, nil
}

func TestReader_ResumesAfterTimeouts(t *testing.T) {
	t.Parallel()
	b := unhex(t, frames["JSON request"].hex)
	r := remoting.NewReader(&timeouts{b: b}, remoting.Limits{})
	for i := range b {
		if _, err := r.Next(); !errors.Is(err, errTimeout) || r.Buffered() != i {
			t.Fatalf("byte %d: got %v with %d buffered", i, err, r.Buffered())
		}
	}
	if got, err := r.Next(); err != nil || string(got) != string(b[4:]) {
		t.Errorf("got %x, %v", got, err)
	}
}

// sees asks the reader, while it reads, for what it holds.
type sees struct {
	chunks
	r    *remoting.Reader
	held []int
}

func (s *sees) Read(p []byte) (int, error) {
	s.held = append(s.held, s.r.Buffered())
	return s.chunks.Read(p)
}

func TestReader_Buffered(t *testing.T) {
	t.Parallel()
	b := unhex(t, frames["binary request with a body"].hex) // 31 bytes
	in := &sees{chunks: chunks{slices.Concat(b, b), 31 + 10, io.EOF}}
	in.r = remoting.NewReader(in, remoting.Limits{})
	for range 2 {
		if _, err := in.r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(in.held, []int{0, 10}) {
		t.Errorf("got %v, want nothing at first and then the begin of a frame", in.held)
	}
}

func TestReader_BadLengths(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hex  string
		want string
	}{
		"zero":               {"00000000", "frame of 0, between 4 and 1000 is possible"},
		"three":              {"00000003 00", "frame of 3, between 4 and 1000 is possible"},
		"negative":           {"ffffffff", "frame of -1, between 4 and 1000 is possible"},
		"text":               {"47455420", "frame of 1195725856, between 4 and 1000 is possible"},
		"too large":          {"000003e9", "frame of 1001, between 4 and 1000 is possible"},
		"form":               {"00000010 02000000", "form of header of 2, between 0 and 1 is possible"},
		"header beyond":      {"00000010 0000000d", "header of 13, between 0 and 12 is possible"},
		"header over limit":  {"000003e8 00000065", "header of 101, between 0 and 100 is possible"},
		"header over frames": {"00000004 00000001", "header of 1, between 0 and 0 is possible"},
	} {
		r := remoting.NewReader(&chunks{unhex(t, c.hex), 1, errTimeout}, remoting.Limits{Frame: 1000, Header: 100})
		for range 2 { // it is final
			_, err := r.Next()
			var e *remoting.FrameError
			if !errors.As(err, &e) || err.Error() != c.want || !r.Ready() {
				t.Errorf("%s: got %v, want %s", name, err, c.want)
			}
		}
	}
	if _, err := remoting.NewReader(&chunks{nil, 1, nil}, remoting.Limits{}).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a stream that answers nothing: got %v", err)
	}
}

// endless promises the largest frame and sends a part of it.
type endless struct {
	head []byte
	left int
}

func (s *endless) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if s.left == 0 {
		return 0, errTimeout
	}
	n := min(len(p), s.left, 1000)
	s.left -= n
	return n, nil
}

// Memory follows what arrived, not what was promised. Not parallel: it counts
// what the process allocates.
func TestReader_Memory(t *testing.T) {
	for _, arrive := range []int{0, 1 << 10, 100 << 10, 1 << 20} {
		r := remoting.NewReader(&endless{unhex(t, "01000000 00000010"), arrive}, remoting.Limits{})
		got := allocated(func() {
			if _, err := r.Next(); !errors.Is(err, errTimeout) {
				t.Errorf("got %v", err)
			}
		})
		// The buffers that were outgrown count too: twice as much again.
		if most := uint64(4*arrive + 16<<10); got > most {
			t.Errorf("%d bytes arrived: got %d allocated, want at most %d", arrive, got, most)
		}
	}
}

// allocated is what the process allocates while f runs.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
