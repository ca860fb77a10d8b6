package admin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// A push is a revocation that a token service sends by itself. It needs no admin
// token: it is signed with a secret that service and proxy share.
//
//	POST /v1/push
//	X-Timestamp: 1700000000
//	X-Signature: hmac-sha256=<hex of HMAC-SHA-256(secret, timestamp "." body)>
//
// The body is that of /v1/revocations. The timestamp, in seconds, may be off by
// five minutes, and a signature counts once.
const (
	pushSkew = 5 * time.Minute
	// maxPushes bounds the signatures that are remembered. Beyond, pushes are
	// refused rather than replays let in.
	maxPushes = 100_000
)

// pushGate lets signed pushes through, each once.
type pushGate struct {
	secret func() string
	now    func() time.Time
	next   http.Handler

	mu   sync.Mutex
	seen map[[sha256.Size]byte]time.Time // until when it has to be remembered
}

func newPushGate(secret func() string, next http.Handler) *pushGate {
	return &pushGate{secret: secret, now: time.Now, next: next, seen: make(map[[sha256.Size]byte]time.Time)}
}

// ServeHTTP implements http.Handler.
func (g *pushGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		problem.Write(w, http.StatusBadRequest, "the body is too large or did not arrive whole")
		return
	}
	signature, ok := g.verify(r.Header.Get("X-Timestamp"), r.Header.Get("X-Signature"), body)
	if !ok {
		problem.Write(w, http.StatusUnauthorized, "X-Signature is not hmac-sha256= and the HMAC of timestamp, a dot and the body, or X-Timestamp is more than five minutes off")
		return
	}
	if !g.first(signature) {
		problem.Write(w, http.StatusConflict, "this push has come before, or too many have: sign each one anew")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	g.next.ServeHTTP(w, r)
}

// verify reports whether the signature is good and fresh, and returns it.
func (g *pushGate) verify(timestamp, header string, body []byte) (signature [sha256.Size]byte, ok bool) {
	given, ok := strings.CutPrefix(header, "hmac-sha256=")
	raw, err := hex.DecodeString(given)
	if !ok || err != nil || len(raw) != sha256.Size {
		return signature, false
	}
	secret := g.secret()
	if secret == "" {
		return signature, false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	if !hmac.Equal(mac.Sum(nil), raw) {
		return signature, false
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	off := g.now().Sub(time.Unix(seconds, 0))
	return [sha256.Size]byte(raw), err == nil && off <= pushSkew && off >= -pushSkew
}

// first reports whether the signature has not come before.
func (g *pushGate) first(signature [sha256.Size]byte) bool {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, again := g.seen[signature]; again {
		return false
	}
	if len(g.seen) >= maxPushes {
		for s, until := range g.seen {
			if now.After(until) {
				delete(g.seen, s)
			}
		}
	}
	if len(g.seen) >= maxPushes {
		return false
	}
	// Its timestamp may lie as far ahead as behind.
	g.seen[signature] = now.Add(2 * pushSkew)
	return true
}
