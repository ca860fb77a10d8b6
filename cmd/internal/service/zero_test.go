package service

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// zeros adds to a configuration a 0 for every key of which it means none. Keys of lists are left
// out.
func zeros(t *testing.T, root map[string]any) map[string]any {
	t.Helper()
	set := 0
	for _, k := range config.Keys() {
		if k.Zero != "none" || strings.Contains(k.Path, "[]") {
			continue
		}
		at, path := root, strings.Split(k.Path, ".")
		for _, section := range path[:len(path)-1] {
			if at[section] == nil {
				at[section] = map[string]any{}
			}
			at = at[section].(map[string]any)
		}
		at[path[len(path)-1]] = 0
		if k.Type == "duration" {
			at[path[len(path)-1]] = "0s"
		}
		set++
	}
	if set < 20 {
		t.Errorf("only %d keys were set", set)
	}
	return root
}

// TestZeroIsNone: with 0 for every key of which it means none, devices connect and publish
// as often as they like, and a drain ends their sessions at once.
func TestZeroIsNone(t *testing.T) {
	text, err := json.Marshal(zeros(t, map[string]any{
		"listeners": []any{map[string]any{"address": "127.0.0.1:0"}},
		"admin":     map[string]any{"address": ""},
	}))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := startService(t, string(text))
	for range 3 {
		nc := connectDemo(t, s, 4)
		if err := nc.Publish("v1/devices/me/telemetry", "{temperature:25}"); err != nil {
			t.Fatal(err)
		}
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	_ = s.wait(signals) // which cuts the sessions, or finds that they have ended
	if open := s.server.Stats().Sessions; open != 0 {
		t.Errorf("%d sessions are left", open)
	}
}
