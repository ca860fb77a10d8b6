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
	// clientIDKeyFile is the name of the file in the data directory.
	clientIDKeyFile = "client-id-key"
	// minClientIDKey is the length of the shortest key that is accepted, in bytes.
	minClientIDKey = 32
	// maxClientIDKey bounds the file, in bytes.
	maxClientIDKey = 4 << 10
)

// openClientIDKey reads the key with which a client id that is a token is replaced towards the
// broker, or creates it at the first start. If the key cannot be stored, as on a full disk,
// devices can connect nevertheless: the proxy then has a new key after each start, and devices
// whose client id is their token lose their sessions.
func openClientIDKey(data string, log *zap.Logger) ([]byte, error) {
	path := filepath.Join(data, clientIDKeyFile)
	key, err := readClientIDKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	random := make([]byte, minClientIDKey)
	_, _ = rand.Read(random) // never fails
	made := []byte(hex.EncodeToString(random))
	err = files.Create(path, append(made, '\n'), 0o600)
	switch {
	case errors.Is(err, fs.ErrExist): // another process has just made it
		return readClientIDKey(path)
	case err != nil:
		log.Warn("cannot keep the key for client ids: devices whose client id is their token have another one at the broker after each start", zap.Error(err))
	}
	return made, nil
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
