package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// The sections are walked here by reflection alone: a field that Keys does not
// know, or knows too little about, fails.
func TestKeysAreComplete(t *testing.T) {
	keys := map[string]Key{}
	for _, k := range Keys() {
		if _, ok := keys[k.Path]; ok {
			t.Errorf("%s is listed twice", k.Path)
		}
		keys[k.Path] = k
	}
	seen := map[string]bool{}
	var walk func(section reflect.Type, path string)
	walk = func(section reflect.Type, path string) {
		for _, f := range reflect.VisibleFields(section) {
			name, ok := f.Tag.Lookup("yaml")
			switch {
			case !f.IsExported() || name == "-":
				continue
			case !ok:
				t.Errorf("%s.%s has no yaml tag", section, f.Name)
				continue
			}
			at, typ := join(path, name), f.Type
			if typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			if typ.Kind() == reflect.Pointer {
				typ = typ.Elem()
			}
			if typ.Kind() == reflect.Struct && f.Tag.Get("type") == "" {
				if f.Type.Kind() == reflect.Slice {
					seen[at] = true
					at += "[]"
				}
				walk(typ, at)
				continue
			}
			seen[at] = true
			if typ == reflect.TypeFor[Secret]() {
				seen[at+"_file"] = true
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	for path := range seen {
		if keys[path].Doc == "" || keys[path].Type == "" {
			t.Errorf("%s has no doc or no type in Keys: %+v", path, keys[path])
		}
	}
	if len(seen) != len(keys) {
		t.Errorf("%d fields, %d keys", len(seen), len(keys))
	}
}

// testdata/full.yaml sets every key, so the tests that load it prove that every
// key can be set.
func TestFullFileIsFull(t *testing.T) {
	var file any
	if err := yaml.Load([]byte(read(t, "testdata/full.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	var walk func(v any, path string)
	walk = func(v any, path string) {
		set[path] = true
		switch v := v.(type) {
		case map[string]any:
			for key, value := range v {
				walk(value, join(path, key))
			}
		case []any:
			for _, value := range v {
				walk(value, path+"[]")
			}
		}
	}
	walk(file, "")
	for _, k := range Keys() {
		if !set[k.Path] && !strings.HasSuffix(k.Path, "password_file") {
			t.Errorf("%s is not set", k.Path)
		}
	}
}

func TestTags(t *testing.T) {
	kinds := []kind{kindString, kindBoolean, kindInteger, kindDuration, kindSecret, kindSize, kindAddress, kindHost, kindServer, kindPath, kindDataPath, kindRatio, kindNetwork, kindOrigin, kindHeader, kindPair, kindMemory, kindSection}
	var walk func(section reflect.Type)
	walk = func(section reflect.Type) {
		for _, f := range fieldsOf(section) {
			if !slices.Contains(kinds, f.kind) {
				t.Errorf("%s.%s has the unknown kind %q", section, f.key, f.kind)
			}
			if strings.ContainsAny(f.doc, "\n|") || strings.HasSuffix(f.doc, ".") {
				t.Errorf("%s.%s: doc %q does not fit into a table", section, f.key, f.doc)
			}
			for _, bound := range []string{f.min, f.max} {
				if _, err := parse(f.kind, bound); bound != "" && !f.list && err != nil {
					t.Errorf("%s.%s: bound %v", section, f.key, err)
				}
			}
			if f.kind == kindSection {
				walk(f.section())
				continue
			}
			if f.value != "" && !f.list {
				if _, err := f.read(f.value); err != nil {
					t.Errorf("%s.%s: default %v", section, f.key, err)
				}
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

// Data paths start at the data directory, so it is decoded before them.
func TestDataIsTheFirstKey(t *testing.T) {
	if first := Keys()[0].Path; first != "data" {
		t.Errorf("the first key is %s", first)
	}
}

func TestVariablesNameOneKey(t *testing.T) {
	seen := map[string]string{variableConfig: "the config file"}
	for _, k := range Keys() {
		if other, ok := seen[k.Environment]; ok {
			t.Errorf("%s names %s and %s", k.Environment, k.Path, other)
		}
		seen[k.Environment] = k.Path
		name := strings.TrimPrefix(strings.ReplaceAll(k.Environment, "_N_", "_12_"), prefix)
		steps, ok := resolve(reflect.TypeFor[Config](), name)
		if !ok {
			t.Errorf("%s is not found", k.Environment)
			continue
		}
		path := ""
		for _, s := range steps {
			path = join(path, s.field.key)
			if s.position >= 0 {
				path += "[]"
			}
		}
		if path != k.Path {
			t.Errorf("%s resolves to %s, want %s", k.Environment, path, k.Path)
		}
	}
}

func TestKeyDescription(t *testing.T) {
	want := []Key{
		{"connect.timeout", "MQTT_AUTH_PROXY_CONNECT_TIMEOUT", "duration", "10s", "100ms to 5m", "time from accept to a complete CONNECT, TLS handshake included"},
		{"token.from", "MQTT_AUTH_PROXY_TOKEN_FROM", "list of string", "[username]", "username, password, client_id, user_property:NAME, auth_data, websocket_header, websocket_header:NAME, query:NAME, certificate, certificate_cn, certificate_san", "where in the CONNECT the token sits; the first place that is not empty counts"},
		{"upstream.password_file", "MQTT_AUTH_PROXY_UPSTREAM_PASSWORD_FILE", "path", "", "", "file with the password, instead of password"},
	}
	keys := Keys()
	for _, w := range want {
		if !slices.Contains(keys, w) {
			t.Errorf("Keys lacks %+v", w)
		}
	}
}
