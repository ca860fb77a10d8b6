package tokenimport

import (
	"errors"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// FuzzRead: a source of any format yields entries that a token file may have, or an error with
// lines, and never a panic.
func FuzzRead(f *testing.F) {
	for kind, text := range map[uint8]string{
		0: "subject,token,clientid,client_attrs.a\nd,12345678,\"[\"\"x\"\"]\",b\n", 1: `{"subject":"d","token":"12345678"}`,
		2: "u:$6$AAAA$" + strings.Repeat("A", 86) + "==\n", 3: "user_id,password_hash,salt\nu," + emqxPrefix + "," + emqxSalt,
		4: "name,credentials_type,credentials_id,credentials_value\nd,MQTT_BASIC,x,{}\n", 5: hivemqXML(hivemqPass1, hivemqTopicA),
		129: `[{"user_id":"u","password_hash":"` + emqxPrefix + `","salt":"x"}]`, 131: hivemqXML("secret", hivemqTopicA),
	} {
		f.Add(kind, text)
	}
	hashes := []string{"bcrypt", "sha256:prefix", "sha512:suffix", "sha256:none", "pbkdf2:sha256:1"}
	f.Fuzz(func(t *testing.T, kind uint8, text string) {
		o := Options{Format: Formats()[int(kind)%len(Formats())], Source: "x.csv"}
		if o.Format == EMQX {
			o.Hash = hashes[int(kind/8)%len(hashes)]
			if kind >= 128 {
				o.Source = "x.json"
			}
		}
		if o.Format == HiveMQ && kind >= 128 {
			o.Hash = "plain"
		}
		found, err := Read(strings.NewReader(text), o)
		if err != nil {
			return
		}
		for _, d := range found.Drafts {
			if d.Line < 1 || d.Line > strings.Count(text, "\n")+1 || (d.Fault == nil) == (d.JSON == nil) {
				t.Fatalf("the draft %+v of %q", d, text)
			}
		}
		batch, err := tokenfile.NewBatch(t.Context(), "x", found.Drafts, tokenfile.BatchOptions{Rounds: 1})
		if _, ok := errors.AsType[*tokenfile.FormatError](err); err != nil && !ok {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		path := t.TempDir() + "/tokens.jsonl"
		if err := tokenfile.Update(path, true, func(e *tokenfile.Edit) error {
			_, err := e.Import(batch, tokenfile.RefuseExisting)
			return err
		}); err != nil {
			t.Fatalf("what was checked is refused: %v", err)
		}
	})
}
