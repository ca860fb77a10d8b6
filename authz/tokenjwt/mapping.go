package tokenjwt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

const (
	maxName  = 256 // bytes of a subject or of an attribute's name
	maxAttrs = 64
)

// mapping has the paths of the claims that become the parts of a grant.
type mapping struct {
	subject, clientID, username, acl, limits, role, gateway path
	attrs                                                   map[string]path
}

func (o *Options) mapping() (m mapping, err error) {
	if len(o.Attrs) > maxAttrs {
		return m, fmt.Errorf("attrs: %d are too many; at most %d", len(o.Attrs), maxAttrs)
	}
	m.attrs = make(map[string]path, len(o.Attrs))
	for _, p := range []struct {
		option, text string
		to           *path
	}{
		{"subject", o.Subject, &m.subject}, {"client_id", o.ClientID, &m.clientID}, {"username", o.Username, &m.username},
		{"acl", o.ACL, &m.acl}, {"limits", o.Limits, &m.limits}, {"role", o.Role, &m.role}, {"gateway", o.Gateway, &m.gateway},
	} {
		if *p.to, err = parsePath(p.text); err != nil {
			return m, fmt.Errorf("%s: %w", p.option, err)
		}
	}
	for name, text := range o.Attrs {
		if text == "" || name == "" || len(name) > maxName {
			return m, fmt.Errorf("attrs: %q: needs a name of 1 to %d bytes and the path of a claim", name, maxName)
		}
		if m.attrs[name], err = parsePath(text); err != nil {
			return m, fmt.Errorf("attrs: %q: %w", name, err)
		}
	}
	return m, nil
}

// fill sets the fields of g from the claims.
func (m *mapping) fill(g *authz.Grant, claims strictjson.Object) (err error) {
	claim, ok := m.subject.in(claims)
	if !ok {
		return fmt.Errorf("%s: missing", m.subject)
	}
	if g.Subject, err = nameOf(claim.Value, maxName); err != nil {
		return fmt.Errorf("%s: %w", m.subject, err)
	}
	if g.Only.ClientIDs, err = m.clientID.literals(claims); err != nil {
		return fmt.Errorf("%s: %w", m.clientID, err)
	}
	if g.Only.Usernames, err = m.username.literals(claims); err != nil {
		return fmt.Errorf("%s: %w", m.username, err)
	}
	if g.ACL, err = m.acl.rules(claims); err != nil {
		return fmt.Errorf("%s: %w", m.acl, err)
	}
	if claim, ok := m.limits.in(claims); ok {
		if g.Limits, err = authz.ParseLimits(claim.Raw); err != nil {
			return fmt.Errorf("%s: %w", m.limits, err)
		}
	}
	if claim, ok := m.role.in(claims); ok {
		name, _ := claim.Value.(string)
		if g.Role, err = authz.ParseRole(name); err != nil {
			return fmt.Errorf("%s: neither device nor reader", m.role)
		}
	}
	if claim, ok := m.gateway.in(claims); ok {
		if g.Gateway, ok = claim.Value.(bool); !ok {
			return fmt.Errorf("%s: neither true nor false", m.gateway)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.attrs)) {
		claim, ok := m.attrs[name].in(claims)
		if !ok {
			continue
		}
		text, err := scalarOf(claim.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", m.attrs[name], err)
		}
		if g.Attrs == nil {
			g.Attrs = make(map[string]string, len(m.attrs))
		}
		g.Attrs[name] = text
	}
	return nil
}

// literals returns patterns that match exactly the strings at p. A string that ends in * would
// be a pattern that matches several, and an empty list no condition at all; both are refused.
func (p path) literals(claims strictjson.Object) ([]string, error) {
	if p == nil {
		return nil, nil
	}
	claim, ok := p.in(claims)
	if !ok {
		return nil, errors.New("missing")
	}
	list, err := namesOf(claim.Value)
	if err == nil && len(list) == 0 {
		err = errors.New("an empty list")
	}
	for _, text := range list {
		if err == nil && strings.HasSuffix(text, "*") {
			err = errors.New("ends in *")
		}
	}
	return list, err
}

// rules returns the ACL at p, or nil if there is none.
func (p path) rules(claims strictjson.Object) (*authz.ACL, error) {
	claim, ok := p.in(claims)
	if !ok {
		return nil, nil
	}
	acl, err := authz.ParseACL(claim.Raw, authz.ACLOptions{})
	if err != nil {
		return nil, ruleFault(err)
	}
	return acl, nil
}

// ruleFault names the wrong rule, without the rest of the error, which contains parts of the
// token.
func ruleFault(err error) error {
	var n int
	if _, none := fmt.Sscanf(err.Error(), "acl: rule %d:", &n); none == nil {
		return fmt.Errorf("rule %d is not valid", n)
	}
	return errors.New("no valid topic rules")
}
