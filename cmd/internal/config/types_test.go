package config

import (
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

func TestListenAddresses(t *testing.T) {
	for text, good := range map[string]bool{
		":1883": true, "127.0.0.1:0": true, "[::1]:1883": true, "systemd:mqtt": true, "systemd:mqtt.socket": true,
		"": false, "systemd": false, "systemd:": false, "systemd:a:b": false, "unix:///x": false, "127.0.0.1": false,
	} {
		if err := checkListen(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	if name, ok := Inherited("systemd:mqtt"); name != "mqtt" || !ok {
		t.Errorf("the socket is %q, %v", name, ok)
	}
	if _, ok := Inherited(":1883"); ok {
		t.Error("an ordinary address comes from systemd")
	}
}

func TestMemory(t *testing.T) {
	for text, want := range map[string]any{
		"auto": Memory{Auto: true}, "off": Memory{}, "512MiB": Memory{Size: 512 << 20}, "33554432": Memory{Size: 32 << 20},
		"": nil, "0": nil, "1MiB": nil, "512MB": nil, "most": nil, "-1": nil,
	} {
		got, err := parseMemory(text)
		if got != want || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v", text, got, err)
			continue
		}
		if m, ok := got.(Memory); ok {
			if again, err := parseMemory(m.String()); again != got || err != nil {
				t.Errorf("%q is written %q, which reads as %v", text, m, again)
			}
		}
	}
}

func TestTypesOfTexts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		good       bool
	}{
		{"address", ":0", true},
		{"address", "localhost:1883", true},
		{"address", "[fe80::1%eth0]:1883", true},
		{"address", "[fe80::1%eth0.100]:1883", true},
		{"address", "[::1]", false},
		{"address", "host:01", false},
		{"address", "host:", false},
		{"address", "a..b:1", false},
		{"host", "broker.example.", true},
		{"host", "my_broker", true},
		{"host", "broker:1883", false},
		{"host", "1.2.3", false},
		{"host", strings.Repeat("a.", 130) + "a", false},
		{"server", "bundled", true},
		{"server", "tcp://[::1]:1883", true},
		{"server", "tcp://broker", true},
		{"server", "unix:///a/b", true},
		{"server", "unix:///" + strings.Repeat("a", 200), false},
		{"server", "TCP://a:1", false},
		{"server", "BUNDLED", false},
	} {
		value, err := types()[c.name](c.text)
		if (err == nil) != c.good || err == nil && value != c.text {
			t.Errorf("%s %q: %v, %v", c.name, c.text, value, err)
		}
	}
}

// TestServersAreCheckedOnce: what the config takes the proxy can dial, and what the proxy
// refuses is a fault of the config for the same reason.
func TestServersAreCheckedOnce(t *testing.T) {
	for _, text := range []string{
		"tcp://broker", "tls://[::1]:8883", "unix:///run/b.sock", "unix:///run/", "unix:///" + strings.Repeat("a", 104),
		"tcp://:1", "tcp://a:0", "tls://a/b", "mqtt://a", "ws://a", "tcp://-a:1", "tcp://10.0.0.256",
	} {
		_, err := upstream.ParseServer(text)
		o := Options{WorkDir: t.TempDir(), Environ: []string{prefix + "UPSTREAM_SERVERS=" + text}}
		if err == nil {
			if got := load(t, o).Upstream.Servers[0].Address; got != text {
				t.Errorf("%s is kept as %s", text, got)
			}
		} else if got, want := reasons(t, o), "environment: MQTT_AUTH_PROXY_UPSTREAM_SERVERS: element 0 "+err.Error(); got != want {
			t.Errorf("%s: fault %s, want %s", text, got, want)
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
