package tokenhttp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// name gives the grant the names that its answer left out.
//
// A name may depend on nothing that the device is free to choose: the holder of one
// token could otherwise pass for any device. The user name therefore counts only where
// the service has checked it together with the token, or names it itself.
func (p *reader) name(g *authz.Grant, r *authz.Request) error {
	// Both are logged. A device whose token is its name has a weak token, but is let in.
	if contains(g.TokenID, r.Token) {
		g.TokenID = ""
	}
	if contains(g.Subject, r.Token) {
		g.Subject = ""
	}
	if p.pair && g.Keep.Narrow {
		g.Keep.Vary |= authz.PartUsername
	}
	if g.TokenID == "" {
		g.TokenID = p.handle(r)
	}
	if g.Subject == "" {
		g.Subject = p.username(g, r)
	}
	if g.Subject == "" || contains(g.Subject, r.Token) {
		g.Subject = g.TokenID
	}
	if len(g.Subject) > maxSubject {
		return &deviceFault{"the user name cannot be a subject: it is longer than 256 bytes"}
	}
	return nil
}

// handle makes a name for the credential: the token, or user name and token where
// devices with user names of their own may share a password.
func (p *reader) handle(r *authz.Request) string {
	hash := r.Token.Hash()
	if p.pair && r.Username != "" {
		hash = sha256.Sum256(append(hash[:], r.Username...))
	}
	return hex.EncodeToString(hash[:8])
}

// username returns the user name that may be used as the subject, or nothing.
func (p *reader) username(g *authz.Grant, r *authz.Request) string {
	if p.pair {
		return r.Username
	}
	if only := g.Only.Usernames; len(only) == 1 && !strings.HasSuffix(only[0], "*") {
		return only[0]
	}
	return ""
}

// deviceFault is why the answer to what a device sent cannot become a grant: the
// device chose a value that cannot stand where its service put it. It is a denial; the
// service did nothing wrong.
type deviceFault struct{ why string }

func (f *deviceFault) Error() string { return f.why }
