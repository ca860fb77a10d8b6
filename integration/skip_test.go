package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNothingIsSkippedInCI: a test that cannot run calls harness.Skip, which fails where
// CI=true, so that a tool that was not installed cannot make a run green.
func TestNothingIsSkippedInCI(t *testing.T) {
	for _, dir := range []string{"authz", "cmd", "integration", "packets", "proxy"} {
		files := token.NewFileSet()
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "harness.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			for _, call := range skips(file, nil) {
				t.Errorf("%v: call harness.Skip instead", files.Position(call.Pos()))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// skips returns the calls of Skip, Skipf and SkipNow below n on parameters of package
// testing. names are those of the functions around n.
func skips(n ast.Node, names []string) (found []ast.Node) {
	ast.Inspect(n, func(child ast.Node) bool {
		switch child := child.(type) {
		case *ast.FuncType:
			names = slices.Clone(names)
			for _, param := range child.Params.List {
				for _, name := range param.Names {
					names = slices.DeleteFunc(names, func(outer string) bool { return outer == name.Name })
					if strings.Contains(types.ExprString(param.Type), "testing.") {
						names = append(names, name.Name)
					}
				}
			}
		case *ast.FuncLit:
			if child != n {
				found = append(found, skips(child, names)...)
				return false
			}
		case *ast.SelectorExpr:
			if x, ok := child.X.(*ast.Ident); ok && slices.Contains(names, x.Name) && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, child.Sel.Name) {
				found = append(found, child)
			}
		}
		return true
	})
	return found
}
