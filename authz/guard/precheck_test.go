package guard_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
)

func TestPrecheck(t *testing.T) {
	even := func(s string) bool { return len(s)%2 == 0 }
	for name, tc := range map[string]struct {
		format guard.Format
		token  string
		want   string // in the detail; empty if the source is asked
	}{
		"no format":               {guard.Format{}, "\x00\xff", ""},
		"no format, empty":        {guard.Format{}, "", ""},
		"least length":            {guard.Format{MinLength: 4}, "abcd", ""},
		"too short":               {guard.Format{MinLength: 4}, "abc", "short"},
		"greatest length":         {guard.Format{MaxLength: 4}, "abcd", ""},
		"too long":                {guard.Format{MaxLength: 4}, "abcde", "long"},
		"bytes, not letters":      {guard.Format{MaxLength: 4}, "ééé", "long"},
		"prefix":                  {guard.Format{Prefixes: []string{"map_", "dev_"}}, "dev_1", ""},
		"prefix alone":            {guard.Format{Prefixes: []string{"map_"}}, "map_", ""},
		"other prefix":            {guard.Format{Prefixes: []string{"map_", "dev_"}}, "Map_1", "prefix"},
		"part of a prefix":        {guard.Format{Prefixes: []string{"map_"}}, "map", "prefix"},
		"prefix later":            {guard.Format{Prefixes: []string{"map_"}}, " map_1", "prefix"},
		"charset":                 {guard.Format{Charset: "abc\xff"}, "cab\xff", ""},
		"charset, empty token":    {guard.Format{Charset: "abc"}, "", ""},
		"other character":         {guard.Format{Charset: "abc"}, "abcd", "character"},
		"NUL":                     {guard.Format{Charset: "abc"}, "abc\x00", "character"},
		"other case":              {guard.Format{Charset: "abc"}, "abC", "character"},
		"valid":                   {guard.Format{Valid: even}, "ab", ""},
		"not valid":               {guard.Format{Valid: even}, "abc", "checksum"},
		"all":                     {guard.Format{MinLength: 4, MaxLength: 8, Prefixes: []string{"m_"}, Charset: "m_01", Valid: even}, "m_0110", ""},
		"cheapest first":          {guard.Format{MinLength: 9, Valid: func(string) bool { panic("asked") }}, "abc", "short"},
		"valid after the charset": {guard.Format{Charset: "a", Valid: func(string) bool { panic("asked") }}, "b", "character"},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			p := guard.NewPrecheck(authorizeFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
				calls++
				return &authz.Grant{TokenID: "a"}, nil
			}), tc.format)
			_, err := p.Authorize(t.Context(), request(tc.token, attacker))
			if tc.want == "" {
				if err != nil || calls != 1 || p.Rejected() != 0 {
					t.Errorf("Authorize = %v after %d calls, %d rejected", err, calls, p.Rejected())
				}
				return
			}
			d, ok := errors.AsType[*authz.Denial](err)
			if !ok || d.Reason != authz.Unknown || !strings.Contains(d.Detail, tc.want) || d.Keep.TTL >= 0 {
				t.Errorf("Authorize = %v, %+v; want an unknown token that is not kept, because of its %s", err, d, tc.want)
			}
			if calls != 0 || p.Rejected() != 1 {
				t.Errorf("%d calls, %d rejected", calls, p.Rejected())
			}
		})
	}
}

// TestPrecheckKeepsItsFormat: later changes to the Format have no effect.
func TestPrecheckKeepsItsFormat(t *testing.T) {
	prefixes := []string{"map_"}
	p := guard.NewPrecheck(authorizeFunc(byToken), guard.Format{Prefixes: prefixes})
	prefixes[0] = "good"
	if got := outcome(t, p, request("good-token", attacker)); got != "denied" {
		t.Errorf("a token with the prefix of later is %s", got)
	}
}

// TestPrecheckCanceled: the end of a context is no denial, whatever the token.
func TestPrecheckCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := guard.NewPrecheck(authorizeFunc(byToken), guard.Format{MinLength: 100})
	if _, err := p.Authorize(ctx, request("short", attacker)); !errors.Is(err, context.Canceled) || errors.Is(err, authz.ErrDenied) {
		t.Errorf("Authorize = %v", err)
	}
}

// TestPrecheckInChain: a token of another form is passed to the next source.
func TestPrecheckInChain(t *testing.T) {
	never := authorizeFunc(func(context.Context, authz.Request) (*authz.Grant, error) { panic("asked") })
	chain := authz.Chain{guard.NewPrecheck(never, guard.Format{Prefixes: []string{"map_"}}), authorizeFunc(byToken)}
	if got := outcome(t, chain, request("good-token", attacker)); got != "granted" {
		t.Errorf("it is %s", got)
	}
}
