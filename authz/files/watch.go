package files

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// Sum returns a digest of contents, which differs if any of them does, and if bytes move
// from one to the next.
func Sum(contents ...[]byte) [sha256.Size]byte {
	sums := make([]byte, 0, len(contents)*sha256.Size)
	for _, content := range contents {
		sum := sha256.Sum256(content)
		sums = append(sums, sum[:]...)
	}
	return sha256.Sum256(sums)
}

// Parsed is a value that is made from the contents of files.
type Parsed[T any] struct {
	// Paths names the files.
	Paths []string
	// Limit is the size in bytes that none of them may exceed.
	Limit int64
	// Parse makes the value. Its errors should name the file.
	Parse func(contents [][]byte) (T, error)
}

// Version is what one reading of the files led to. It is immutable.
type Version[T any] struct {
	Value T
	sum   [sha256.Size]byte
}

// Read reads the files. It returns old if their contents are the same as then, by which
// it tells versions apart: a secret that is mounted into a container changes by a swap
// of links, which may leave both time and size as they were. Old may be nil.
func (p *Parsed[T]) Read(old *Version[T]) (*Version[T], error) {
	contents := make([][]byte, len(p.Paths))
	for i, path := range p.Paths {
		var err error
		if contents[i], _, err = Read(path, p.Limit); err != nil {
			return nil, err
		}
	}
	sum := Sum(contents...)
	if old != nil && old.sum == sum {
		return old, nil
	}
	value, err := p.Parse(contents)
	if err != nil {
		return nil, err
	}
	return &Version[T]{Value: value, sum: sum}, nil
}

// Watched is a value that is made again when the contents of its files change. If what
// they hold then is bad, the last good value stays in effect. It is made by [Watch] and
// safe for concurrent use.
type Watched[T any] struct {
	parsed Parsed[T]
	every  time.Duration

	current atomic.Pointer[watchedState[T]]
	// reading is held by the goroutine that reads the files. No other waits for it.
	reading sync.Mutex
	checked time.Time
}

// watchedState is what is in effect, and why the files are not.
type watchedState[T any] struct {
	version *Version[T]
	fault   error
}

// Watch reads the files for the first time. [Watched.Get] reads them again, at most once
// in the time given.
func Watch[T any](p Parsed[T], every time.Duration) (*Watched[T], error) {
	w := &Watched[T]{parsed: p, every: every, checked: time.Now()}
	version, err := p.Read(nil)
	if err != nil {
		return nil, err
	}
	w.current.Store(&watchedState[T]{version: version})
	return w, nil
}

// Get returns the value that is in effect, and why the files as they are now are not, if
// they are bad. While another goroutine reads the files, it does not wait and returns
// what was in effect before.
func (w *Watched[T]) Get() (T, error) {
	if w.reading.TryLock() {
		if now := time.Now(); now.Sub(w.checked) >= w.every {
			w.checked = now
			w.read()
		}
		w.reading.Unlock()
	}
	state := w.current.Load()
	return state.version.Value, state.fault
}

// Refresh reads the files now.
func (w *Watched[T]) Refresh() {
	w.reading.Lock()
	defer w.reading.Unlock()
	w.checked = time.Now()
	w.read()
}

// read reads the files; w.reading is held.
func (w *Watched[T]) read() {
	state := *w.current.Load()
	version, err := w.parsed.Read(state.version)
	if err == nil {
		state.version = version
	}
	state.fault = err
	w.current.Store(&state)
}
