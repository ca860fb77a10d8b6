package observe

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// maxPending is how many bytes an Output buffers for a slow reader.
	maxPending = 1 << 20
	// maxWrite is how many bytes are written at once: a pipe does not mix that many with the
	// output of other processes (PIPE_BUF on Linux).
	maxWrite = 4096
)

// Output is a writer that never blocks. It buffers up to 1 MiB, and a goroutine writes that to
// the real writer. Lines that do not fit, or that the real writer refuses, are lost and
// counted. A reader of the log that stops reading or ends can therefore not block the process.
//
// Each Write is one line. [NewOutput] makes an Output, and Close ends it.
type Output struct {
	w    io.Writer
	wake chan struct{} // has one element while there is something to do
	done chan struct{} // closed when the goroutine has ended

	mu         sync.Mutex
	pending    []byte
	busy       bool // the goroutine is writing what was pending
	idle       *sync.Cond
	lost       uint64
	unreported uint64 // lost lines that no notice has reported
	closed     bool
	notice     func(lost uint64) []byte
}

// NewOutput returns an Output that writes to w. The caller must call Close.
func NewOutput(w io.Writer) *Output {
	o := &Output{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	o.idle = sync.NewCond(&o.mu)
	go o.run()
	return o
}

// Write accepts one line. It does not block and returns no error.
func (o *Output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.pending)+len(line) > maxPending {
		o.lost++
		o.unreported++
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

// onLoss makes the Output write a notice about lost lines as soon as there is room again.
// It must be called before the first Write.
func (o *Output) onLoss(notice func(lost uint64) []byte) { o.notice = notice }

// ErrLost is returned by Flush when a line has not been written.
var ErrLost = errors.New("the reader of the output does not read")

// Flush waits until everything has been written, but at most for timeout. It returns ErrLost if
// the timeout was too short or if a line was lost at any time before.
func (o *Output) Flush(timeout time.Duration) error {
	late := false
	timer := time.AfterFunc(timeout, func() {
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

// Close writes what is pending and ends the goroutine. It waits at most for timeout: a
// goroutine in a write that never returns ends with the process. Later writes are lost. Close
// may be called again.
func (o *Output) Close(timeout time.Duration) {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.wake)
	}
	o.mu.Unlock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
	}
}

func (o *Output) run() {
	defer close(o.done)
	for range o.wake {
		o.drain()
	}
	o.drain()
}

// drain writes until nothing is pending. The notice about lost lines follows the lines that
// were not lost.
func (o *Output) drain() {
	for text, lost := o.takePending(); text != nil; text, lost = o.takePending() {
		for len(text) > 0 {
			piece := firstLines(text)
			if n, err := o.w.Write(piece); err != nil {
				o.countLost(piece[min(max(n, 0), len(piece)):])
			}
			text = text[len(piece):]
		}
		o.writeNotice(lost)
	}
}

// takePending returns what is pending, or nil, and how many lost lines no notice has reported.
func (o *Output) takePending() (text []byte, lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) == 0 {
		o.busy = false
		o.idle.Broadcast()
		return nil, 0
	}
	text, o.pending, o.busy = o.pending, nil, true
	return text, o.unreported
}

// writeNotice writes the notice about lost lines, if there are any.
func (o *Output) writeNotice(lost uint64) {
	if lost == 0 || o.notice == nil {
		return
	}
	if _, err := o.w.Write(o.notice(lost)); err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unreported -= lost
}

// countLost counts the lines of a text that could not be written.
func (o *Output) countLost(text []byte) {
	lines := uint64(bytes.Count(text, []byte("\n")))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost += lines
	o.unreported += lines
}

// firstLines returns as many complete lines from the beginning of text as may be written at
// once, but at least one.
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
