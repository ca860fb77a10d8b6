//go:build integration

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// promised is how long after its change the program may go by what a token file
// said before; busy is what a loaded machine may add.
const (
	promised = time.Second
	busy     = 500 * time.Millisecond
)

// TestBadEdit: a mistake in the token file locks nobody out and lets nobody in, the
// log says where it is, and mending it is enough.
func TestBadEdit(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, s.upstream())
	old := p.token("old")
	p.start()
	live := connect(t, dial(t, p.plain), identity(4, "live", old))

	file := filepath.Join(p.data, "tokens.jsonl")
	good := read(t, file)
	lines := strings.Count(good, "\n")
	appendTo(t, file, `{"id": "new-1", "subject": "new", "token_hash": "sha256:`+"\n")
	place := fmt.Sprintf("%s:%d", file, lines+1)
	p.awaitLog("rejected edit", func(l logged) bool {
		return l.String("level") == "error" && strings.Contains(l.String("error"), place)
	})
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("a live session after the bad edit: %v", err)
	}
	connect(t, dial(t, p.plain), identity(4, "again", old))
	if !p.counts(`mqtt_auth_proxy_token_file_reloads_total{outcome="rejected"} 1`) {
		t.Error("no metric counts the bad edit")
	}

	write(t, file, good)
	fresh := p.token("new")
	mended := time.Now()
	eventually(t, "the new token's way in", func() bool {
		_, ack := present(t, dial(t, p.plain), identity(4, "new", fresh))
		return ack.Code == 0
	})
	took := time.Since(mended)
	t.Logf("a new token is good after %v", took.Round(time.Millisecond))
	if took > promised+busy {
		t.Errorf("the mended file took %v, want %v", took, promised)
	}
	if err := live.publish("a", "b"); err != nil {
		t.Errorf("a live session after the mended edit: %v", err)
	}
}

// TestEditsOfEveryKind: however the file is replaced, the program sees it.
func TestEditsOfEveryKind(t *testing.T) {
	t.Parallel()
	s := startSink(t)
	p := newProxy(t, s.upstream())
	p.token("first")
	p.start()
	file := filepath.Join(p.data, "tokens.jsonl")
	for name, replace := range map[string]func(content string){
		"in place": func(content string) { write(t, file, content) },
		"renamed over": func(content string) {
			write(t, file+".new", content)
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		},
		"behind a symbolic link": func(content string) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "tokens"), content)
			if err := os.Symlink(filepath.Join(dir, "tokens"), file+".link"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".link", file); err != nil {
				t.Fatal(err)
			}
		},
	} {
		other := newProxy(t, "")
		token := other.token(strings.ReplaceAll(name, " ", "-"))
		p.keep(token)
		entry := lastLine(read(t, filepath.Join(other.data, "tokens.jsonl")))
		replace(read(t, file) + entry)
		eventually(t, "the token that came "+name, func() bool {
			_, ack := present(t, dial(t, p.plain), identity(4, name, token))
			return ack.Code == 0
		})
	}
}

func lastLine(text string) string {
	return text[strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n')+1:]
}

func read(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
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
