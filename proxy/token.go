package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// TokenLocation is a place of a CONNECT in which a token may sit. Make one with
// [ParseTokenLocation]; the zero value is the user name.
type TokenLocation struct {
	place place
	name  string // of the user property, header field or parameter
}

type place uint8

const (
	username place = iota
	password
	clientID
	userProperty
	authData
	webSocketBearer
	webSocketHeader
	webSocketQuery
	certificate
	certificateCN
	certificateSAN
)

const (
	userPropertyPrefix = "user_property:"
	headerPrefix       = "websocket_header:"
	queryPrefix        = "query:"
	certificatePrefix  = "certificate:"
)

// ParseTokenLocation reads one of username, password, client_id,
// user_property:NAME, auth_data, websocket_header, websocket_header:NAME, query:NAME,
// certificate, certificate_cn and certificate_san. User properties and
// authentication data exist in MQTT 5.0 only (sections 3.1.2.11.8 and
// 3.1.2.11.10). The next three are of the request that opens a WebSocket connection:
// the bearer token of its Authorization, any header field, and a parameter of its
// URL. The token of a certificate is "certificate:" and the SHA-256 of the
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
	case "websocket_header":
		return TokenLocation{place: webSocketBearer}, nil
	case "certificate":
		return TokenLocation{place: certificate}, nil
	case "certificate_cn":
		return TokenLocation{place: certificateCN}, nil
	case "certificate_san":
		return TokenLocation{place: certificateSAN}, nil
	}
	for p, prefix := range namedPlaces() {
		if name, ok := strings.CutPrefix(s, prefix); ok && name != "" {
			return TokenLocation{place: p, name: name}, nil
		}
	}
	return TokenLocation{}, fmt.Errorf("unknown token location %q: want username, password, client_id, user_property:NAME, auth_data, websocket_header, websocket_header:NAME, query:NAME, certificate, certificate_cn or certificate_san", s)
}

// String returns the location in the form that [ParseTokenLocation] reads.
func (l TokenLocation) String() string {
	if prefix, ok := namedPlaces()[l.place]; ok {
		return prefix + l.name
	}
	return [...]string{username: "username", password: "password", clientID: "client_id", authData: "auth_data", webSocketBearer: "websocket_header", certificate: "certificate", certificateCN: "certificate_cn", certificateSAN: "certificate_san"}[l.place]
}

// namedPlaces are the places that have names, and how they are written before these.
func namedPlaces() map[place]string {
	return map[place]string{userProperty: userPropertyPrefix, webSocketHeader: headerPrefix, webSocketQuery: queryPrefix}
}

// find returns the token if there is something at this location, even something
// empty.
func (l TokenLocation) find(conn *conn) (authz.Token, bool) {
	c := conn.in
	switch l.place {
	case username:
		return authz.NewToken(c.Username), c.HasUsername
	case password:
		return authz.NewToken(c.Password), c.HasPassword
	case clientID:
		return authz.NewToken(c.ClientID), c.ClientID != ""
	case userProperty:
		v, ok := c.Properties.UserProperty(l.name)
		return authz.NewToken(v), ok
	case authData:
		v, ok := c.Properties.AuthenticationData()
		return authz.NewToken(string(v)), ok
	case webSocketBearer, webSocketHeader, webSocketQuery:
		return l.findInRequest(conn.opening)
	}
	if name := l.nameIn(conn.peer); name != "" {
		return authz.NewToken(certificatePrefix + name), true
	}
	return authz.Token{}, false
}

// findInRequest looks at the request of a WebSocket connection. What stands there
// twice is taken for an empty token: nobody could say which one counts.
func (l TokenLocation) findInRequest(r *websocket.Request) (authz.Token, bool) {
	if r == nil {
		return authz.Token{}, false
	}
	var values []string
	switch l.place {
	case webSocketBearer:
		values = r.Bearer()
	case webSocketHeader:
		values = r.Header(l.name)
	case webSocketQuery:
		values = r.Query(l.name)
	}
	if len(values) != 1 {
		return authz.NewToken(""), len(values) > 1
	}
	// A string of its own: header fields share one copy of the whole request.
	return authz.NewToken(strings.Clone(values[0])), true
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
		if t, ok := l.find(c); ok {
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
