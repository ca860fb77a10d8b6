package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// Files names the PEM files of a Source.
type Files struct {
	// Certificate holds the server's certificate, followed by the
	// intermediate authorities in order of issue, if there are any.
	Certificate string

	// Key holds the private key, unencrypted: PKCS #8, PKCS #1 or SEC 1.
	// Empty means that it is in the Certificate file.
	Key string

	// ClientCA holds the authorities, in any order, whose certificates
	// devices may show. Empty means none.
	ClientCA string

	// ClientCRL holds revocation lists (RFC 5280 section 5) that authorities of
	// the ClientCA file have signed. Certificates in them are refused. Empty
	// means that nothing is revoked.
	ClientCRL string
}

// A Source is a TLS identity loaded from files. It is made by Load. All its
// methods may be called by any goroutine at any time.
type Source struct {
	files   Files
	mu      sync.Mutex // held by Reload, from reading to swapping
	current atomic.Pointer[identity]
}

// Load reads, parses and checks the files. The error names the file, what is
// wrong with it and what to do; it never holds any of the key.
func Load(files Files) (*Source, error) {
	if files.Key == "" {
		files.Key = files.Certificate
	}
	s := &Source{files: files}
	if _, err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the files again and reports whether what they hold is new and
// now in service. If anything is wrong with them it returns an error like
// Load's and the identity of before stays; it does so again at each call
// until the files are put right.
func (s *Source) Reload() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.files.read()
	if err != nil {
		return false, err
	}
	sum := c.sum()
	if old := s.current.Load(); old != nil && old.sum == sum {
		return false, nil
	}
	id, err := parseIdentity(s.files, c)
	if err != nil {
		return false, err
	}
	id.sum = sum
	s.current.Store(id)
	return true, nil
}

// Leaf returns the server's certificate as it is served now, for its names and
// dates. It may have expired. The caller must not change it.
func (s *Source) Leaf() *x509.Certificate {
	return s.current.Load().certificate.Leaf
}

// Fingerprint returns the SHA-256 of the server's certificate (DER) as 64
// hexadecimal digits in lower case: what "openssl x509 -fingerprint -sha256"
// prints, without the colons.
func (s *Source) Fingerprint() string {
	sum := sha256.Sum256(s.Leaf().Raw)
	return hex.EncodeToString(sum[:])
}

// RSA reports whether the key is an RSA key, which makes handshakes several
// times as dear as one of ECDSA P-256.
func (s *Source) RSA() bool {
	return s.Leaf().PublicKeyAlgorithm == x509.RSA
}

func (s *Source) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &s.current.Load().certificate, nil
}

// identity is what one successful load found. It is immutable.
type identity struct {
	certificate tls.Certificate
	clientCAs   *x509.CertPool // empty without a ClientCA file, never nil
	revoked     map[serial]struct{}
	sum         [sha256.Size]byte
}

// contents is what the files held at one moment.
type contents struct {
	certificate, key, clientCA, clientCRL []byte
}

func (f Files) read() (contents, error) {
	var c contents
	var err error
	if c.certificate, err = readFile(f.Certificate); err != nil {
		return contents{}, err
	}
	c.key = c.certificate
	if f.Key != f.Certificate {
		if c.key, err = readFile(f.Key); err != nil {
			return contents{}, err
		}
	}
	if f.ClientCA != "" {
		if c.clientCA, err = readFile(f.ClientCA); err != nil {
			return contents{}, err
		}
	}
	if f.ClientCRL != "" {
		if c.clientCRL, err = readFile(f.ClientCRL); err != nil {
			return contents{}, err
		}
	}
	return c, nil
}

// sum hashes the hashes, so that moving bytes from one file to the next
// changes it.
func (c contents) sum() [sha256.Size]byte {
	var sums bytes.Buffer
	for _, data := range [][]byte{c.certificate, c.key, c.clientCA, c.clientCRL} {
		sum := sha256.Sum256(data)
		sums.Write(sum[:])
	}
	return sha256.Sum256(sums.Bytes())
}

// maxFile bounds what is read of a file, in bytes: the bundles of all public
// authorities are a sixtieth of it, a revocation list of 200,000 devices about a
// half.
const maxFile = 16 << 20

func readFile(path string) ([]byte, error) {
	data, err := readLimited(path)
	if err == nil {
		return data, nil
	}
	// The path is said already, and ahead of everything else.
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return nil, fmt.Errorf("%s: cannot be read: %w; put a PEM file there that this process may read, then reload", path, err)
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes", maxFile)
	}
	return data, nil
}
