package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
)

// foreign are names in texts of the program that it does not define itself.
var foreign = map[string]string{
	"key_ops": "a member of a JWK", "mosquitto_pub": "a program", "mosquitto_passwd": "a program", "not_before": "a field of token files and answers",
	"token_hash": "a field of token files", "password_hash": "a field of token files", "created_at": "a field of token files", "expire_at": "a field of token files and answers",
	"client_attrs": "a field of token files and answers", "token_id": "a field of answers and of POST /v1/revocations",
	"user_id": "a column of EMQX", "is_superuser": "a column of EMQX",
	"token_sha256": "a field of denials.jsonl", "client_addr": "a placeholder",
	"--cafile": "a flag of mosquitto_pub", "--tls-use-os-certs": "a flag of mosquitto_pub", "device_memory": "a label of a metric", "too_large": "a label of a metric", "not_listening": "a label of a metric", "too_long": "a label of a metric",
	"mqtt_auth_proxy": "the schema in PostgreSQL", "token_uses": "a table in PostgreSQL", "expires_at": "a column in PostgreSQL",
}

// notCommands are words that follow the name of the program in a sentence.
var notCommands = []string{"stands", "session", "server", "has"}

// TestAdviceNamesWhatExists: every key, command, flag, endpoint and variable that a text of the
// program names exists. A text is a string literal of more than one word.
func TestAdviceNamesWhatExists(t *testing.T) {
	known := newVocabulary()
	texts := literals(t, "../..")
	for _, x := range texts {
		if endpoint.FindString(x.text) == x.text {
			known.endpoints = append(known.endpoints, x.text)
		}
	}
	if len(texts) < 500 || len(known.endpoints) < 5 {
		t.Fatalf("%d texts and %d endpoints were found, which cannot be all", len(texts), len(known.endpoints))
	}
	for _, x := range texts {
		for _, unknown := range known.lacks(x.text) {
			t.Errorf("%s: %q names %s, which is not there; if it belongs to another program, add it to foreign", x.at, x.text, unknown)
		}
	}
}

// TestLibrariesNameNoKeyOrCommand: the packages below authz, packets and proxy are for any program,
// which may have other keys and commands. The command adds such advice to their errors.
func TestLibrariesNameNoKeyOrCommand(t *testing.T) {
	known, n := newVocabulary(), 0
	for _, library := range []string{"authz", "packets", "proxy"} {
		for _, x := range literals(t, "../../"+library) {
			n++
			for _, name := range dotted.FindAllString(x.text, -1) {
				if known.isKey(index.ReplaceAllString(name, "")) {
					t.Errorf("%s: %q names the key %s", x.at, x.text, name)
				}
			}
			if m := command.FindStringSubmatch(x.text); m != nil && !slices.Contains(notCommands, m[1]) {
				t.Errorf("%s: %q names the command %s", x.at, x.text, m[0])
			}
		}
	}
	if n < 200 {
		t.Fatalf("%d texts were found, which cannot be all", n)
	}
}

// TestVocabularyFindsWhatIsNotThere: the test above detects names that do not exist.
func TestVocabularyFindsWhatIsNotThere(t *testing.T) {
	known := newVocabulary()
	known.endpoints = []string{"POST /v1/reload"}
	for text, want := range map[string]string{
		"start with allow_shrink":                                     "allow_shrink",
		"set auth.cache.time to more":                                 "auth.cache.time",
		"make one with: mqtt-auth-proxy token new NAME":               "mqtt-auth-proxy token new",
		"make one with: mqtt-auth-proxy tokens create NAME":           "mqtt-auth-proxy tokens",
		"make one with: mqtt-auth-proxy token create NAME --ttl 5":    "--ttl",
		"make one with: mqtt-auth-proxy token create NAME --json=no":  "",
		"ask with POST /v1/restart":                                   "POST /v1/restart",
		"ask with POST /v1/reload, or set MQTT_AUTH_PROXY_LOG_LEVELS": "MQTT_AUTH_PROXY_LOG_LEVELS",
		"set MQTT_AUTH_PROXY_LISTENERS_0_TLS_CLIENT_CA":               "",
		"check upstream.username and listeners[0].tls.client_ca":      "",
		"mqtt-auth-proxy token revoke --overlap 5":                    "--overlap",
		"the key upstream.password_file names a file":                 "",
	} {
		if got := strings.Join(known.lacks(text), " "); got != want {
			t.Errorf("%q lacks %q, want %q", text, got, want)
		}
	}
}

// vocabulary has the names that texts may use.
type vocabulary struct {
	keys      []string // config keys, without indices
	words     []string // parts and values of keys
	variables []string // of the environment, with 0 for each index
	endpoints []string
	root      *cobra.Command
}

func newVocabulary() *vocabulary {
	v := &vocabulary{root: (&program{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer)}).rootCommand()}
	v.root.InitDefaultVersionFlag()
	for _, c := range allCommands(v.root) {
		c.InitDefaultHelpFlag()
	}
	v.variables = []string{"MQTT_AUTH_PROXY_CONFIG"}
	v.words = refusals.Reasons()
	for _, k := range config.Keys() {
		paths := []string{k.Path}
		if k.Type == "secret" {
			paths = append(paths, k.Path+"_file")
		}
		for _, path := range paths {
			v.keys = append(v.keys, strings.ReplaceAll(path, "[]", ""))
			v.words = append(v.words, strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune(".[]", r) })...)
			variable := strings.NewReplacer("[]", "_0", ".", "_").Replace(path)
			v.variables = append(v.variables, "MQTT_AUTH_PROXY_"+strings.ToUpper(variable))
		}
		v.words = append(v.words, strings.FieldsFunc(k.Allowed, func(r rune) bool { return strings.ContainsRune(", |:", r) })...)
	}
	return v
}

var (
	snake    = regexp.MustCompile(`[A-Za-z0-9$]*_[A-Za-z0-9_]*`)
	dotted   = regexp.MustCompile(`[a-z][a-z_]*(?:\[[0-9%d]*\])?(?:\.[a-z][a-z_]*(?:\[[0-9%d]*\])?)+`)
	index    = regexp.MustCompile(`\[[^]]*\]`)
	numbers  = regexp.MustCompile(`_[0-9]+(_|$)`)
	command  = regexp.MustCompile(`mqtt-auth-proxy ([a-z]+)(?: ([a-z]+))?([^,;()\n]*)`)
	flagName = regexp.MustCompile(`--[a-z][a-z-]*`)
	endpoint = regexp.MustCompile(`(?:GET|POST|PUT|DELETE) /[a-z0-9/_{}-]*`)
	database = regexp.MustCompile(`(?i)^(?:\s|%s)*(select|insert|update|delete|create|pragma|alter|drop|with|(?-i:BEGIN|LOCK TABLE|TRUNCATE))\b`)
)

// lacks returns the names in text that do not exist.
func (v *vocabulary) lacks(text string) (unknown []string) {
	miss := func(name string, there bool) {
		if !there && foreign[name] == "" && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	if database.MatchString(text) {
		return nil
	}
	for _, name := range dotted.FindAllString(text, -1) {
		path := index.ReplaceAllString(name, "")
		first, _, _ := strings.Cut(path, ".")
		if v.isKey(first) {
			miss(name, v.isKey(path))
			text = strings.ReplaceAll(text, name, "")
		}
	}
	for _, name := range snake.FindAllString(text, -1) {
		switch {
		case strings.HasPrefix(name, "MQTT_AUTH_PROXY_") && name != "MQTT_AUTH_PROXY_":
			miss(name, slices.Contains(v.variables, numbers.ReplaceAllString(name, "_0$1")))
		case name == strings.ToLower(name) && !strings.HasPrefix(name, "_") && !strings.HasSuffix(name, "_") && !strings.HasPrefix(name, "mqtt_auth_proxy_"):
			miss(name, slices.Contains(v.words, name))
		}
	}
	for _, name := range endpoint.FindAllString(text, -1) {
		miss(name, slices.Contains(v.endpoints, name))
	}
	return append(unknown, v.lacksCommands(text)...)
}

// isKey reports whether path is a key or a section of them.
func (v *vocabulary) isKey(path string) bool {
	return slices.ContainsFunc(v.keys, func(key string) bool { return key == path || strings.HasPrefix(key, path+".") })
}

// lacksCommands returns the commands and flags in text that do not exist.
func (v *vocabulary) lacksCommands(text string) (unknown []string) {
	for _, m := range command.FindAllStringSubmatch(text, -1) {
		if slices.Contains(notCommands, m[1]) {
			continue
		}
		c := find(v.root, m[1])
		if c == nil {
			unknown = append(unknown, "mqtt-auth-proxy "+m[1])
			continue
		}
		if sub := find(c, m[2]); sub != nil {
			c = sub
		} else if c.HasSubCommands() && m[2] != "" {
			unknown = append(unknown, "mqtt-auth-proxy "+m[1]+" "+m[2])
			continue
		}
		for _, name := range flagName.FindAllString(m[3], -1) {
			if c.Flags().Lookup(name[2:]) == nil {
				unknown = append(unknown, name)
			}
		}
		text = strings.Replace(text, m[0], "", 1)
	}
	for _, name := range flagName.FindAllString(text, -1) {
		if foreign[name] == "" && !anyHas(v.root, name[2:]) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

func find(c *cobra.Command, name string) *cobra.Command {
	i := slices.IndexFunc(c.Commands(), func(sub *cobra.Command) bool { return sub.Name() == name })
	if i < 0 {
		return nil
	}
	return c.Commands()[i]
}

func anyHas(c *cobra.Command, flag string) bool {
	return c.Flags().Lookup(flag) != nil || slices.ContainsFunc(c.Commands(), func(sub *cobra.Command) bool { return anyHas(sub, flag) })
}

// literal is a text in the source.
type literal struct{ at, text string }

// literals returns the texts of the program: string literals of more than one word, and
// what the tags of config keys say.
func literals(t *testing.T, root string) (all []literal) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "testdata", "integration", "authztest"}, d.Name()) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		found, err := literalsOf(path)
		all = append(all, found...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func literalsOf(path string) (all []literal, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	tags := map[*ast.BasicLit]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if f, ok := n.(*ast.Field); ok && f.Tag != nil {
			tags[f.Tag] = true
		}
		l, ok := n.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return true
		}
		text, unquoteErr := strconv.Unquote(l.Value)
		if unquoteErr != nil {
			err = unquoteErr
		}
		if tags[l] {
			text = reflect.StructTag(text).Get("doc")
		}
		if strings.Contains(text, " ") {
			all = append(all, literal{files.Position(l.Pos()).String(), text})
		}
		return true
	})
	return all, err
}
