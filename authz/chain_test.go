package authz_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// answer is a source that always gives the same answer.
type answer struct {
	grant *authz.Grant
	err   error
	asked *int
}

func (a answer) Authorize(context.Context, authz.Request) (*authz.Grant, error) {
	if a.asked != nil {
		*a.asked++
	}
	return a.grant, a.err
}

func TestChainAuthorize(t *testing.T) {
	grant, other := &authz.Grant{TokenID: "a"}, &authz.Grant{TokenID: "b"}
	unknown := answer{err: fmt.Errorf("file: %w", &authz.Denial{Reason: authz.Unknown})}
	denied := answer{err: &authz.Denial{Reason: authz.Disabled}}
	down := answer{err: errors.New("connection refused")}
	unsure := answer{err: fmt.Errorf("jwt: %w", authz.ErrUnsure)}
	yes, no := answer{grant: grant}, answer{grant: other}
	for _, tc := range []struct {
		name  string
		chain authz.Chain
		grant *authz.Grant
		err   error
		asked int
	}{
		{"nil", nil, nil, authz.ErrUnknown, 0},
		{"empty", authz.Chain{}, nil, authz.ErrUnknown, 0},
		{"first knows", authz.Chain{yes, no}, grant, nil, 1},
		{"second knows", authz.Chain{unknown, yes, no}, grant, nil, 2},
		{"no source knows", authz.Chain{unknown, unknown}, nil, authz.ErrUnknown, 2},
		{"a denial ends it", authz.Chain{denied, yes}, nil, denied.err, 1},
		{"a late denial ends it", authz.Chain{unknown, denied, yes}, nil, denied.err, 2},
		{"a fault ends it", authz.Chain{down, yes}, nil, down.err, 1},
		{"a fault behind ignorance ends it", authz.Chain{unknown, down, yes}, nil, down.err, 2},
		{"unsure", authz.Chain{unknown, unsure, unknown}, nil, unsure.err, 3},
		{"unsure, and a later one knows", authz.Chain{unsure, unknown, yes, no}, grant, nil, 3},
		{"unsure, and a later one denies", authz.Chain{unsure, denied, yes}, nil, unsure.err, 2},
		{"unsure, and a later one is down", authz.Chain{unsure, down, yes}, nil, unsure.err, 2},
		{"nested", authz.Chain{authz.Chain{unknown}, authz.Chain{}, yes}, grant, nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := 0
			for i, source := range tc.chain {
				if a, ok := source.(answer); ok {
					a.asked = &asked
					tc.chain[i] = a
				}
			}
			got, err := tc.chain.Authorize(t.Context(), authz.Request{Token: authz.NewToken("t")})
			if got != tc.grant || !errors.Is(err, tc.err) {
				t.Errorf("Authorize = %v, %v; want %v, %v", got, err, tc.grant, tc.err)
			}
			if asked != tc.asked {
				t.Errorf("%d sources were asked, want %d", asked, tc.asked)
			}
			if err != nil && errors.Is(err, authz.ErrDenied) != errors.Is(tc.err, authz.ErrDenied) {
				t.Errorf("%v changed its kind on the way", err)
			}
		})
	}
}

// TestChainReportsWhyTokenIsUnknown: the log must have the detail from each source.
func TestChainReportsWhyTokenIsUnknown(t *testing.T) {
	because := func(detail string) answer {
		return answer{err: fmt.Errorf("source: %w", &authz.Denial{Reason: authz.Unknown, Detail: detail})}
	}
	_, err := authz.Chain{because("not in the file"), because(""), because("another issuer"), because("another issuer")}.
		Authorize(t.Context(), authz.Request{Token: authz.NewToken("t")})
	d, ok := errors.AsType[*authz.Denial](err)
	if !ok || d.Reason != authz.Unknown || d.Detail != "not in the file; another issuer" {
		t.Errorf("the denial is %v", err)
	}
	token := authz.Request{Token: authz.NewToken("t")}
	for want, chain := range map[string]authz.Chain{
		"not in the file":           {&taker{takes: authz.Pairs}, because("not in the file")},
		"no user name and password": {because(""), &taker{takes: authz.Pairs}},
	} {
		_, err := chain.Authorize(t.Context(), token)
		if d, ok := errors.AsType[*authz.Denial](err); !ok || d.Reason != authz.Unknown || d.Detail != want {
			t.Errorf("the denial is %v, want the detail %q", err, want)
		}
	}
}

// notifier is a source that revokes subjects at an interval, or fails.
type notifier struct {
	answer
	every    time.Duration
	subjects []string
	fails    error
}

func (n notifier) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	for _, s := range n.subjects {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(n.every):
			revoked(authz.Revocation{Subject: s})
		}
	}
	if n.fails != nil {
		return n.fails
	}
	<-ctx.Done()
	return nil
}

func TestChainNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		chain := authz.Chain{
			notifier{every: time.Second, subjects: []string{"a1", "a2"}},
			answer{},
			notifier{every: 1500 * time.Millisecond, subjects: []string{"b1"}},
		}
		var got []string
		start := time.Now()
		if err := chain.Notify(ctx, func(r authz.Revocation) { got = append(got, r.Subject) }); err != nil {
			t.Errorf("Notify = %v", err)
		}
		if want := []string{"a1", "b1", "a2"}; !slices.Equal(got, want) {
			t.Errorf("revoked %q, want %q", got, want)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("Notify ended after %v, want with its context after 1m0s", took)
		}
	})
}

func TestChainNotifyOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		busy := notifier{every: time.Second, subjects: []string{"1", "2", "3"}}
		var inside, calls atomic.Int32
		err := authz.Chain{busy, busy, busy}.Notify(ctx, func(authz.Revocation) {
			if inside.Add(1) != 1 {
				t.Error("two calls at once")
			}
			time.Sleep(10 * time.Second) // in the bubble: lets the others call as well
			calls.Add(1)
			inside.Add(-1)
		})
		// The context ends after six calls; those that are waiting then still run.
		if err != nil || calls.Load() < 6 {
			t.Errorf("Notify = %v after %d calls", err, calls.Load())
		}
	})
}

func TestChainNotifyFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("inotify limit")
		chain := authz.Chain{
			notifier{every: time.Hour, subjects: []string{"never"}},
			notifier{every: time.Second, subjects: []string{"once"}, fails: broken},
		}
		calls := 0
		err := chain.Notify(t.Context(), func(authz.Revocation) { calls++ })
		if !errors.Is(err, broken) || calls != 1 {
			t.Errorf("Notify = %v after %d calls, want %v after 1", err, calls, broken)
		}
	})
}

// panicking is a Notifier with a bug.
type panicking struct{ answer }

func (panicking) Notify(context.Context, func(authz.Revocation)) error { panic("bug") }

// A caller of Notify can recover from the panic of a source, and the other sources have stopped
// by then.
func TestChainNotifyPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if value := recover(); value != "bug" {
				t.Errorf("recovered %v, want the panic of the source", value)
			}
		}()
		_ = authz.Chain{notifier{}, panicking{}}.Notify(t.Context(), nil)
	})
}

func TestChainNotifyWithoutNotifiers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := (authz.Chain{answer{}}).Notify(ctx, nil); err != nil || time.Since(start) != time.Second {
			t.Errorf("Notify = %v after %v", err, time.Since(start))
		}
	})
}

func ExampleChain() {
	file := answer{err: authz.ErrUnknown}
	service := answer{grant: &authz.Grant{Subject: "pump-7"}}
	grant, err := authz.Chain{file, service}.Authorize(context.Background(), authz.Request{Token: authz.NewToken("t")})
	fmt.Println(grant.Subject, err)

	down := answer{err: authz.ErrUnavailable}
	_, err = authz.Chain{down, service}.Authorize(context.Background(), authz.Request{Token: authz.NewToken("t")})
	fmt.Println(err, errors.Is(err, authz.ErrDenied))
	// Output:
	// pump-7 <nil>
	// unavailable false
}
