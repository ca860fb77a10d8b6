package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// confinedVariable makes the test binary a confined process, which reports what it
// can do.
const confinedVariable = "SANDBOX_TEST_DIRECTORY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(confinedVariable); dir != "" {
		os.Stdout.WriteString(confined(dir))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// confined tries files in directories to read, to write and for neither.
func confined(dir string) string {
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := Confine(Access{Read: append(System(), Directories([]string{in("read/file"), in("link/current/file")})...), Write: []string{in("write")}}); err != nil {
		return err.Error()
	}
	var b strings.Builder
	report := func(what string, err error) {
		if err != nil {
			what = "no " + what
		}
		b.WriteString(what + "\n")
	}
	read := func(name string) error { _, err := os.ReadFile(name); return err }
	write := func(name string) error { return os.WriteFile(name, []byte("x"), 0o600) }
	report("reading", read(in("read/file")))
	report("reading the next version", errorOf(write(in("write/next")), read(in("versions/2/file"))))
	report("reading resolv.conf", read("/etc/hosts"))
	report("writing", write(in("write/file")))
	report("replacing", os.Rename(in("write/file"), in("write/other")))
	report("writing where it may read", write(in("read/new")))
	report("reading elsewhere", read(in("other/file")))
	report("writing elsewhere", write(in("other/new")))
	done := make(chan error)
	go func() { done <- read(in("other/file")) }()
	report("reading elsewhere from another thread", <-done)
	return b.String()
}

func errorOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestConfine(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"read", "write", "other", "versions/1", "versions/2", "link"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"read/file", "other/file", "versions/1/file", "versions/2/file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../versions/1", filepath.Join(dir, "link/current")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), confinedVariable+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if string(out) == ErrUnavailable.Error() {
		t.Skip("this kernel has no Landlock")
	}
	want := `reading
reading the next version
reading resolv.conf
writing
replacing
no writing where it may read
no reading elsewhere
no writing elsewhere
no reading elsewhere from another thread
`
	if string(out) != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestDirectories(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	// As a mounted secret looks: the names lead through a link that is swapped.
	if err := os.MkdirAll(in("certs/..2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"certs/..data": "..2026", "certs/key.pem": "..data/key.pem"} {
		if err := os.Symlink(target, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(in("certs/..2026/key.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got := Directories([]string{in("certs/key.pem"), in("missing/file")})
	if want := []string{in("certs"), in("certs/..2026"), in("missing")}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
