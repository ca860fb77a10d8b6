package websocket

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// ErrNotHTTP is returned for a connection that does not begin with an HTTP request. It is not
// answered.
var ErrNotHTTP = errors.New("not an HTTP request")

// StatusError is the error for a request that was refused. The client has received the status
// and the text, unless the text is only for the operator.
type StatusError struct {
	Status int
	Text   string
	// Origin is the origin of the browser's page, if the request was refused because of it.
	Origin string
}

// Error formats the error for a log. It contains nothing of the request but the Origin, because
// a path or a query may contain a token.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("HTTP %d: %s", e.Status, e.Text)
	if e.Origin != "" {
		text += fmt.Sprintf(" (%.100q)", e.Origin)
	}
	return text
}

// Endpoint accepts WebSocket connections. Its fields must not change after the first Accept.
// Any number of goroutines may call Accept at once.
type Endpoint struct {
	// Paths are the accepted URL paths, such as /mqtt.
	Paths []string
	// Origins are the pages and apps that may connect, in addition to pages of the same host:
	// https://app.example, https://*.app.example, file://, app://., null, or * for all.
	Origins []string
	// Trusted are the networks of reverse proxies whose X-Forwarded-For or Forwarded header is
	// used.
	Trusted []netip.Prefix

	buffers bufferPool
}

// Request has the properties of the request that opened a connection.
type Request struct {
	// Client is the address from a trusted reverse proxy, or invalid if there is none.
	Client netip.Addr

	header http.Header
	query  url.Values
}

// Header returns the values of a header field.
func (r *Request) Header(name string) []string { return r.header.Values(name) }

// Query returns the values of a parameter in the URL.
func (r *Request) Query(name string) []string { return r.query[name] }

// Bearer returns the credentials of every Authorization header with the scheme Bearer (RFC 6750
// section 2.1).
func (r *Request) Bearer() (tokens []string) {
	for _, v := range r.header.Values("Authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if strings.EqualFold(scheme, "Bearer") {
			tokens = append(tokens, strings.Trim(token, " "))
		}
	}
	return tokens
}

// Accept reads a request from nc and answers it. peer is the address at the other end of nc.
// The error is [ErrNotHTTP], a [*StatusError], or that of nc. Accept does not close nc.
func (e *Endpoint) Accept(nc net.Conn, peer netip.Addr) (*Conn, *Request, error) {
	r, err := readRequest(nc)
	if err == nil {
		err = e.check(r)
	}
	var request *Request
	if err == nil {
		request, err = e.requestOf(r, peer)
	}
	var refused *StatusError
	switch {
	case errors.As(err, &refused):
		if werr := refuse(nc, refused); werr != nil {
			return nil, nil, werr
		}
		return nil, nil, refused
	case err != nil:
		return nil, nil, err
	}
	if err := agree(nc, r); err != nil {
		return nil, nil, err
	}
	return &Conn{Conn: nc, buffers: &e.buffers}, request, nil
}

// requestOf keeps the properties that may be needed later.
func (e *Endpoint) requestOf(r *http.Request, peer netip.Addr) (*Request, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &StatusError{Status: http.StatusBadRequest, Text: "the query of the URL cannot be read"}
	}
	client, err := e.client(r.Header, peer)
	if err != nil {
		return nil, err
	}
	return &Request{Client: client, header: r.Header, query: query}, nil
}

// The subprotocols that carry MQTT. The standard requires mqtt ([MQTT-6.0.0-3]); clients of
// MQTT 3.1 ask for the other.
const (
	subprotocol    = "mqtt"
	oldSubprotocol = "mqttv3.1"
)

// check checks what RFC 6455 section 4.2.1 and MQTT 5.0 section 6 require of a request.
func (e *Endpoint) check(r *http.Request) error {
	switch {
	case !slices.Contains(e.Paths, r.URL.Path):
		return &StatusError{Status: http.StatusNotFound, Text: "there is no endpoint at this path"}
	case r.Method != http.MethodGet:
		return &StatusError{Status: http.StatusMethodNotAllowed, Text: "only GET is allowed here"}
	case !r.ProtoAtLeast(1, 1) || r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return badRequest("the request must be a GET of HTTP/1.1 without a body")
	case !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade"):
		return &StatusError{Status: http.StatusUpgradeRequired, Text: "this is MQTT over WebSocket: connect with an MQTT client"}
	case r.Header.Get("Sec-WebSocket-Version") != version:
		return &StatusError{Status: http.StatusUpgradeRequired, Text: "only version 13 of the WebSocket protocol is supported"}
	case !goodKey(r.Header.Values("Sec-WebSocket-Key")):
		return badRequest("Sec-WebSocket-Key is missing or does not have 16 bytes")
	case chosen(r.Header) == "":
		return badRequest("the client must offer the subprotocol mqtt")
	}
	return e.checkOrigin(r.Header.Values("Origin"), r.Host)
}

const version = "13"

func badRequest(text string) error {
	return &StatusError{Status: http.StatusBadRequest, Text: text}
}

func goodKey(keys []string) bool {
	if len(keys) != 1 {
		return false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(keys[0])
	return err == nil && len(b) == 16
}

// chosen returns the subprotocol to use, or "" if none was offered.
func chosen(h http.Header) string {
	offered := tokens(h, "Sec-WebSocket-Protocol")
	for _, name := range []string{subprotocol, oldSubprotocol} {
		if slices.Contains(offered, name) {
			return name
		}
	}
	return ""
}

// tokens returns the elements of a header field that has a list.
func tokens(h http.Header, name string) (all []string) {
	for _, line := range h.Values(name) {
		for element := range strings.SplitSeq(line, ",") {
			all = append(all, strings.Trim(element, " \t"))
		}
	}
	return all
}

func hasToken(h http.Header, name, token string) bool {
	return slices.ContainsFunc(tokens(h, name), func(t string) bool { return strings.EqualFold(t, token) })
}

// keySuffix is appended to the key before it is hashed (RFC 6455 section 1.3).
const keySuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// agree sends the answer that switches the connection to WebSocket.
func agree(nc net.Conn, r *http.Request) error {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + keySuffix))
	_, err := fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]), chosen(r.Header))
	return err
}

// refuse answers with a status. The caller closes the connection.
func refuse(nc net.Conn, e *StatusError) error {
	extra := ""
	switch e.Status {
	case http.StatusUpgradeRequired:
		extra = "Upgrade: websocket\r\nSec-WebSocket-Version: " + version + "\r\n"
	case http.StatusMethodNotAllowed:
		extra = "Allow: GET\r\n"
	}
	_, err := fmt.Fprintf(nc, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"+
		"Connection: close\r\n%sContent-Length: %d\r\n\r\n%s\n", e.Status, http.StatusText(e.Status), extra, len(e.Text)+1, e.Text)
	return err
}
