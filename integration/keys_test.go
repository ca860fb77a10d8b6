package integration

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestEveryKeyHasAnEffect: each field of the configuration that has a key is read by the service or
// by the command. A key that is only checked would be accepted and do nothing.
func TestEveryKeyHasAnEffect(t *testing.T) {
	list := compiledPackages(t, "../cmd/mqtt-auth-proxy")
	files := token.NewFileSet()
	imports := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(list[path].Export) })
	read := map[types.Object]bool{}
	for _, path := range []string{module + "/cmd/internal/service", module + "/cmd/mqtt-auth-proxy"} {
		p, info := list[path], &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}}
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
		if _, err := (&types.Config{Importer: imports}).Check(path, files, parsed, info); err != nil {
			t.Fatal(err)
		}
		for _, s := range info.Selections {
			read[s.Obj()] = true
		}
	}
	config, err := imports.Import(module + "/cmd/internal/config")
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	for _, name := range config.Scope().Names() {
		section, ok := config.Scope().Lookup(name).Type().Underlying().(*types.Struct)
		for i := 0; ok && i < section.NumFields(); i++ {
			if key := reflect.StructTag(section.Tag(i)).Get("yaml"); key != "" && key != "-" {
				keys++
				if !read[section.Field(i)] {
					t.Errorf("%s.%s, the key %s, is not read by any code outside package config", name, section.Field(i).Name(), key)
				}
			}
		}
	}
	if keys < 150 {
		t.Errorf("only %d keys were found", keys)
	}
}

// compiledPackage is a package whose export data is in a file.
type compiledPackage struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// compiledPackages returns a package with all that it imports, by import path.
func compiledPackages(t *testing.T, folder string) map[string]compiledPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles", folder).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]compiledPackage{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p compiledPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}
