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
)

// TestFirstStart follows somebody who has nothing yet: the program alone, its
// greeting, and the greeting's commands pasted into a shell.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub")
	p := bareProxy(t)
	p.environ = append(p.environ,
		"MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS="+p.plain,
		"MQTT_AUTH_PROXY_LISTENERS_1_ADDRESS="+p.tls,
		"MQTT_AUTH_PROXY_LISTENERS_1_TLS_AUTO=true",
		"MQTT_AUTH_PROXY_ADMIN_ADDRESS="+p.admin,
		"MQTT_AUTH_PROXY_LOG_LEVEL=debug")
	p.start()
	commands := demoCommands(t, p)
	for i, line := range commands {
		before := time.Now()
		r := run(t, "sh", "-c", line)
		if r.status != 0 || !strings.Contains(r.stdout, "(16 bytes)") {
			t.Fatalf("command %d: status %d, want 0 and 16 bytes sent\n%s", i+1, r.status, r.all())
		}
		checkLatest(t, p, "demo", before)
	}
	checkModes(t, p.data)
	p.stop()

	first := p.process
	p.start()
	if text := p.stdout.String(); text != "" {
		t.Errorf("the second start printed %q, want nothing", text)
	}
	checkLatest(t, p, "demo", time.Time{})
	if r := run(t, "sh", "-c", commands[0]); r.status != 0 {
		t.Errorf("the token of the first start: status %d after the second\n%s", r.status, r.all())
	}
	token := regexp.MustCompile(`-u "([^"]+)"`).FindStringSubmatch(commands[0])[1]
	p.keep(token)
	// The one place where a token may be shown.
	first.stdout = newOutput()
}

// demoCommands returns the two commands of the greeting, byte for byte.
func demoCommands(t *testing.T, p *proxy) []string {
	t.Helper()
	var commands []string
	p.await(t, p.stdout, "greeting", func(text string) bool {
		commands = regexp.MustCompile(`(?m)^mosquitto_pub .*$`).FindAllString(text, -1)
		return len(commands) == 2
	})
	for i, want := range []string{
		`mosquitto_pub -d -q 1 -h localhost -p ` + portOf(p.plain) + ` -t v1/devices/me/telemetry -u "TOKEN" -m {"temperature":25}`,
		`mosquitto_pub --cafile ` + p.authority() + ` -d -q 1 -h localhost -p ` + portOf(p.tls) + ` -t v1/devices/me/telemetry -u "TOKEN" -m {"temperature":25}`,
	} {
		if got := regexp.MustCompile(`-u "[^"]+"`).ReplaceAllString(commands[i], `-u "TOKEN"`); got != want {
			t.Errorf("command %d is\n%s\nwant\n%s", i+1, got, want)
		}
	}
	return commands
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// checkLatest reads a device's temperature back: 25, an integer, of a time after
// since.
func checkLatest(t *testing.T, p *proxy, device string, since time.Time) {
	t.Helper()
	status, body := p.get("/api/plugins/telemetry/DEVICE/" + device + "/values/timeseries?keys=temperature&useStrictDataTypes=true")
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

// checkModes holds the data directory to its promise: nobody else reads it.
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

// TestPortInUse: who runs a broker already must be told so.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "")
	other := newProxy(t, "")
	other.start()
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.config, []byte(strings.Replace(string(text), p.plain, other.plain, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.launch()
	if status := p.wait(t, patience); status == 0 || !strings.Contains(p.stderr.String(), other.plain) {
		t.Errorf("status %s, want a failure that names the address:\n%s", strconv.Itoa(status), p.stderr)
	}
}
