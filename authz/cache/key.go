package cache

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Field is a set of parts of an [authz.Request], besides the token, that a source
// looks at.
type Field = authz.Parts

// The parts that may be in a [Field].
const (
	ClientID    = authz.PartClientID
	Username    = authz.PartUsername
	Password    = authz.PartPassword
	Addr        = authz.PartAddr
	Listener    = authz.PartListener
	Certificate = authz.PartCertificate
	Protocol    = authz.PartProtocol
)

// key is a digest of the token, the pair and the varying fields of a request.
type key [sha256.Size]byte

// keyer makes keys. It contains their secret.
type keyer struct {
	vary   Field
	source string
	pool   sync.Pool // of *keyState
}

// keyState is what one computation of a key needs. It is reused because keying an HMAC
// costs two blocks of SHA-256.
type keyState struct {
	mac  hash.Hash
	text []byte
	sum  key
}

// maxPooled is the maximum capacity in bytes of a buffer that is reused.
const maxPooled = 4 << 10

func newKeyer(source string, vary Field) *keyer {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	x := &keyer{vary: vary, source: source}
	x.pool.New = func() any {
		return &keyState{mac: hmac.New(sha256.New, secret[:]), text: make([]byte, 0, 256)}
	}
	return x
}

// of returns the key of r for answers that depend on all parts that the source looks at.
func (x *keyer) of(r *authz.Request) key { return x.narrowed(r, x.vary) }

// narrowed returns the key of r for answers that depend only on the given parts. Keys for
// different sets of parts are never equal.
func (x *keyer) narrowed(r *authz.Request, vary Field) key {
	s := x.pool.Get().(*keyState)
	s.text = x.appendText(s.text[:0], r, vary)
	s.mac.Reset()
	s.mac.Write(s.text)
	s.mac.Sum(s.sum[:0])
	k := s.sum
	clear(s.text) // it contains the token
	if cap(s.text) > maxPooled {
		s.text = nil
	}
	x.pool.Put(s)
	return k
}

// appendText appends the text from which the key is computed. Each part begins with its length,
// and each optional part with a byte that says whether it is present, so no two requests have
// the same text.
func (x *keyer) appendText(b []byte, r *authz.Request, vary Field) []byte {
	b = appendPart(append(b, byte(vary)), x.source)
	b = appendPair(appendToken(b, r.Token), r.Pair)
	if vary&ClientID != 0 {
		b = appendPart(appendPart(b, r.ClientID), r.Pair.ClientID)
	}
	if vary&Username != 0 {
		b = appendPart(b, r.Username)
	}
	if vary&Password != 0 {
		b = appendToken(b, r.Password)
	}
	if vary&Addr != 0 {
		// An IPv4 client of a dual-stack listener is the same client.
		var text [64]byte
		b = appendPart(b, r.Addr.Addr().Unmap().AppendTo(text[:0]))
	}
	if vary&Listener != 0 {
		b = appendPart(b, r.Listener)
	}
	if vary&Certificate != 0 {
		if r.Peer == nil {
			b = append(b, 0)
		} else {
			b = appendPart(append(b, 1), r.Peer.Raw)
		}
	}
	if vary&Protocol != 0 {
		b = append(b, r.Protocol)
	}
	return b
}

// appendPair appends p, of which the client id is left to the varying fields, such that a
// missing pair and every other one differ.
func appendPair(b []byte, p authz.Pair) []byte {
	if p.IsZero() {
		return append(b, 0)
	}
	return appendToken(appendPart(append(b, 1), p.Username), p.Password)
}

// holderOf returns the digest by which the answers of one device are counted together: that
// of its token, or else of its user name.
func holderOf(r *authz.Request) [sha256.Size]byte {
	if r.Token.IsZero() {
		return authz.PairHash(r.Pair.Username, "")
	}
	return r.Token.Hash()
}

func appendPart[T string | []byte](b []byte, part T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
	return append(b, part...)
}

// appendToken appends t so that a missing token and an empty one differ.
func appendToken(b []byte, t authz.Token) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return appendPart(append(b, 1), t.Reveal())
}
