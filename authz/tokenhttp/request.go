package tokenhttp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// requestBuilder builds requests from the templates of a preset and of the configuration.
type requestBuilder struct {
	method  string
	url     template
	query   template // appended to the URL's own query
	headers map[string]template
	// headers5 and body5 replace headers and body for MQTT 5, and binary replaces the body if
	// the token is not UTF-8. Nil means that there is no difference.
	headers5            map[string]template
	body, body5, binary template

	vars          []string // the variables that the answer may depend on, sorted
	deviceAuth    bool     // the Authorization header contains the token
	authorization bool     // a template sets Authorization
	secret        bool     // a template uses ${secret}
	pair          bool     // the body or the query contains the user name besides the token
}

// request is the configuration of a requestBuilder, completed from the preset.
type request struct {
	method, format      string
	body, body5, binary string
	headers, headers5   map[string]string
}

// compile returns the requestBuilder of o. Its error names every wrong template.
func (o *Options) compile(p *preset) (*requestBuilder, error) {
	q, err := o.request(p)
	if err != nil {
		return nil, err
	}
	all := o.URL + q.body + strings.Join(slices.Collect(maps.Values(q.headers)), " ")
	c := &compiler{
		grammar:         grammar(p.percent),
		passwordIsToken: !strings.Contains(all, "${token}") && !strings.Contains(all, "${token_b64}"),
		used:            make(map[string]bool),
	}
	a := &requestBuilder{method: q.method}
	var faults []error
	note := func(key string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	a.url, err = c.url(o.URL)
	note("url", err)
	note("headers", a.compileHeaders(c, q))
	note("body", a.compileBody(c, q))
	a.pair = a.body.shows("username") && a.body.shows("token") || a.query.shows("username") && a.query.shows("token")
	note("url, headers, body", a.collectVars(c))
	a.setDefaults(o, q.format)
	return a, errors.Join(faults...)
}

// request combines the configuration with the preset.
func (o *Options) request(p *preset) (*request, error) {
	q := &request{method: cmp.Or(o.Method, p.method), format: o.Format, body: o.Body, headers: maps.Clone(p.headers)}
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT"}, q.method) {
		return nil, errors.New("method: use GET, HEAD, POST or PUT")
	}
	bodiless := q.method == "GET" || q.method == "HEAD"
	switch {
	case q.format != "":
	case bodiless && p.bodies["form"] != "":
		q.format = "query"
	case bodiless:
		q.format = "none"
	case p.format == "none" && o.Body != "":
		q.format = "json"
	default:
		q.format = p.format
	}
	switch {
	case !slices.Contains([]string{"json", "form", "query", "none"}, q.format):
		return nil, errors.New("format: use json, form, query or none")
	case bodiless && (q.format == "json" || q.format == "form"):
		return nil, errors.New("format: GET and HEAD have no body; use query or none")
	case o.Body != "" && q.format == "none":
		return nil, errors.New("body: the format is none; remove the body or change the format")
	}
	if q.headers == nil {
		q.headers = make(map[string]string)
	}
	q.headers5 = maps.Clone(p.headers5)
	for name, text := range o.Headers {
		q.headers[name] = text
		if q.headers5 != nil {
			q.headers5[name] = text
		}
	}
	if q.body == "" && q.format != "none" {
		return q, q.standardBody(p)
	}
	return q, nil
}

// standardBody sets the body of the preset.
func (q *request) standardBody(p *preset) error {
	kind := q.format
	if kind == "query" {
		kind = "form"
	}
	q.body = p.bodies[kind]
	if q.body == "" {
		return errors.New("body: missing, the preset has none in this format")
	}
	if kind == "json" {
		q.body5, q.binary = p.body5, p.binary
	}
	return nil
}

func (a *requestBuilder) compileHeaders(c *compiler, q *request) (err error) {
	if a.headers, err = c.headers(q.headers); err != nil {
		return err
	}
	if q.headers5 != nil {
		c.used["proto_version"] = true
		a.headers5, err = c.headers(q.headers5)
	}
	for _, p := range a.headers["Authorization"] {
		v := p.variable
		a.deviceAuth = a.deviceAuth || v != nil && (v.name == "token" || v.name == "token_b64")
	}
	a.authorization = a.headers["Authorization"] != nil
	return err
}

func (c *compiler) headers(texts map[string]string) (map[string]template, error) {
	all := make(map[string]template, len(texts))
	for name, text := range texts {
		key := http.CanonicalHeaderKey(name)
		switch {
		case !validHeaderName(name):
			return nil, errors.New("a name that is not an HTTP header name")
		case slices.Contains([]string{"Host", "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer"}, key):
			return nil, fmt.Errorf("%s cannot be configured", key)
		case all[key] != nil:
			return nil, fmt.Errorf("%s is set twice", key)
		}
		t, err := c.compile(text, inHeader)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if why := inHeader.rejects(t.sample()); why != "" {
			return nil, fmt.Errorf("%s: the value %s", key, why)
		}
		all[key] = t
	}
	return all, nil
}

// validHeaderName reports whether name is a token (RFC 9110 section 5.6.2).
func validHeaderName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func (a *requestBuilder) compileBody(c *compiler, q *request) (err error) {
	read := c.json
	switch q.format {
	case "none":
		return nil
	case "query":
		a.query, err = c.compile(q.body, inQuery)
		return err
	case "form":
		read = func(text string) (template, error) { return c.compile(text, inForm) }
	}
	if a.body, err = read(q.body); err != nil {
		return err
	}
	if q.body5 != "" {
		c.used["proto_version"] = true
		if a.body5, err = read(q.body5); err != nil {
			return err
		}
	}
	if q.binary != "" {
		a.binary, err = read(q.binary)
	}
	return err
}

// collectVars lists the variables that the answer may depend on.
func (a *requestBuilder) collectVars(c *compiler) error {
	if !c.used["token"] && !c.used["token_b64"] {
		return errors.New("neither ${token} nor ${password} is used: the service could not check the token")
	}
	a.secret = c.used["secret"]
	for _, v := range allVariables() {
		switch {
		case !c.used[v.name] || v.neutral:
		case v.name == "token_b64":
			a.vars = append(a.vars, "token")
		default:
			a.vars = append(a.vars, v.name)
		}
	}
	slices.Sort(a.vars)
	a.vars = slices.Compact(a.vars)
	return nil
}

// setDefaults adds the headers that are not set.
func (a *requestBuilder) setDefaults(o *Options, format string) {
	defaults := map[string]string{"Accept": "application/json", "User-Agent": o.UserAgent}
	switch format {
	case "json":
		defaults["Content-Type"] = "application/json"
	case "form":
		defaults["Content-Type"] = "application/x-www-form-urlencoded"
	}
	for _, headers := range []map[string]template{a.headers, a.headers5} {
		for name, text := range defaults {
			if headers != nil && headers[name] == nil {
				headers[name] = template{{text: text}}
			}
		}
	}
}

// message returns the request for r. Its error is an *invalidValue.
func (a *requestBuilder) message(r *authz.Request, secret string) (*message, error) {
	in := &input{request: r, secret: secret}
	target, err := a.url.append(make([]byte, 0, 256), in)
	if err != nil {
		return nil, err
	}
	if a.query != nil {
		separator := byte('?')
		if slices.Contains(target, '?') {
			separator = '&'
		}
		if target, err = a.query.append(append(target, separator), in); err != nil {
			return nil, err
		}
	}
	headers, body := a.headers, a.body
	if r.Protocol == 5 && a.headers5 != nil {
		headers = a.headers5
	}
	switch {
	case a.binary != nil && !utf8.ValidString(r.Token.Reveal()):
		body = a.binary
	case r.Protocol == 5 && a.body5 != nil:
		body = a.body5
	}
	m := &message{method: a.method, url: string(target), header: make(http.Header, len(headers)+2)}
	for name, t := range headers {
		value, err := t.append(nil, in)
		if err != nil {
			return nil, err
		}
		m.header[name] = []string{string(value)}
	}
	if body != nil {
		m.body, err = body.append(make([]byte, 0, 256), in)
	}
	return m, err
}
