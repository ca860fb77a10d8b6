package authz_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const secret = "s3cr3t-Token-That-Must-Not-Leak"

// holders are the ways in which a token gets to a printer. The unexported field matters most:
// fmt cannot call a method on it and prints its memory instead.
func holders() map[string]any {
	type exported struct{ T authz.Token }
	type unexported struct{ t authz.Token }
	type nested struct{ in []unexported }
	token := authz.NewToken(secret)
	return map[string]any{
		"value":              token,
		"pointer":            &token,
		"pointer to pointer": func() **authz.Token { p := &token; return &p }(),
		"slice":              []authz.Token{token},
		"array":              [1]authz.Token{token},
		"map value":          map[string]authz.Token{"k": token},
		"map key":            map[authz.Token]string{token: "v"},
		"any slice":          []any{token, &token},
		"struct":             exported{token},
		"struct pointer":     &exported{token},
		"hidden":             unexported{token},
		"hidden pointer":     &unexported{token},
		"hidden nested":      nested{[]unexported{{token}}},
		"request":            authz.Request{Token: token, Password: token},
		"grant":              &authz.Grant{Upstream: authz.Upstream{Password: token}},
	}
}

// leaks reports whether text contains the secret in any form that a printer might use.
func leaks(text string) bool {
	text = strings.ToLower(text)
	spaced := strings.Trim(fmt.Sprint([]byte(secret)), "[]")
	for _, spelling := range []string{
		secret,
		hex.EncodeToString([]byte(secret)),
		fmt.Sprintf("% x", secret),
		fmt.Sprintf("%# x", secret),
		base64.StdEncoding.EncodeToString([]byte(secret)),
		spaced,
		strings.ReplaceAll(spaced, " ", ","),
		secret[4:20],
	} {
		if strings.Contains(text, strings.ToLower(spelling)) {
			return true
		}
	}
	return false
}

func TestTokenNeverPrints(t *testing.T) {
	verbs := []string{
		"%v", "%+v", "%#v", "%s", "%q", "%+q", "%#q", "%x", "%X", "% x", "%#x", "%d", "%b", "%o", "%c", "%U",
		"%e", "%t", "%p", "%T", "%w", "%z", "%10.5v", "%[2]v %[1]v", "no verb",
	}
	for name, holder := range holders() {
		t.Run(name, func(t *testing.T) {
			for _, verb := range verbs {
				if got := fmt.Sprintf(verb, holder); leaks(got) {
					t.Errorf("%s leaks", verb)
				}
				if got := fmt.Errorf(verb, holder).Error(); leaks(got) {
					t.Errorf("Errorf %s leaks", verb)
				}
			}
			if leaks(fmt.Sprint(holder) + fmt.Sprintln(holder)) {
				t.Error("Sprint leaks")
			}
		})
	}
}

func TestTokenNeverMarshals(t *testing.T) {
	for name, holder := range holders() {
		t.Run(name, func(t *testing.T) {
			if got, err := json.Marshal(holder); leaks(string(got)) || err != nil && leaks(err.Error()) {
				t.Error("json leaks")
			}
			if got, err := xml.Marshal(holder); leaks(string(got)) || err != nil && leaks(err.Error()) {
				t.Error("xml leaks")
			}
			var out bytes.Buffer
			if err := gob.NewEncoder(&out).Encode(holder); leaks(out.String()) || err != nil && leaks(err.Error()) {
				t.Error("gob leaks")
			}
		})
	}
}

func TestTokenNeverLogs(t *testing.T) {
	for name, holder := range holders() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			options := &slog.HandlerOptions{Level: slog.LevelDebug}
			for _, h := range []slog.Handler{slog.NewTextHandler(&out, options), slog.NewJSONHandler(&out, options)} {
				slog.New(h).Debug("m", "k", holder, slog.Group("g", "k", holder))
			}
			for _, enc := range []zapcore.Encoder{
				zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
				zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
			} {
				log := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&out), zap.DebugLevel))
				log.Debug("m", zap.Any("k", holder), zap.Reflect("r", holder), zap.Inline(zapcore.ObjectMarshalerFunc(
					func(o zapcore.ObjectEncoder) error { return o.AddReflected("i", holder) })))
				log.Sugar().Debugw("m", "k", holder)
				log.Sugar().Debugf("%v %+v %#v", holder, holder, holder)
			}
			if out.Len() == 0 {
				t.Fatal("nothing was logged")
			}
			if leaks(out.String()) {
				t.Error("a logger leaks")
			}
		})
	}
}

// TestLeakDetector proves that the tests above can fail.
func TestLeakDetector(t *testing.T) {
	for _, verb := range []string{"%v", "%#v", "%q", "%x", "% X", "%# x"} {
		if !leaks(fmt.Sprintf(verb, secret)) {
			t.Errorf("%s of the bare secret goes unseen", verb)
		}
	}
	if !leaks(fmt.Sprintf("%v", []byte(secret))) || !leaks(fmt.Sprintf("%d", []byte(secret))) {
		t.Error("the bytes of the secret go unseen")
	}
}

func TestTokenPrintsItsFingerprint(t *testing.T) {
	token := authz.NewToken("abc") // SHA-256 ba7816bf...
	for format, want := range map[string]string{
		"%v":  "ba7816bf",
		"%s":  "ba7816bf",
		"%x":  "ba7816bf",
		"%#v": "authz.Token(ba7816bf)",
	} {
		if got := fmt.Sprintf(format, token); got != want {
			t.Errorf("%s = %q, want %q", format, got, want)
		}
	}
	if got := token.GoString() + token.String() + token.LogValue().String(); got != "authz.Token(ba7816bf)ba7816bfba7816bf" {
		t.Errorf("GoString, String, LogValue = %q", got)
	}
	if got, err := json.Marshal(map[string]any{"t": token, "none": authz.Token{}}); err != nil || string(got) != `{"none":"none","t":"ba7816bf"}` {
		t.Errorf("Marshal = %s, %v", got, err)
	}
	if got := authz.FingerprintOf(token.Hash()); got != token.Fingerprint() {
		t.Errorf("FingerprintOf = %q, Fingerprint = %q", got, token.Fingerprint())
	}
}

func TestTokenIsNotReadBack(t *testing.T) {
	var none authz.Token
	if err := json.Unmarshal([]byte(`"ba7816bf"`), &none); err == nil {
		t.Error("a fingerprint was read back as a token")
	}
	if !none.IsZero() {
		t.Error("the refused text left something behind")
	}
}

func TestTokenZeroAndEqual(t *testing.T) {
	none, empty, a, b := authz.Token{}, authz.NewToken(""), authz.NewToken("abc"), authz.NewToken("abd")
	for _, tc := range []struct {
		name        string
		token       authz.Token
		zero, empty bool
		reveal      string
	}{
		{"none", none, true, true, ""},
		{"empty", empty, false, true, ""},
		{"text", a, false, false, "abc"},
		{"bytes", authz.NewToken("\x00\xff"), false, false, "\x00\xff"},
	} {
		if tc.token.IsZero() != tc.zero || tc.token.Empty() != tc.empty || tc.token.Reveal() != tc.reveal {
			t.Errorf("%s: IsZero %v Empty %v Reveal %q", tc.name, tc.token.IsZero(), tc.token.Empty(), tc.token.Reveal())
		}
	}
	tokens := []authz.Token{none, empty, a, b}
	for i, x := range tokens {
		for j, y := range tokens {
			if x.Equal(y) != (i == j) {
				t.Errorf("tokens %d and %d: Equal = %v", i, j, x.Equal(y))
			}
		}
	}
	if !a.Equal(authz.NewToken("ab" + string([]byte{'c'}))) {
		t.Error("two tokens of the same text differ")
	}
	if none.Hash() != empty.Hash() || none.Fingerprint() != "none" || empty.Fingerprint() == "none" {
		t.Error("the zero token hashes like the empty text but has another fingerprint")
	}
}

func ExampleToken() {
	token := authz.NewToken("correct horse battery staple")
	fmt.Printf("%v %+v\n", token, struct{ Password authz.Token }{token})
	fmt.Println(errors.Is(fmt.Errorf("token %s: %w", token, authz.ErrUnknown), authz.ErrDenied))
	// Output:
	// c4bbcb1f {Password:c4bbcb1f}
	// true
}
