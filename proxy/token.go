package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// TokenLocation is a place where a client may send its token. [ParseTokenLocation] returns
// one; the zero value is the user name of the CONNECT.
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
	nowhere // of a client that is known by its user name and password
)

const (
	userPropertyPrefix = "user_property:"
	headerPrefix       = "websocket_header:"
	queryPrefix        = "query:"
	certificatePrefix  = "certificate:"
)

// ParseTokenLocation parses the name of a location:
//
//	username, password, client_id   fields of the CONNECT
//	user_property:NAME, auth_data   properties of the CONNECT, in MQTT 5.0 only (sections
//	                                3.1.2.11.8 and 3.1.2.11.10)
//	websocket_header                the bearer token in the Authorization field of the
//	                                request that opens a WebSocket connection
//	websocket_header:NAME           another header field of that request
//	query:NAME                      a parameter of its URL
//	certificate                     the verified client certificate
//	certificate_cn, certificate_san the common name of the certificate, and the first of its
//	                                alternative names
//
// The token of a certificate is "certificate:" and the SHA-256 of its DER form in 64
// hexadecimal digits of lower case, "certificate:cn:" and the common name, or
// "certificate:san:" and the alternative name. A token that begins like that and comes from
// any other location is refused: a certificate is no secret, so its token must not be
// accepted as a user name.
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

// namedPlaces returns the places that have a name, with the prefix of their names.
func namedPlaces() map[place]string {
	return map[place]string{userProperty: userPropertyPrefix, webSocketHeader: headerPrefix, webSocketQuery: queryPrefix}
}

// find returns the token if there is a single value at this location, even an empty one.
func (l TokenLocation) find(connect *packets.Connect, a *arrival) (authz.Token, bool) {
	switch l.place {
	case username:
		return authz.NewToken(connect.Username), connect.HasUsername
	case password:
		return authz.NewToken(connect.Password), connect.HasPassword
	case clientID:
		return authz.NewToken(connect.ClientID), connect.ClientID != ""
	case userProperty:
		v, ok := connect.Properties.UserProperty(l.name)
		return authz.NewToken(v), ok
	case authData:
		v, ok := connect.Properties.AuthenticationData()
		return authz.NewToken(string(v)), ok
	case webSocketBearer, webSocketHeader, webSocketQuery:
		values := l.requestValues(a.opening)
		if len(values) != 1 {
			return authz.Token{}, false
		}
		// The fields of a header share one copy of the whole request.
		return authz.NewToken(strings.Clone(values[0])), true
	}
	if name := l.certificateName(a.peer); name != "" {
		return authz.NewToken(certificatePrefix + name), true
	}
	return authz.Token{}, false
}

// requestValues returns all values at this location of the request that has opened a
// WebSocket connection.
func (l TokenLocation) requestValues(r *websocket.Request) []string {
	if r == nil {
		return nil
	}
	switch l.place {
	case webSocketBearer:
		return r.Bearer()
	case webSocketHeader:
		return r.Header(l.name)
	case webSocketQuery:
		return r.Query(l.name)
	}
	return nil
}

// certificateName returns what this location takes from a certificate, empty if there is
// nothing.
func (l TokenLocation) certificateName(peer *x509.Certificate) string {
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
		if names := authz.AlternativeNames(peer); len(names) > 0 && names[0] != "" {
			return "san:" + names[0]
		}
	}
	return ""
}

// findCredentials finds the token and where it was, and the pair, if the Authorizer takes
// pairs. One of the two is enough.
func (c *conn) findCredentials() error {
	if connect := c.login.connect; authz.Takes(c.policy.Authorizer)&authz.Pairs != 0 {
		c.login.pair = authz.Pair{
			ClientID: strings.Clone(connect.ClientID), Username: connect.Username, Password: authz.NewToken(connect.Password),
		}
	}
	err := c.findToken()
	if errors.Is(err, errNoToken) && !c.login.pair.IsZero() {
		c.login.location = TokenLocation{place: nowhere}
		return nil
	}
	return err
}

// errNoToken is in the refusal of a client that has sent no token.
var errNoToken = errors.New("no token")

// findToken finds the token and where it was: the first location counts that is not
// empty. If there are several values at one location, none of them can be said to be the
// token, and the client is refused.
func (c *conn) findToken() error {
	locations := c.policy.tokenLocations()
	empty := false
	for _, l := range locations {
		if len(l.requestValues(c.arrival.opening)) > 1 {
			return refuse(MalformedToken, fmt.Errorf("there is more than one value at %v", l))
		}
		t, ok := l.find(c.login.connect, &c.arrival)
		if ok && !t.Empty() {
			c.login.token, c.login.location = t, l
			return c.checkToken()
		}
		empty = empty || ok
	}
	_, method := c.login.connect.Properties.AuthenticationMethod()
	switch {
	case empty:
		return refuse(MalformedToken, errors.New("the token is empty"))
	case method && c.ownsAuth():
		return refuse(WrongAuthMethod, fmt.Errorf("%w: no authentication data", errNoToken))
	case c.login.connect.ClientID != "":
		return refuse(NoToken, fmt.Errorf("%w at %v", errNoToken, locations))
	}
	return refuse(NoIdentity, fmt.Errorf("%w at %v and no client id", errNoToken, locations))
}

// ownsAuth reports whether enhanced authentication (MQTT 5.0 section 4.12) is between the client
// and the proxy. The broker is then sent neither the method nor any AUTH.
func (c *conn) ownsAuth() bool {
	return c.login.level == 5 && slices.Contains(c.policy.tokenLocations(), TokenLocation{place: authData})
}

// checkToken refuses the token of a certificate that was sent as text.
func (c *conn) checkToken() error {
	if c.login.location.place < certificate && strings.HasPrefix(c.login.token.Reveal(), certificatePrefix) {
		return refuse(MalformedToken, errors.New("it is a certificate's, but no certificate was shown"))
	}
	return nil
}

func (p *Policy) tokenLocations() []TokenLocation {
	if len(p.Token) == 0 {
		return []TokenLocation{{}}
	}
	return p.Token
}

// request returns the request for the Authorizer. The field of the CONNECT that is the token
// is left out.
func (c *conn) request() authz.Request {
	r := authz.Request{
		Token:    c.login.token,
		Pair:     c.login.pair,
		Addr:     c.arrival.addr,
		Listener: c.listener.name,
		Peer:     c.arrival.peer,
		Protocol: c.login.connect.Level,
		Purpose:  authz.Connect,
	}
	// A client id that was made up is left out: it is new for every connection, so a cache
	// would never find an answer.
	if c.login.location.place != clientID && c.login.connect.ClientID != "" {
		r.ClientID = strings.Clone(c.login.connect.ClientID)
	}
	if c.login.location.place != username {
		r.Username = c.login.connect.Username
	}
	if c.login.location.place != password && c.login.connect.HasPassword {
		r.Password = authz.NewToken(c.login.connect.Password)
	}
	return r
}
