package service

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// brokerLogin knows whether the brokers refuse the credentials that the proxy shows them, so that
// no device can connect. When the broker refuses a device, that is only a suspicion: the device may
// be refused for a reason of its own, and one device must not be able to make /readyz fail. If all
// devices share the credentials, the proxy therefore tries them itself. If each device has its own,
// those of several devices must be refused. The suspicion ends when a session begins.
type brokerLogin struct {
	suspected atomic.Bool   // cheap to read when a session begins
	asked     chan struct{} // wakes run

	mu        sync.Mutex
	subjects  map[string]bool // of the devices that were refused, at most enoughSubjects
	err       error           // of the last one
	last      time.Time       // when that was
	confirmed error           // nil while there is only a suspicion
}

const (
	// enoughSubjects is how many devices with credentials of their own must be refused.
	enoughSubjects = 3
	// suspicionLife is how long after the last refusal the suspicion holds.
	suspicionLife = time.Minute
	// loginInterval is the time between two attempts of the proxy itself.
	loginInterval = 10 * time.Second
)

func newBrokerLogin() *brokerLogin { return &brokerLogin{asked: make(chan struct{}, 1)} }

// refused is called for each refusal of the proxy.
func (l *brokerLogin) refused(r proxy.Refusal) {
	if r.Reason != proxy.UpstreamCredentials {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subjects == nil {
		l.subjects = make(map[string]bool)
	}
	if len(l.subjects) < enoughSubjects {
		l.subjects[strings.Clone(r.Subject)] = true
	}
	l.err, l.last = r.Err, time.Now()
	l.suspected.Store(true)
	select {
	case l.asked <- struct{}{}:
	default:
	}
}

// accepted is called when a session begins.
func (l *brokerLogin) accepted(*proxy.Client) {
	if !l.suspected.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
}

// clear ends the suspicion; l.mu is held.
func (l *brokerLogin) clear() {
	l.suspected.Store(false)
	l.subjects, l.err, l.confirmed = nil, nil, nil
}

// state returns why the brokers refuse the proxy's credentials. If that is nil, it returns why
// there is a suspicion, or nil if there is none.
func (l *brokerLogin) state() (confirmed, suspicion error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.confirmed, l.err
}

// run checks suspicions until ctx is done.
func (l *brokerLogin) run(ctx context.Context, s *Service) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.asked:
		}
		for l.suspected.Load() {
			l.check(ctx, s)
			select {
			case <-ctx.Done():
				return
			case <-time.After(loginInterval):
			}
		}
	}
}

// check confirms the suspicion or ends it.
func (l *brokerLogin) check(ctx context.Context, s *Service) {
	in := s.current.Load()
	login, shared := in.credentials.shared()
	var refused error
	if shared && in.upstream != nil {
		refused = in.upstream.pool.Refuses(ctx, login)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.confirmed
	switch {
	case l.err == nil: // a session has begun meanwhile
	case shared && refused != nil:
		l.confirmed = fmt.Errorf("%w to upstream.username and upstream.password", refused)
	case !shared && len(l.subjects) == enoughSubjects && time.Since(l.last) < suspicionLife:
		l.confirmed = l.err
	case shared || time.Since(l.last) >= suspicionLife:
		l.clear()
	}
	if l.confirmed != nil && was == nil {
		s.Log.Error("the broker refuses the credentials of the proxy, no device can connect", zap.Error(l.confirmed))
	}
}

// shared returns the user name and password that all devices are connected with, if these do not
// depend on the device. A grant may have others.
func (c *credentials) shared() (login pool.Login, ok bool) {
	for _, name := range append(c.username.Placeholders(), c.password.Placeholders()...) {
		if !strings.HasPrefix(name, "env:") && !strings.HasPrefix(name, "file:") {
			return login, false
		}
	}
	var err, err2 error
	login.Username, err = c.username.Expand(upstream.Values{})
	login.Password, err2 = c.password.Expand(upstream.Values{})
	return login, err == nil && err2 == nil
}
