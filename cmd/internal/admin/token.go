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

// createToken writes a new token beside its place and links it there, so that two
// processes that start together agree and no reader sees half of it.
func createToken(path string) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".admin-token-*")
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	defer os.Remove(f.Name())
	token := rand.Text()
	_, err = f.WriteString(token + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	switch err := os.Link(f.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return EnsureToken(path)
	case err != nil:
		return "", fmt.Errorf("admin token: %w", err)
	}
	return token, nil
}
