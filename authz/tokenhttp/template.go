package tokenhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/placeholder"
)

// position is the place of a value in a request. It determines how the value is escaped and
// which values are not allowed.
type position uint8

const (
	inPath position = iota
	inQuery
	inForm
	inJSON
	inHeader
)

const (
	// maxValue is the longest value in bytes: the longest field of a CONNECT (MQTT 5.0 section
	// 1.5.4).
	maxValue = 65535
	// maxLineValue is the same for the URL and the headers. Servers answer longer ones with 414
	// and 431, with which one device could make the service look faulty.
	maxLineValue = 4096
)

// template is text with variables.
type template []part

// part is literal text, or a variable.
type part struct {
	text     string
	variable *variable
	at       position
}

// invalidValue means that a value cannot be used at the position of its variable.
type invalidValue struct {
	variable string
	why      string
}

func (e *invalidValue) Error() string { return "${" + e.variable + "} " + e.why }

// append appends the template's text for the request in.
func (t template) append(b []byte, in *input) ([]byte, error) {
	for _, p := range t {
		if p.variable == nil {
			b = append(b, p.text...)
			continue
		}
		value := p.variable.value(in)
		if why := p.at.rejects(value); why != "" {
			return nil, &invalidValue{variable: p.variable.name, why: why}
		}
		b = p.at.escape(b, value)
	}
	return b, nil
}

// shows reports whether the template has the variable with that name.
func (t template) shows(name string) bool {
	return slices.ContainsFunc(t, func(p part) bool { return p.variable != nil && p.variable.name == name })
}

// rejects returns why value cannot be used at p, or "".
func (p position) rejects(value string) string {
	limit := maxValue
	if p != inJSON && p != inForm {
		limit = maxLineValue
	}
	control := strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
	switch {
	case len(value) > limit:
		return "is too long"
	case p == inJSON && !utf8.ValidString(value):
		return "is not UTF-8"
	case p == inHeader && control, p == inPath && control:
		return "contains a control character"
	case p == inHeader && strings.Trim(value, " ") != value:
		// net/http and many servers trim it, so a different token would be checked than the
		// device sent.
		return "begins or ends with a space"
	case p == inPath && leavesRoute(value):
		return "is not a path segment"
	}
	return ""
}

// leavesRoute reports whether a path that contains value may lead to another route of a server
// that decodes and cleans paths first.
func leavesRoute(value string) bool {
	segments := strings.FieldsFunc(value, func(r rune) bool { return r == '/' || r == '\\' })
	return len(segments) == 0 || slices.Contains(segments, ".") || slices.Contains(segments, "..")
}

func (p position) escape(b []byte, value string) []byte {
	switch p {
	case inPath:
		return append(b, url.PathEscape(value)...)
	case inQuery, inForm:
		return append(b, url.QueryEscape(value)...)
	case inJSON:
		return appendJSON(b, value)
	}
	return append(b, value...)
}

// appendJSON appends value, which is valid UTF-8, as the content of a JSON string (RFC 8259
// section 7).
func appendJSON(b []byte, value string) []byte {
	const hex = "0123456789abcdef"
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// compiler compiles the templates of one request.
type compiler struct {
	grammar placeholder.Grammar
	// passwordIsToken means that no template uses ${token}, so ${password} is the token.
	passwordIsToken bool
	// used has the names of all variables.
	used map[string]bool
}

// compile compiles text, whose variables all have the same position.
func (c *compiler) compile(text string, at position) (template, error) {
	if strings.Contains(text, "${peerport}") {
		return nil, errors.New("${peerport} is new with every connection, so no answer could ever be reused; remove it")
	}
	parts, err := c.grammar.Parse(text)
	t := make(template, len(parts))
	for i, p := range parts {
		t[i] = part{text: p.Text}
		if p.Name != "" {
			t[i] = part{variable: c.variable(p.Name), at: at}
		}
	}
	return t, err
}

func (c *compiler) variable(name string) *variable {
	v, _ := variableNamed(name) // the grammar has no other names
	if name == "password" && c.passwordIsToken {
		v.name, v.value = "token", tokenText
	}
	c.used[v.name] = true
	return &v
}

// json compiles a JSON text with variables inside its strings.
func (c *compiler) json(text string) (template, error) {
	t, err := c.compile(text, inJSON)
	if err != nil {
		return nil, err
	}
	quoted := false
	for _, p := range t {
		for i := 0; i < len(p.text); i++ {
			switch {
			case quoted && p.text[i] == '\\':
				i++
			case p.text[i] == '"':
				quoted = !quoted
			}
		}
		if p.variable != nil && !quoted {
			return nil, fmt.Errorf(`${%s} is outside quotes; write "${%[1]s}"`, p.variable.name)
		}
	}
	if !json.Valid([]byte(t.sample())) {
		return nil, errors.New("not valid JSON")
	}
	return t, nil
}

// url compiles a URL with variables in its path and query.
func (c *compiler) url(text string) (template, error) {
	path, _, _ := strings.Cut(text, "?")
	scheme, rest, found := strings.Cut(path, "://")
	host, _, _ := strings.Cut(rest, "/")
	switch {
	case text == "":
		return nil, errors.New("missing; set it to the address of the service: https://host/path")
	case !found || scheme != "https" && scheme != "http":
		return nil, errors.New("must begin with https:// or http://")
	case host == "" || strings.Contains(host, "$"):
		return nil, errors.New("a host name without variables must follow ://")
	case strings.Contains(host, "@"):
		return nil, errors.New("it must not contain a user name or password; put them into the basic file")
	case strings.Contains(text, "#"):
		return nil, errors.New("it must not have a fragment (#...), which is never sent to a server")
	}
	t, err := c.compile(text, inPath)
	if err != nil {
		return nil, err
	}
	query := false
	for i := range t {
		query = query || strings.Contains(t[i].text, "?")
		if query {
			t[i].at = inQuery
		}
	}
	if _, err := url.Parse(t.sample()); err != nil {
		// The error of url.Parse contains the text, which may contain secrets.
		return nil, errors.New("not a valid URL")
	}
	return t, nil
}

// sample returns the template's text with an x for each variable.
func (t template) sample() string {
	var b strings.Builder
	for _, p := range t {
		if p.variable != nil {
			b.WriteByte('x')
		}
		b.WriteString(p.text)
	}
	return b.String()
}

// refusal returns the denial of a request that cannot be sent to the service.
func (e *invalidValue) refusal() *authz.Denial {
	reason := authz.NotAuthorized
	if e.variable == "token" || e.variable == "token_b64" {
		reason = authz.Unknown
	}
	return &authz.Denial{Reason: reason, Detail: "the service is not asked: " + e.Error()}
}
