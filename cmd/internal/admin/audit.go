package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

const (
	// maxChanges is how many changes are kept.
	maxChanges = 1000
	// maxFrequent is how many of them may be sign-ins and sign-outs of the role read, and how many
	// calls of devices.
	maxFrequent = 100
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
// can be so many that they would push out all others. For the same reason it keeps at most 100
// sign-ins and sign-outs of the role read, and at most 100 calls of devices. A nil Audit keeps none.
type Audit struct {
	// Logged is called with every change, if it is not nil.
	Logged func(Change)

	mu   sync.Mutex
	kept []Change // the newest last
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

// calling is the action of a change that was a call of a device.
const calling = "call device"

// RecordCall keeps a call of a device like a change, see Record.
func (a *Audit) RecordCall(ctx context.Context, device, outcome string) {
	a.Record(ctx, calling, device, outcome)
}

func (a *Audit) keep(c Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := frequencyOf(c); f != "" {
		a.forget(f)
	}
	if len(a.kept) >= maxChanges {
		a.kept = slices.Delete(a.kept, 0, 1)
	}
	a.kept = append(a.kept, c)
}

// frequencyOf returns to which kind of frequent changes one belongs: those of the role read, which
// can only sign in and out, and calls of devices. It is "" for all others.
func frequencyOf(c Change) string {
	switch {
	case c.By == Read.String():
		return c.By
	case c.Action == calling:
		return calling
	}
	return ""
}

// forget removes the oldest change of a frequent kind if there are as many as may be. a.mu is held.
func (a *Audit) forget(frequent string) {
	n, first := 0, -1
	for i, c := range a.kept {
		if frequencyOf(c) == frequent {
			if n++; first < 0 {
				first = i
			}
		}
	}
	if n >= maxFrequent {
		a.kept = slices.Delete(a.kept, first, first+1)
	}
}

// Latest returns the last n changes, the newest first.
func (a *Audit) Latest(n int) []Change {
	if a == nil {
		return []Change{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := append([]Change{}, a.kept[max(0, len(a.kept)-n):]...)
	slices.Reverse(all)
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
