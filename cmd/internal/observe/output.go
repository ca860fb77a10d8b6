package observe

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// maxPending is how many bytes an Output holds for a reader that is slow.
	maxPending = 1 << 20
	// maxWrite is the most that is written at once: a pipe takes that much without
	// mixing it with what other processes write (PIPE_BUF on Linux).
	maxWrite = 4096
)

// Output is a writer that never makes its callers wait: what they write is held, at
// most 1 MiB of it, and a goroutine passes it on to the real writer. What finds no
// room, and what the real writer refuses, is lost and counted. So neither a reader
// that stops reading the log of a process nor one that goes away can hold up the
// work of that process.
//
// Each Write is one line. [NewOutput] makes an Output and Close ends it.
type Output struct {
	w    io.Writer
	wake chan struct{} // holds one element while there is something to do
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	pending []byte
	busy    bool // the goroutine has taken what was pending
	idle    *sync.Cond
	lost    uint64
	untold  uint64 // of those that were lost
	closed  bool
	notice  func(lost uint64) []byte
}

// NewOutput returns an Output that passes on to w. Whoever makes it must call
// Close.
func NewOutput(w io.Writer) *Output {
	o := &Output{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	o.idle = sync.NewCond(&o.mu)
	go o.run()
	return o
}

// Write takes one line. It does not block and returns no error.
func (o *Output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.pending)+len(line) > maxPending {
		o.lost++
		o.untold++
		return len(line), nil
	}
	o.pending = append(o.pending, line...)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// Lost returns how many lines were lost.
func (o *Output) Lost() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost
}

// announce makes the Output write a line about those that were lost, as soon as
// there is room again. It must be called before the first Write.
func (o *Output) announce(notice func(lost uint64) []byte) { o.notice = notice }

// ErrLost is returned by Flush when something has not been written.
var ErrLost = errors.New("the reader of the output does not read")

// Flush waits until everything has been written, but not longer than patience. It
// returns ErrLost if it was in vain or if a line was lost at any time.
func (o *Output) Flush(patience time.Duration) error {
	late := false
	timer := time.AfterFunc(patience, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		late = true
		o.idle.Broadcast()
	})
	defer timer.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for !late && (o.busy || len(o.pending) > 0) {
		o.idle.Wait()
	}
	if late || o.lost > 0 {
		return ErrLost
	}
	return nil
}

// Close writes what is held and ends the goroutine, for which it waits, but not
// longer than patience: a goroutine in a write that never returns ends with the
// process. What is written later is lost. Close may be called again.
func (o *Output) Close(patience time.Duration) {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.wake)
	}
	o.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
	}
}

func (o *Output) run() {
	defer close(o.done)
	for range o.wake {
		o.pass()
	}
	o.pass()
}

// pass writes until nothing is pending. The notice about lines that found no room
// stands behind those that did.
func (o *Output) pass() {
	for text, lost := o.take(); text != nil; text, lost = o.take() {
		for len(text) > 0 {
			piece := firstLines(text)
			if n, err := o.w.Write(piece); err != nil {
				o.lose(piece[min(max(n, 0), len(piece)):])
			}
			text = text[len(piece):]
		}
		o.tell(lost)
	}
}

// take returns what is pending, nil if that is nothing, and how many lines were lost
// until now of which no notice says so.
func (o *Output) take() (text []byte, lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) == 0 {
		o.busy = false
		o.idle.Broadcast()
		return nil, 0
	}
	text, o.pending, o.busy = o.pending, nil, true
	return text, o.untold
}

// tell writes a notice about lost lines.
func (o *Output) tell(lost uint64) {
	if lost == 0 || o.notice == nil {
		return
	}
	if _, err := o.w.Write(o.notice(lost)); err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.untold -= lost
}

// lose counts the lines of what could not be written.
func (o *Output) lose(text []byte) {
	lines := uint64(bytes.Count(text, []byte("\n")))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost += lines
	o.untold += lines
}

// firstLines returns whole lines from the beginning of text that may be written at
// once, at least one.
func firstLines(text []byte) []byte {
	if len(text) <= maxWrite {
		return text
	}
	if end := bytes.LastIndexByte(text[:maxWrite], '\n'); end >= 0 {
		return text[:end+1]
	}
	if end := bytes.IndexByte(text, '\n'); end >= 0 {
		return text[:end+1]
	}
	return text
}
