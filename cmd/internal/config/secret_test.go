package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const sentinel = "s3nt1nel"

func TestSecretPrintsMasked(t *testing.T) {
	c := load(t, write(t, "upstream: {password: "+sentinel+"}"))
	s := c.Upstream.Password
	if s.Reveal() != sentinel {
		t.Fatalf("Reveal = %q", s.Reveal())
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", s, c, c.Upstream)
	}
	for _, v := range []any{s, c, c.Upstream} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		if text, err = yaml.Dump(v); err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	text, err := c.Render()
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	for _, form := range []string{sentinel, fmt.Sprintf("%x", sentinel)} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret is printed: %s", &out)
		}
	}
	if !strings.Contains(out.String(), "***") {
		t.Error("nothing is masked")
	}
	if s := Secret(""); s.String() != "" {
		t.Errorf("an empty secret prints as %q", s)
	}
}

// Every mistake that can be made in or next to a secret, with the secret in it.
func TestFaultsKeepSecrets(t *testing.T) {
	for _, value := range []string{
		"S", "'S'", "*S", "&S", "&S x", "!S", "!S x", "!!int S", "!<S> x", "[S]", "[S, [S]]", "{S}", "{S: S}", "{S: 1, S: 2}", "{<<: S}", "{? [S] : S}",
		"{S: !S S}", "{S: *S}", "\"S", "'S", "\"\\S\"", "|S", "|\n  S\n bad", ">-\n    S", "S: S", "S\nS", "@S", "`S`", "%S", "S\n    S: S", "- S", "[S", "{S", "S\n---\nS", "\x01S", "\xffS", "\tS",
		"\"S\\0\"", "S #S", "~", "S\n  password: S", "S\n  password_file: /none", "S\n pasword: S", "S\n username: ''",
	} {
		value = strings.ReplaceAll(value, "S", sentinel)
		for _, file := range []string{
			"upstream:\n  password: " + value + "\n  username: ''\n",
			"upstream:\n  password: " + value + "\nlog: {level: loud}\nadmin: 5\n",
			"log: {level: loud}\nupstream: {username: '', password: " + value + "}\n",
			"upstream:\n  pasword: " + value + "\n",
			"password: " + value + "\n",
			"upstream: {health: {mqtt: true, username: '', password: " + value + "}}\n",
			"upstream: {health: {username: p, password: " + value + "}}\n",
			"log:\n  upstream: {password: " + value + "}\n",
			"- password: " + value + "\n",
		} {
			text := reasons(t, write(t, file))
			if strings.Contains(text, sentinel) {
				t.Errorf("%q leaks the secret:\n%s", file, text)
			}
		}
	}
}

func TestEnvironmentFaultsKeepSecrets(t *testing.T) {
	for _, name := range []string{"UPSTREAM_PASSWORD", "UPSTREAM_PASSWROD", "UPSTREAM_PASSWORD_0", "UPSTREAM", "UPSTREAM_SERVERS", "PASSWORD", "LISTENERS_5_ADDRESS", "CONFIG_"} {
		for _, value := range []string{"S", "tcp://S:S@S:1", "tcp://S:S", "S://S", "unix://S", "tcp://h:1?S", "mqtt://S", "tcp://h:S", "tcp://S"} {
			o := Options{WorkDir: t.TempDir(), Environ: []string{
				"MQTT_AUTH_PROXY_UPSTREAM_USERNAME=",
				"MQTT_AUTH_PROXY_LOG_LEVEL=loud",
				prefix + name + "=" + strings.ReplaceAll(value, "S", sentinel),
			}}
			if text := reasons(t, o); strings.Contains(text, sentinel) {
				t.Errorf("%s=%s leaks the secret:\n%s", name, value, text)
			}
		}
	}
}

// A new secret is covered by the tests above once it is listed here.
func TestSecretsAreKnown(t *testing.T) {
	var got []string
	for _, k := range Keys() {
		if k.Type == "secret" {
			got = append(got, k.Path)
		}
	}
	if want := []string{"upstream.password", "upstream.health.password"}; !reflect.DeepEqual(got, want) {
		t.Errorf("secrets are %q; the leak tests know %q", got, want)
	}
}

func TestSecretFile(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{"pw", "pw"},
		{"pw\n", "pw"},
		{"pw\r\n", "pw"},
		{"pw\n\n", "pw\n"},
		{" pw ", " pw "},
		{"a\nb\n", "a\nb"},
		{"\xff\x00", "\xff\x00"},
	} {
		o := write(t, "upstream: {password_file: pw}")
		put(t, filepath.Join(o.WorkDir, "pw"), c.content, 0o600)
		if got := load(t, o); got.Upstream.Password.Reveal() != c.want || len(got.Warnings) > 0 {
			t.Errorf("file %q: password %q, warnings %v", c.content, got.Upstream.Password.Reveal(), got.Warnings)
		}
	}
	for _, c := range []struct{ content, want string }{
		{"", "is empty"},
		{"\n", "is empty"},
		{strings.Repeat(sentinel, 64<<10/8+1), "is larger than 64KiB"},
	} {
		o := write(t, "upstream: {password_file: pw}")
		put(t, filepath.Join(o.WorkDir, "pw"), c.content, 0o600)
		if got := reasons(t, o); !strings.Contains(got, c.want) || strings.Contains(got, sentinel) {
			t.Errorf("%d bytes: %s", len(c.content), got)
		}
	}
	o := write(t, "upstream: {password_file: ''}")
	if got := reasons(t, o); got != "proxy.yaml:1: upstream.password_file: is empty; write a value or remove the key" {
		t.Error(got)
	}
}

func TestExposedSecretsAreWarnings(t *testing.T) {
	o := write(t, "\nupstream: {password_file: pw}")
	pw := filepath.Join(o.WorkDir, "pw")
	put(t, pw, "x", 0o604)
	want := "proxy.yaml:2: upstream.password_file: " + pw + " may be read by everyone on this machine (mode 0604); chmod o-r the file"
	if c := load(t, o); len(c.Warnings) != 1 || c.Warnings[0].String() != want {
		t.Errorf("Warnings = %v, want %s", c.Warnings, want)
	}
	config := filepath.Join(o.WorkDir, o.Path)
	put(t, config, "upstream: {password: x}", 0o644)
	want = "proxy.yaml:1: upstream.password: is in a file that everyone on this machine may read; chmod o-r the file, or move the secret to password_file"
	if c := load(t, o); len(c.Warnings) != 1 || c.Warnings[0].String() != want {
		t.Errorf("Warnings = %v, want %s", c.Warnings, want)
	}
	o.Environ = []string{"MQTT_AUTH_PROXY_UPSTREAM_PASSWORD=y"}
	if c := load(t, o); len(c.Warnings) != 0 {
		t.Errorf("Warnings = %v on a secret of the environment", c.Warnings)
	}
	put(t, config, "upstream: {password: ''}", 0o644)
	if o.Environ = nil; len(load(t, o).Warnings) != 0 {
		t.Error("warning without a secret")
	}
}
