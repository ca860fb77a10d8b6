package proxy

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// TestEveryCauseHasARow: every constant of type Cause and every error for Kick has one row in the
// table, and no row lacks what it needs.
func TestEveryCauseHasARow(t *testing.T) {
	var rows []Cause
	var kicks []error
	for _, info := range Causes() {
		rows = append(rows, info.Cause)
		if len(info.By) == 0 || info.Will == "" || info.Meaning == "" {
			t.Errorf("the row of %s lacks a side, the will or its meaning", info.Cause)
		}
		if info.Err == nil {
			continue
		}
		kicks = append(kicks, info.Err)
		if info.closeCode == 0 || info.refused == "" {
			t.Errorf("the row of %s lacks the code of a Close frame or the reason of a refusal", info.Cause)
		}
		if info.disconnect != (info.Will == "not published") {
			t.Errorf("the row of %s says that the will is %s, and disconnect %v", info.Cause, info.Will, info.disconnect)
		}
	}
	if sorted := slices.Sorted(slices.Values(rows)); len(slices.Compact(sorted)) != len(rows) {
		t.Errorf("a cause has two rows: %v", rows)
	}
	for _, c := range []Cause{CauseClosed, CauseFault, CauseCut} {
		if !slices.Contains(rows, c) {
			t.Errorf("%s has no row", c)
		}
	}
	if declared := declaredErrors(t); len(declared) < 7 || len(declared) != len(kicks) {
		t.Errorf("causes.go has the errors %v, the rows %v", declared, kicks)
	}
}

// declaredErrors returns the names of the errors in causes.go.
func declaredErrors(t *testing.T) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "causes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok && strings.HasPrefix(strings.ToLower(v.Names[0].Name), "err") {
				names = append(names, v.Names[0].Name)
			}
		}
	}
	return names
}

// TestCauseOfAnEnd: an end has the cause by which its session was cut, if it was.
func TestCauseOfAnEnd(t *testing.T) {
	for _, tt := range []struct {
		by   string
		err  error
		want Cause
	}{
		{"client", nil, CauseClosed},
		{"upstream", nil, CauseClosed},
		{"client", errTest, CauseFault},
		{"upstream", relay.ErrStalled, CauseFault},
		{"proxy", relay.ErrPanic, CauseCut},
		{"proxy", errClosed, CauseCut},
		{"proxy", fmt.Errorf("file: %w", ErrExpired), "expired"},
		{"proxy", errors.New("of an embedder"), "kicked"},
	} {
		if got := (End{By: tt.by, Err: tt.err}).Cause(); got != tt.want {
			t.Errorf("%v by %s is %s, want %s", tt.err, tt.by, got, tt.want)
		}
	}
}
