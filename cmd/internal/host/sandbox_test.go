package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
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

// confined reports which files of directories to read, to write and for neither it can use.
func confined(dir string) string {
	in := func(name string) string { return filepath.Join(dir, name) }
	files := []string{in("read/file"), in("link/current/file"), in("deep/current/conf/file")}
	if _, err := Confine(Access{Files: files, Write: []string{in("write")}}); err != nil {
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
	report("reading the next version from a directory below it", read(in("releases/2/conf/file")))
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
	for _, name := range []string{"read", "write", "other", "versions/1", "versions/2", "link", "deep", "releases/1/conf", "releases/2/conf"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"read/file", "other/file", "versions/1/file", "versions/2/file", "releases/1/conf/file", "releases/2/conf/file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../versions/1", filepath.Join(dir, "link/current")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../releases/1", filepath.Join(dir, "deep/current")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), confinedVariable+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if string(out) == ErrNoSandbox.Error() {
		harness.Skip(t, "this kernel has no Landlock")
	}
	want := `reading
reading the next version
reading the next version from a directory below it
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
	// Kubernetes mounts a secret like this: the names lead through a link that is swapped.
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
	got, fixed := directories([]string{in("certs/key.pem"), in("missing/file")})
	if want := []string{in("certs"), in("certs/..2026"), in("certs/..data"), in("missing")}; !slices.Equal(got, want) || fixed != nil {
		t.Errorf("%q and %q, want %q", got, fixed, want)
	}
}

// TestDirectoriesFollowEveryLink: a link may lead to the directory of a release, next to
// which the next release will lie.
func TestDirectoriesFollowEveryLink(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.MkdirAll(in("store/releases/1/conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"releases": in("store/releases"), "current": "releases/1", "loop": "loop", "shallow": "/etc",
	} {
		if err := os.Symlink(target, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(in("store/releases/1/conf/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]struct{ dirs, fixed []string }{
		"current/conf/file": {[]string{in("current/conf"), in("releases"), in("store"), in("store/releases/1/conf")}, nil},
		"current/conf/none": {[]string{in("current/conf"), in("releases"), in("store")}, nil},
		"shallow/hosts":     {[]string{"/etc", in("shallow")}, []string{in("shallow")}},
		"loop/file":         {[]string{dir, in("loop")}, nil},
	} {
		if dirs, fixed := directories([]string{in(file)}); !slices.Equal(dirs, want.dirs) || !slices.Equal(fixed, want.fixed) {
			t.Errorf("%s: %q and %q, want %q", file, dirs, fixed, want)
		}
	}
}
