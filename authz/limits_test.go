package authz

import (
	"reflect"
	"strings"
	"testing"
)

func parsed(t *testing.T, text string) Limits {
	t.Helper()
	l, err := ParseLimits([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return l
}

func TestLimitsAreParsedAndPrinted(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`{"max_packet":16}`,
		`{"max_packet":262144,"publish_rate":50,"publish_burst":100,"byte_rate":1048576,"subscriptions":100,"max_qos":2,"retain":true,"sessions":3}`,
		`{"max_qos":0,"retain":false}`,
	} {
		if got := parsed(t, text).String(); got != text {
			t.Errorf("%s is printed as %s", text, got)
		}
	}
}

func TestBadLimitsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                          "expected one JSON object",
		`null`:                        "expected one JSON object",
		`{"max_packet":15}`:           "limits: max_packet: want a whole number from 16 to 268435460",
		`{"max_packet":268435461}`:    "max_packet",
		`{"publish_rate":0}`:          "publish_rate: want a whole number from 1 to",
		`{"publish_rate":-1}`:         "publish_rate",
		`{"publish_rate":1.5}`:        "publish_rate",
		`{"publish_rate":1e3}`:        "publish_rate",
		`{"publish_rate":"50"}`:       "publish_rate",
		`{"publish_burst":0}`:         "publish_burst",
		`{"byte_rate":null}`:          "byte_rate",
		`{"subscriptions":10001}`:     "subscriptions",
		`{"max_qos":3}`:               "max_qos: want a whole number from 0 to 2",
		`{"max_qos":true}`:            "max_qos",
		`{"retain":1}`:                "retain: want true or false",
		`{"retain":"true"}`:           "retain",
		`{"sessions":0}`:              "sessions",
		`{"publish_rates":5}`:         "an unknown name of a limit; known are max_packet",
		`{"max_qos":1,"max_qos":2}`:   "max_qos",
		`{"max_qos":1,"MAX_QOS":2}`:   "limits: ",
		`{"max_qos":1}x`:              "more text",
		`{"secret-token-in-place":1}`: "an unknown name",
	} {
		_, err := ParseLimits([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestLimitsOverrideEachOther(t *testing.T) {
	base := parsed(t, `{"max_packet":100,"publish_rate":50,"publish_burst":100,"max_qos":1,"retain":false}`)
	for own, want := range map[string]string{
		`{}`:                                 base.String(),
		`{"publish_rate":7,"sessions":2}`:    `{"max_packet":100,"publish_rate":7,"publish_burst":100,"max_qos":1,"retain":false,"sessions":2}`,
		`{"max_qos":0,"retain":true}`:        `{"max_packet":100,"publish_rate":50,"publish_burst":100,"max_qos":0,"retain":true}`,
		`{"byte_rate":5,"subscriptions":10}`: `{"max_packet":100,"publish_rate":50,"publish_burst":100,"byte_rate":5,"subscriptions":10,"max_qos":1,"retain":false}`,
	} {
		got := parsed(t, own).Over(base)
		if got.String() != want || !got.Equal(parsed(t, want)) {
			t.Errorf("%s gives %s, want %s", own, got, want)
		}
		if got.Equal(Limits{}) {
			t.Errorf("%s counts as no limits", got)
		}
	}
}

func TestLimitsThatBoundNothing(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: false, `{"sessions":1}`: false, `{"publish_burst":1}`: false, `{"max_qos":2,"retain":true}`: false,
		`{"max_packet":100}`: true, `{"publish_rate":1}`: true, `{"byte_rate":1}`: true, `{"subscriptions":1}`: true,
		`{"max_qos":1}`: true, `{"retain":false}`: true,
	} {
		if got := parsed(t, text).Bound(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func FuzzParseLimits(f *testing.F) {
	f.Add([]byte(`{"max_packet":262144,"publish_rate":50,"publish_burst":100,"byte_rate":1048576,"subscriptions":100,"max_qos":2,"retain":true,"sessions":3}`))
	f.Add([]byte(` { "max_qos" : 0 } `))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLimits(text)
		if err != nil {
			if !l.Equal(Limits{}) {
				t.Errorf("limits %s with the error %v", l, err)
			}
			return
		}
		again, err := ParseLimits([]byte(l.String()))
		if err != nil || !reflect.DeepEqual(l, again) || !l.Equal(again) {
			t.Errorf("%s is read again as %s, %v", l, again, err)
		}
	})
}
