package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// tokenView is an entry as it is printed. It holds no secret.
type tokenView struct {
	ID          string            `json:"id"`
	Subject     string            `json:"subject"`
	Fingerprint string            `json:"fingerprint"`
	Password    bool              `json:"password,omitempty"` // instead of a token
	State       string            `json:"state"`
	Expires     *time.Time        `json:"expire_at,omitempty"`
	NotBefore   *time.Time        `json:"not_before,omitempty"`
	Created     *time.Time        `json:"created_at,omitempty"`
	LastSeen    *time.Time        `json:"last_seen,omitempty"`
	ClientIDs   []string          `json:"clientid,omitempty"`
	Usernames   []string          `json:"username,omitempty"`
	Addrs       []netip.Prefix    `json:"cidr,omitempty"`
	Certs       []string          `json:"certificate,omitempty"`
	Upstream    *upstreamView     `json:"upstream,omitempty"`
	Role        authz.Role        `json:"role,omitempty"`
	Gateway     bool              `json:"gateway,omitempty"`
	ACL         string            `json:"acl,omitempty"`
	Limits      json.RawMessage   `json:"limits,omitempty"`
	Attrs       map[string]string `json:"client_attrs,omitempty"`
	Comment     string            `json:"comment,omitempty"`
	Line        int               `json:"line,omitempty"` // of a file
}

// upstreamView is what the broker is shown for an entry, with the password masked.
type upstreamView struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	ClientID string `json:"clientid,omitempty"`
}

func viewsOf(entries []tokenfile.Entry, now time.Time) []tokenView {
	views := make([]tokenView, 0, len(entries))
	for _, e := range entries {
		v := tokenView{
			ID: e.ID, Subject: e.Subject, Fingerprint: e.Fingerprint, Password: e.Password, State: e.State(now),
			Expires: orNil(e.Expires), NotBefore: orNil(e.Only.NotBefore), Created: orNil(e.Created),
			ClientIDs: e.Only.ClientIDs, Usernames: e.Only.Usernames, Addrs: e.Only.Addrs,
			Certs: e.Only.Certificates, Role: e.Role, Gateway: e.Gateway, Attrs: e.Attrs, Comment: e.Comment, Line: e.Line,
		}
		if e.ACL != nil {
			v.ACL = e.ACL.String()
		}
		if !e.Limits.Equal(authz.Limits{}) {
			v.Limits = json.RawMessage(e.Limits.String())
		}
		if u := e.Upstream; u.Username != "" || !u.Password.IsZero() || u.ClientID != "" {
			v.Upstream = &upstreamView{Username: u.Username, ClientID: u.ClientID}
			if !u.Password.IsZero() {
				v.Upstream.Password = "***"
			}
		}
		views = append(views, v)
	}
	return views
}

// orNil returns t in UTC, nil for the zero time.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// printCreated prints the token alone on stdout, so that a script can take it.
func (t *tokens) printCreated(made tokenfile.Created) error {
	if made.Warning != "" {
		fmt.Fprintln(t.stderr, "warning:", made.Warning)
	}
	if !t.asJSON {
		shown := made.Token.Reveal()
		if made.Username != "" {
			shown = made.ID // the password is known already
		}
		_, err := fmt.Fprintln(t.stdout, shown)
		return err
	}
	return t.printJSON(viewOf(made))
}

// createdView is a new token as it is printed as JSON, once.
type createdView struct {
	ID       string     `json:"id"`
	Subject  string     `json:"subject"`
	Token    string     `json:"token,omitempty"`
	Username string     `json:"username,omitempty"`
	Expires  *time.Time `json:"expire_at,omitempty"`
}

func viewOf(made tokenfile.Created) createdView {
	return createdView{made.ID, made.Name, made.Token.Reveal(), made.Username, orNil(made.Expires)}
}

// printAllCreated prints a line for each token: the device, a tab and the token, or JSON.
func (t *tokens) printAllCreated(made []tokenfile.Created) error {
	out := bufio.NewWriter(t.stdout)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for _, m := range made {
		if t.asJSON {
			_ = enc.Encode(viewOf(m)) // out keeps the error
			continue
		}
		fmt.Fprintf(out, "%s\t%s\n", m.Name, m.Token.Reveal())
	}
	return out.Flush()
}

// printEach prints the texts, each on a line of its own.
func (t *tokens) printEach(prefix string, texts []string) error {
	out := bufio.NewWriter(t.stdout)
	for _, text := range texts {
		fmt.Fprintf(out, "%s%s\n", prefix, text)
	}
	return out.Flush()
}

func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
