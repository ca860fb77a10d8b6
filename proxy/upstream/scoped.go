package upstream

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxClientID31 is the longest client id of MQTT 3.1, in characters (section 3.1).
const maxClientID31 = 23

// scoped reports whether the template is ${subject}:${client_id} for the client id, which gives
// each subject client ids of its own.
func (t *Template) scoped() bool {
	return t.field == ClientID && len(t.parts) == 3 &&
		t.parts[0].Name == "subject" && t.parts[1].Text == ":" && t.parts[2].Name == "client_id"
}

// expandScoped returns a client id that no other subject can have. The subject is escaped, so
// it ends at the first colon or at the end of the text.
func (t *Template) expandScoped(v *Values) (string, error) {
	segments := t.resolved()
	subject, err := t.value(&segments[0], &Values{Subject: escape(v.Subject)})
	if err != nil {
		return "", err
	}
	text := subject
	if v.ClientID != v.Subject {
		id, err := t.value(&segments[len(segments)-1], v)
		if err != nil {
			return "", err
		}
		text += ":" + id
	}
	switch {
	case v.Level == 3 && utf8.RuneCountInString(text) > maxClientID31:
		sum := sha256.Sum256([]byte(text))
		return base32.StdEncoding.EncodeToString(sum[:])[:maxClientID31], nil
	case len(text) > maxField:
		return "", errTooLong
	}
	return text, nil
}

// escape writes each byte of colons, percent signs, control characters and invalid UTF-8 as %
// and two hexadecimal digits.
func escape(text string) string {
	unsafe := func(r rune) bool { return r == ':' || r == '%' || r == utf8.RuneError || isControl(r) }
	if !strings.ContainsFunc(text, unsafe) {
		return text
	}
	var b strings.Builder
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		if unsafe(r) {
			for _, c := range []byte(text[at : at+size]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(text[at : at+size])
		}
		at += size
	}
	return b.String()
}
