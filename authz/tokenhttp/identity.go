package tokenhttp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// name sets the names in the grant that the answer does not have.
//
// A name must not depend on a value that the device is free to choose, or the holder of one
// token could impersonate any device. The user name is therefore used only if the service has
// checked it together with the token, or sends it itself.
func (p *reader) name(g *authz.Grant, r *authz.Request) error {
	// Both are logged. A device whose token is its name has a weak token, but is accepted.
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

// handle returns a name for the credential: for the token, or for user name and token if
// devices with different user names may share a password.
func (p *reader) handle(r *authz.Request) string {
	hash := r.Token.Hash()
	if p.pair && r.Username != "" {
		hash = sha256.Sum256(append(hash[:], r.Username...))
	}
	return hex.EncodeToString(hash[:8])
}

// username returns the user name that may be used as the subject, or "".
func (p *reader) username(g *authz.Grant, r *authz.Request) string {
	if p.pair {
		return r.Username
	}
	if only := g.Only.Usernames; len(only) == 1 && !strings.HasSuffix(only[0], "*") {
		return only[0]
	}
	return ""
}

// deviceFault is why an answer cannot become a grant because of a value that the device chose.
// It is a denial, since the service did nothing wrong.
type deviceFault struct{ why string }

func (f *deviceFault) Error() string { return f.why }
