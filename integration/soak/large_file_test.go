//go:build integration && linux

package soak

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

var entryCount = flag.Int("soak.entries", 200_000, "how many entries the token file of TestLargeTokenFile has, at least 100,000")

const acceptedVersions = `mqtt_auth_proxy_token_file_reloads_total{outcome="accepted"}`

// TestLargeTokenFile appends lines to a token file of many entries, and runs token commands on it,
// while the program uses it. All changes take effect, and the program then holds at most a quarter
// more memory than before. The log of the test has what each of them took.
func TestLargeTokenFile(t *testing.T) {
	p := harness.NewProxy(t, "")
	path := filepath.Join(p.Data, "tokens.jsonl")
	writeTokens(t, path, *entryCount)
	p.Start()
	before := settledMemory(t, p)
	t.Logf("%d entries, %d MB", *entryCount, before>>20)
	inForce := func(what string, change func() string) {
		versions := harness.Metric(t, p, acceptedVersions)
		began := time.Now()
		used := change()
		changed := time.Now()
		harness.Eventually(t, what, func() bool { return harness.Metric(t, p, acceptedVersions) > versions })
		t.Logf("%-8s %5.2f s%s, in force %5.2f s later", what, changed.Sub(began).Seconds(), used, time.Since(changed).Seconds())
	}
	for n := range 10 {
		inForce("append", func() string {
			appendLine(t, path, entryOf(fmt.Sprintf("appended-%d", n)))
			return ""
		})
	}
	for _, command := range [][]string{
		{"create", "new"}, {"revoke", "device-000100"}, {"disable", "device-000200"}, {"rotate", "device-000300"},
	} {
		inForce(command[0], func() string {
			r := p.TokenCommand(command...)
			if r.Status != 0 {
				t.Fatalf("token %s: status %d: %s", command, r.Status, r.Stderr)
			}
			return fmt.Sprintf(" with %5.2f s of processor time", r.Processor.Seconds())
		})
	}
	if status, want := p.Status(), fmt.Sprintf(`"entries":%d,`, *entryCount+10); !strings.Contains(status, want) {
		t.Errorf("not %s in the status %s", want, status)
	}
	t.Logf("%d MB after the changes", harness.Memory(t, p)>>20)
	harness.Eventually(t, "a program that holds at most a quarter more memory than before", func() bool {
		return harness.Memory(t, p) <= before+before/4
	})
	t.Logf("%d MB in the end", settledMemory(t, p)>>20)
}

// settledMemory returns the memory of the program when it has stayed the same for some seconds, or
// after a minute.
func settledMemory(t *testing.T, p *harness.Proxy) int64 {
	const noise, still, limit = 1 << 20, 4 * time.Second, time.Minute
	settled, since := harness.Memory(t, p), time.Now()
	for began := time.Now(); time.Since(since) < still && time.Since(began) < limit; {
		<-time.After(100 * time.Millisecond)
		if now := harness.Memory(t, p); now < settled-noise || now > settled+noise {
			settled, since = now, time.Now()
		}
	}
	return settled
}

// entryOf returns a line of a token file for a device.
func entryOf(device string) string {
	return fmt.Sprintf(`{"id":"%[1]s-k3x2aa","subject":"%[1]s","token_hash":"sha256:%[2]x","expire_at":"2100-01-31T12:00:00Z",`+
		`"cidr":"10.0.0.0/8","client_attrs":{"site":"site-%[3]d"},"created_at":"2026-11-23T16:00:00Z"}`+"\n",
		device, sha256.Sum256([]byte("the token of "+device)), len(device)+int(device[len(device)-1]))
}

func writeTokens(t *testing.T, path string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		_, _ = w.WriteString(entryOf(fmt.Sprintf("device-%06d", i)))
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func appendLine(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(line)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
