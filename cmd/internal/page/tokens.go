package page

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// Listener is where devices connect.
type Listener struct {
	Name string
	Port int
	TLS  bool
	// CA is the name of the file that a device needs to trust the listener. It is empty if its
	// certificate is not of the proxy's own authority.
	CA string
}

// tokens is what the list of tokens shows.
type tokens struct {
	admin.TokenList
	Search, State string
	States        []string
	Pages         pages
}

func (p *Page) tokens(r *request) (any, error) {
	t := tokens{Search: strings.TrimSpace(r.query.Get("q")), State: r.query.Get("state"), States: tokenfile.States()}
	q := admin.TokenQuery{Source: r.query.Get("source"), Match: pattern(t.Search), State: t.State, Limit: pageSize}
	// The number of the page says where it begins, before it is known how many there are.
	q.First = (pageNumber(r.query) - 1) * pageSize
	var err error
	if t.TokenList, err = p.API.ListTokens(r, q); err != nil {
		return nil, tokenFault(err)
	}
	t.Pages = newPages("/tokens", r.query, t.Total, pageSize)
	return t, nil
}

// pattern returns the pattern for a search, which is for a part of the text unless it has
// wildcards.
func pattern(search string) string {
	if search == "" || strings.ContainsAny(search, "*?") {
		return search
	}
	return "*" + search + "*"
}

// tokenFault returns an error of the API as the user sees it.
func tokenFault(err error) error {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, admin.ErrNoStore), errors.Is(err, tokenfile.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, admin.ErrTooMany):
		status = http.StatusServiceUnavailable
	}
	return &statusError{status, "This cannot be done: " + err.Error() + "."}
}

// oneToken is what the page of a token shows.
type oneToken struct {
	admin.Token
	Source string
}

func (p *Page) token(r *request) (any, error) {
	t, err := p.findToken(r, r.query)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// findToken returns the token that a query or a form names.
func (p *Page) findToken(ctx context.Context, form url.Values) (oneToken, error) {
	id := form.Get("id")
	if id == "" {
		return oneToken{}, &statusError{http.StatusBadRequest, "Name the token: /token?id=ID."}
	}
	list, err := p.API.ListTokens(ctx, admin.TokenQuery{Source: form.Get("source"), ID: id, Limit: 1})
	if err != nil {
		return oneToken{}, tokenFault(err)
	}
	if len(list.Tokens) == 0 {
		return oneToken{}, &statusError{http.StatusNotFound, "There is no such token. It may have been revoked."}
	}
	return oneToken{list.Tokens[0], list.Source}, nil
}

// Path returns the path of a page about the token.
func (t oneToken) Path(path string) string {
	return path + "?" + url.Values{"source": {t.Source}, "id": {t.ID}}.Encode()
}

// created is what is shown of a new token, once.
type created struct {
	tokenfile.Created
	Commands []command
	Topic    string
}

// command is a command that uses a new token.
type command struct{ Title, Text string }

// newlyCreated returns what to show of a new token.
func (p *Page) newlyCreated(r *http.Request, made tokenfile.Created) result {
	c := created{Created: made}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	program, topic, rest := "mosquitto_pub", "test", `-m '{"temperature":25}'`
	switch {
	case made.Role == authz.RoleReader && p.Telemetry != nil:
		program, topic, rest = "mosquitto_sub", "v1/devices/+/telemetry", "-v"
	case made.Role == authz.RoleReader:
		program, topic, rest = "mosquitto_sub", "'#'", "-v"
	case p.Telemetry != nil:
		topic = "v1/devices/me/telemetry"
	}
	if p.Listeners != nil {
		for _, l := range p.Listeners() {
			ca := ""
			if l.CA != "" {
				ca = " --cafile " + l.CA
			} else if l.TLS {
				ca = " --tls-use-os-certs"
			}
			c.Commands = append(c.Commands, command{"Listener " + l.Name, fmt.Sprintf(
				`%s%s -d -q 1 -h %s -p %d -t %s -u %s %s`, program, ca, host, l.Port, topic, made.Token.Reveal(), rest)})
		}
	}
	return result{template: "created", title: "Token of " + made.Name, data: c}
}

// expiryInput asks when a token expires.
func expiryInput() input {
	return input{Name: "expires", Label: "Expires", Options: []choice{
		{Value: "", Text: "never"}, {Value: "24h", Text: "in a day"}, {Value: "168h", Text: "in a week"}, {Value: "720h", Text: "in 30 days"}, {Value: "8760h", Text: "in a year"},
	}}
}

// expiryOf returns the time that an expiryInput has given.
func expiryOf(form url.Values) (time.Time, error) {
	text := form.Get("expires")
	if text == "" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, &statusError{http.StatusBadRequest, "Choose when the token expires."}
	}
	return time.Now().Add(d), nil
}

func (p *Page) askCreate(r *http.Request) (confirmation, error) {
	ask := confirmation{
		Title: "New token", Text: []string{"The token is shown once. Only its digest is kept."}, Button: "Create", Mild: true, Back: "/tokens",
		Inputs: []input{
			{Name: "subject", Label: "Device", Value: r.URL.Query().Get("subject"), Required: true, Note: "The subject: the name by which the broker, the log and this page know the device."},
			expiryInput(),
			{Name: "clientid", Label: "Client ids", Note: "Optional, separated by spaces. The token is then valid only for these; one that ends in * is a prefix."},
			{Name: "kind", Label: "Kind", Options: []choice{
				{Text: "device"}, {Value: "gateway", Text: "gateway, which may speak for the devices behind it"},
				{Value: "reader", Text: "reader, which may read what all devices send"},
			}},
			{Name: "comment", Label: "Comment"},
		},
	}
	sources, err := p.API.TokenSources()
	if err != nil {
		return ask, tokenFault(err)
	}
	if len(sources) > 1 {
		source := input{Name: "source", Label: "Source"}
		for _, name := range sources {
			source.Options = append(source.Options, choice{Value: name, Text: name})
		}
		ask.Inputs = append(ask.Inputs, source)
	}
	return ask, nil
}

func (p *Page) create(r *http.Request) (result, error) {
	expires, err := expiryOf(r.PostForm)
	if err != nil {
		return result{}, err
	}
	options := tokenfile.CreateOptions{
		Name: strings.TrimSpace(r.PostForm.Get("subject")), Expires: expires,
		ClientIDs: strings.Fields(r.PostForm.Get("clientid")), Comment: strings.TrimSpace(r.PostForm.Get("comment")),
	}
	switch r.PostForm.Get("kind") {
	case "":
	case "gateway":
		options.Gateway = true
	case "reader":
		options.Role = authz.RoleReader
	default:
		return result{}, &statusError{http.StatusBadRequest, "Choose what kind of token it is."}
	}
	made, err := p.API.CreateToken(r.Context(), r.PostForm.Get("source"), options)
	if err != nil {
		return result{}, tokenFault(err)
	}
	return p.newlyCreated(r, made), nil
}

func (p *Page) askRotate(r *http.Request) (confirmation, error) {
	t, err := p.findToken(r.Context(), r.URL.Query())
	return confirmation{
		Title: "Give " + t.Subject + " a new token?", Button: "Rotate", Back: t.Path("/token"), Mild: true,
		Text:   []string{"The new token is shown once. It has the conditions and the lifetime of the last one. When the old tokens of the device expire, the sessions that use them end."},
		Fields: []field{{"source", t.Source}, {"id", t.ID}},
		Inputs: []input{{Name: "overlap", Label: "The old tokens expire", Options: []choice{
			{Value: "24h", Text: "in a day"}, {Value: "168h", Text: "in a week"}, {Value: "720h", Text: "in 30 days"}, {Value: "", Text: "now"},
		}}},
	}, err
}

func (p *Page) rotate(r *http.Request) (result, error) {
	t, err := p.findToken(r.Context(), r.PostForm)
	if err != nil {
		return result{}, err
	}
	overlap, err := admin.ParseOverlap(r.PostForm.Get("overlap"))
	if err != nil {
		return result{}, &statusError{http.StatusBadRequest, "Choose when the old tokens expire."}
	}
	made, err := p.API.RotateToken(r.Context(), t.Source, t.Subject, overlap)
	if err != nil {
		return result{}, tokenFault(err)
	}
	return p.newlyCreated(r, made), nil
}

// askChange returns the function that asks for confirmation of a change of one token.
func (p *Page) askChange(like confirmation, title string) func(*http.Request) (confirmation, error) {
	return func(r *http.Request) (confirmation, error) {
		t, err := p.findToken(r.Context(), r.URL.Query())
		ask := like
		ask.Title, ask.Back = fmt.Sprintf(title, t.ID), t.Path("/token")
		ask.Fields = []field{{"source", t.Source}, {"id", t.ID}}
		return ask, err
	}
}

// changeToken returns the function that makes a change of one token.
func (p *Page) changeToken(c admin.TokenChange) func(*http.Request) (result, error) {
	return func(r *http.Request) (result, error) {
		t, err := p.findToken(r.Context(), r.PostForm)
		if err != nil {
			return result{}, err
		}
		expires, err := expiryOf(r.PostForm)
		if err != nil {
			return result{}, err
		}
		if err := p.API.ChangeToken(r.Context(), t.Source, c, expires, t.ID); err != nil {
			return result{}, tokenFault(err)
		}
		if c == admin.RevokeToken {
			return result{next: devicePath(t.Subject)}, nil
		}
		return result{next: t.Path("/token")}, nil
	}
}

// tokenChanges are the changes of tokens.
func (p *Page) tokenChanges() []change {
	return []change{
		{"/tokens/new", p.askCreate, p.create},
		{"/tokens/rotate", p.askRotate, p.rotate},
		{"/tokens/disable", p.askChange(confirmation{Button: "Disable", Text: []string{"The sessions that use it end, and its device is refused until the token is enabled again."}}, "Disable the token %s?"), p.changeToken(admin.DisableToken)},
		{"/tokens/enable", p.askChange(confirmation{Button: "Enable", Mild: true, Text: []string{"Its device may connect again."}}, "Enable the token %s?"), p.changeToken(admin.EnableToken)},
		{"/tokens/revoke", p.askChange(confirmation{Button: "Revoke", Text: []string{"The token is removed for good, and the sessions that use it end. This cannot be undone: to connect again, the device needs a new token."}}, "Revoke the token %s?"), p.changeToken(admin.RevokeToken)},
		{"/tokens/extend", p.askChange(confirmation{Button: "Change", Mild: true, Inputs: []input{expiryInput()}, Text: []string{"A live session ends at the expiry that the token had when the session began, or at the new one if that is earlier."}}, "When should the token %s expire?"), p.changeToken(admin.ExtendToken)},
	}
}
