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
	if len(lines) != maxFaults+1 || lines[maxFaults] != "proxy.yaml: 150 more faults are not listed; mend these first" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

func TestNearest(t *testing.T) {
	names := []string{"address", "tls", "certificate", "max_packet", "client_id", "min_version"}
	for word, want := range map[string]string{
		"adress": "address", "addres": "address", "addrses": "address", "Address": "address",
		"cert": "certificate", "max-packet": "max_packet", "maxPacket": "max_packet", "clientid": "client_id",
		"ssl": "", "tlss": "tls", "x": "", "": "", "bind": "", "version": "",
		strings.Repeat("address", 100): "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "xabc", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
