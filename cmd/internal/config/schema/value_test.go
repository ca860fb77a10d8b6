package schema

import (
	"reflect"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		kind kind
		text string
		want any // nil for a fault
	}{
		{kindBoolean, "true", true},
		{kindBoolean, "false", false},
		{kindBoolean, "True", nil},
		{kindBoolean, "1", nil},
		{kindInteger, "0", int64(0)},
		{kindInteger, "2147483647", int64(1<<31 - 1)},
		{kindInteger, "2147483648", nil},
		{kindInteger, "+1", nil},
		{kindInteger, "1_000", nil},
		{kindInteger, " 1", nil},
		{kindDuration, "1h30m", int64(90 * time.Minute)},
		{kindDuration, "0", int64(0)},
		{kindDuration, "5 s", nil},
		{kindDuration, "9999999h", nil},
		{kindSize, "0", int64(0)},
		{kindSize, "65536", int64(65536)},
		{kindSize, "64KiB", int64(65536)},
		{kindSize, "3MiB", int64(3 << 20)},
		{kindSize, "1GiB", int64(1 << 30)},
		{kindSize, "1.5MiB", nil},
		{kindSize, "-1KiB", nil},
		{kindSize, "KiB", nil},
		{kindSize, "64 KiB", nil},
		{kindSize, "64K", nil},
		{kindSize, "9999999999GiB", nil},
		{kindString, "é", "é"},
		{kindString, "a\nb", nil},
		{kindString, "\xff", nil},
		{kindText, "a\n\tb\n", "a\n\tb\n"},
		{kindText, "a\rb", nil},
		{kindText, "\xff", nil},
		{kindPath, "a\x00b", nil},
		{kindSecret, "\xff\n", "\xff\n"},
	} {
		got, err := types{}.parse(c.kind, c.text)
		if (err != nil) != (c.want == nil) || err == nil && got != c.want {
			t.Errorf("parse(%s, %q) = %v, %v; want %v", c.kind, c.text, got, err, c.want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		kind  kind
		value any
		want  string
	}{
		{kindDuration, 720 * time.Hour, "720h"},
		{kindDuration, 90 * time.Minute, "1h30m"},
		{kindDuration, time.Hour + time.Second, "1h0m1s"},
		{kindDuration, 10 * time.Minute, "10m"},
		{kindDuration, 10 * time.Second, "10s"},
		{kindDuration, time.Duration(0), "0s"},
		{kindDuration, 250 * time.Millisecond, "250ms"},
		{kindSize, int64(0), "0"},
		{kindSize, int64(1000), "1000"},
		{kindSize, int64(64 << 10), "64KiB"},
		{kindSize, int64(3 << 20), "3MiB"},
		{kindSize, int64(2 << 30), "2GiB"},
		{kindBoolean, true, "true"},
		{kindInteger, 7, "7"},
		{kindSecret, Secret("x"), "***"},
	} {
		if got := (field{kind: c.kind}).format(reflect.ValueOf(c.value)); got != c.want {
			t.Errorf("format(%s, %v) = %s, want %s", c.kind, c.value, got, c.want)
		}
	}
}
