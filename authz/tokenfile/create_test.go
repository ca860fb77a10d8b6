package tokenfile

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func TestCreateMakesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "deep", "tokens.jsonl")
	synctest.Test(t, func(t *testing.T) { // for the clock: 2000-01-01
		made, err := Create(path, CreateOptions{
			Name: "pump 7 <north> & \"co\"", Expires: time.Now().Add(720*time.Hour + time.Nanosecond), ClientIDs: []string{"p", "q-*"}, Comment: "spare",
		})
		if err != nil {
			t.Fatal(err)
		}
		want := `{"format":"mqtt-auth-tokens/1"}
{"id":` + string(marshal(made.ID)) + `,"subject":"pump 7 <north> & \"co\"","token_hash":"sha256:` + fmt.Sprintf("%x", made.Token.Hash()) +
			`","expire_at":"2000-01-31T00:00:00Z","clientid":["p","q-*"],"created_at":"2000-01-01T00:00:00Z","comment":"spare"}
`
		if diff := cmp.Diff(want, text(t, path)); diff != "" {
			t.Error(diff)
		}
		if made.Name != "pump 7 <north> & \"co\"" || made.Warning != "" || !made.Expires.Equal(time.Now().Add(720*time.Hour)) {
			t.Errorf("Create = %+v", made)
		}
		f := mustOpen(t, path, Options{})
		if g, err := f.Authorize(t.Context(), authz.Request{Token: made.Token, ClientID: "q-1"}); err != nil || g.Subject != made.Name || g.TokenID != made.ID {
			t.Errorf("Authorize = %v, %v", g, err)
		}
	})
	if modeOf(t, path) != 0o600 || modeOf(t, path+".lock") != 0o600 || modeOf(t, filepath.Dir(path)) != 0o700 || modeOf(t, filepath.Dir(filepath.Dir(path))) != 0o700 {
		t.Error("file or directory are open to others")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 {
		t.Errorf("the directory has %v, want the file and its lock", left)
	}
}

func TestGeneratedTokens(t *testing.T) {
	form := regexp.MustCompile(`^map_[0-9A-Za-z]{38}$`)
	seen := map[string]bool{}
	var digits [256]int
	for range 2000 {
		token := generate()
		s := token.Reveal()
		if !form.MatchString(s) || seen[s] {
			t.Fatal("a token of another form, or twice the same")
		}
		seen[s] = true
		if err := checkGiven(token); err != nil {
			t.Fatalf("a new token is refused: %v", err)
		}
		for _, c := range []byte(s[4:36]) {
			digits[c]++
		}
	}
	for _, c := range []byte(base62) { // 1032 expected, deviation 32
		if n := digits[c]; n < 800 || n > 1270 {
			t.Errorf("digit %c comes %d times in 64000", c, n)
		}
	}
}

func TestChecksum(t *testing.T) {
	// CRC-32 (IEEE) of "123456789" is cbf43926 by every table: 3421780262.
	for text, want := range map[string]string{"": "000000", "123456789": "3jZRME"} {
		if got := checksum(text); got != want {
			t.Errorf("checksum(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestNewID(t *testing.T) {
	form := regexp.MustCompile(`^pump-7-[a-z2-7]{6}$`)
	if id := newID("pump-7"); !form.MatchString(id) {
		t.Errorf("newID = %q", id)
	}
	for _, name := range []string{strings.Repeat("x", 256), strings.Repeat("é", 128), strings.Repeat("x", 120) + "é"} {
		if id := newID(name); checkName(id, maxID) != nil || !strings.HasPrefix(id, name[:110]) {
			t.Errorf("newID of %d bytes = %q", len(name), id)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	path := tokenPath(t)
	put(t, path, line("a"))
	before := text(t, path)
	cut := generate().Reveal()[:41]
	mistyped := []byte(generate().Reveal())
	mistyped[10] = base62[(strings.IndexByte(base62, mistyped[10])+1)%62]
	for name, tc := range map[string]struct {
		o    CreateOptions
		want string
	}{
		"no name":           {CreateOptions{}, "the name: must not be empty"},
		"long name":         {CreateOptions{Name: strings.Repeat("x", 257)}, "the name: 257 bytes long"},
		"control character": {CreateOptions{Name: "a\nb"}, "the name: must not contain control characters"},
		"name not UTF-8":    {CreateOptions{Name: "\xff"}, "the name: must be valid UTF-8"},
		"dot":               {CreateOptions{Name: "."}, "the name: . and .. cannot be"},
		"two dots":          {CreateOptions{Name: ".."}, "the name: . and .. cannot be"},
		"past expiry":       {CreateOptions{Name: "x", Expires: time.Now()}, "the expiry has passed"},
		"far expiry":        {CreateOptions{Name: "x", Expires: time.Unix(latest+1, 0)}, "the expiry is too far"},
		"client id":         {CreateOptions{Name: "x", ClientIDs: []string{"*a"}}, "clientid: a *"},
		"comment":           {CreateOptions{Name: "x", Comment: "a\x00"}, "the comment: must not contain"},
		"empty token":       {CreateOptions{Name: "x", Token: authz.NewToken("")}, "the token: shorter than 8"},
		"short token":       {CreateOptions{Name: "x", Token: authz.NewToken("1234567")}, "the token: shorter than 8"},
		"long token":        {CreateOptions{Name: "x", Token: authz.NewToken(strings.Repeat("x", 65536))}, "the token: longer than"},
		"token with an end": {CreateOptions{Name: "x", Token: authz.NewToken("12345678\n")}, "the token: contains control characters"},
		"binary token":      {CreateOptions{Name: "x", Token: authz.NewToken("\xff\xfe12345678")}, "the token: contains control characters"},
		"cut token":         {CreateOptions{Name: "x", Token: authz.NewToken(cut)}, "the token: begins with map_, but"},
		"start of a token":  {CreateOptions{Name: "x", Token: authz.NewToken(cut[:20])}, "the token: begins with map_, but"},
		"mistyped token":    {CreateOptions{Name: "x", Token: authz.NewToken(string(mistyped))}, "the token: begins with map_, but"},
		"token of another":  {CreateOptions{Name: "x", Token: authz.NewToken("token-of-a")}, "exists already, as a"},
		"long line":         {CreateOptions{Name: "x", ClientIDs: []string{strings.Repeat("x", 40000), strings.Repeat("y", 40000)}}, "the entry would be a line of more than 64 KiB"},
	} {
		_, err := Create(path, tc.o)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	if text(t, path) != before {
		t.Error("the file changed")
	}
}

func TestCreateWithGivenToken(t *testing.T) {
	path := tokenPath(t)
	for token, weak := range map[string]bool{"A1B2C3D4E5F6G7H8I9J0": false, "12345678": true, generate().Reveal(): false} {
		made, err := Create(path, CreateOptions{Name: "x", Token: authz.NewToken(token)})
		if err != nil || (made.Warning != "") != weak || made.Token.Reveal() != token {
			t.Errorf("Create = %+v, %v; want weak %v", made, err, weak)
		}
		if strings.Contains(text(t, path), token) {
			t.Error("the token is in the file")
		}
	}
}

func TestCreateAppendsBeforeTheEnd(t *testing.T) {
	for old, pattern := range map[string]string{
		line("a") + `{"end":true,"count":1}` + "\n\n": `^` + regexp.QuoteMeta(line("a")) + `\{"id":"x-.*\}\n\{"end":true,"count":2\}\n\n$`,
		strings.TrimSuffix(line("a"), "\n"):           `^` + regexp.QuoteMeta(line("a")) + `\{"id":"x-.*\}\n$`,
		"# no end":                                    `^# no end\n\{"id":"x-.*\}\n$`,
		"":                                            `^\{"id":"x-.*\}\n$`,
		`{"end":true,"count":0}`:                      `^\{"id":"x-.*\}\n\{"end":true,"count":1\}\n$`,
	} {
		path := tokenPath(t)
		put(t, path, old)
		if _, err := Create(path, CreateOptions{Name: "x"}); err != nil {
			t.Fatal(err)
		}
		if got := text(t, path); !regexp.MustCompile(pattern).MatchString(got) {
			t.Errorf("%q became %q", old, got)
		}
	}
}

func TestWellFormed(t *testing.T) {
	token := generate().Reveal()
	if !WellFormed(token) {
		t.Error("a new token is not well formed")
	}
	for _, bad := range []string{"", "map_", token[:len(token)-1], token + "x", strings.Replace(token, "map_", "pam_", 1), token[:10] + "!" + token[11:]} {
		if WellFormed(bad) {
			t.Errorf("%d bytes that are no such token are well formed", len(bad))
		}
	}
}
