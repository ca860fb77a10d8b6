package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"strings"
	"unicode"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// maxSecret bounds a secret file, in bytes.
const maxSecret = 64 << 10

// inputs reads files and hashes what was read, so that the hash names exactly the bytes
// that were parsed.
type inputs struct {
	sum   hash.Hash
	files []string
}

func newInputs() *inputs { return &inputs{sum: sha256.New()} }

// add hashes parts with their lengths, so that different lists of parts have different
// hashes.
func (in *inputs) add(parts ...string) {
	for _, p := range parts {
		in.sum.Write(fmt.Appendf(nil, "%d:%s", len(p), p))
	}
}

func (in *inputs) hash() string { return hex.EncodeToString(in.sum.Sum(nil)) }

// read returns a file of at most limit bytes that can be read again. Its errors are reasons
// of faults.
func (in *inputs) read(path string, limit int64) ([]byte, fs.FileMode, error) {
	in.files = append(in.files, path)
	data, info, err := files.Read(path, limit)
	if err == nil {
		in.add("file", path, string(data))
		return data, info.Mode(), nil
	}
	advice := "check the path and its permissions"
	switch e, ok := errors.AsType[*fs.PathError](err); {
	case errors.Is(err, files.ErrNotRegular):
		err, advice = errors.New("it is no regular file"), "name one"
	case errors.Is(err, files.ErrTooLarge):
		err, advice = errors.New("it is larger than "+FormatSize(limit)), "use a smaller one"
	case ok:
		err = e.Err
	}
	return nil, 0, fmt.Errorf("%s cannot be read: %w; %s", printable(path), err, advice)
}

// secret reads a secret and trims the newline that editors and echo write.
func (in *inputs) secret(path string) (string, fs.FileMode, error) {
	data, mode, err := in.read(path, maxSecret)
	if err != nil {
		return "", 0, err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", 0, fmt.Errorf("%s is empty; write the secret into it", path)
	}
	return text, mode, nil
}

// printable replaces the characters of a text that would begin a new line of a report or
// that a terminal would act on.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
