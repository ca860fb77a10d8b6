package admin

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

const (
	// maxChanges is how many changes are kept.
	maxChanges = 1000
	// maxChangeText is the length of the longest text of a change, in bytes.
	maxChangeText = 256
)

// Change is a change that was made through the admin side, by a signal or by a changed file.
type Change struct {
	Time time.Time `json:"time"`
	// By is the name of a [Requester]: operate, read, push, signal or file.
	By      string `json:"by"`
	Address string `json:"address,omitempty"`
	// Action is what was done, such as "end session".
	Action string `json:"action"`
	// Object is what it was done to: a device, a token id, a broker.
	Object  string `json:"object,omitempty"`
	Outcome string `json:"outcome"`
}

// Changes is the answer to GET /v1/audit.
type Changes struct {
	Changes []Change `json:"changes"` // the newest first
}

// Audit keeps the last 1,000 changes. It leaves out those that token services push, because there
// can be so many that they would push out all others. A nil Audit keeps none.
type Audit struct {
	// Logged is called with every change, if it is not nil.
	Logged func(Change)

	mu   sync.Mutex
	ring []Change
	next int // where the next change goes once the ring is full
}

// Record keeps a change that the requester of ctx has made, see RequesterOf and By. Texts are cut
// after 256 bytes. None of them may contain a token or a password.
func (a *Audit) Record(ctx context.Context, action, object, outcome string) {
	if a == nil {
		return
	}
	q := RequesterOf(ctx)
	c := Change{
		Time: time.Now().UTC(), By: q.Name, Address: q.Address,
		Action: bounded(action), Object: bounded(object), Outcome: bounded(outcome),
	}
	if c.By != byPush {
		a.keep(c)
	}
	if a.Logged != nil {
		a.Logged(c)
	}
}

func (a *Audit) keep(c Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ring) < maxChanges {
		a.ring = append(a.ring, c)
		return
	}
	a.ring[a.next] = c
	a.next = (a.next + 1) % maxChanges
}

// Latest returns the last n changes, the newest first.
func (a *Audit) Latest(n int) []Change {
	all := []Change{}
	if a == nil {
		return all
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range min(n, len(a.ring)) {
		all = append(all, a.ring[(a.next+len(a.ring)-1-i)%len(a.ring)])
	}
	return all
}

// bounded returns text in at most maxChangeText bytes.
func bounded(text string) string {
	if len(text) > maxChangeText {
		text = text[:maxChangeText-len("...")] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// By returns a context for changes that no request has made. name is signal or file.
func By(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, requesterKey{}, Requester{Name: name})
}

// audit lists the last changes.
func (a *API) audit(w http.ResponseWriter, r *http.Request) {
	limit, err := limitOf(r.URL.Query())
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, Changes{a.Audit.Latest(limit)})
}
