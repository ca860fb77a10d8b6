package telemetry

import (
	"context"
	"encoding/json"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// heldStore answers when the test lets it.
type heldStore struct {
	Reader
	asked atomic.Int32
	gate  chan struct{}
}

func (s *heldStore) Attributes(context.Context, string, Scope, ...string) iter.Seq2[KeyPoint, error] {
	return func(yield func(KeyPoint, error) bool) {
		s.asked.Add(1)
		<-s.gate
		yield(KeyPoint{Key: "a", Point: Point{Value: payload.Long(1)}}, nil)
	}
}

// TestRequestsOfDevicesWaitTheirTurn: a request whose connection has ended leaves the queue.
func TestRequestsOfDevicesWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &heldStore{gate: make(chan struct{})}
		r := &Requests{Store: s}
		answers := make(chan error, 20)
		ask := func(ctx context.Context) {
			go func() {
				_, err := r.Attributes(ctx, "d", []byte(`{"clientKeys":"a"}`))
				answers <- err
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range requestsAtOnce {
			ask(t.Context())
		}
		ask(ctx)
		ask(t.Context())
		if n := s.asked.Load(); n != requestsAtOnce {
			t.Errorf("%d requests are answered at once, want %d", n, requestsAtOnce)
		}
		cancel()
		if err := <-answers; err != context.Canceled {
			t.Errorf("error %v", err)
		}
		close(s.gate)
		for range requestsAtOnce + 1 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzAttributeRequest(f *testing.F) {
	for _, s := range []string{`{"clientKeys":"a,b","sharedKeys":"c"}`, `{clientKeys:007}`, `{"sharedKeys":["a",null]}`, `{"clientKeys":{}}`, `{}`, "\xff", `{"clientKeys":",,"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		asked, err := parseAttributeRequest(data)
		if err != nil {
			if !isPayloadError(err) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if asked.client == nil && asked.shared == nil {
			t.Fatal("asks for nothing")
		}
		for _, list := range []*[]string{asked.client, asked.shared} {
			if list == nil {
				continue
			}
			seen := map[string]bool{}
			for _, key := range *list {
				if key == "" || seen[key] {
					t.Fatalf("keys %q", *list)
				}
				seen[key] = true
			}
		}
		if answer, err := (&Requests{Store: empty{}}).Attributes(t.Context(), "d", data); err != nil || !json.Valid(answer) {
			t.Fatalf("answer %s, error %v", answer, err)
		}
	})
}

// empty is a store without attributes.
type empty struct{ Reader }

func (empty) Attributes(context.Context, string, Scope, ...string) iter.Seq2[KeyPoint, error] {
	return func(func(KeyPoint, error) bool) {}
}
