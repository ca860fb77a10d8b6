package config

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// testdata/faults.txtar holds NAME.yaml or NAME.env, or both, and NAME.want:
// the exact report.
func TestFaults(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/faults.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]map[string]string{}
	for _, f := range archive.Files {
		ext := path.Ext(f.Name)
		name := strings.TrimSuffix(f.Name, ext)
		if cases[name] == nil {
			cases[name] = map[string]string{}
		}
		cases[name][ext] = string(f.Data)
	}
	for name, files := range cases {
		t.Run(name, func(t *testing.T) {
			o := write(t, files[".yaml"])
			if _, ok := files[".yaml"]; !ok {
				o.Path = ""
			}
			o.Environ = strings.Split(files[".env"], "\n")
			got := strings.ReplaceAll(reasons(t, o), o.WorkDir, "$WORK")
			if diff := cmp.Diff(strings.TrimSpace(files[".want"]), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestManyFaultsAreCounted(t *testing.T) {
	var text strings.Builder
	for i := range 250 {
		fmt.Fprintf(&text, "key%d: x\n", i)
	}
	lines := strings.Split(reasons(t, write(t, text.String())), "\n")
	if len(lines) != 101 || lines[100] != "proxy.yaml: 150 more faults are not listed; correct these first" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}
