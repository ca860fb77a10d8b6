package proxy

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestEveryReasonHasARow: every constant of type Reason, here and in authz, has exactly
// one row in the table, and no row stands for anything else.
func TestEveryReasonHasARow(t *testing.T) {
	declared := append(declaredReasons(t, "*.go"), declaredReasons(t, "../authz/*.go")...)
	if len(declared) < 30 {
		t.Fatalf("only %d reasons were found: %v", len(declared), declared)
	}
	var rows []Reason
	for _, info := range Reasons() {
		rows = append(rows, info.Reason)
		if info.Meaning == "" || info.Fault == "" {
			t.Errorf("the row of %s lacks its fault or its meaning", info.Reason)
		}
	}
	slices.Sort(declared)
	slices.Sort(rows)
	if !slices.Equal(declared, rows) {
		t.Errorf("the constants are %v, the rows %v", declared, rows)
	}
}

// TestOnlyTheClientsFaultMakesItGiveUp: after every code but these a device tries again.
func TestOnlyTheClientsFaultMakesItGiveUp(t *testing.T) {
	later := []packets.ReasonCode{0, packets.RefusedServerUnavailable, packets.ServerUnavailable, packets.ServerBusy, packets.ConnectionRateExceeded}
	for _, info := range append(Reasons(), Reason("new").Info()) {
		if info.Fault == FaultClient {
			continue
		}
		if !slices.Contains(later, info.V3) || !slices.Contains(later, info.V5) {
			t.Errorf("%s is a fault of %s, but its codes %d and %#x make a device give up", info.Reason, info.Fault, info.V3, byte(info.V5))
		}
	}
}

// TestUnknownReason: a reason without a row does not make a device give up.
func TestUnknownReason(t *testing.T) {
	if info := Reason("new").Info(); info.V3 != packets.RefusedServerUnavailable || info.V5 != packets.ServerUnavailable {
		t.Errorf("codes %d and %#x, want 3 and 0x88", info.V3, byte(info.V5))
	}
	var refused *RefusedError
	err := authError(&authz.Denial{Reason: "of its own", Detail: "detail"})
	if !errors.As(err, &refused) || refused.Reason != Reason(authz.NotAuthorized) || !strings.Contains(err.Error(), "of its own") {
		t.Errorf("a denial for a reason of its own is %v, want %s", err, authz.NotAuthorized)
	}
}

// declaredReasons returns the constants of type Reason in the files.
func declaredReasons(t *testing.T, pattern string) (reasons []Reason) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Reason" {
				return true
			}
			for _, v := range spec.Values {
				if literal, ok := v.(*ast.BasicLit); ok {
					text, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					reasons = append(reasons, Reason(text))
				}
			}
			return true
		})
	}
	return reasons
}
