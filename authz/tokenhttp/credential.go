package tokenhttp

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

const (
	// recheckFiles is how often the files of a credential are read again.
	recheckFiles = time.Second
	// maxFile is the largest such file in bytes.
	maxFile = 64 << 10
)

// watched is a value that is made from files and made again when their contents
// change. If what a file holds then is bad, the last good value stays in effect.
//
// Contents are compared, not times: a secret that is mounted into a container
// changes by a swap of links, which may leave both time and size as they were.
type watched[T any] struct {
	paths []string
	parse func(contents [][]byte) (T, error)

	current atomic.Pointer[version[T]]
	// reading is held by the goroutine that reads the files. No other waits for it.
	reading sync.Mutex
	checked time.Time
}

// version is what one reading of the files led to. It is immutable.
type version[T any] struct {
	contents [][]byte
	value    T
	fault    error // why the last reading was not taken
}

// watch reads the files for the first time.
func watch[T any](parse func([][]byte) (T, error), paths ...string) (*watched[T], error) {
	w := &watched[T]{paths: paths, parse: parse}
	w.current.Store(w.read(&version[T]{}))
	return w, w.current.Load().fault
}

// get returns the value as the files have it now, give or take recheckFiles. While
// another goroutine reads the files, it returns the value of before.
func (w *watched[T]) get() (T, error) {
	if w.reading.TryLock() {
		if now := time.Now(); now.Sub(w.checked) >= recheckFiles {
			w.current.Store(w.read(w.current.Load()))
			w.checked = now
		}
		w.reading.Unlock()
	}
	v := w.current.Load()
	return v.value, v.fault
}

// read reads the files and returns the version that is in effect from now on.
func (w *watched[T]) read(old *version[T]) *version[T] {
	bad := func(err error) *version[T] {
		return &version[T]{contents: old.contents, value: old.value, fault: err}
	}
	var contents [][]byte
	for _, path := range w.paths {
		content, err := readFile(path)
		if err != nil {
			return bad(err)
		}
		contents = append(contents, content)
	}
	if old.contents != nil && slices.EqualFunc(contents, old.contents, bytes.Equal) {
		return &version[T]{contents: old.contents, value: old.value}
	}
	value, err := w.parse(contents)
	if err != nil {
		return bad(fmt.Errorf("%s: %w", strings.Join(w.paths, ", "), err))
	}
	return &version[T]{contents: contents, value: value}
}

func readFile(path string) ([]byte, error) {
	content, _, err := files.Read(path, maxFile)
	if errors.Is(err, files.ErrTooLarge) {
		err = fmt.Errorf("%s: more than 64 KiB", path)
	}
	return content, err
}

// secretText reads a file that holds one line.
func secretText(contents [][]byte) (string, error) {
	text := strings.TrimRight(string(contents[0]), "\r\n")
	switch {
	case text == "":
		return "", errors.New("the file is empty; write the secret into it")
	case inHeader.rejects(text) != "":
		return "", errors.New("the secret " + inHeader.rejects(text))
	}
	return text, nil
}

func bearerText(contents [][]byte) (string, error) {
	text, err := secretText(contents)
	return "Bearer " + text, err
}

func basicText(contents [][]byte) (string, error) {
	text, err := secretText(contents)
	if err == nil && !strings.Contains(text, ":") {
		err = errors.New("write user:password into it")
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)), err
}

// keyPair makes the client certificate. The error does not repeat the files.
func keyPair(contents [][]byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("not a certificate and its key in PEM: %w", err)
	}
	return &pair, nil
}
