package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// Files names the files of a Source. They are PEM, except for the ticket secret.
type Files struct {
	// Certificate holds the server's certificate, followed by the
	// intermediate authorities in order of issue, if there are any.
	Certificate string

	// Key holds the private key, unencrypted: PKCS #8, PKCS #1 or SEC 1.
	// Empty means that it is in the Certificate file.
	Key string

	// Others are further certificates of the server, for clients that ask for one of their
	// names (RFC 6066 section 3) or cannot use the first.
	Others []Pair

	// ClientCA has the authorities, in any order, that issue client certificates. Empty means
	// none.
	ClientCA string

	// ClientCRL has revocation lists (RFC 5280 section 5) that authorities of the ClientCA file
	// have signed. Certificates in them are refused. Empty means that nothing is revoked.
	ClientCRL string

	// TicketSecret has the secret from which the keys of session tickets are derived: 32 bytes
	// or more, in any form; a newline at the end is ignored. Servers with the same secret
	// resume each other's sessions. Empty means random keys that change every day.
	TicketSecret string
}

// Pair names the files of one certificate, as Files does.
type Pair struct{ Certificate, Key string }

// pairs returns the files of every certificate, the first one first.
func (f Files) pairs() []Pair {
	all := append([]Pair{{f.Certificate, f.Key}}, f.Others...)
	if f.Certificate == "" {
		all = all[1:]
	}
	for i, p := range all {
		all[i].Key = cmp.Or(p.Key, p.Certificate)
	}
	return all
}

// A Source is a TLS identity loaded from files. It is made by Load. All its
// methods may be called by any goroutine at any time.
type Source struct {
	files   Files
	mu      sync.Mutex // held by Reload and Poll, from reading to swapping
	seen    Version    // by the last call of either
	current atomic.Pointer[identity]
}

// Check reads, parses and checks the files as Load does. If Files.Certificate is empty, because
// the certificate has yet to be made, it checks the other files.
func Check(files Files) error {
	c, err := files.read()
	if err == nil {
		_, err = parseIdentity(files, c)
	}
	return err
}

// Load reads, parses and checks the files. The error names the file, what is wrong with it and
// what to do. It never contains any part of the key.
func Load(files Files) (*Source, error) {
	if files.Certificate == "" {
		return nil, errors.New("no certificate file is named")
	}
	files.Others = slices.Clone(files.Others)
	s := &Source{files: files}
	if _, err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the files again, and reports whether they have changed and are now in use. If
// anything is wrong with them, it returns an error like Load's and keeps the certificates that
// were in use. Each later call returns an error as well until the files are correct.
func (s *Source) Reload() (changed bool, err error) {
	changed, _, err = s.load(true)
	return changed, err
}

// Poll is like Reload, for an owner that calls it regularly. New content is used once two calls
// in a row have found it, because a file may be half written at the first call, and the first
// half of a file of revocation lists can be valid. pending reports that the next call may find
// the same new content again.
func (s *Source) Poll() (changed, pending bool, err error) { return s.load(false) }

// load uses the content of the files. If hasty is false, it does so only if the previous call
// found the same content.
func (s *Source) load(hasty bool) (changed, pending bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.files.read()
	if err != nil {
		return false, false, err
	}
	now, before := c.version(), s.seen
	s.seen = now
	switch old := s.current.Load(); {
	case old != nil && old.version == now:
		return false, false, nil
	case !hasty && now != before:
		return false, true, nil
	}
	id, err := parseIdentity(s.files, c)
	if err != nil {
		return false, false, err
	}
	id.version = now
	s.current.Store(id)
	return true, false, nil
}

// Version has a digest of each kind of file in use. Two Versions are equal if the content is.
type Version struct {
	Certificates, ClientCA, ClientCRL, TicketSecret [sha256.Size]byte
}

// Version returns the current version.
func (s *Source) Version() Version { return s.current.Load().version }

// Leaf returns the server's first certificate as it is currently served. It may have expired.
// The caller must not change it.
func (s *Source) Leaf() *x509.Certificate {
	return s.current.Load().certificates[0].Leaf
}

// Leaves returns every certificate of the server as it is currently served, Leaf first.
func (s *Source) Leaves() []*x509.Certificate {
	var all []*x509.Certificate
	for _, c := range s.current.Load().certificates {
		all = append(all, c.Leaf)
	}
	return all
}

// ClientCAs returns the current authorities for client certificates.
func (s *Source) ClientCAs() []*x509.Certificate {
	return slices.Clone(s.current.Load().authorities)
}

// Fingerprint returns the SHA-256 of the server's first certificate (DER) as 64
// hexadecimal digits in lower case: what "openssl x509 -fingerprint -sha256"
// prints, without the colons.
func (s *Source) Fingerprint() string {
	sum := sha256.Sum256(s.Leaf().Raw)
	return hex.EncodeToString(sum[:])
}

// RSA reports whether the key is an RSA key. Handshakes with it cost several times as much as
// with ECDSA P-256.
func (s *Source) RSA() bool {
	return s.Leaf().PublicKeyAlgorithm == x509.RSA
}

// getCertificate returns the first certificate that the client can use and that has the name it
// asks for. If none has the name, it returns the first that the client can use. If the client
// can use none, it returns the first, so that the handshake fails with the right error.
func (s *Source) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	all := s.current.Load().certificates
	if len(all) == 1 {
		return &all[0], nil
	}
	nameless := *hello
	nameless.ServerName = ""
	for _, h := range []*tls.ClientHelloInfo{hello, &nameless} {
		for i := range all {
			if h.SupportsCertificate(&all[i]) == nil {
				return &all[i], nil
			}
		}
	}
	return &all[0], nil
}

// identity is the result of one successful load. It is immutable.
type identity struct {
	certificates []tls.Certificate // at least one
	authorities  []*x509.Certificate
	clientCAs    *x509.CertPool // empty without a ClientCA file, never nil
	revoked      map[serial]struct{}
	ticketSecret []byte // nil without a file
	version      Version
}

// contents has what the files contained at one moment.
type contents struct {
	pairs                             []pairContents
	clientCA, clientCRL, ticketSecret []byte
}

type pairContents struct{ certificate, key []byte }

func (f Files) read() (c contents, err error) {
	for _, p := range f.pairs() {
		var pair pairContents
		if pair.certificate, err = readFile(p.Certificate); err != nil {
			return contents{}, err
		}
		pair.key = pair.certificate
		if p.Key != p.Certificate {
			if pair.key, err = readFile(p.Key); err != nil {
				return contents{}, err
			}
		}
		c.pairs = append(c.pairs, pair)
	}
	for _, file := range []struct {
		path string
		into *[]byte
	}{{f.ClientCA, &c.clientCA}, {f.ClientCRL, &c.clientCRL}, {f.TicketSecret, &c.ticketSecret}} {
		if file.path == "" {
			continue
		}
		if *file.into, err = readFile(file.path); err != nil {
			return contents{}, err
		}
	}
	return c, nil
}

// version returns digests of the contents.
func (c contents) version() Version {
	var pairs [][]byte
	for _, p := range c.pairs {
		pairs = append(pairs, p.certificate, p.key)
	}
	return Version{
		Certificates: files.Sum(pairs...), ClientCA: files.Sum(c.clientCA), ClientCRL: files.Sum(c.clientCRL), TicketSecret: files.Sum(c.ticketSecret),
	}
}

// maxFile limits the size of a file in bytes. The bundle of all public authorities has a
// sixtieth of that, a revocation list of 200,000 devices about half.
const maxFile = 16 << 20

func readFile(path string) ([]byte, error) {
	data, _, err := files.Read(path, maxFile)
	if err == nil {
		return data, nil
	}
	// The message below begins with the path, so the path is removed from the error.
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	if errors.Is(err, files.ErrTooLarge) {
		err = fmt.Errorf("longer than %d bytes", maxFile)
	}
	return nil, fmt.Errorf("%s: cannot be read: %w; put a file there that this process may read, then reload", path, err)
}
