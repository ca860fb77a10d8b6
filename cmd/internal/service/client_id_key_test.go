package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func openKey(t *testing.T, data string) (key string, logged int, err error) {
	t.Helper()
	core, lines := observer.New(zapcore.DebugLevel)
	made, err := openClientIDKey(data, zap.New(core))
	return string(made), lines.Len(), err
}

// TestClientIDKeyIsKept: the key is made once, and only its owner may read it.
func TestClientIDKeyIsKept(t *testing.T) {
	data := t.TempDir()
	first, logged, err := openKey(t, data)
	if err != nil || len(first) < minClientIDKey || logged != 0 {
		t.Fatalf("%d bytes, %d lines logged, error %v", len(first), logged, err)
	}
	info, err := os.Stat(filepath.Join(data, clientIDKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if again, _, err := openKey(t, data); err != nil || again != first {
		t.Errorf("another key after a restart, error %v", err)
	}
	if other, _, err := openKey(t, t.TempDir()); err != nil || other == first {
		t.Errorf("the same key in another data directory, error %v", err)
	}
}

// TestClientIDKeyThatCannotBeKept: devices get in all the same, and the log says what that
// means.
func TestClientIDKeyThatCannotBeKept(t *testing.T) {
	key, logged, err := openKey(t, filepath.Join(t.TempDir(), "missing"))
	if err != nil || len(key) < minClientIDKey || logged != 1 {
		t.Errorf("%d bytes, %d lines logged, error %v", len(key), logged, err)
	}
}

// TestClientIDKeyThatIsNone: a file that does not hold a key is never overwritten.
func TestClientIDKeyThatIsNone(t *testing.T) {
	data := t.TempDir()
	path := filepath.Join(data, clientIDKeyFile)
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openKey(t, data); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "5 characters are too few") {
		t.Errorf("error %v", err)
	}
}
