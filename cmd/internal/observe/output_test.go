package observe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// reader is the other end of an Output: it takes nothing while it is stalled, and every
// write fails while it is gone.
type reader struct {
	resume chan struct{} // nil: it reads
	mu     sync.Mutex
	gone   bool
	text   bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	if r.resume != nil {
		<-r.resume
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return 0, errors.New("broken pipe")
	}
	return r.text.Write(p)
}

func (r *reader) setGone(gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = gone
}

// TestStalledReaderDoesNotBlockCallers: lines are lost, those before them stay in order, and a
// notice in their place says how many are missing.
func TestStalledReaderDoesNotBlockCallers(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		synctest.Test(t, func(t *testing.T) {
			r := &reader{resume: make(chan struct{})}
			o := NewOutput(r)
			l, err := NewLog(o, zap.InfoLevel, format)
			if err != nil {
				t.Fatal(err)
			}
			l.Info("first")
			synctest.Wait() // the writer waits for the reader
			const n = 20_000
			for i := range n {
				l.Info("line", zap.Int("i", i), zap.String("text", strings.Repeat("x", 80)))
			}
			lost := o.Lost()
			if len(o.pending) > maxPending || lost == 0 || lost == n {
				t.Errorf("%d bytes are held, %d lines lost", len(o.pending), lost)
			}
			close(r.resume)
			synctest.Wait()
			l.Info("afterwards")
			o.Close(time.Second)
			all := strings.Split(strings.TrimSpace(r.text.String()), "\n")
			if want := int(1 + n - lost + 2); len(all) != want {
				t.Fatalf("%d lines, want %d", len(all), want)
			}
			notice := all[len(all)-2]
			if !strings.Contains(notice, "lines of the log were lost") || !strings.Contains(notice, fmt.Sprintf(`lines=%d`, lost)) && !strings.Contains(notice, fmt.Sprintf(`"lines":%d`, lost)) {
				t.Errorf("the line before the last is %s", notice)
			}
			if !strings.Contains(all[len(all)-1], "afterwards") {
				t.Errorf("the last line is %s", all[len(all)-1])
			}
		})
	}
}

// TestReaderThatComesBack: lines that were written while there was no reader are counted,
// and the next reader gets a notice.
func TestReaderThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{gone: true}
		o := NewOutput(r)
		l := newTestLog(t, o, zap.InfoLevel)
		for range 10 {
			l.Info("unseen")
			synctest.Wait()
		}
		r.setGone(false)
		l.Info("seen")
		o.Close(time.Second)
		if text := r.text.String(); !strings.Contains(text, `"seen"`) || strings.Contains(text, "unseen") || o.Lost() != 10 {
			t.Errorf("%d lines lost, log:\n%s", o.Lost(), text)
		}
		if text := r.text.String(); !strings.Contains(text, `"lines":10`) {
			t.Errorf("no line about those that are missing:\n%s", text)
		}
	})
}

// TestCloseTakesBoundedTime: the last lines are written if they are read in time.
func TestCloseTakesBoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		o := NewOutput(r)
		for i := range 5000 {
			fmt.Fprintln(o, "line", i)
		}
		o.Close(time.Second)
		o.Close(time.Second)
		if text := r.text.String(); !strings.HasSuffix(text, "line 4999\n") || strings.Count(text, "\n") != 5000 {
			t.Errorf("%d lines of 5000", strings.Count(text, "\n"))
		}
		fmt.Fprintln(o, "too late")
		if o.Lost() != 1 {
			t.Errorf("%d lines lost, want the one after the end", o.Lost())
		}

		stalled := &reader{resume: make(chan struct{})}
		o = NewOutput(stalled)
		fmt.Fprintln(o, "line")
		begun := time.Now()
		if err := o.Flush(time.Second); !errors.Is(err, ErrLost) {
			t.Errorf("Flush returns %v", err)
		}
		o.Close(time.Second)
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("the end took %v", took)
		}
		close(stalled.resume)
	})
}

func TestFlushWaitsForTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := io.Pipe()
		o := NewOutput(to)
		fmt.Fprintln(o, "token")
		go func() {
			time.Sleep(500 * time.Millisecond)
			_, _ = io.Copy(io.Discard, from)
		}()
		begun := time.Now()
		if err := o.Flush(time.Second); err != nil || time.Since(begun) != 500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		to.Close()
		fmt.Fprintln(o, "lost")
		if err := o.Flush(time.Second); !errors.Is(err, ErrLost) {
			t.Errorf("Flush returns %v although a line was lost", err)
		}
		o.Close(time.Second)
	})
}
