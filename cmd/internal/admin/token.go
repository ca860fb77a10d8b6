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

// MaxSecret bounds the files of the admin side's secrets, in bytes.
const MaxSecret = 64 << 10

// EnsureToken returns the admin token that the file at path holds. If there is no
// file it makes one with a new token, for the owner's eyes only.
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
		return "", fmt.Errorf("admin token: %s: %d characters are too few, use %d or more, or remove the file and a new one is made", path, len(token), minToken)
	}
	return token, nil
}

// createToken makes a token and the file for it.
func createToken(path string) (string, error) {
	token := rand.Text()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = files.Create(path, []byte(token+"\n"), 0o600)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return EnsureToken(path) // of another process that starts at this moment
	case err != nil:
		return "", fmt.Errorf("admin token: %w", err)
	}
	return token, nil
}
