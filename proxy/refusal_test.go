package proxy

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestEveryReasonHasARow: a constant of type Reason, here or in authz, that the table of
// refusals lacks would be told to devices as the proxy's own fault.
func TestEveryReasonHasARow(t *testing.T) {
	declared := append(declaredReasons(t, "*.go"), declaredReasons(t, "../authz/*.go")...)
	if len(declared) < 30 {
		t.Fatalf("only %d reasons were found: %v", len(declared), declared)
	}
	for _, r := range declared {
		if _, ok := r.row(); !ok {
			t.Errorf("%s has no row", r)
		}
	}
	all := Reasons()
	for _, r := range all {
		if !slices.Contains(declared, r) {
			t.Errorf("the row %s is no reason", r)
		}
	}
	slices.Sort(all)
	if n := len(all); n != len(slices.Compact(all)) {
		t.Error("a reason has two rows")
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

// A reason that nobody has entered in the table must not tell a device to give up.
func TestReasonWithoutARow(t *testing.T) {
	if v3, v5 := Reason("new").Codes(); v3 != packets.RefusedServerUnavailable || v5 != packets.ServerUnavailable {
		t.Errorf("codes %d and %#x, want 3 and 0x88", v3, byte(v5))
	}
	var refused *RefusedError
	err := authError(&authz.Denial{Reason: "of its own", Detail: "detail"})
	if !errors.As(err, &refused) || refused.Reason != Reason(authz.NotAuthorized) || !strings.Contains(err.Error(), "of its own") {
		t.Errorf("a denial for a reason of its own is %v, want %s", err, authz.NotAuthorized)
	}
}

// TestConnackFitsTheClient: a 5.0 client that has said how large a packet may be gets
// no larger CONNACK, whoever has written it.
func TestConnackFitsTheClient(t *testing.T) {
	maximum := func(n byte) packets.Properties { return packets.Properties{0x27, 0, 0, 0, n} }
	reason := packets.Properties(nil).With(packets.ReasonString, "go away")
	verbose := append(slices.Clip(reason), "\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01v"...)
	withID := append(slices.Clip(reason), "\x12\x00\x02id"...)
	for _, tt := range []struct {
		name   string
		token  string
		max    byte
		answer packets.Connack
		want   string // in bytes; empty: closed without a CONNACK
		reason Reason // of the refusal
	}{
		{"own refusal that fits", "bad", 5, packets.Connack{}, "\x20\x03\x00\x86\x00", "unknown_token"},
		{"own refusal that does not", "bad", 4, packets.Connack{}, "", "unknown_token"},
		{"refusal of the broker that fits", goodToken, 15, packets.Connack{Code: packets.ReasonCode(0x8A), Properties: reason},
			"\x20\x0D\x00\x8A\x0A\x1F\x00\x07go away", UpstreamRefused},
		{"refusal of the broker without its words", goodToken, 14, packets.Connack{Code: packets.ReasonCode(0x8A), Properties: verbose},
			"\x20\x03\x00\x8A\x00", UpstreamRefused},
		{"refusal of the broker that does not fit", goodToken, 4, packets.Connack{Code: packets.ReasonCode(0x8A), Properties: reason}, "", UpstreamRefused},
		{"success without its words", goodToken, 12, packets.Connack{Properties: withID}, "\x20\x08\x00\x00\x05\x12\x00\x02id", ""},
		{"success that does not fit", goodToken, 9, packets.Connack{Properties: withID}, "\x20\x03\x00\x95\x00", TooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.broker.answer = tt.answer
				p := with(5, "d", tt.token)
				p.Properties = maximum(tt.max)
				c := b.connect()
				c.send(p.Append(nil))
				got := make([]byte, len(tt.want))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.want {
					t.Errorf("CONNACK % x, error %v; want % x", got, err, tt.want)
				}
				if tt.reason == "" {
					return
				}
				c.wantClosed()
				if r := b.lastRefusal(); r.Reason != tt.reason || r.Sent != (tt.want != "") {
					t.Errorf("refusal %+v, want reason %q", r, tt.reason)
				}
			})
		})
	}
}
