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

// position is where in a request a value stands; it decides how the value is
// escaped and what cannot stand there at all.
type position uint8

const (
	inPath position = iota
	inQuery
	inForm
	inJSON
	inHeader
)

const (
	// maxValue is the longest value in bytes: the longest field of a CONNECT
	// (MQTT 5.0 section 1.5.4).
	maxValue = 65535
	// maxLineValue is the same for the URL and the headers. Servers answer
	// longer ones with 414 and 431, which one device could use to make the
	// service look ill.
	maxLineValue = 4096
)

// template is text with places for variables.
type template []part

// part is literal text, or a variable.
type part struct {
	text     string
	variable *variable
	at       position
}

// invalidValue means that a value cannot be used where the template has its variable.
type invalidValue struct {
	variable string
	why      string
}

func (e *invalidValue) Error() string { return "${" + e.variable + "} " + e.why }

// append appends the template's text for the request that in holds.
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

// shows reports whether the variable of that name stands in the template.
func (t template) shows(name string) bool {
	return slices.ContainsFunc(t, func(p part) bool { return p.variable != nil && p.variable.name == name })
}

// rejects returns why value cannot be used at p, or nothing if it can.
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
		return "holds a control character"
	case p == inHeader && strings.Trim(value, " ") != value:
		// net/http and many servers trim it: another token would be checked
		// than the one that was shown.
		return "begins or ends with a space"
	case p == inPath && leavesRoute(value):
		return "is no path segment"
	}
	return ""
}

// leavesRoute reports whether a path with value in it may end up at another route
// of a server that decodes and cleans paths before it looks.
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

// appendJSON appends value, which is valid UTF-8, as it stands between the
// quotes of a JSON string (RFC 8259 section 7).
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

// compiler turns the texts of one request into templates.
type compiler struct {
	grammar placeholder.Grammar
	// passwordIsToken: no template names the token, so ${password} is it.
	passwordIsToken bool
	// used collects the names of all variables.
	used map[string]bool
}

// compile reads text, whose variables all stand at one position.
func (c *compiler) compile(text string, at position) (template, error) {
	if strings.Contains(text, "${peerport}") {
		return nil, errors.New("${peerport} is new with every connection, so that no answer would ever be reused; leave it out")
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

// json reads a text that is JSON, with variables inside its strings.
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
			return nil, fmt.Errorf(`${%s} stands outside quotes; write "${%[1]s}"`, p.variable.name)
		}
	}
	if !json.Valid([]byte(t.sample())) {
		return nil, errors.New("not valid JSON")
	}
	return t, nil
}

// url reads a URL with variables in its path and query.
func (c *compiler) url(text string) (template, error) {
	path, _, _ := strings.Cut(text, "?")
	scheme, rest, found := strings.Cut(path, "://")
	host, _, _ := strings.Cut(rest, "/")
	switch {
	case text == "":
		return nil, errors.New("missing; it is where the service is: https://host/path")
	case !found || scheme != "https" && scheme != "http":
		return nil, errors.New("must begin with https:// or http://")
	case host == "" || strings.Contains(host, "$"):
		return nil, errors.New("a host name without variables must follow ://")
	case strings.Contains(host, "@"):
		return nil, errors.New("no user name and password in it; put them into the basic file")
	case strings.Contains(text, "#"):
		return nil, errors.New("no fragment (#...) in it; servers never see one")
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
		// The error of url.Parse repeats the text, which may hold secrets.
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

// refusal is the denial of a request that cannot be put to the service.
func (e *invalidValue) refusal() *authz.Denial {
	reason := authz.NotAuthorized
	if e.variable == "token" || e.variable == "token_b64" {
		reason = authz.Unknown
	}
	return &authz.Denial{Reason: reason, Detail: "the service is not asked: " + e.Error()}
}
