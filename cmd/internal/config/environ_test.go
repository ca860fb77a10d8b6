package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// flatten turns a config file into the environment that says the same, with the help of the naming
// rule alone.
func flatten(v any, name string) []string {
	var environ []string
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			environ = append(environ, flatten(value, name+"_"+strings.ToUpper(key))...)
		}
	case []any:
		for i, value := range v {
			environ = append(environ, flatten(value, fmt.Sprintf("%s_%d", name, i))...)
		}
	default:
		environ = append(environ, fmt.Sprintf("%s=%v", name, v))
	}
	return environ
}

func TestEveryKeyFromEnvironment(t *testing.T) {
	var file any
	if err := yaml.Load([]byte(read(t, "testdata/full.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	o := Options{WorkDir: t.TempDir(), Environ: flatten(file, "MQTT_AUTH_PROXY")}
	if diff := cmp.Diff(full(o.WorkDir), load(t, o), settings()); diff != "" {
		t.Error(diff)
	}
	slices.Reverse(o.Environ)
	if diff := cmp.Diff(full(o.WorkDir), load(t, o), settings()); diff != "" {
		t.Errorf("the order of the environment matters: %s", diff)
	}
}

func TestEnvironmentLists(t *testing.T) {
	for _, c := range []struct {
		name, file string
		environ    []string
		want       []string // addresses of the listeners
	}{
		{"replaces the default", "", []string{"LISTENERS_0_ADDRESS=:1"}, []string{":1"}},
		{"changes one", "listeners: [{address: ':1'}, {address: ':2'}]", []string{"LISTENERS_1_ADDRESS=:3"}, []string{":1", ":3"}},
		{"extends", "listeners: [{address: ':1'}]", []string{"LISTENERS_1_ADDRESS=:3"}, []string{":1", ":3"}},
		{"extends by several in order", "", []string{
			"LISTENERS_10_ADDRESS=:10", "LISTENERS_9_ADDRESS=:9", "LISTENERS_8_ADDRESS=:8", "LISTENERS_7_ADDRESS=:7",
			"LISTENERS_6_ADDRESS=:6", "LISTENERS_5_ADDRESS=:5", "LISTENERS_4_ADDRESS=:4", "LISTENERS_3_ADDRESS=:3",
			"LISTENERS_2_ADDRESS=:2", "LISTENERS_1_ADDRESS=:1", "LISTENERS_0_ADDRESS=:20",
		}, []string{":20", ":1", ":2", ":3", ":4", ":5", ":6", ":7", ":8", ":9", ":10"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := write(t, c.file)
			for _, e := range c.environ {
				o.Environ = append(o.Environ, prefix+e)
			}
			var got []string
			for _, l := range load(t, o).Listeners {
				got = append(got, l.Address)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("addresses %q, want %q", got, c.want)
			}
		})
	}
}

func TestEnvironmentPlainLists(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    []string
	}{
		{[]string{"TOKEN_FROM=password"}, []string{"password"}},
		{[]string{"TOKEN_FROM= password , username "}, []string{"password", "username"}},
		{[]string{"TOKEN_FROM_1=username", "TOKEN_FROM=password"}, []string{"password", "username"}},
		{[]string{"TOKEN_FROM_0=auth_data"}, []string{"auth_data", "client_id"}},
	} {
		o := write(t, "token: {from: [password, client_id]}")
		for _, e := range c.environ {
			o.Environ = append(o.Environ, prefix+e)
		}
		if got := load(t, o).Token.From; !slices.Equal(got, c.want) {
			t.Errorf("%q: from %q, want %q", c.environ, got, c.want)
		}
	}
	o := Options{WorkDir: t.TempDir(), Environ: []string{"MQTT_AUTH_PROXY_TOKEN_FROM="}}
	if got := reasons(t, o); !strings.Contains(got, "TOKEN_FROM: is empty and needs at least 1 element") {
		t.Error(got)
	}
	o.Environ = []string{"MQTT_AUTH_PROXY_TOKEN_FROM=password,,username"}
	if got := reasons(t, o); !strings.Contains(got, "TOKEN_FROM: element 1 is empty") {
		t.Error(got)
	}
}

// A section of the file and the environment's keys in it are one section.
func TestEnvironmentInSection(t *testing.T) {
	o := write(t, "listeners: [{address: ':1', tls: {certificate: c.pem, key: k.pem}}]")
	o.Environ = []string{"MQTT_AUTH_PROXY_LISTENERS_0_TLS_AUTO=true"}
	want := "environment: MQTT_AUTH_PROXY_LISTENERS_0_TLS_AUTO: makes the proxy's own certificate and is set together with certificate or key; keep one of the two"
	if got := reasons(t, o); got != want {
		t.Errorf("faults:\n%s\nwant:\n%s", got, want)
	}
}

// What the file has in a wrong form is its own fault whatever the environment adds.
func TestEnvironmentOverWrongForm(t *testing.T) {
	for _, text := range []string{"listeners: 5", "listeners:", "listeners: [5]", "listeners: {address: x}", "listeners: !x []"} {
		o := write(t, text)
		o.Environ = []string{"MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS=:1", "MQTT_AUTH_PROXY_LISTENERS_0_TLS_AUTO=true"}
		if got := reasons(t, o); !strings.HasPrefix(got, "proxy.yaml:1: listeners") || strings.Contains(got, "environment") {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestServiceLinks(t *testing.T) {
	o := Options{WorkDir: t.TempDir(), Environ: []string{
		"MQTT_AUTH_PROXY_SERVICE_HOST=10.96.0.12",
		"MQTT_AUTH_PROXY_SERVICE_PORT=1883",
		"MQTT_AUTH_PROXY_SERVICE_PORT_MQTTS=8883",
		"MQTT_AUTH_PROXY_PORT=tcp://10.96.0.12:1883",
		"MQTT_AUTH_PROXY_PORT_1883_TCP=tcp://10.96.0.12:1883",
		"MQTT_AUTH_PROXY_PORT_1883_TCP_PROTO=tcp",
		"MQTT_AUTH_PROXY_PORT_1883_TCP_PORT=1883",
		"MQTT_AUTH_PROXY_PORT_1883_TCP_ADDR=10.96.0.12",
		"MQTT_AUTH_PROXY_ADMIN_SERVICE_HOST=10.96.0.13",
		"MQTT_AUTH_PROXY_ADMIN_PORT=tcp://10.96.0.13:9883",
	}}
	load(t, o)
	for _, e := range []string{"PORT=1883", "ADMIN_PORT=9883", "PORT_1883=1883", "SERVICE=x", "DATABASE=x", "UPSTREAM_PORT_1883_TCP=1883"} {
		o.Environ = []string{prefix + e}
		if got := reasons(t, o); !strings.Contains(got, "is an unknown variable") {
			t.Errorf("%s: %s", e, got)
		}
	}
}

func TestSecretFileReplacesSecret(t *testing.T) {
	o := write(t, "upstream: {password: inline}")
	put(t, filepath.Join(o.WorkDir, "pw"), "from file\n", 0o600)
	o.Environ = []string{"MQTT_AUTH_PROXY_UPSTREAM_PASSWORD_FILE=pw"}
	if got := load(t, o).Upstream.Password.Reveal(); got != "from file" {
		t.Errorf("password %q; the environment's file comes before the config file's secret", got)
	}
	put(t, filepath.Join(o.WorkDir, o.Path), "upstream: {password_file: none}", 0o600)
	o.Environ = []string{"MQTT_AUTH_PROXY_UPSTREAM_PASSWORD=env"}
	if got := load(t, o).Upstream.Password.Reveal(); got != "env" {
		t.Errorf("password %q; the environment's secret comes before the config file's file", got)
	}
}

// TestNamesOfVariablesArePrintable: the environment may hold any byte in a name and in a
// path, and a fault repeats none that a terminal would act on.
func TestNamesOfVariablesArePrintable(t *testing.T) {
	for environ, want := range map[string]string{
		prefix + "\r=x":                          `environment: "MQTT_AUTH_PROXY_\r": is an unknown variable`,
		prefix + "A\x1b[2J=x":                    `environment: "MQTT_AUTH_PROXY_A\x1b[2J": is an unknown variable`,
		prefix + "\u202e=x":                      `environment: "MQTT_AUTH_PROXY_\u202e": is an unknown variable`,
		prefix + "\xff=x":                        `environment: "MQTT_AUTH_PROXY_\xff": is an unknown variable`,
		prefix + strings.Repeat("A", 9999) + "=": "environment: MQTT_AUTH_PROXY_" + strings.Repeat("A", 128-len(prefix)) + "...: is an unknown",
		prefix + "CONFIG=no\u202efile\x1b[2J":    "no?file?[2J cannot be read",
	} {
		got := reasons(t, Options{WorkDir: t.TempDir(), Environ: []string{environ}})
		if !strings.Contains(got, want) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%.40q: the fault is %q, want %q in it", environ, got, want)
		}
	}
}
