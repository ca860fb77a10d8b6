package tokenhttp

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// recheckFiles is how often the files of a credential are read again.
	recheckFiles = time.Second
	// maxFile is the largest such file in bytes.
	maxFile = 64 << 10
)

// watched is a value that is made from files and made again when their contents
// change. What is bad then leaves the last good value in effect.
//
// Contents are compared, not times: a secret that is mounted into a container
// changes by a swap of links, which may leave both time and size as they were.
type watched[T any] struct {
	paths []string
	parse func(contents [][]byte) (T, error)

	mu       sync.Mutex
	checked  time.Time
	contents [][]byte
	value    T
	fault    error // why the last reading was not taken
}

// watch reads the files for the first time.
func watch[T any](parse func([][]byte) (T, error), paths ...string) (*watched[T], error) {
	w := &watched[T]{paths: paths, parse: parse}
	w.reload()
	return w, w.fault
}

// get returns the value as the files have it now, give or take recheckFiles.
func (w *watched[T]) get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.checked) >= recheckFiles {
		w.reload()
		w.checked = now
	}
	return w.value, w.fault
}

func (w *watched[T]) reload() {
	var contents [][]byte
	for _, path := range w.paths {
		content, err := readFile(path)
		if err != nil {
			w.fault = err
			return
		}
		contents = append(contents, content)
	}
	if w.contents != nil && slices.EqualFunc(contents, w.contents, bytes.Equal) {
		w.fault = nil
		return
	}
	value, err := w.parse(contents)
	if err != nil {
		w.fault = fmt.Errorf("%s: %w", strings.Join(w.paths, ", "), err)
		return
	}
	w.value, w.contents, w.fault = value, contents, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
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
