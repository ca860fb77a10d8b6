//go:build integration

package integration

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestFirstStart: a user runs the program without a configuration and pastes the
// commands that it prints into a shell.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	harness.Need(t, "mosquitto_pub")
	p := harness.BareProxy(t)
	p.Env = append(p.Env,
		"MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS="+p.Plain,
		"MQTT_AUTH_PROXY_LISTENERS_1_ADDRESS="+p.TLS,
		"MQTT_AUTH_PROXY_LISTENERS_1_TLS_AUTO=true",
		"MQTT_AUTH_PROXY_ADMIN_ADDRESS="+p.Admin,
		"MQTT_AUTH_PROXY_LOG_LEVEL=debug")
	p.Start()
	commands := demoCommands(t, p)
	for i, line := range commands {
		before := time.Now()
		r := harness.Run(t, "sh", "-c", line)
		if r.Status != 0 || !strings.Contains(r.Stdout, "(16 bytes)") {
			t.Fatalf("command %d: status %d, want 0 and 16 bytes sent\n%s", i+1, r.Status, r.Output())
		}
		checkLatest(t, p, "demo", before)
	}
	checkModes(t, p.Data)
	p.Stop()

	first := p.Process
	p.Start()
	if text := p.Stdout.String(); text != "" {
		t.Errorf("the second start printed %q, want nothing", text)
	}
	checkLatest(t, p, "demo", time.Time{})
	if r := harness.Run(t, "sh", "-c", commands[0]); r.Status != 0 {
		t.Errorf("the token of the first start: status %d after the second\n%s", r.Status, r.Output())
	}
	token := regexp.MustCompile(`-u "([^"]+)"`).FindStringSubmatch(commands[0])[1]
	p.AddSecret(token)
	// This is the only place where a token may be printed.
	first.Stdout = harness.NewOutput()
}

// demoCommands returns the two commands that the program prints.
func demoCommands(t *testing.T, p *harness.Proxy) []string {
	t.Helper()
	var commands []string
	p.Await(t, p.Stdout, "greeting", func(text string) bool {
		commands = regexp.MustCompile(`(?m)^mosquitto_pub .*$`).FindAllString(text, -1)
		return len(commands) == 2
	})
	for i, want := range []string{
		`mosquitto_pub -d -q 1 -h localhost -p ` + harness.Port(p.Plain) + ` -t v1/devices/me/telemetry -u "TOKEN" -m {"temperature":25}`,
		`mosquitto_pub --cafile ` + p.CAFile() + ` -d -q 1 -h localhost -p ` + harness.Port(p.TLS) + ` -t v1/devices/me/telemetry -u "TOKEN" -m {"temperature":25}`,
	} {
		if got := regexp.MustCompile(`-u "[^"]+"`).ReplaceAllString(commands[i], `-u "TOKEN"`); got != want {
			t.Errorf("command %d is\n%s\nwant\n%s", i+1, got, want)
		}
	}
	return commands
}

// checkLatest reads a device's latest temperature, which must be the integer 25 with a
// time after since.
func checkLatest(t *testing.T, p *harness.Proxy, device string, since time.Time) {
	t.Helper()
	status, body := p.Get("/api/plugins/telemetry/DEVICE/" + device + "/values/timeseries?keys=temperature&useStrictDataTypes=true")
	var points map[string][]struct {
		TS    int64
		Value json.RawMessage
	}
	if err := json.Unmarshal([]byte(body), &points); status != 200 || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, body)
	}
	latest := points["temperature"]
	if len(latest) != 1 || string(latest[0].Value) != "25" {
		t.Fatalf("read back %s, want one temperature of 25", body)
	}
	if at := time.UnixMilli(latest[0].TS); at.Before(since.Truncate(time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("stored at %v, want a time since %v", at, since)
	}
}

// checkModes fails the test if other users may read a file of the data directory.
func checkModes(t *testing.T, data string) {
	t.Helper()
	public := map[string]bool{"ca-root.pem": true, "server.pem": true}
	err := filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch mode := info.Mode().Perm(); {
		case entry.IsDir() && mode != 0o700:
			t.Errorf("directory %s has mode %04o, want 0700", path, mode)
		case !entry.IsDir() && !public[entry.Name()] && mode != 0o600:
			t.Errorf("%s has mode %04o, want 0600", path, mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPortInUse: if another program listens at the port, the error says what to do.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "")
	other := harness.NewProxy(t, "")
	other.Start()
	text, err := os.ReadFile(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Config, []byte(strings.Replace(string(text), p.Plain, other.Plain, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Launch()
	if status := p.Wait(t, harness.Patience); status == 0 || !strings.Contains(p.Stderr.String(), other.Plain) {
		t.Errorf("status %s, want a failure that names the address:\n%s", strconv.Itoa(status), p.Stderr)
	}
}
