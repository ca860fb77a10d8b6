package admin

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// minToken is the length of the shortest admin token that is accepted, in bytes.
const minToken = 16

// MaxSecret is the size of the largest file with a secret of the admin side, in bytes.
const MaxSecret = 64 << 10

// EnsureToken returns the token in the file at path. If there is no file, it creates one
// with a new token that only its owner can read.
func EnsureToken(path string) (string, error) {
	b, _, err := files.Read(path, MaxSecret)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return createToken(path)
	case err != nil:
		return "", fmt.Errorf("admin token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken {
		return "", fmt.Errorf("admin token: %s: %d characters are too few; use %d or more, or remove the file to have a new one made", path, len(token), minToken)
	}
	return token, nil
}

// createToken makes a token and writes it to a new file.
func createToken(path string) (string, error) {
	token := rand.Text()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = files.Create(path, []byte(token+"\n"), 0o600)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return EnsureToken(path) // another process has just created it
	case err != nil:
		return "", fmt.Errorf("admin token: %w", err)
	}
	return token, nil
}
