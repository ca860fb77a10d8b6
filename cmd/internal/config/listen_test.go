package config

import "testing"

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
