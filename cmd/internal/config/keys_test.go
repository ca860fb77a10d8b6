package config

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config/schema"
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
		for i := range section.NumField() {
			f := section.Field(i)
			name, ok := f.Tag.Lookup("yaml")
			switch {
			case !f.IsExported() || name == "-":
				continue
			case !ok:
				t.Errorf("%s.%s has no yaml tag", section, f.Name)
				continue
			}
			at, typ := strings.TrimPrefix(path+"."+name, "."), f.Type
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
				walk(value, strings.TrimPrefix(path+"."+key, "."))
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

// The bounds and the doc of each key are fit for use.
func TestKeysAreWellDescribed(t *testing.T) {
	builtin := []string{"string", "boolean", "integer", "duration", "ratio", "secret", "section", "size", "path", "data directory", "data path", "text"}
	for _, k := range Keys() {
		parts := strings.Split(k.Type, "list of ")
		for kind := range strings.SplitSeq(parts[len(parts)-1], " or ") {
			if types()[kind] == nil && !slices.Contains(builtin, kind) {
				t.Errorf("%s has the unknown type %q", k.Path, kind)
			}
		}
		if strings.ContainsAny(k.Doc, "\n|") || strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: doc %q does not fit into a table", k.Path, k.Doc)
		}
		low, high, _ := strings.Cut(strings.TrimPrefix(k.Allowed, "at least "), " to ")
		for _, bound := range []string{low, high, k.Default} {
			if bound == "" || strings.Contains(k.Type, "list") || strings.Contains(k.Allowed, ", ") {
				continue
			}
			if fault := faultOf(t, k, bound); fault != "" {
				t.Errorf("%s: bound or default %s", k.Path, fault)
			}
		}
	}
}

// faultOf returns the fault of a key by itself, if the environment sets it to value.
func faultOf(t *testing.T, k Key, value string) string {
	t.Helper()
	name := variableOf(k)
	_, _, err := schema.Load(schema.Options[Config]{Prefix: prefix, Types: types(), WorkDir: t.TempDir(), Environ: []string{name + "=" + value}})
	if faults, ok := errors.AsType[*Error](err); ok {
		for _, f := range faults.Faults {
			if f.Key == name {
				return f.String()
			}
		}
	}
	return ""
}

// TestZeroHasTheMeaningOfItsTag: a key that may be 0 has to say what that means, and 0 is
// handed to the components as none or as their default accordingly.
func TestZeroHasTheMeaningOfItsTag(t *testing.T) {
	for _, k := range Keys() {
		low, _, _ := strings.Cut(strings.TrimPrefix(k.Allowed, "at least "), " to ")
		if k.Type != "integer" && k.Type != "duration" && k.Type != "size" || low != "" && faultOf(t, k, "0") != "" {
			if k.Zero != "" {
				t.Errorf("%s cannot be 0 and says what 0 means", k.Path)
			}
			continue
		}
		want := map[string]int64{"none": none, "default": 0}
		if _, ok := want[k.Zero]; !ok {
			t.Errorf("%s may be 0 and does not say by its zero tag what that means", k.Path)
			continue
		}
		o := Options{WorkDir: t.TempDir(), Environ: []string{variableOf(k) + "=0"}}
		if strings.Contains(k.Path, ".jwt.") {
			o.Environ = append(o.Environ, prefix+"AUTH_SOURCES_0_JWT_URL=https://id.example/")
		}
		c := load(t, o)
		if got := at(reflect.ValueOf(*c), k.Path).Int(); got != want[k.Zero] {
			t.Errorf("%s is %d when 0 is written, want %d", k.Path, got, want[k.Zero])
		}
		text, err := c.Render()
		key := k.Path[strings.LastIndex(k.Path, ".")+1:]
		if zero := regexp.MustCompile(key + ": '?0s?'? # environment"); err != nil || !zero.Match(text) {
			t.Errorf("%s is not rendered as 0: %s, %v", k.Path, text, err)
		}
	}
}

// variableOf returns the variable of a key, in the first element of every list.
func variableOf(k Key) string { return strings.ReplaceAll(k.Environment, "_N_", "_0_") }

// at returns the value at a path as in [Key], in the first element of every list.
func at(v reflect.Value, path string) reflect.Value {
	for _, name := range strings.Split(path, ".") {
		name, list := strings.CutSuffix(name, "[]")
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("yaml") == name {
				v = reflect.Indirect(v.Field(i))
				break
			}
		}
		if list {
			v = v.Index(0)
		}
	}
	return reflect.Indirect(v)
}

func TestVariablesNameOneKey(t *testing.T) {
	seen := map[string]string{prefix + "CONFIG": "the config file"}
	for _, k := range Keys() {
		if other, ok := seen[k.Environment]; ok {
			t.Errorf("%s names %s and %s", k.Environment, k.Path, other)
		}
		seen[k.Environment] = k.Path
	}
}

func TestKeyDescription(t *testing.T) {
	want := []Key{
		{
			Path: "connect.timeout", Environment: "MQTT_AUTH_PROXY_CONNECT_TIMEOUT", Type: "duration", Default: "10s",
			Allowed: "100ms to 5m", Doc: "time from accept to a complete CONNECT, TLS handshake included",
		},
		{
			Path: "token.from", Environment: "MQTT_AUTH_PROXY_TOKEN_FROM", Type: "list of string", Default: "[username]",
			Allowed: "username, password, client_id, user_property:NAME, auth_data, websocket_header, websocket_header:NAME, query:NAME, certificate, certificate_cn, certificate_san",
			Doc:     "where in the CONNECT the token is; the first place that is not empty counts",
		},
		{
			Path: "upstream.password_file", Environment: "MQTT_AUTH_PROXY_UPSTREAM_PASSWORD_FILE", Type: "path",
			Doc: "file with the password, instead of password",
		},
	}
	keys := Keys()
	for _, w := range want {
		if !slices.Contains(keys, w) {
			t.Errorf("Keys lacks %+v", w)
		}
	}
}
