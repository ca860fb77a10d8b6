package service

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

const (
	// clientIDKeyFile is in the data directory.
	clientIDKeyFile = "client-id-key"
	// minClientIDKey is the length of the shortest key that is accepted, in bytes.
	minClientIDKey = 32
	// maxClientIDKey bounds the file, in bytes.
	maxClientIDKey = 4 << 10
)

// openClientIDKey reads the key by which a client id that is a token is replaced
// towards the broker, or makes it at the first start. Where it cannot be written, as on
// a full disk, devices get in all the same: then the proxy has another key after each
// start, and only those devices do not find their sessions again.
func (s *Service) openClientIDKey(data string) error {
	path := filepath.Join(data, clientIDKeyFile)
	key, err := readClientIDKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		s.clientIDKey = key
		return err
	}
	made := make([]byte, minClientIDKey)
	_, _ = rand.Read(made) // which never fails
	text := []byte(hex.EncodeToString(made))
	err = files.Create(path, append(text, '\n'), 0o600)
	switch {
	case errors.Is(err, fs.ErrExist): // by another process, at this moment
		s.clientIDKey, err = readClientIDKey(path)
		return err
	case err != nil:
		s.Log.Warn("cannot keep the key for client ids: devices whose client id is their token have another one at the broker after each start", zap.Error(err))
	}
	s.clientIDKey = text
	return nil
}

func readClientIDKey(path string) ([]byte, error) {
	b, _, err := files.Read(path, maxClientIDKey)
	if err != nil {
		return nil, fmt.Errorf("the key for client ids: %w", err)
	}
	key := bytes.TrimSpace(b)
	if len(key) < minClientIDKey {
		return nil, fmt.Errorf("the key for client ids: %s: %d characters are too few, use %d or more, or remove the file and a new one is made", path, len(key), minClientIDKey)
	}
	return key, nil
}
