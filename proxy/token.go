package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TokenLocation is a place of a CONNECT in which a token may sit. Make one with
// [ParseTokenLocation]; the zero value is the user name.
type TokenLocation struct {
	place    place
	property string // for userProperty: its name
}

type place uint8

const (
	username place = iota
	password
	clientID
	userProperty
	authData
	certificate
	certificateCN
	certificateSAN
)

const (
	userPropertyPrefix = "user_property:"
	certificatePrefix  = "certificate:"
)

// ParseTokenLocation reads one of username, password, client_id,
// user_property:NAME, auth_data, certificate, certificate_cn and certificate_san. User properties and
// authentication data exist in MQTT 5.0 only (sections 3.1.2.11.8 and
// 3.1.2.11.10). The token of a certificate is "certificate:" and the SHA-256 of the
// verified client certificate (DER), 64 hexadecimal digits in lower case;
// certificate_cn and certificate_san stand for "certificate:cn:" and its common
// name, and "certificate:san:" and the first of its alternative names. A token that
// begins so and comes from anywhere else is refused: a certificate is no
// secret, and whoever has seen one must not be able to write it as a user name.
func ParseTokenLocation(s string) (TokenLocation, error) {
	switch s {
	case "username":
		return TokenLocation{place: username}, nil
	case "password":
		return TokenLocation{place: password}, nil
	case "client_id":
		return TokenLocation{place: clientID}, nil
	case "auth_data":
		return TokenLocation{place: authData}, nil
	case "certificate":
		return TokenLocation{place: certificate}, nil
	case "certificate_cn":
		return TokenLocation{place: certificateCN}, nil
	case "certificate_san":
		return TokenLocation{place: certificateSAN}, nil
	}
	if name, ok := strings.CutPrefix(s, userPropertyPrefix); ok && name != "" {
		return TokenLocation{place: userProperty, property: name}, nil
	}
	return TokenLocation{}, fmt.Errorf("unknown token location %q: want username, password, client_id, user_property:NAME, auth_data, certificate, certificate_cn or certificate_san", s)
}

// String returns the location in the form that [ParseTokenLocation] reads.
func (l TokenLocation) String() string {
	if l.place == userProperty {
		return userPropertyPrefix + l.property
	}
	return [...]string{username: "username", password: "password", clientID: "client_id", authData: "auth_data", certificate: "certificate", certificateCN: "certificate_cn", certificateSAN: "certificate_san"}[l.place]
}

// find returns the token if there is something at this location, even something
// empty. peer is the client's certificate, nil without one.
func (l TokenLocation) find(c *packets.Connect, peer *x509.Certificate) (authz.Token, bool) {
	switch l.place {
	case username:
		return authz.NewToken(c.Username), c.HasUsername
	case password:
		return authz.NewToken(c.Password), c.HasPassword
	case clientID:
		return authz.NewToken(c.ClientID), c.ClientID != ""
	case userProperty:
		v, ok := c.Properties.UserProperty(l.property)
		return authz.NewToken(v), ok
	case authData:
		v, ok := c.Properties.AuthenticationData()
		return authz.NewToken(string(v)), ok
	}
	if name := l.nameIn(peer); name != "" {
		return authz.NewToken(certificatePrefix + name), true
	}
	return authz.Token{}, false
}

// nameIn returns the name of a certificate that the location asks for, empty if
// there is none.
func (l TokenLocation) nameIn(peer *x509.Certificate) string {
	if peer == nil {
		return ""
	}
	switch l.place {
	case certificate:
		return authz.CertificateFingerprint(peer)
	case certificateCN:
		if peer.Subject.CommonName != "" {
			return "cn:" + peer.Subject.CommonName
		}
	case certificateSAN:
		if names := authz.AlternativeNames(peer); len(names) > 0 {
			return "san:" + names[0]
		}
	}
	return ""
}

// takeToken finds the token of the CONNECT and where it was.
func (c *conn) takeToken() error {
	locations := c.policy.Token
	if len(locations) == 0 {
		locations = []TokenLocation{{}}
	}
	for _, l := range locations {
		if t, ok := l.find(c.in, c.peer); ok {
			c.token, c.location = t, l
			break
		}
	}
	switch {
	case c.location.place < certificate && strings.HasPrefix(c.token.Reveal(), certificatePrefix):
		return refuse(MalformedToken, errors.New("it is a certificate's, but no certificate was shown"))
	case !c.token.IsZero() && !c.token.Empty():
		return nil
	case !c.token.IsZero():
		return refuse(MalformedToken, errors.New("the token is empty"))
	case c.in.ClientID != "":
		return refuse(NoToken, fmt.Errorf("nothing at %v", locations))
	}
	return refuse(NoIdentity, fmt.Errorf("nothing at %v and no client id", locations))
}

// request is what the Authorizer is told. What is the token itself is not told
// twice.
func (c *conn) request() authz.Request {
	r := authz.Request{
		Token:    c.token,
		Addr:     c.addr,
		Listener: c.entry.name(),
		Peer:     c.peer,
		Protocol: c.in.Level,
		Purpose:  authz.Connect,
	}
	// Not one that was made up: it is new every time, and no remembered answer
	// would ever fit.
	if c.location.place != clientID && c.in.ClientID != "" {
		r.ClientID = c.clientID
	}
	if c.location.place != username {
		r.Username = c.in.Username
	}
	if c.location.place != password && c.in.HasPassword {
		r.Password = authz.NewToken(c.in.Password)
	}
	return r
}
