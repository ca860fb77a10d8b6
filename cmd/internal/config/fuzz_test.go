package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"
)

// bomb is an alias bomb of the given height: 9 to that power of values.
func bomb(height int) string {
	var b strings.Builder
	b.WriteString("token: {from: &a0 [x, x]}\nauth:\n")
	for i := range height {
		fmt.Fprintf(&b, "  k%d: &a%d [%s]\n", i, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	return b.String()
}

// An alias bomb is one fault and next to no memory.
func TestAliasBomb(t *testing.T) {
	o := write(t, bomb(30))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := reasons(t, o)
	runtime.ReadMemStats(&after)
	if !strings.Contains(got, "aliases that repeat too many") || strings.Contains(got, "\n") {
		t.Errorf("faults:\n%.1000s", got)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("%d bytes allocated", used)
	}
}

// checkOutcome holds what is true of every input: faults that are lines of their
// own, or a Config that renders to itself.
func checkOutcome(t *testing.T, o Options) {
	t.Helper()
	c, err := Load(o)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok || len(e.Faults) == 0 || len(e.Faults) > 101 || c != nil {
			t.Fatalf("Load = %v, %v", c, err)
		}
		for _, f := range e.Faults {
			if s := f.String(); strings.ContainsAny(s, "\n\r\x00") || f.Reason == "" || f.Line < 0 || len(s) > 1000 {
				t.Errorf("fault %q", s)
			}
		}
		return
	}
	if diff := cmp.Diff(c, again(t, c), settings(), cmpopts.IgnoreFields(Upstream{}, "Password"), cmpopts.IgnoreFields(Health{}, "Password")); diff != "" {
		t.Error(diff)
	}
}

func FuzzLoad(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/faults.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if filepath.Ext(file.Name) == ".yaml" {
			f.Add(string(file.Data))
		}
	}
	f.Add(read(f, "testdata/full.yaml"))
	f.Add(bomb(9))
	f.Add("a: &a [*a]\nlog: &b {level: *b}")
	f.Add(strings.Repeat("[", 100) + strings.Repeat("- ", 100))
	o := write(f, "")
	f.Fuzz(func(t *testing.T, text string) {
		put(t, filepath.Join(o.WorkDir, o.Path), text, 0o600)
		checkOutcome(t, o)
	})
}

func FuzzEnvironment(f *testing.F) {
	for _, k := range Keys() {
		f.Add(strings.TrimPrefix(strings.ReplaceAll(k.Environment, "_N_", "_0_"), prefix), "x", ":1")
		f.Add(strings.TrimPrefix(strings.ReplaceAll(k.Environment, "_N_", "_1_"), prefix), k.Default, "10s")
	}
	f.Add("LISTENERS_99999999999999999999_ADDRESS", ":1", "")
	f.Add("PORT_1_TCP", "tcp://x", "tcp://h:1,unix:///x")
	f.Fuzz(func(t *testing.T, name, value, other string) {
		if strings.ContainsAny(name, "=\x00") || strings.Contains(value+other, "\x00") || name == "CONFIG" || strings.HasSuffix(name, "_FILE") {
			return // no environment holds these, or a file of the machine would be read
		}
		o := Options{WorkDir: os.TempDir(), Environ: []string{
			prefix + name + "=" + value,
			prefix + "UPSTREAM_SERVERS=" + other,
			prefix + "LISTENERS_0_ADDRESS=" + other,
		}}
		checkOutcome(t, o)
	})
}
