//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestBadEdit: a mistake in the token file changes nothing for any device. The log says
// where the mistake is, and correcting it is enough.
func TestBadEdit(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	old := p.Token("old")
	p.Start()
	live := p.Connect(t, 4, "live", old)

	file := filepath.Join(p.Data, "tokens.jsonl")
	good := harness.ReadFile(t, file)
	lines := strings.Count(good, "\n")
	appendTo(t, file, `{"id": "new-1", "subject": "new", "token_hash": "sha256:`+"\n")
	place := fmt.Sprintf("%s:%d", file, lines+1)
	p.AwaitLog("rejected edit", func(l harness.LogLine) bool {
		return l.String("level") == "error" && strings.Contains(l.String("error"), place)
	})
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("a live session after the bad edit: %v", err)
	}
	p.Connect(t, 4, "again", old)
	harness.Eventually(t, "a metric that counts the bad edit", func() bool {
		return p.HasMetric(`mqtt_auth_proxy_token_file_reloads_total{outcome="rejected"} 1`)
	})

	harness.WriteFile(t, file, good)
	fresh := p.Token("new")
	mended := time.Now()
	harness.Eventually(t, "the new token's way in", func() bool {
		_, ack := p.Present(t, 4, "new", fresh)
		return ack.Code == 0
	})
	took := time.Since(mended)
	t.Logf("a new token is good after %v", took.Round(time.Millisecond))
	if took > harness.WithdrawalLimit+harness.Slack {
		t.Errorf("the corrected file took %v, want %v", took, harness.WithdrawalLimit)
	}
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("a live session after the corrected edit: %v", err)
	}
}

// TestReplacingTheTokenFile: the program sees the new file whichever way it is replaced.
func TestReplacingTheTokenFile(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	p.Token("first")
	p.Start()
	file := filepath.Join(p.Data, "tokens.jsonl")
	for name, replace := range map[string]func(content string){
		"in place": func(content string) { harness.WriteFile(t, file, content) },
		"renamed over": func(content string) {
			harness.WriteFile(t, file+".new", content)
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		},
		"behind a symbolic link": func(content string) {
			dir := t.TempDir()
			harness.WriteFile(t, filepath.Join(dir, "tokens"), content)
			if err := os.Symlink(filepath.Join(dir, "tokens"), file+".link"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".link", file); err != nil {
				t.Fatal(err)
			}
		},
	} {
		other := harness.NewProxy(t, "")
		token := other.Token(strings.ReplaceAll(name, " ", "-"))
		p.AddSecret(token)
		entry := lastLine(harness.ReadFile(t, filepath.Join(other.Data, "tokens.jsonl")))
		replace(harness.ReadFile(t, file) + entry)
		harness.Eventually(t, "the token that came "+name, func() bool {
			_, ack := p.Present(t, 4, name, token)
			return ack.Code == 0
		})
	}
}

func lastLine(text string) string {
	return text[strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n')+1:]
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
