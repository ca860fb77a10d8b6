package config

import (
	"reflect"
	"strings"
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
		{kindAddress, ":0", ":0"},
		{kindAddress, "localhost:1883", "localhost:1883"},
		{kindAddress, "[fe80::1%eth0]:1883", "[fe80::1%eth0]:1883"},
		{kindAddress, "[::1]", nil},
		{kindAddress, "host:01", nil},
		{kindAddress, "host:", nil},
		{kindAddress, "a..b:1", nil},
		{kindHost, "broker.example.", "broker.example."},
		{kindHost, "my_broker", "my_broker"},
		{kindHost, "broker:1883", nil},
		{kindHost, "1.2.3", nil},
		{kindHost, strings.Repeat("a.", 130) + "a", nil},
		{kindServer, "bundled", Server{Network: "bundled"}},
		{kindServer, "tcp://[::1]:1883", Server{"tcp", "[::1]:1883"}},
		{kindServer, "unix:///a/b", Server{"unix", "/a/b"}},
		{kindServer, "unix:///" + strings.Repeat("a", 103), nil},
		{kindServer, "TCP://a:1", nil},
		{kindString, "é", "é"},
		{kindString, "a\nb", nil},
		{kindString, "\xff", nil},
		{kindPath, "a\x00b", nil},
		{kindSecret, "\xff\n", "\xff\n"},
	} {
		got, err := parse(c.kind, c.text)
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
		{kindServer, Server{"tls", "a:1"}, "tls://a:1"},
		{kindServer, Server{Network: "bundled"}, "bundled"},
		{kindSecret, Secret("x"), "***"},
	} {
		if got := format(c.kind, reflect.ValueOf(c.value)); got != c.want {
			t.Errorf("format(%s, %v) = %s, want %s", c.kind, c.value, got, c.want)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{":1", ":1", true},
		{":1", ":2", false},
		{":0", ":0", false},
		{":1", "[::1]:1", true},
		{"[::]:1", "127.0.0.1:1", true},
		{"0.0.0.0:1", "127.0.0.1:1", true},
		{"0.0.0.0:1", "[::1]:1", false},
		{"0.0.0.0:1", "localhost:1", true},
		{"127.0.0.1:1", "127.0.0.2:1", false},
		{"127.0.0.1:1", "[::1]:1", false},
	} {
		if got := overlap(c.a, c.b); got != c.want {
			t.Errorf("overlap(%s, %s) = %t, want %t", c.a, c.b, got, c.want)
		}
		if got := overlap(c.b, c.a); got != c.want {
			t.Errorf("overlap(%s, %s) = %t, want %t", c.b, c.a, got, c.want)
		}
	}
}

func TestServersHaveDefaultPorts(t *testing.T) {
	for text, want := range map[string]string{
		"tcp://broker": "tcp://broker:1883", "tls://broker": "tls://broker:8883", "tcp://broker:1": "tcp://broker:1",
		"tcp://[::1]": "tcp://[::1]:1883", "tls://[::1]:2": "tls://[::1]:2", "tcp://10.0.0.1": "tcp://10.0.0.1:1883",
	} {
		got, err := parseServer(text)
		if server, ok := got.(Server); err != nil || !ok || server.String() != want {
			t.Errorf("%s: got %v, %v; want %s", text, got, err, want)
		}
	}
}
