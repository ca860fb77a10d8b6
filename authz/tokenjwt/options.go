package tokenjwt

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Keys says where the keys come from: exactly one field is set.
type Keys struct {
	// URL is the address of a JWK Set: https, or http on this machine, without user
	// information. It is requested with GET; redirects are not followed.
	URL string
	// File is the path of a JWK Set.
	File string
	// PEM is the path of one or more public keys ("PUBLIC KEY" as in RFC 5280, or
	// "RSA PUBLIC KEY" as in PKCS #1).
	PEM string
	// Secret is the path of a secret of at least 32 bytes: the content of the file without one
	// line end after it or, if it begins with "base64:", the decoded rest.
	Secret string
}

// TLSFiles are the PEM files for requests to an https URL. They are read each time before the
// keys are, so a new certificate is used the next time.
type TLSFiles struct {
	// CA has the authorities for the issuer's certificate; empty means those of the system.
	CA string
	// Certificate and Key are the client certificate that is presented to the issuer; both are
	// set or neither is.
	Certificate, Key string
	// ServerName is the name in the issuer's certificate; empty means the host of the URL.
	ServerName string
}

// Options says where the keys of a [Source] are and what it requires of tokens. Only Keys must
// be set.
type Options struct {
	Keys Keys
	// StartWithoutKeys lets Open return before there are keys. Until then tokens are neither
	// granted nor denied.
	StartWithoutKeys bool
	// Refresh is the longest time until the keys are read again, at least 10 s; 0 means 300 s
	// for a URL and 10 s for a file. The max-age of an answer may shorten it to 10 s.
	Refresh time.Duration
	// Timeout limits one read of the keys; 0 means 5 s.
	Timeout time.Duration
	// TLS is for requests to an https URL.
	TLS TLSFiles

	// Algorithms restricts the alg of tokens; empty means all that the keys can be used with.
	Algorithms []string
	// Issuers lists the accepted iss claims; empty means any.
	Issuers []string
	// Audiences lists the accepted aud claims, of which a token must name one. Empty means that
	// tokens must not have an aud (RFC 7519 section 4.1.3).
	Audiences []string
	// AnyAudience accepts tokens for every audience.
	AnyAudience bool
	// Leeway is how far the issuer's clock may be ahead; 0 means 30 s, and a negative value
	// none.
	Leeway time.Duration
	// AllowNoExpiry accepts tokens without exp, which are valid forever.
	AllowNoExpiry bool

	// Subject is the path of the claim that names the device: a string of 1 to 256 bytes, or a
	// whole number. Empty means sub.
	Subject string
	// ClientID is the path of the claim with the client identifiers that may use the token, a
	// string or a list of strings, which are matched literally. If it is set, tokens must have
	// the claim.
	ClientID string
	// Username is the same for MQTT user names.
	Username string
	// ACL is the path of the claim with topic rules, see [authz.ParseACL]. The grant of a token
	// without it has no rules. A topic that no rule matches is denied.
	ACL string
	// Limits is the path of the claim with limits, see [authz.ParseLimits]. The grant of a token
	// without it has no limits.
	Limits string
	// Role is the path of a claim that is "device" or "reader", see [authz.RoleReader]. A token
	// without it is that of a device.
	Role string
	// Gateway is the path of a claim that is true or false. True lets the device speak for the
	// devices behind it, see [authz.Grant]; a device whose token lacks the claim may not.
	Gateway string
	// Attrs maps the names of attributes to the paths of their claims: strings, numbers or
	// booleans. If a claim is absent, so is the attribute.
	Attrs map[string]string
}

const (
	// minRefresh is the shortest time between two reads of the keys.
	minRefresh = 10 * time.Second
	maxToken   = 16 << 10 // bytes
)

// withDefaults returns o with defaults in place of zero values.
func (o Options) withDefaults() Options {
	refresh := minRefresh
	if o.Keys.URL != "" {
		refresh = 300 * time.Second
	}
	o.Refresh = cmp.Or(o.Refresh, refresh)
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.Leeway = max(cmp.Or(o.Leeway, 30*time.Second), 0)
	o.Subject = cmp.Or(o.Subject, "sub")
	return o
}

// check returns an error if the options are wrong.
func (o *Options) check() error {
	set := 0
	for _, place := range []string{o.Keys.URL, o.Keys.File, o.Keys.PEM, o.Keys.Secret} {
		if place != "" {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("keys: %d places are given; give one of URL, JWKS file, PEM file, secret file", set)
	}
	if o.Refresh != 0 && o.Refresh < minRefresh {
		return fmt.Errorf("refresh: %v is too short; the minimum is %v", o.Refresh, minRefresh)
	}
	if len(o.Audiences) > 0 && o.AnyAudience {
		return errors.New("audiences: set although any audience is accepted; remove one of the two")
	}
	if (o.TLS.Certificate == "") != (o.TLS.Key == "") {
		return errors.New("tls: a client certificate needs both the certificate's file and the key's file")
	}
	if o.TLS != (TLSFiles{}) && !strings.HasPrefix(o.Keys.URL, "https:") {
		return errors.New("tls: set although the keys do not come from an https URL")
	}
	if o.Keys.URL != "" {
		return checkURL(o.Keys.URL)
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("keys: the URL is not valid") // the error contains it, with user information
	case u.User != nil:
		return errors.New("keys: the URL contains user information; remove it")
	case u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("keys: the URL must begin with https:// and a host")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("keys: with an http URL, anyone on the network path can issue tokens; use https, or give the keys as a file")
	}
	return nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// algorithms returns the algorithms that tokens may have, given the kind of keys.
func (o *Options) algorithms() ([]jose.SignatureAlgorithm, error) {
	possible := slices.Concat(rsaAlgorithms(), []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, ed25519Name})
	if o.Keys.Secret != "" {
		possible = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
	}
	if len(o.Algorithms) == 0 {
		return possible, nil
	}
	var chosen []jose.SignatureAlgorithm
	for _, name := range o.Algorithms {
		alg := jose.SignatureAlgorithm(name)
		if !slices.Contains(possible, alg) {
			return nil, fmt.Errorf("algorithms: %q cannot be used with these keys; known are %s", name, join(possible))
		}
		chosen = append(chosen, alg)
	}
	return chosen, nil
}

func join(algorithms []jose.SignatureAlgorithm) string {
	var names []string
	for _, alg := range algorithms {
		names = append(names, string(alg))
	}
	return strings.Join(names, " ")
}
