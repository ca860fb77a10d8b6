package pgdsn

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dsn")
	put(t, path, text)
	return path
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConnectionStringsOfBothForms(t *testing.T) {
	for _, good := range []string{
		"postgres://proxy:p%40ss@db.example:5433/fleet?sslmode=disable\n",
		"host=/run/postgresql dbname=fleet user=proxy password='a b'",
		"postgresql:///fleet?host=/run/postgresql",
	} {
		f, err := Open(write(t, good))
		if err != nil {
			t.Errorf("%s: %v", good, err)
			continue
		}
		if c := f.Config(); c.Database != "fleet" || c.ConnectTimeout != connectTimeout {
			t.Errorf("%s: database %s, connect timeout %v", good, c.Database, c.ConnectTimeout)
		}
	}
}

// TestErrorsContainNothingOfTheString: they name the file, and nothing in it.
func TestErrorsContainNothingOfTheString(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file the error is %v", err)
	}
	for name, bad := range map[string]string{
		"empty":                " \n",
		"two lines":            "postgres://proxy:hunter2@db/fleet\nmore",
		"not encoded":          "postgres://proxy:hunter2%zz@db/fleet",
		"an @ in the password": "postgres://proxy:hunter2:hunter2@x@db:port/fleet",
		"unknown sslmode":      "postgres://proxy:hunter2@db/fleet?sslmode=hunter2",
		"no such certificate":  "postgres://proxy:hunter2@db/fleet?sslmode=verify-full&sslrootcert=/nonexistent/hunter2",
		"an open quote":        "host=db password='hunter2",
		"another text":         "hunter2",
		"too long":             "postgres://db/" + strings.Repeat("hunter2", 10_000),
	} {
		path := write(t, bad)
		_, err := Open(path)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if !strings.Contains(err.Error(), path) || strings.Contains(strings.ReplaceAll(err.Error(), path, ""), "hunter2") {
			t.Errorf("%s: the error does not name the file, or contains a part of it: %v", name, err)
		}
	}
}

// TestChangedFileTakesEffect: a new connection string takes effect. If it is invalid, the last
// valid one stays.
func TestChangedFileTakesEffect(t *testing.T) {
	path := write(t, "host=db user=a password=first")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before := f.Version()
	for _, step := range []struct{ text, password string }{
		{"host=db user=a password=second", "second"}, {"hunter2", "second"}, {"", "second"}, {"host=db user=a password=third", "third"},
	} {
		put(t, path, step.text)
		f.Refresh()
		if c := f.Config(); c.Password != step.password {
			t.Errorf("after %q another password is in effect", step.text)
		}
		if valid := strings.HasSuffix(step.text, step.password); valid != (f.Fault() == nil) {
			t.Errorf("after %q the fault is %v", step.text, f.Fault())
		}
	}
	if f.Version() == before {
		t.Error("the version is the same after changes")
	}
}

func TestFilesOfAConnectionString(t *testing.T) {
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

func FuzzParse(f *testing.F) {
	f.Add("postgres://proxy:secret@db:5432/fleet?sslmode=verify-full")
	f.Add("host=db user=proxy password='secret' sslkey=k")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parse(text); err != nil && !errors.Is(err, errDSN) && strings.TrimSpace(text) != "" {
			t.Errorf("the error may contain the text: %v", err)
		}
	})
}
