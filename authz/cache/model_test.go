package cache_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"pgregory.net/rapid"
)

// moment is a point in the run of the model: the time, and the step that orders what happens at
// the same time.
type moment struct {
	step int
	time time.Time
}

// reply is the answer of the source to one request: a grant, a denial, or an error.
type reply struct {
	token         string
	asked, landed moment
	grant         *authz.Grant
	denial        *authz.Denial
}

// withdrawn is a revocation or a purge.
type withdrawn struct {
	at         moment
	revocation authz.Revocation
	all        bool
}

func (w withdrawn) means(token string) bool {
	g := identity(token)
	return w.all || w.revocation.Matches(&g, authz.NewToken(token).Hash())
}

// model is a source, the history of its answers, and the rules that the answers of a Cache must
// follow.
type model struct {
	*rapid.T
	cache *cache.Cache

	mu       sync.Mutex
	step     int
	serial   int // of the latest grant
	up       bool
	takes    time.Duration
	denied   map[string]bool
	shape    authz.Grant   // Keep of the next grants
	expires  time.Duration // of the next grants; zero means never
	replies  []reply
	withdraw []withdrawn
	running  sync.WaitGroup
	faults   []string
}

// identity returns the subject of a token: two tokens share a subject.
func identity(token string) authz.Grant {
	subject := "s"
	if token == "other-token" {
		subject = "o"
	}
	return authz.Grant{TokenID: "id-of-" + token, Subject: subject}
}

func (m *model) now() moment { return moment{m.step, time.Now()} }

// Authorize is the source: it decides at once and answers after a while.
func (m *model) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	m.mu.Lock()
	s := reply{token: r.Token.Reveal(), asked: m.now()}
	switch {
	case !m.up:
	case m.denied[s.token]:
		s.denial = &authz.Denial{Reason: authz.Disabled, Keep: m.shape.Keep}
	default:
		g := identity(s.token)
		g.Keep = m.shape.Keep
		m.serial++
		g.Attrs = map[string]string{"serial": fmt.Sprint(m.serial)}
		if m.expires != 0 {
			g.Expires = time.Now().Add(m.expires).Round(0)
		}
		s.grant = &g
	}
	takes := m.takes
	m.mu.Unlock()
	select {
	case <-ctx.Done():
		s.grant, s.denial = nil, nil
	case <-time.After(takes):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.landed = m.now()
	m.replies = append(m.replies, s)
	switch {
	case s.grant != nil:
		return s.grant, nil
	case s.denial != nil:
		return nil, s.denial
	}
	return nil, errDown
}

// ask sends one request to the Cache and checks the answer when it arrives.
func (m *model) ask(token string, purpose authz.Purpose) {
	began := m.now()
	owed := m.owed(token)
	m.running.Go(func() {
		g, err := m.cache.Authorize(context.Background(), authz.Request{Token: authz.NewToken(token), Purpose: purpose})
		m.mu.Lock()
		defer m.mu.Unlock()
		now := m.now()
		var fault string
		switch d, _ := errors.AsType[*authz.Denial](err); {
		case err == nil:
			fault = m.judgeGrant(token, g, purpose, began, now)
		case d != nil:
			fault = m.judgeDenial(token, d, purpose, now)
		case !m.failed(token, now):
			fault = fmt.Sprintf("unavailable (%v), but the source was not", err)
		}
		if owed && purpose == authz.Connect && (err != nil || !now.time.Equal(began.time)) {
			fault = fmt.Sprintf("%v after %v, but a grant was there", err, now.time.Sub(began.time))
		}
		if fault != "" {
			m.faults = append(m.faults, fmt.Sprintf("step %d, %s for %s: %s", now.step, purpose, token, fault))
		}
	})
}

const (
	ttl      = 60 * time.Second
	negative = 10 * time.Second
	window   = 300 * time.Second // of Stale
	retry    = time.Second
	recent   = 5 * time.Second
)

// span returns how long an answer is kept, where d is the maximum and wanted is from the
// source.
func span(d, wanted time.Duration) time.Duration {
	switch {
	case wanted < 0:
		return 0
	case wanted > 0:
		return min(d, wanted)
	}
	return d
}

// failed reports whether the source has just failed to answer for the token.
func (m *model) failed(token string, now moment) bool {
	for _, s := range m.replies {
		if s.token == token && s.grant == nil && s.denial == nil && now.time.Sub(s.landed.time) < retry {
			return true
		}
	}
	return false
}

// ended reports whether an answer that was asked for at that moment was revoked since.
func (m *model) ended(token string, asked moment, grant bool) bool {
	for _, w := range m.withdraw {
		if w.at.step > asked.step && (w.all || grant && w.means(token)) {
			return true
		}
	}
	return false
}

func (m *model) judgeGrant(token string, g *authz.Grant, purpose authz.Purpose, began, now moment) string {
	i := slices.IndexFunc(m.replies, func(s reply) bool { return reflect.DeepEqual(s.grant, g) })
	if i < 0 {
		return "a grant that the source never gave"
	}
	s := m.replies[i]
	if s.token != token {
		return "the grant of another token"
	}
	if m.ended(token, s.asked, true) {
		return "a grant after its revocation"
	}
	for _, d := range m.replies {
		if d.token == token && d.denial != nil && d.landed.step < began.step && s.landed.step < d.landed.step {
			return "a grant from before a denial"
		}
	}
	if s.landed.time.Equal(now.time) {
		return "" // it has just arrived
	}
	age, life := now.time.Sub(s.asked.time), span(ttl, g.Keep.TTL)
	fresh := life
	if purpose != authz.Connect {
		fresh = min(life, recent)
	}
	switch {
	case !g.Expires.IsZero() && !now.time.Before(g.Expires):
		return "a grant past Expires"
	case life == 0:
		return "a grant that was not to be kept"
	case age >= life+span(window, g.Keep.Stale):
		return fmt.Sprintf("a grant of %v ago", age)
	case age >= fresh && !m.failed(token, now):
		return fmt.Sprintf("a grant of %v ago while the source is up", age)
	}
	return ""
}

func (m *model) judgeDenial(token string, d *authz.Denial, purpose authz.Purpose, now moment) string {
	for _, s := range m.replies {
		if s.token != token || s.denial == nil || m.ended(token, s.asked, false) {
			continue
		}
		life := span(negative, s.denial.Keep.TTL)
		if purpose != authz.Connect {
			life = min(life, recent)
		}
		if s.landed.time.Equal(now.time) || now.time.Sub(s.asked.time) < life {
			return ""
		}
	}
	return "a denial that the source did not give, or too long ago"
}

// owed reports whether a grant for the token must be in the cache.
func (m *model) owed(token string) bool {
	now := m.now()
	last := reply{}
	for _, s := range m.replies {
		if s.token == token && (s.grant != nil || s.denial != nil) {
			last = s
		}
	}
	if g := last.grant; g != nil && now.step > last.landed.step {
		return now.time.Sub(last.asked.time) < span(ttl, g.Keep.TTL)*9/10 &&
			(g.Expires.IsZero() || now.time.Before(g.Expires)) &&
			!m.ended(token, last.asked, true)
	}
	return false
}

// act performs one step.
func (m *model) act() {
	some := func(ds ...time.Duration) time.Duration { return rapid.SampledFrom(ds).Draw(m.T, "duration") }
	token := rapid.SampledFrom([]string{"token-one", "token-two", "other-token"}).Draw(m.T, "token")
	op := rapid.SampledFrom([]string{
		"ask", "ask", "ask", "ask", "ask", "recheck", "wait", "wait", "wait", "wait",
		"up", "down", "slow", "allow", "deny", "keep", "expires", "revoke", "revoke", "purge",
	}).Draw(m.T, "op")
	m.mu.Lock()
	m.step++
	switch op {
	case "ask":
		m.ask(token, authz.Connect)
	case "recheck":
		m.ask(token, authz.Recheck)
	case "up", "down":
		m.up = op == "up"
	case "slow":
		m.takes = some(0, 0, time.Millisecond, time.Second, 4*time.Second, 6*time.Second)
	case "allow", "deny":
		m.denied[token] = op == "deny"
	case "keep":
		m.shape.Keep.TTL = some(0, 0, -1, 2*time.Second, time.Hour)
		m.shape.Keep.Stale = some(0, 0, -1, 20*time.Second, time.Hour)
	case "expires":
		m.expires = some(0, 0, 3*time.Second, 90*time.Second, -time.Second)
	}
	m.mu.Unlock()
	switch op {
	case "wait":
		time.Sleep(some(time.Millisecond, 999*time.Millisecond, time.Second, 5*time.Second, 9*time.Second,
			10*time.Second, 30*time.Second, 48*time.Second, 59*time.Second, 60*time.Second, 299*time.Second, 300*time.Second))
	case "revoke", "purge":
		m.revoke(op == "purge", token)
	}
	synctest.Wait()
}

func (m *model) revoke(all bool, token string) {
	w := withdrawn{all: all}
	if !all {
		who := identity(token)
		w.revocation = rapid.SampledFrom([]authz.Revocation{
			{TokenHash: authz.NewToken(token).Hash()}, {TokenID: who.TokenID}, {Subject: who.Subject},
		}).Draw(m.T, "revocation")
	}
	m.mu.Lock()
	w.at = m.now()
	m.withdraw = append(m.withdraw, w)
	m.mu.Unlock()
	if all {
		m.cache.Purge()
		return
	}
	m.cache.Revoke(w.revocation)
}

// TestModel runs a source, devices and an administrator at random. There is never a grant after
// its revocation or past its expiry, never an error that became a denial, never a denial that
// has expired, and no denial or error for a device whose grant is stored.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			m := &model{T: rt, up: true, denied: make(map[string]bool)}
			m.cache = cache.New(m, cache.Options{})
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				m.act()
			}
			m.running.Wait()
			m.cache.Close()
			for _, f := range m.faults {
				rt.Error(f)
			}
		})
	})
}
