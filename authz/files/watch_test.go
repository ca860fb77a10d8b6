package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSum(t *testing.T) {
	a, b := Sum([]byte("ab"), []byte("c")), Sum([]byte("a"), []byte("bc"))
	if a == b || a != Sum([]byte("ab"), []byte("c")) || Sum() == Sum(nil) {
		t.Error("contents with the same digest differ, or the same contents have two")
	}
}

var errBad = errors.New("bad content")

func parseText(contents [][]byte) (string, error) {
	if string(contents[0]) == "bad" {
		return "", errBad
	}
	return string(contents[0]), nil
}

// TestReadComparesContents: the value is parsed again only if the contents have changed.
func TestReadComparesContents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	p := Parsed[string]{Paths: []string{path}, Limit: 8, Parse: parseText}
	put(t, path, "one")
	one, err := p.Read(nil)
	if err != nil || one.Value != "one" {
		t.Fatalf("%v, %v", one, err)
	}
	put(t, path, "one")
	if again, err := p.Read(one); again != one || err != nil {
		t.Errorf("the same content is another version: %v", err)
	}
	put(t, path, "two")
	if two, err := p.Read(one); err != nil || two.Value != "two" {
		t.Errorf("%v, %v", two, err)
	}
	for text, want := range map[string]error{"bad": errBad, "more than eight": ErrTooLarge} {
		put(t, path, text)
		if _, err := p.Read(one); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestWatchedKeepsTheLastGoodValue: a file that becomes invalid changes nothing, and the file is
// read no more often than configured.
func TestWatchedKeepsTheLastGoodValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		p := Parsed[string]{Paths: []string{path}, Limit: 8, Parse: parseText}
		if _, err := Watch(p, time.Second); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without a file: %v", err)
		}
		put(t, path, "one")
		w, err := Watch(p, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			text  string
			after time.Duration
			want  string
			fault error
		}{
			{"two", time.Second - 1, "one", nil},
			{"two", 1, "two", nil},
			{"bad", time.Second, "two", errBad},
			{"two", time.Second, "two", nil},
			{"", time.Second, "two", fs.ErrNotExist},
			{"three", time.Second, "three", nil},
		} {
			put(t, path, step.text)
			if step.text == "" {
				_ = os.Remove(path)
			}
			time.Sleep(step.after)
			if got, err := w.Get(); got != step.want || !errors.Is(err, step.fault) {
				t.Errorf("with %q the value is %q (%v), want %q (%v)", step.text, got, err, step.want, step.fault)
			}
		}
		put(t, path, "now")
		w.Refresh()
		if got, err := w.Get(); got != "now" || err != nil {
			t.Errorf("after Refresh the value is %q (%v)", got, err)
		}
	})
}

// TestSlowReadDoesNotBlockOthers: while one goroutine waits for a file system that does not
// answer, the others use the last value.
func TestSlowReadDoesNotBlockOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	put(t, path, "one")
	entered, release := make(chan struct{}), make(chan struct{})
	w, err := Watch(Parsed[string]{Paths: []string{path}, Limit: 8, Parse: func(contents [][]byte) (string, error) {
		if string(contents[0]) == "two" {
			close(entered)
			<-release
		}
		return string(contents[0]), nil
	}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	put(t, path, "two")
	slow := make(chan string)
	go func() {
		value, _ := w.Get()
		slow <- value
	}()
	<-entered
	if value, err := w.Get(); value != "one" || err != nil {
		t.Errorf("meanwhile the value is %q (%v), want the last one", value, err)
	}
	close(release)
	if value := <-slow; value != "two" {
		t.Errorf("afterwards the value is %q", value)
	}
}
