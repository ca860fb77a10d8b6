package authztest

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func checkGranted(tb testing.TB, s Suite) {
	f := s.New(tb)
	got := ask(tb.Context(), tb, f.Authorizer, s.Good)
	if got.outcome != granted {
		tb.Fatalf("Good is %s: %v", got.outcome, got.err)
	}
	if err := got.grant.Check(s.Good, time.Now()); err != nil {
		tb.Errorf("Good is granted, but may not use its grant: %v", err)
	}
	if n := len(got.grant.TokenID); n == 0 || n > 128 {
		tb.Errorf("the grant's TokenID has %d bytes, want 1 to 128", n)
	}
	if again := ask(tb.Context(), tb, f.Authorizer, s.Good); again.outcome != granted {
		tb.Errorf("Good is %s when asked again: %v", again.outcome, again.err)
	} else if again.grant.TokenID != got.grant.TokenID || again.grant.Subject != got.grant.Subject {
		tb.Error("Good has another subject when asked again")
	}
}

func checkUnknown(tb testing.TB, s Suite) {
	f := s.New(tb)
	for range 2 {
		got := ask(tb.Context(), tb, f.Authorizer, s.Unknown)
		if got.outcome != denied || !errors.Is(got.err, authz.ErrUnknown) {
			tb.Errorf("Unknown is %s: %v; want an error that is ErrUnknown", got.outcome, got.err)
		}
	}
}

func checkDenied(tb testing.TB, s Suite) {
	f := s.New(tb)
	for _, reason := range slices.Sorted(maps.Keys(s.Denied)) {
		r := s.Denied[reason]
		got := ask(tb.Context(), tb, f.Authorizer, r)
		err := got.err
		if got.outcome == granted {
			err = got.grant.Check(r, time.Now())
		}
		denial, ok := errors.AsType[*authz.Denial](err)
		if !ok || !errors.Is(err, authz.ErrDenied) || denial.Reason != reason {
			tb.Errorf("the request for %s is %s: %v", reason, got.outcome, err)
			continue
		}
		if s.NamesDevices && denial.Subject == "" && reason != authz.NotAuthorized {
			tb.Errorf("the denial for %s does not name the device", reason)
		}
	}
}

func checkUnavailable(tb testing.TB, s Suite) {
	f := s.New(tb)
	if f.Break == nil {
		tb.Log("not checked: the fixture has no Break")
		return
	}
	f.Break()
	for name, r := range map[string]authz.Request{"Good": s.Good, "Unknown": s.Unknown} {
		if got := ask(tb.Context(), tb, f.Authorizer, r); got.outcome != unavailable {
			tb.Errorf("%s is %s while the source is broken: %v", name, got.outcome, got.err)
		}
	}
}

// checkExact checks that the Authorizer compares all bytes of the token or password: nothing is
// trimmed, truncated or folded.
func checkExact(tb testing.TB, s Suite) {
	f := s.New(tb)
	good := secretOf(s.Good).Reveal()
	last := good[len(good)-1]
	for name, text := range map[string]string{
		"a space behind":    good + " ",
		"a space before":    " " + good,
		"a line end behind": good + "\n",
		"a NUL behind":      good + "\x00",
		"a NUL and more":    good + "\x00more",
		"its last byte cut": good[:len(good)-1],
		"its last byte new": good[:len(good)-1] + string(rune('a'+(last+1)%26)),
		"itself behind":     good + good,
		"upper case":        strings.ToUpper(good),
		"lower case":        strings.ToLower(good),
	} {
		if text == good {
			continue
		}
		if got := ask(tb.Context(), tb, f.Authorizer, withSecret(s.Good, text)); got.outcome == granted {
			tb.Errorf("Good's token or password with %s is granted", name)
		}
	}
}

// hostile returns texts that break parsers, templates, logs and loggers. Each contains a mark
// that is long enough to be found in an error.
func hostile() map[string]string {
	const mark = "hostile-mark-7Qz"
	return map[string]string{
		"binary":        "\x00\x01\x02\xff\xfe" + mark + "\x80\x81",
		"NUL":           mark + "\x00",
		"surrogate":     mark + "\xed\xa0\x80",
		"header":        mark + "\r\nX-Injected: 1\r\n\r\n",
		"JSON":          `"},{"result":"allow","x":"` + mark,
		"query":         mark + "&result=allow#%00?/../..",
		"path":          "../../../" + mark,
		"format":        "%s%n%d%!v(" + mark + ")",
		"template":      "${token}{{.}}" + mark,
		"MQTT field":    mark + strings.Repeat("x", 65535-len(mark)),
		"one megabyte":  mark + strings.Repeat("\xff", 1<<20),
		"nested braces": mark + strings.Repeat("[{", 20000),
	}
}

func checkHostile(tb testing.TB, s Suite) {
	f := s.New(tb)
	refuse := func(name string, r authz.Request) {
		if got := ask(tb.Context(), tb, f.Authorizer, r); got.outcome == granted {
			tb.Errorf("%s is granted", name)
		}
	}
	refuse("an empty token", authz.Request{Token: authz.NewToken("")})
	refuse("an empty password", withSecret(s.Good, ""))
	for name, text := range hostile() {
		refuse("a hostile token: "+name, withSecret(s.Good, text))
		r := withPairOf(s.Unknown, text)
		r.ClientID, r.Username, r.Listener, r.Password = text, text, text, authz.NewToken(text)
		refuse("an unknown token with a hostile "+name, r)
		r.Token, r.Pair = s.Good.Token, s.Good.Pair
		r.Pair.ClientID = text
		ask(tb.Context(), tb, f.Authorizer, r) // granted or not: it must not panic
	}
	if got := ask(tb.Context(), tb, f.Authorizer, s.Good); got.outcome != granted {
		tb.Errorf("Good is %s after hostile requests: %v", got.outcome, got.err)
	}
}

// withPairOf returns r with a pair of that text only, if it has one.
func withPairOf(r authz.Request, text string) authz.Request {
	if !r.Pair.IsZero() {
		r.Pair = authz.Pair{ClientID: text, Username: text, Password: authz.NewToken(text)}
	}
	return r
}

func checkImmutable(tb testing.TB, s Suite) {
	f := s.New(tb)
	first := ask(tb.Context(), tb, f.Authorizer, s.Good)
	if first.outcome != granted {
		tb.Fatalf("Good is %s: %v", first.outcome, first.err)
	}
	before := clone(first.grant)
	other := s.Good
	other.Pair.ClientID = "another"
	other.ClientID, other.Username, other.Purpose = "another", "another", authz.Recheck
	for _, r := range []authz.Request{s.Good, other, s.Unknown, s.Good} {
		ask(tb.Context(), tb, f.Authorizer, r)
	}
	if !reflect.DeepEqual(before, *first.grant) {
		tb.Error("a grant changed after it was returned")
	}
}

func clone(g *authz.Grant) authz.Grant {
	c := *g
	c.Attrs = maps.Clone(g.Attrs)
	c.Only.ClientIDs = slices.Clone(g.Only.ClientIDs)
	c.Only.Usernames = slices.Clone(g.Only.Usernames)
	c.Only.Addrs = slices.Clone(g.Only.Addrs)
	return c
}

func checkCanceled(tb testing.TB, s Suite) {
	f := s.New(tb)
	canceled, cancel := context.WithCancel(tb.Context())
	cancel()
	late, stop := context.WithDeadline(tb.Context(), time.Now().Add(-time.Second))
	defer stop()
	for name, ctx := range map[string]context.Context{"a canceled context": canceled, "a past deadline": late} {
		for _, r := range []authz.Request{s.Good, s.Unknown} {
			if got := ask(ctx, tb, f.Authorizer, r); got.outcome != unavailable {
				tb.Errorf("with %s the answer is %s: %v", name, got.outcome, got.err)
			}
		}
	}
}

func checkCanceledInFlight(tb testing.TB, s Suite) {
	f := s.New(tb)
	if f.Stall == nil {
		tb.Log("not checked: the fixture has no Stall")
		return
	}
	reached := f.Stall()
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	answers := make(chan answer, 1)
	go func() { answers <- ask(ctx, tb, f.Authorizer, s.Good) }()
	select {
	case <-reached:
	case <-time.After(patience):
		tb.Fatal("the request does not reach the source")
	}
	cancel()
	select {
	case got := <-answers:
		if got.outcome != unavailable {
			tb.Errorf("canceled in flight the answer is %s: %v", got.outcome, got.err)
		}
	case <-time.After(patience):
		tb.Error("Authorize does not return when its context is canceled")
	}
}

// checkConcurrent makes all requests from many goroutines at once. The answers must be the same
// as without concurrency.
func checkConcurrent(tb testing.TB, s Suite) {
	const callers, rounds = 8, 25
	requests := append([]authz.Request{s.Good, s.Unknown}, slices.Collect(maps.Values(s.Denied))...)
	alone := s.New(tb)
	want := make([]outcome, len(requests))
	for i, r := range requests {
		want[i] = ask(tb.Context(), tb, alone.Authorizer, r).outcome
	}
	f := s.New(tb)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range rounds * len(requests) {
				i := (c + n) % len(requests)
				if got := ask(tb.Context(), tb, f.Authorizer, requests[i]); got.outcome != want[i] {
					tb.Errorf("a request that is %s alone is %s among others: %v", want[i], got.outcome, got.err)
					return
				}
			}
		})
	}
	wg.Wait()
}
