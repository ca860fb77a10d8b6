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

// A push is a revocation that a token service sends. It needs no admin token, because it is
// signed with a secret that the service and the proxy share:
//
//	POST /v1/push
//	X-Timestamp: 1700000000
//	X-Signature: hmac-sha256=<hex of HMAC-SHA-256(secret, timestamp "." body)>
//
// The body is that of /v1/revocations. The timestamp, in seconds since 1970, may be five
// minutes off, and each signature is accepted once.
const (
	pushSkew = 5 * time.Minute
	// byPush is the name of the requester of a push.
	byPush = "push"
	// maxPushes is how many signatures are stored. Further pushes are refused, because they
	// could be replays.
	maxPushes = 100_000
)

// pushVerifier passes on pushes with a valid signature, each once.
type pushVerifier struct {
	secret func() string
	now    func() time.Time
	next   http.Handler

	mu   sync.Mutex
	seen map[[sha256.Size]byte]time.Time // until when the signature is stored
}

func newPushVerifier(secret func() string, next http.Handler) *pushVerifier {
	return &pushVerifier{secret: secret, now: time.Now, next: next, seen: make(map[[sha256.Size]byte]time.Time)}
}

// ServeHTTP implements http.Handler.
func (v *pushVerifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		problem.Write(w, http.StatusBadRequest, "the body is too large or did not arrive completely")
		return
	}
	signature, ok := v.verify(r.Header.Get("X-Timestamp"), r.Header.Get("X-Signature"), body)
	if !ok {
		problem.Write(w, http.StatusUnauthorized, "X-Signature is not hmac-sha256= and the HMAC of timestamp, a dot and the body, or X-Timestamp is more than five minutes off")
		return
	}
	if !v.first(signature) {
		problem.Write(w, http.StatusConflict, "this push was received before, or there were too many: sign each one anew")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	q := RequesterOf(r.Context())
	q.Name = byPush
	v.next.ServeHTTP(w, q.with(r))
}

// verify returns the signature, and whether it is valid and recent enough.
func (v *pushVerifier) verify(timestamp, header string, body []byte) (signature [sha256.Size]byte, ok bool) {
	given, ok := strings.CutPrefix(header, "hmac-sha256=")
	raw, err := hex.DecodeString(given)
	if !ok || err != nil || len(raw) != sha256.Size {
		return signature, false
	}
	secret := v.secret()
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
	off := v.now().Sub(time.Unix(seconds, 0))
	return [sha256.Size]byte(raw), err == nil && off <= pushSkew && off >= -pushSkew
}

// first reports whether the signature has not been used before.
func (v *pushVerifier) first(signature [sha256.Size]byte) bool {
	now := v.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, again := v.seen[signature]; again {
		return false
	}
	if len(v.seen) >= maxPushes {
		for s, until := range v.seen {
			if now.After(until) {
				delete(v.seen, s)
			}
		}
	}
	if len(v.seen) >= maxPushes {
		return false
	}
	// The timestamp may be as far in the future as in the past.
	v.seen[signature] = now.Add(2 * pushSkew)
	return true
}
