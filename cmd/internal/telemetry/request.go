package telemetry

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

const (
	// maxRequest is the longest request of a device in bytes.
	maxRequest = 64 << 10
	// requestsAtOnce is how many requests of devices are answered at once. Each may take
	// MaxPayload twice, and a connection to the database.
	requestsAtOnce = 2
)

// Requests answers what devices ask about themselves. Its methods may be called from any number
// of goroutines. Two calls are answered at once. Others wait, in the order in which they were
// made.
type Requests struct {
	// Store is what the answers come from. It is required.
	Store Reader

	once  sync.Once
	turns *semaphore.Weighted
}

// Attributes answers a request published to v1/devices/me/attributes/request/1, such as
//
//	{"clientKeys":"a,b","sharedKeys":"c"}
//
// with an object whose members client and shared have those of the attributes that there are, by
// their keys. A list may be empty, which means all, or an array of strings. Of a scope without a
// list nothing is returned, except that a request without any list asks for everything. A member
// without attributes is left out.
//
// An error is a [*PayloadError] if the same request can never be answered, because it is not JSON
// or the answer would be longer than [MaxPayload]. Any other error means that the store did not
// answer.
func (r *Requests) Attributes(ctx context.Context, device string, request []byte) ([]byte, error) {
	asked, err := parseAttributeRequest(request)
	if err != nil {
		return nil, err
	}
	if err := r.turn(ctx); err != nil {
		return nil, err
	}
	defer r.turns.Release(1)
	answer := []byte{'{'}
	for _, part := range []struct {
		name  string
		scope Scope
		keys  *[]string
	}{{"client", ClientScope, asked.client}, {"shared", SharedScope, asked.shared}} {
		if part.keys == nil {
			continue
		}
		if answer, err = appendAttributes(answer, part.name, r.Store.Attributes(ctx, device, part.scope, *part.keys...)); err != nil {
			return nil, err
		}
	}
	return append(answer, '}'), nil
}

// turn waits for a turn, which the caller has to release.
func (r *Requests) turn(ctx context.Context) error {
	r.once.Do(func() { r.turns = semaphore.NewWeighted(requestsAtOnce) })
	return r.turns.Acquire(ctx, 1)
}

// appendAttributes appends a member with attributes to an answer, unless there are none.
func appendAttributes(answer []byte, name string, attributes iter.Seq2[KeyPoint, error]) ([]byte, error) {
	empty := len(answer)
	for p, err := range attributes {
		if err != nil {
			return nil, err
		}
		switch {
		case len(answer) > empty:
			answer = append(answer, ',')
		case empty > 1: // another scope comes before
			answer = append(append(answer, `,"`...), name+`":{`...)
		default:
			answer = append(append(answer, '"'), name+`":{`...)
		}
		answer = append(payload.AppendString(answer, p.Key), ':')
		if answer = p.Value.AppendJSON(answer); len(answer) > MaxPayload {
			return nil, &PayloadError{Reason: "the answer would be longer than 1 MiB: ask for fewer keys"}
		}
	}
	if len(answer) > empty {
		answer = append(answer, '}')
	}
	return answer, nil
}

// attributeRequest has the keys that a device asks for. A nil list asks for nothing, an empty one
// for all.
type attributeRequest struct{ client, shared *[]string }

func parseAttributeRequest(data []byte) (asked attributeRequest, err error) {
	fields, err := payload.ParseAttributes(data, payload.Options{KeepText: true, MaxBytes: maxRequest})
	if err != nil {
		return asked, err
	}
	for _, f := range fields {
		switch f.Key {
		case "clientKeys":
			asked.client, err = parseKeys(f.Value)
		case "sharedKeys":
			asked.shared, err = parseKeys(f.Value)
		}
		if err != nil {
			return attributeRequest{}, err
		}
	}
	if asked.client == nil && asked.shared == nil {
		asked = attributeRequest{new([]string), new([]string)}
	}
	return asked, nil
}

// parseKeys returns the keys of a list: a text with commas, or an array of strings. Each key
// counts once.
func parseKeys(v payload.Value) (*[]string, error) {
	var list []string
	switch v.Kind() {
	case payload.KindString, payload.KindLong, payload.KindDouble, payload.KindBool:
		list = strings.Split(v.String(), ",")
	default:
		if json.Unmarshal([]byte(v.String()), &list) != nil {
			return nil, &PayloadError{Reason: "a list of keys is neither a text with commas nor an array of strings"}
		}
	}
	keys := []string{}
	seen := make(map[string]bool)
	for _, key := range list {
		if key = strings.TrimSpace(key); key != "" && !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	if len(keys) > MaxAttributes {
		return nil, &PayloadError{Reason: "more than 1000 keys"}
	}
	return &keys, nil
}
