//go:build unix

package tokenhttp

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// TestPipeAsCredentialDoesNotBlock: a pipe without a writer is refused, at the start and later,
// when it replaces a file.
func TestPipeAsCredentialDoesNotBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{URL: "http://127.0.0.1/", BearerFile: path}); !errors.Is(err, files.ErrNotRegular) {
		t.Errorf("a pipe as bearer_file: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "proxy-secret")
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer proxy-secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	s := sourceOf(t, Options{URL: server.URL, BearerFile: path})
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.bearer.Refresh()
	if _, err := s.Authorize(t.Context(), pump()); err != nil {
		t.Errorf("with the file replaced by a pipe: %v", err)
	}
	if err := s.Stats().Credential; !errors.Is(err, files.ErrNotRegular) {
		t.Errorf("the credential's fault is %v", err)
	}
}
