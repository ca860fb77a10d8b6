package upstream

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/placeholder"
)

// maxField is the maximum length of an MQTT string or binary field in bytes (MQTT 5.0 sections
// 1.5.4 and 1.5.6).
const maxField = 65535

// Field is the field of the CONNECT to the broker that a template fills. It determines which
// values are allowed.
type Field uint8

const (
	// ClientID is the client identifier.
	ClientID Field = iota
	// Username is the user name.
	Username
	// Password is the password. It is binary data and does not identify a device.
	Password
)

// Values are the properties of one session that a template can use. They print masked, because
// they contain the token.
type Values struct {
	// Subject is the owner of the token.
	Subject string
	// TokenID is the name of the token.
	TokenID string
	// ClientID is the client identifier that the device sent or that was generated for it.
	ClientID string
	// Username is the user name the device sent. It may be its token.
	Username string
	// Token is the token itself.
	Token string `json:"-"`
	// Listener is the listener the device connected to.
	Listener string
	// ClientAddr is the address the device connected from.
	ClientAddr string
	// Level is the protocol level: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.
	Level byte
	// Attrs are the attributes of the grant. The map is only read.
	Attrs map[string]string
}

// Format prints a mask for every verb.
func (Values) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "upstream.Values(masked)") }

// Template makes one credential for the broker from the values of a session. The package
// comment describes its syntax. The zero Template expands to the empty text.
type Template struct {
	field Field
	text  string
	parts []placeholder.Part
	// segments are the parts, with the environment and files filled in and adjacent literals
	// joined.
	segments atomic.Pointer[[]segment]
}

// A segment is a literal, or a placeholder whose value comes from each session.
type segment struct {
	placeholder.Part
	// separator is the character that the value must not contain, if any.
	separator string
}

// ValueError is the error for a value that a template cannot use. It does not contain the
// value.
type ValueError struct {
	// Placeholder is its canonical name, such as "client_id" or "attrs.site".
	Placeholder string
	// Problem describes what is wrong with the value.
	Problem string
}

// Error names the placeholder and the problem.
func (e *ValueError) Error() string { return "${" + e.Placeholder + "} " + e.Problem }

// ParseTemplate reads a template for the given field, with the environment variables and files
// it names. The error gives the position of a mistake as a byte of text, counted from 1, and
// what is allowed there. It does not repeat literal text, which may be a password.
func ParseTemplate(text string, field Field) (*Template, error) {
	if len(text) > maxField {
		return nil, errTooLong
	}
	parts, err := grammar().Parse(text)
	if err != nil {
		return nil, err
	}
	t := &Template{field: field, text: text, parts: parts}
	if err := t.Reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// Reload reads the environment variables and files again. If that fails, the template keeps its
// values.
func (t *Template) Reload() error {
	segments, err := resolve(t.parts, t.field)
	if err != nil {
		return err
	}
	t.segments.Store(&segments)
	return nil
}

// Expand returns the text for a session. A value that the template cannot use is
// a [*ValueError]; the only other error is a result of more than 65535 bytes.
//
// Expand does no I/O. It allocates the result, or nothing if the template is a
// single placeholder or has none.
func (t *Template) Expand(v Values) (string, error) {
	if t.scoped() {
		return t.expandScoped(&v)
	}
	segments := t.resolved()
	if len(segments) == 1 {
		return t.expandAlone(&segments[0], &v)
	}
	var buffer [256]byte
	text := buffer[:0]
	for i := range segments {
		value, err := t.value(&segments[i], &v)
		if err != nil {
			return "", err
		}
		if len(text)+len(value) > maxField {
			return "", errTooLong
		}
		text = append(text, value...)
	}
	return string(text), nil
}

var errTooLong = errors.New("the template makes more than the 65535 bytes of an MQTT field")

// expandAlone returns the value that the device sent, which may be empty.
func (t *Template) expandAlone(s *segment, v *Values) (string, error) {
	if s.Name == "client_id" || s.Name == "username" {
		if value, _ := v.lookup(&s.Part); value == "" {
			return "", nil
		}
	}
	value, err := t.value(s, v)
	if len(value) > maxField {
		return "", errTooLong
	}
	return value, err
}

// value returns the text for s. Literals were checked when they were resolved.
func (t *Template) value(s *segment, v *Values) (string, error) {
	if s.Name == "" {
		return s.Text, nil
	}
	value, found := v.lookup(&s.Part)
	problem := ""
	switch {
	case !found:
		problem = "is not among the attributes of the grant"
	case value == "":
		problem = "has no value"
	case s.separator != "" && strings.Contains(value, s.separator):
		problem = "contains the character that separates it from the next placeholder"
	default:
		problem = t.field.fault(value)
	}
	if problem != "" {
		return "", &ValueError{Placeholder: s.String(), Problem: problem}
	}
	return value, nil
}

func (t *Template) resolved() []segment {
	if segments := t.segments.Load(); segments != nil {
		return *segments
	}
	return nil
}

// Placeholders returns the canonical names of the placeholders, such as "subject", "attrs.site"
// or "env:HOME", each once.
func (t *Template) Placeholders() []string {
	var names []string
	for _, p := range t.parts {
		if p.Name != "" && !slices.Contains(names, p.String()) {
			names = append(names, p.String())
		}
	}
	return names
}

// Is reports whether the template consists of the placeholder with that name and nothing else.
// If Is("client_id") is true, the device's client identifier is passed on unchanged.
func (t *Template) Is(name string) bool {
	return len(t.parts) == 1 && name != "" && t.parts[0].String() == name
}

// Secret reports whether the template must not be shown: it uses the token, the
// environment or a file, or it is a password with literal text.
func (t *Template) Secret() bool {
	return slices.ContainsFunc(t.parts, func(p placeholder.Part) bool {
		switch p.Name {
		case "token", "env", "file":
			return true
		}
		return p.Name == "" && t.field == Password
	})
}

// Format prints the text of the template for every verb, or a mask if [Template.Secret] is
// true.
func (t *Template) Format(s fmt.State, _ rune) {
	text := t.text
	if t.Secret() {
		text = "upstream.Template(masked)"
	}
	_, _ = io.WriteString(s, text)
}

// identifies reports whether the broker identifies devices by the field.
func (f Field) identifies() bool { return f != Password }

// fault returns why the field cannot have the value, or "". Control characters are refused in
// names, because a receiver may close the connection for them (MQTT 5.0 section 1.5.4).
func (f Field) fault(value string) string {
	switch {
	case f == Password:
		return ""
	case !utf8.ValidString(value):
		return "is not valid UTF-8"
	case strings.ContainsFunc(value, isControl):
		return "contains a control character"
	}
	return ""
}
