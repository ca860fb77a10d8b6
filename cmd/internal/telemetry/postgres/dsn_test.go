package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDSN(t *testing.T) {
	for _, good := range []string{
		"postgres://proxy:p%40ss@db.example:5433/fleet?sslmode=disable\n",
		"host=/run/postgresql dbname=fleet user=proxy password='a b'",
		"postgresql:///fleet?host=/run/postgresql",
	} {
		if err := CheckDSN(write(t, good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	if err := CheckDSN(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("no file: error %v", err)
	}
	for name, bad := range map[string]string{
		"empty":                 " \n",
		"two lines":             "postgres://proxy:hunter2@db/fleet\nmore",
		"not encoded":           "postgres://proxy:hunter2%zz@db/fleet",
		"an @ in the password":  "postgres://proxy:hunter2:hunter2@x@db:port/fleet",
		"unknown sslmode":       "postgres://proxy:hunter2@db/fleet?sslmode=hunter2",
		"no such certificate":   "postgres://proxy:hunter2@db/fleet?sslmode=verify-full&sslrootcert=/nonexistent/hunter2",
		"a quote that is open":  "host=db password='hunter2",
		"no connection string":  "hunter2",
		"longer than is likely": "postgres://db/" + strings.Repeat("hunter2", 10_000),
	} {
		path := write(t, bad)
		err := CheckDSN(path)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if !strings.Contains(err.Error(), path) || strings.Contains(strings.TrimPrefix(err.Error(), path), "hunter2") {
			t.Errorf("%s: the error does not name the file, or quotes what is in it: %v", name, err)
		}
	}
}

// TestEveryConnectionReadsTheDSN: new connections use a password that was changed.
func TestEveryConnectionReadsTheDSN(t *testing.T) {
	d := &dsn{path: write(t, "host=db user=a password=first")}
	for _, password := range []string{"first", "second"} {
		if err := os.WriteFile(d.path, []byte("host=db user=a password="+password), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := d.config()
		if err != nil || c.Password != password || c.ConnectTimeout != connectTimeout {
			t.Errorf("config %v, error %v", c, err)
		}
	}
}

func TestFilesOfADSN(t *testing.T) {
	for text, want := range map[string][]string{
		"host=db":                         nil,
		"host=db sslrootcert=/etc/ca.pem": {"/etc/ca.pem"},
		"host=db sslcert = '/etc/a b.pem' sslkey=/k":                                {"/etc/a b.pem", "/k"},
		"postgres://db/x?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&sslkey=/k": {"/etc/ca.pem", "/k"},
	} {
		if got := Files(write(t, text)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func FuzzDSN(f *testing.F) {
	f.Add("postgres://proxy:secret@db:5432/fleet?sslmode=verify-full")
	f.Add("host=db user=proxy password='secret' sslkey=k")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseDSN(text); err != nil && !errors.Is(err, errDSN) {
			t.Errorf("the error may quote the text: %v", err)
		}
	})
}
