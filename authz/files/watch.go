package files

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// Sum returns a digest of contents. It changes if any of them changes, or if bytes move from
// one to the next.
func Sum(contents ...[]byte) [sha256.Size]byte {
	sums := make([]byte, 0, len(contents)*sha256.Size)
	for _, content := range contents {
		sum := sha256.Sum256(content)
		sums = append(sums, sum[:]...)
	}
	return sha256.Sum256(sums)
}

// Parsed is a value that is parsed from the contents of files.
type Parsed[T any] struct {
	// Paths names the files.
	Paths []string
	// Limit is the maximum size of each file in bytes.
	Limit int64
	// Parse returns the value. Its errors should name the file.
	Parse func(contents [][]byte) (T, error)
}

// Version is the result of reading the files once. It is immutable.
type Version[T any] struct {
	Value T
	sum   [sha256.Size]byte
}

// Read reads the files. It returns old if their contents have not changed. It compares
// contents, because a secret that is mounted into a container is replaced by swapping links,
// which may leave both time and size unchanged. old may be nil.
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

// Watched is a value that is parsed again when its files change. If their new contents are
// invalid, the last valid value stays in effect. It is made by [Watch] and safe for concurrent
// use.
type Watched[T any] struct {
	parsed Parsed[T]
	every  time.Duration

	current atomic.Pointer[watchedState[T]]
	// reading is held by the goroutine that reads the files. No other goroutine waits for it.
	reading sync.Mutex
	checked time.Time
}

// watchedState has the value that is in effect, and the error of the files if they are invalid
// now.
type watchedState[T any] struct {
	version *Version[T]
	fault   error
}

// Watch reads the files for the first time. [Watched.Get] reads them again if that was longer
// ago than every.
func Watch[T any](p Parsed[T], every time.Duration) (*Watched[T], error) {
	w := &Watched[T]{parsed: p, every: every, checked: time.Now()}
	version, err := p.Read(nil)
	if err != nil {
		return nil, err
	}
	w.current.Store(&watchedState[T]{version: version})
	return w, nil
}

// Get returns the value that is in effect, and an error if the files are invalid now. While
// another goroutine reads the files, Get does not wait and returns what was in effect before.
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
