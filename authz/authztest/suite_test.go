package authztest_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/authztest"
)

// twisted is a memory whose answers or revocations are changed.
type twisted struct {
	*memory
	answer func(ctx context.Context, r authz.Request, g *authz.Grant, err error) (*authz.Grant, error)
	notify func(ctx context.Context, revoked func(authz.Revocation)) error
}

func (b twisted) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	g, err := b.memory.Authorize(ctx, r)
	if b.answer == nil {
		return g, err
	}
	return b.answer(ctx, r, g, err)
}

func (b twisted) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	if b.notify == nil {
		return b.memory.Notify(ctx, revoked)
	}
	return b.notify(ctx, revoked)
}

type answerFunc = func(ctx context.Context, r authz.Request, g *authz.Grant, err error) (*authz.Grant, error)

// onError changes the answers that are not grants.
func onError(bend func(r authz.Request, err error) error) answerFunc {
	return func(_ context.Context, r authz.Request, g *authz.Grant, err error) (*authz.Grant, error) {
		if err != nil {
			return nil, bend(r, err)
		}
		return g, nil
	}
}

// onGrant changes a copy of every grant.
func onGrant(bend func(r authz.Request, g *authz.Grant)) answerFunc {
	return func(_ context.Context, r authz.Request, g *authz.Grant, err error) (*authz.Grant, error) {
		if g != nil {
			bent := *g
			g = &bent
			bend(r, g)
		}
		return g, err
	}
}

// brokenAnswers has, for each check, Authorizers that must fail it.
func brokenAnswers() map[string]map[string]answerFunc {
	leak := func(format string) answerFunc {
		return onError(func(r authz.Request, err error) error {
			return fmt.Errorf("token "+format+": %w", r.Token.Reveal(), err)
		})
	}
	denied := &authz.Denial{Reason: authz.NotAuthorized}
	calls := 0
	return map[string]map[string]answerFunc{
		"Granted": {
			"neither": func(context.Context, authz.Request, *authz.Grant, error) (*authz.Grant, error) { return nil, nil },
			"both": func(_ context.Context, _ authz.Request, g *authz.Grant, _ error) (*authz.Grant, error) {
				return g, errors.New("and a grant")
			},
			"nobody":         onGrant(func(_ authz.Request, g *authz.Grant) { g.TokenID = "" }),
			"long id":        onGrant(func(_ authz.Request, g *authz.Grant) { g.TokenID = strings.Repeat("x", 129) }),
			"token as id":    onGrant(func(r authz.Request, g *authz.Grant) { g.TokenID = r.Token.Reveal() }),
			"new id":         onGrant(func(_ authz.Request, g *authz.Grant) { calls++; g.TokenID = fmt.Sprint(calls) }),
			"own conditions": onGrant(func(_ authz.Request, g *authz.Grant) { g.Only.ClientIDs = []string{"x"} }),
			"refuses all":    func(context.Context, authz.Request, *authz.Grant, error) (*authz.Grant, error) { return nil, denied },
			"is never there": func(context.Context, authz.Request, *authz.Grant, error) (*authz.Grant, error) {
				return nil, authz.ErrBusy
			},
			"panics on grant": onGrant(func(authz.Request, *authz.Grant) { panic("no") }),
		},
		"Unknown": {
			"grants all": func(context.Context, authz.Request, *authz.Grant, error) (*authz.Grant, error) {
				return &authz.Grant{TokenID: "x"}, nil
			},
			"plain denial": onError(func(authz.Request, error) error { return denied }),
			"as a fault":   onError(func(_ authz.Request, err error) error { return errors.New(err.Error()) }),
			"both kinds":   onError(func(_ authz.Request, err error) error { return errors.Join(err, authz.ErrBusy) }),
			"leaks":        leak("%s"),
			"leaks quoted": leak("%q"),
			"leaks hex":    leak("%x"),
			"leaks base64": onError(func(r authz.Request, err error) error {
				return fmt.Errorf("%s: %w", base64.URLEncoding.EncodeToString([]byte(r.Token.Reveal())), err)
			}),
			"leaks the head": leak("%.12s"),
			"leaks in a detail": onError(func(r authz.Request, _ error) error {
				return &authz.Denial{Reason: authz.Unknown, Detail: r.Token.Reveal()}
			}),
			"leaks in a cause": onError(func(r authz.Request, err error) error {
				return hidden{errors.New(hex.EncodeToString([]byte(r.Token.Reveal()))), err}
			}),
			"half unknown": onError(func(authz.Request, error) error { return halfUnknown{} }),
		},
		"Denied": {
			"another reason": onError(func(authz.Request, error) error { return denied }),
			"no device": onError(func(_ authz.Request, err error) error {
				if d, ok := errors.AsType[*authz.Denial](err); ok {
					return &authz.Denial{Reason: d.Reason}
				}
				return err
			}),
			"no reason":  onError(func(authz.Request, error) error { return authz.ErrDenied }),
			"as a fault": onError(func(authz.Request, error) error { return errors.New("status 403") }),
			"no expiry":  onGrant(func(_ authz.Request, g *authz.Grant) { g.Expires = g.Only.NotBefore }),
		},
		"Unavailable": {
			"as a denial": onError(func(_ authz.Request, err error) error { return fmt.Errorf("%w: %w", denied, err) }),
			"as unknown":  onError(func(authz.Request, error) error { return authz.ErrUnknown }),
		},
		"Immutable": {
			"changes attributes": func(_ context.Context, _ authz.Request, g *authz.Grant, err error) (*authz.Grant, error) {
				if g != nil {
					g.Attrs["seen"] += "x"
				}
				return g, err
			},
			"changes conditions": func(_ context.Context, r authz.Request, g *authz.Grant, err error) (*authz.Grant, error) {
				if g != nil {
					g.Only.ClientIDs = append(g.Only.ClientIDs, r.ClientID)
				}
				return g, err
			},
		},
		"Canceled": {
			"as a denial": onError(func(_ authz.Request, err error) error { return fmt.Errorf("%w: %w", denied, err) }),
			"not asked": func(_ context.Context, _ authz.Request, g *authz.Grant, err error) (*authz.Grant, error) {
				if errors.Is(err, context.Canceled) {
					return &authz.Grant{TokenID: "x"}, nil
				}
				return g, err
			},
		},
		"CanceledInFlight": {
			"as a denial": onError(func(authz.Request, error) error { return denied }),
		},
	}
}

// hidden reveals its cause only by Unwrap.
type hidden struct{ cause, kind error }

func (hidden) Error() string     { return "refused" }
func (h hidden) Unwrap() []error { return []error{h.cause, h.kind} }

// halfUnknown is ErrUnknown without being ErrDenied.
type halfUnknown struct{}

func (halfUnknown) Error() string        { return "half" }
func (halfUnknown) Is(target error) bool { return target == authz.ErrUnknown }

func mustFail(t *testing.T, check string, wrap func(*memory) authz.Authorizer) {
	t.Helper()
	run, ok := authztest.Checks()[check]
	if !ok {
		t.Fatalf("there is no check %s", check)
	}
	if honest := failuresOf(t, run, suite(func(m *memory) authz.Authorizer { return m })); len(honest) != 0 {
		t.Fatalf("%s fails an Authorizer that keeps the contract: %q", check, honest)
	}
	failures := failuresOf(t, run, suite(wrap))
	if len(failures) == 0 {
		t.Errorf("%s passes it", check)
	}
	for _, f := range failures {
		if strings.Contains(f, "-token-of-pump-") || strings.Contains(f, "nobody-knows") {
			t.Errorf("the suite itself prints a token")
		}
	}
}

func TestBrokenAnswers(t *testing.T) {
	broken := brokenAnswers()
	for _, check := range slices.Sorted(maps.Keys(broken)) {
		for name, bend := range broken[check] {
			t.Run(check+"/"+name, func(t *testing.T) {
				mustFail(t, check, func(m *memory) authz.Authorizer { return twisted{memory: m, answer: bend} })
			})
		}
	}
}

// authorizeFunc is an Authorizer made of one function.
type authorizeFunc func(ctx context.Context, r authz.Request) (*authz.Grant, error)

func (f authorizeFunc) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	return f(ctx, r)
}

func TestBrokenInputs(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"trims":       strings.TrimSpace,
		"folds case":  func(s string) string { return strings.Replace(s, "good", "Good", 1) },
		"cuts at NUL": func(s string) string { s, _, _ = strings.Cut(s, "\x00"); return s },
		"drops NULs":  func(s string) string { return strings.TrimRight(s, "\x00") },
	} {
		t.Run("Exact/"+name, func(t *testing.T) {
			mustFail(t, "Exact", func(m *memory) authz.Authorizer {
				return authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
					r.Token = authz.NewToken(change(r.Token.Reveal()))
					return m.Authorize(ctx, r)
				})
			})
		})
	}
	for name, on := range map[string]func(authz.Request) bool{
		"empty token":      func(r authz.Request) bool { return r.Token.Empty() },
		"binary token":     func(r authz.Request) bool { return strings.Contains(r.Token.Reveal(), "\xff") },
		"long token":       func(r authz.Request) bool { return len(r.Token.Reveal()) > 65535 },
		"hostile id":       func(r authz.Request) bool { return strings.Contains(r.ClientID, "\r\n") },
		"hostile password": func(r authz.Request) bool { return len(r.Password.Reveal()) > 65535 },
	} {
		t.Run("Hostile/panics on "+name, func(t *testing.T) {
			mustFail(t, "Hostile", func(m *memory) authz.Authorizer {
				return authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
					if on(r) {
						panic("on " + r.Token.Reveal())
					}
					return m.Authorize(ctx, r)
				})
			})
		})
		t.Run("Hostile/grants "+name, func(t *testing.T) {
			mustFail(t, "Hostile", func(m *memory) authz.Authorizer {
				return authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
					if on(r) {
						return &authz.Grant{TokenID: "x"}, nil
					}
					return m.Authorize(ctx, r)
				})
			})
		})
	}
}

func TestBrokenUnderStress(t *testing.T) {
	mustFail(t, "CanceledInFlight", func(m *memory) authz.Authorizer {
		return authorizeFunc(func(_ context.Context, r authz.Request) (*authz.Grant, error) {
			return m.Authorize(context.Background(), r)
		})
	})
	mustFail(t, "CanceledInFlight", func(m *memory) authz.Authorizer {
		return authorizeFunc(func(context.Context, authz.Request) (*authz.Grant, error) { return nil, authz.ErrBusy })
	})
	mustFail(t, "Concurrent", func(m *memory) authz.Authorizer {
		var inside atomic.Int32
		return authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			defer inside.Add(-1)
			if inside.Add(1) > 1 {
				return nil, authz.ErrDenied
			}
			runtime.Gosched()
			return m.Authorize(ctx, r)
		})
	})
	mustFail(t, "Hostile", func(m *memory) authz.Authorizer {
		seen := 0
		return authorizeFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
			if seen++; seen > 20 {
				return nil, authz.ErrThrottled
			}
			return m.Authorize(ctx, r)
		})
	})
}

func TestBrokenNotifiers(t *testing.T) {
	type notifyFunc = func(m *memory) func(context.Context, func(authz.Revocation)) error
	for check, broken := range map[string]map[string]notifyFunc{
		"NotifyEnds": {
			"never": func(m *memory) func(context.Context, func(authz.Revocation)) error {
				return func(context.Context, func(authz.Revocation)) error { <-m.release; return nil }
			},
			"with the context's error": func(m *memory) func(context.Context, func(authz.Revocation)) error {
				return func(ctx context.Context, _ func(authz.Revocation)) error { <-ctx.Done(); return ctx.Err() }
			},
			"the first time only": func(m *memory) func(context.Context, func(authz.Revocation)) error {
				return func(ctx context.Context, _ func(authz.Revocation)) error {
					<-ctx.Done()
					first := false
					m.arrived.Do(func() { first = true })
					if !first {
						return errors.New("closed")
					}
					return nil
				}
			},
		},
		"NotifyRevokes": {
			"is silent": func(m *memory) func(context.Context, func(authz.Revocation)) error {
				return func(ctx context.Context, _ func(authz.Revocation)) error { <-ctx.Done(); return nil }
			},
			"names another": bendRevocations(func(_ *memory, r authz.Revocation, revoked func(authz.Revocation)) {
				revoked(authz.Revocation{TokenID: r.TokenID + "x"})
			}),
			"names too much": bendRevocations(func(_ *memory, r authz.Revocation, revoked func(authz.Revocation)) {
				revoked(authz.Revocation{TokenID: r.TokenID, Subject: "pump-7"})
			}),
			"names nothing": bendRevocations(func(_ *memory, r authz.Revocation, revoked func(authz.Revocation)) {
				revoked(authz.Revocation{})
				revoked(r)
			}),
			"is early": bendRevocations(func(m *memory, r authz.Revocation, revoked func(authz.Revocation)) {
				m.set(func() { clear(m.disabled) })
				revoked(r)
			}),
			"calls in parallel": bendRevocations(func(_ *memory, r authz.Revocation, revoked func(authz.Revocation)) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range 1000 {
						revoked(authz.Revocation{TokenID: "pump-9-a"})
					}
				}()
				for range 1000 {
					revoked(authz.Revocation{TokenID: "pump-8-a"})
				}
				<-done
				revoked(r)
			}),
		},
	} {
		for name, notify := range broken {
			t.Run(check+"/"+name, func(t *testing.T) {
				mustFail(t, check, func(m *memory) authz.Authorizer { return twisted{memory: m, notify: notify(m)} })
			})
		}
	}
}

// bendRevocations is a Notify that passes each revocation through bend.
func bendRevocations(bend func(*memory, authz.Revocation, func(authz.Revocation))) func(*memory) func(context.Context, func(authz.Revocation)) error {
	return func(m *memory) func(context.Context, func(authz.Revocation)) error {
		return func(ctx context.Context, revoked func(authz.Revocation)) error {
			return m.Notify(ctx, func(r authz.Revocation) { bend(m, r, revoked) })
		}
	}
}

func TestSuiteFault(t *testing.T) {
	complete := func() authztest.Suite { return suite(func(m *memory) authz.Authorizer { return m }) }
	if fault := complete().Fault(); fault != "" {
		t.Fatalf("a complete suite has a fault: %s", fault)
	}
	for name, spoil := range map[string]func(*authztest.Suite){
		"no New":        func(s *authztest.Suite) { s.New = nil },
		"no good token": func(s *authztest.Suite) { s.Good = authz.Request{} },
		"short token":   func(s *authztest.Suite) { s.Unknown = request("short") },
		"one token":     func(s *authztest.Suite) { s.Unknown = s.Good },
		"short denied":  func(s *authztest.Suite) { s.Denied[authz.Disabled] = request("x") },
	} {
		s := complete()
		spoil(&s)
		if s.Fault() == "" {
			t.Errorf("%s: the suite runs", name)
		}
	}
}
