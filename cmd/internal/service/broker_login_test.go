package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/hooks"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// loginRig is a service with one broker, which accepts or refuses every CONNECT.
type loginRig struct {
	*Service
	accepts atomic.Bool
	asked   atomic.Int32
}

// newLoginRig runs a service with that user name until the test ends, in a bubble.
func newLoginRig(t *testing.T, username string) *loginRig {
	t.Helper()
	log, err := observe.NewLog(new(lockedBuffer), zap.NewAtomicLevel(), "json")
	if err != nil {
		t.Fatal(err)
	}
	r := &loginRig{Service: &Service{Process: Process{Log: log}, login: newBrokerLogin(), presence: presence.New(presence.Options{}), hooks: hooks.New(nil)}}
	server, err := upstream.ParseServer("tcp://broker:1883")
	if err != nil {
		t.Fatal(err)
	}
	creds := new(credentials)
	for text, into := range map[string]**upstream.Template{username: &creds.username, "secret": &creds.password} {
		if *into, err = upstream.ParseTemplate(text, upstream.Username); err != nil {
			t.Fatal(err)
		}
	}
	r.current.Store(&generation{config: new(config.Config), sources: new(sources), credentials: creds, upstream: &brokers{
		pool: pool.New(pool.Options{Servers: []pool.Server{{Server: server}}, Dial: r.dial}),
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.login.run(ctx, r.Service) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func (r *loginRig) dial(context.Context, upstream.Server) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		if _, err := packets.ReadConnect(far, 1<<10); err != nil {
			return
		}
		r.asked.Add(1)
		code := packets.RefusedNotAuthorized
		if r.accepts.Load() {
			code = packets.Success
		}
		if _, err := far.Write((&packets.Connack{Code: code}).Append(nil, 4)); err == nil {
			_, _ = packets.ReadPacket(far, 100) // DISCONNECT
		}
	}()
	return near, nil
}

// refuse refuses a device because of the proxy's credentials, and waits for what follows.
func (r *loginRig) refuse(subject string) {
	r.login.refused(proxy.Refusal{Reason: proxy.UpstreamCredentials, Subject: subject, Err: errors.New("the broker answered Not authorized (5)")})
	synctest.Wait()
}

// expect checks whether devices can be served, and whether the status mentions a suspicion.
func (r *loginRig) expect(t *testing.T, what string, ready bool, degraded int) {
	t.Helper()
	refused, _ := r.login.state()
	if got := r.Service.degraded(); (refused == nil) != ready || len(got) != degraded {
		t.Errorf("%s: refused: %v, degraded: %q", what, refused, got)
	}
}

// TestSharedLoginIsTried: that one device is refused says nothing about the others, so the proxy
// tries the login itself, and notices when the broker accepts it again.
func TestSharedLoginIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLoginRig(t, "proxy")
		r.accepts.Store(true)
		r.refuse("odd")
		r.expect(t, "the broker accepts the proxy", true, 0)
		r.accepts.Store(false)
		time.Sleep(time.Minute)
		r.refuse("pump")
		r.expect(t, "the broker refuses the proxy", false, 0)
		if err := r.ready(); err == nil || !strings.Contains(err.Error(), "upstream.password") {
			t.Errorf("not ready because of %v", err)
		}
		time.Sleep(time.Hour)
		r.expect(t, "an hour later, without devices", false, 0)
		for range 100 {
			r.refuse("pump")
		}
		if asked := r.asked.Load(); asked > 365 {
			t.Errorf("the broker was asked %d times in an hour", asked)
		}
		r.accepts.Store(true)
		time.Sleep(loginInterval)
		synctest.Wait()
		if refused, _ := r.login.state(); refused != nil {
			t.Errorf("the broker accepts the proxy again: %v", refused)
		}
	})
}

// TestOwnLoginsOfSeveralDevices: if each device has credentials of its own, those of one say
// nothing about the others.
func TestOwnLoginsOfSeveralDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLoginRig(t, "${subject}")
		for range 10 {
			r.refuse("pump")
		}
		r.expect(t, "one device is refused", true, 1)
		for i := range enoughSubjects {
			r.refuse(fmt.Sprint("device-", i))
		}
		time.Sleep(loginInterval)
		synctest.Wait()
		r.expect(t, "several devices are refused", false, 0)
		r.login.accepted(nil)
		r.expect(t, "a session has begun", true, 0)
		r.refuse("pump")
		r.expect(t, "one device is refused again", true, 1)
		time.Sleep(suspicionLife + 2*loginInterval)
		synctest.Wait()
		r.expect(t, "and has given up", true, 0)
		if r.asked.Load() != 0 {
			t.Error("the broker was asked")
		}
	})
}
