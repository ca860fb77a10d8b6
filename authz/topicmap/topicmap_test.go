package topicmap

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func thingsboard(t *testing.T, o Options) *Map {
	t.Helper()
	rules, refused, ok := Preset("thingsboard")
	if !ok {
		t.Fatal("no preset")
	}
	o.Rules, o.Refused = append(o.Rules, rules...), append(o.Refused, refused...)
	m, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func bind(t *testing.T, m *Map, subject string) *Bound {
	t.Helper()
	b, err := m.Bind(subject, map[string]string{"site": "north"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUp(t *testing.T) {
	m := thingsboard(t, Options{Rules: []Rule{{"cmd", "devices/${subject}/cmd"}, {"alarm/#", "sites/${attrs.site}/alarm/#"}}})
	b := bind(t, m, "pump")
	for topic, want := range map[string]string{
		"v1/devices/me/telemetry":    "v1/devices/pump/telemetry",
		"v1/devices/me":              "v1/devices/pump",
		"v1/devices/me/":             "v1/devices/pump/",
		"v1/gateway/connect":         "v1/gateway/pump/connect",
		"v2/t":                       "v2/pump/t",
		"cmd":                        "devices/pump/cmd",
		"alarm/fire":                 "sites/north/alarm/fire",
		"weather":                    "weather",
		"v1/devicesX/me":             "v1/devicesX/me",
		"cmd/x":                      "cmd/x",
		"v1/devices/other/telemetry": "refused: it is the broker's side of the map",
		"v1/devices":                 "v1/devices", // v1/devices/+/# does not select it
		"devices/other/cmd":          "refused: it is the broker's side of the map",
		"devices/pump/cmd":           "refused: it is the broker's side of the map",
		"sites/south/alarm":          "refused: it is the broker's side of the map",
		"$SYS/broker":                "refused: it is reserved",
		"/provision/request":         "refused: it is reserved",
	} {
		got, v := b.Up(nil, []byte(topic))
		if text := describe(got, v); text != want {
			t.Errorf("%s: %s, want %s", topic, text, want)
		}
	}
}

func describe(topic []byte, v Verdict) string {
	if v.Outcome == Refused {
		return "refused: " + v.Reason.String()
	}
	return string(topic)
}

func TestFilter(t *testing.T) {
	m := thingsboard(t, Options{Rules: []Rule{{"cmd", "devices/${subject}/cmd"}}})
	b := bind(t, m, "pump")
	for filter, want := range map[string]string{
		"v1/devices/me/rpc/request/+":         "v1/devices/pump/rpc/request/+",
		"v1/devices/me/#":                     "v1/devices/pump/#",
		"v1/devices/me/+/x":                   "v1/devices/pump/+/x",
		"$share/g/v1/devices/me/#":            "$share/g/v1/devices/pump/#",
		"cmd":                                 "devices/pump/cmd",
		"weather/#":                           "weather/#",
		"$share/g/weather/+":                  "$share/g/weather/+",
		"#":                                   "refused: it is reserved",
		"+/devices/me/x":                      "refused: it touches a rule of the map without being covered by it",
		"v1/#":                                "refused: it touches a rule of the map without being covered by it",
		"v1/devices/+/telemetry":              "refused: it touches a rule of the map without being covered by it",
		"v1/devices/other/#":                  "refused: it is the broker's side of the map",
		"$share/g/v1/devices/other/telemetry": "refused: it is the broker's side of the map",
		"$share/g/#":                          "refused: it is reserved",
		"$SHARE/g/v1/devices/me/#":            "refused: it is reserved",
		"$queue/v1/devices/other/#":           "refused: it is reserved",
		"$exclusive/x":                        "refused: it is reserved",
		"$share/g/$SYS/#":                     "refused: it is reserved",
		"devices/+/cmd":                       "refused: it is the broker's side of the map",
		"+":                                   "refused: it touches a rule of the map without being covered by it",
		"x/+/cmd":                             "x/+/cmd",
		"devices/#":                           "refused: it is the broker's side of the map",
		"/provision/response":                 "refused: it is reserved",
		"/+/response":                         "refused: it is reserved",
		"v1/#/x":                              "refused: it is not valid",
	} {
		got, v := b.Filter(nil, filter)
		if text := describe(got, v); text != want {
			t.Errorf("%s: %s, want %s", filter, text, want)
		}
	}
}

func TestDown(t *testing.T) {
	m := thingsboard(t, Options{Rules: []Rule{{"cmd", "devices/${subject}/cmd"}}})
	b := bind(t, m, "pump")
	for topic, want := range map[string]string{
		"v1/devices/pump/rpc/request/1": "v1/devices/me/rpc/request/1",
		"v1/devices/pump":               "v1/devices/me",
		"devices/pump/cmd":              "cmd",
		"weather":                       "weather",
		"v1/devices/other/x":            "refused: it is the broker's side of the map",
		"v1/devices/pumpX":              "refused: it is the broker's side of the map",
		"v1/devices/me/x":               "refused: it is the broker's side of the map",
		"cmd":                           "refused: no rule of the map covers it",
	} {
		got, v := b.Down(nil, []byte(topic))
		if text := describe(got, v); text != want {
			t.Errorf("%s: %s, want %s", topic, text, want)
		}
	}
}

func TestUnmappedIsRefused(t *testing.T) {
	b := bind(t, thingsboard(t, Options{RefuseUnmapped: true}), "pump")
	for _, decide := range []func() Verdict{
		func() Verdict { _, v := b.Up(nil, []byte("weather")); return v },
		func() Verdict { _, v := b.Filter(nil, "weather/#"); return v },
		func() Verdict { _, v := b.Down(nil, []byte("weather")); return v },
	} {
		if v := decide(); v != (Verdict{Refused, Unmapped, -1}) {
			t.Errorf("%+v", v)
		}
	}
}

// TestMountPoint: # stands for all topics.
func TestMountPoint(t *testing.T) {
	m, err := Compile(Options{Rules: []Rule{{"#", "fleet/${subject}/#"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := bind(t, m, "pump")
	for topic, want := range map[string]string{"a": "fleet/pump/a", "/a/b": "fleet/pump//a/b", "fleet/other/x": "fleet/pump/fleet/other/x"} {
		up, v := b.Up(nil, []byte(topic))
		down, w := b.Down(nil, up)
		if string(up) != want || string(down) != topic || v.Outcome != Mapped || w.Outcome != Mapped {
			t.Errorf("%s: up %s %v, down %s %v", topic, up, v, down, w)
		}
	}
	for filter, want := range map[string]string{"#": "fleet/pump/#", "+/x": "fleet/pump/+/x", "$share/g/#": "$share/g/fleet/pump/#"} {
		if got, v := b.Filter(nil, filter); string(got) != want {
			t.Errorf("%s: %s %v, want %s", filter, got, v, want)
		}
	}
	for _, topic := range []string{"fleet/pump", "fleet/other/x", "fleet/pump/$SYS/x"} {
		if got, v := b.Down(nil, []byte(topic)); v.Outcome != Refused {
			t.Errorf("%s is given to the device as %s", topic, got)
		}
	}
}

// TestOrderDecides: if the device sides of several rules match, the first rule decides.
func TestOrderDecides(t *testing.T) {
	m, err := Compile(Options{Rules: []Rule{{"a/b", "one/${subject}"}, {"a/#", "two/${subject}/#"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := bind(t, m, "s")
	if got, _ := b.Up(nil, []byte("a/b")); string(got) != "one/s" {
		t.Errorf("a/b: %s", got)
	}
	if got, _ := b.Up(nil, []byte("a/c")); string(got) != "two/s/c" {
		t.Errorf("a/c: %s", got)
	}
	if got, v := b.Filter(nil, "a/#"); v.Reason != Several {
		t.Errorf("a/# leads to %s, and misses a/b", got)
	}
	if got, v := b.Down(nil, []byte("two/s/b")); v.Outcome != Refused {
		t.Errorf("two/s/b would look like the other rule's %s", got)
	}
}

func TestForbiddenCharacters(t *testing.T) {
	m := thingsboard(t, Options{Forbidden: ".*"})
	if _, err := m.Bind("a.b", nil); !errors.Is(err, ErrNotUsable) {
		t.Errorf("subject with a dot: %v", err)
	}
	b := bind(t, m, "pump")
	for _, topic := range []string{"v1.devices.other.telemetry", "v1/devices/me/*", "x.y"} {
		if got, v := b.Up(nil, []byte(topic)); v.Reason != Forbidden {
			t.Errorf("%s passes as %s", topic, got)
		}
		if got, v := b.Filter(nil, topic); v.Reason != Forbidden {
			t.Errorf("filter %s passes as %s", topic, got)
		}
	}
	if got, v := b.Filter(nil, "$share/a.b/weather"); v.Reason != Forbidden {
		t.Errorf("group with a dot passes as %s", got)
	}
}

func TestValuesThatCannotBeALevel(t *testing.T) {
	m, err := Compile(Options{Rules: []Rule{{"x", "${attrs.site}/${subject}"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"", "a/b", "+", "#", "a\x00"} {
		if _, err := m.Bind(subject, map[string]string{"site": "n"}); !errors.Is(err, ErrNotUsable) || len(subject) > 2 && strings.Contains(err.Error(), subject) {
			t.Errorf("%q: %v", subject, err)
		}
	}
	for _, site := range []string{"", "$SYS"} {
		if _, err := m.Bind("s", map[string]string{"site": site}); !errors.Is(err, ErrNotUsable) {
			t.Errorf("site %q: %v", site, err)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, tt := range []struct {
		rules []Rule
		want  string
		other int
	}{
		{[]Rule{{"a/#", "b/${subject}"}}, "must both end in /#", -1},
		{[]Rule{{"a/+/b", "b/${subject}"}}, "only its end may be a wildcard", -1},
		{[]Rule{{"a/${subject}", "b/${subject}"}}, "must not have placeholders", -1},
		{[]Rule{{"$share/g/a", "b/${subject}"}}, "shared subscription", -1},
		{[]Rule{{"$SHARE/#", "b/${subject}/#"}}, "shared subscription", -1},
		{[]Rule{{"a", "b/+"}}, "is not a topic", -1},
		{[]Rule{{"a", "$SYS/${subject}"}}, "must not begin with $", -1},
		{[]Rule{{"a", "b/x-${subject}"}}, "must be a whole level", -1},
		{[]Rule{{"a", "b/${client_id}"}}, "because the device chooses it", -1},
		{[]Rule{{"a", "b/${attrs.}"}}, "because the device chooses it", -1},
		{[]Rule{{"a", ""}}, "is not a topic", -1},
		{[]Rule{{"", "b/${subject}"}}, "is not a topic", -1},
		{[]Rule{{"a", "x/${subject}/#"}, {"b", "c"}}, "must both end in /#", -1},
		{[]Rule{{"a/#", "x/${subject}/#"}, {"b", "x/${attrs.site}/y"}}, "overlap", 0},
		{[]Rule{{"a", "x/${subject}"}, {"b", "x/y"}}, "overlap", 0},
	} {
		_, err := Compile(Options{Rules: tt.rules})
		var fault *RuleError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), tt.want) || fault.Other != tt.other {
			t.Errorf("%v: %v, want %q", tt.rules, err, tt.want)
		}
	}
}

// TestEarlierRuleReplacesThePresets: a rule that an earlier rule covers is never used, so its
// broker side may be the same.
func TestEarlierRuleReplacesThePresets(t *testing.T) {
	b := bind(t, thingsboard(t, Options{Rules: []Rule{{"v1/devices/me/#", "v1/devices/${subject}/#"}, {"v2/#", "short/${subject}/#"}}}), "s")
	if got, _ := b.Up(nil, []byte("v2/t")); string(got) != "short/s/t" {
		t.Errorf("v2/t: %s", got)
	}
}

func TestSharedRulesAreKnown(t *testing.T) {
	m := thingsboard(t, Options{Rules: []Rule{{"a", "site/${attrs.site}/a"}, {"b", "b2"}, {"c", "c/${subject}"}}})
	if got := m.Shared(); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("shared rules %v, want 0 and 1", got)
	}
}

func TestIdleRulesAreKnown(t *testing.T) {
	m := thingsboard(t, Options{Rules: []Rule{{"a/#", "a/${subject}/#"}, {"b", "b/${subject}"}, {"a/b", "c/${subject}"}, {"b", "d/${subject}"}}})
	if got := m.Idle(); !slices.Equal(got, []IdleRule{{2, 0}, {3, 1}}) {
		t.Errorf("idle rules %v", got)
	}
}

func TestTooLong(t *testing.T) {
	b := bind(t, thingsboard(t, Options{}), strings.Repeat("s", 100))
	long := "v1/devices/me/" + strings.Repeat("x", 65535-14)
	if _, v := b.Up(nil, []byte(long)); v.Reason != TooLong {
		t.Errorf("topic: %+v", v)
	}
	if _, v := b.Filter(nil, long); v.Reason != TooLong {
		t.Errorf("filter: %+v", v)
	}
	if up, down := b.Growth(); up != len("v2/")+100-len("v2") || down != 0 {
		t.Errorf("growth %d, %d", up, down)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	b := bind(t, thingsboard(t, Options{}), "pump-7")
	buf := make([]byte, 0, 256)
	up, down := []byte("v1/devices/me/telemetry"), []byte("v1/devices/pump-7/rpc/request/1")
	if n := testing.AllocsPerRun(100, func() {
		b.Up(buf, up)
		b.Down(buf, down)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUp(b *testing.B) {
	rules, refused, _ := Preset("thingsboard")
	m, err := Compile(Options{Rules: rules, Refused: refused})
	if err != nil {
		b.Fatal(err)
	}
	bound, err := m.Bind("pump-7", nil)
	if err != nil {
		b.Fatal(err)
	}
	buf, topic := make([]byte, 0, 256), []byte("v1/devices/me/telemetry")
	b.ReportAllocs()
	for b.Loop() {
		bound.Up(buf, topic)
	}
}
