package service

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Credentials are those that a device would send in its CONNECT.
type Credentials struct {
	// Token is the access token, wherever the device has it. If it is zero, it is looked for in
	// the other fields, as token.from says.
	Token              authz.Token
	ClientID, Username string
	Password           authz.Token
	Address            netip.Addr
	Protocol           byte
}

// CredentialsAnswer says whether the device could connect.
type CredentialsAnswer struct {
	// Grant is nil if the device would be refused for the Reason. Err says why.
	Grant  *authz.Grant
	Reason proxy.Reason
	Err    error
	// Denied means that the refusal is a decision. Otherwise none could be made.
	Denied bool
	// Asked has the sources that were asked, in their order. The last one has decided.
	Asked []SourceAnswer
}

// SourceAnswer is what a source has answered.
type SourceAnswer struct {
	Source string // its key in the configuration
	Err    error  // nil for a grant
}

// CheckCredentials asks the sources of the plan as they would be asked for a device that connects,
// behind the same list of denials. No limit counts it, and nothing is logged or kept. It may be
// called once. An error means that the sources could not be opened.
func (p *Plan) CheckCredentials(ctx context.Context, c Credentials) (CredentialsAnswer, error) {
	denials, err := denylist.Open(filepath.Join(p.Data, denialsFile))
	if err != nil {
		return CredentialsAnswer{}, err
	}
	log, err := observe.NewLog(io.Discard, zap.LevelEnablerFunc(func(zapcore.Level) bool { return false }), "json")
	if err != nil {
		return CredentialsAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.Connect.Timeout)
	defer cancel()
	opened, err := openSources(ctx, p, new(sources), denials, sourceEnv{
		log: log, observer: observe.New(log, ""), workers: passwordhash.NewWorkers(0),
		recheck: func() {}, trim: func() {}, explain: func(text string) string { return text },
	})
	if err != nil {
		return CredentialsAnswer{}, err
	}
	defer opened.watchDuring(ctx, cancel)()
	return p.ask(ctx, opened, denials, c), nil
}

// watchDuring calls Notify of the sources, without which some of them have no answers, until the
// function that it returns is called.
func (s *sources) watchDuring(ctx context.Context, cancel func()) (end func()) {
	var watching sync.WaitGroup
	for _, x := range s.list {
		if n, ok := x.source.(authz.Notifier); ok {
			watching.Go(func() { _ = n.Notify(ctx, func(authz.Revocation) {}) }) // what is withdrawn now does not matter
		}
	}
	return func() {
		cancel()
		watching.Wait()
	}
}

// ask asks the opened sources.
func (p *Plan) ask(ctx context.Context, opened *sources, denials *denylist.List, c Credentials) (a CredentialsAnswer) {
	all, _ := opened.chains()
	for i, x := range opened.list {
		all[i] = recorder{all[i], sourceKey(i, x), &a.Asked}
	}
	request, found := p.requestOf(c)
	if !found {
		a.Reason, a.Denied, a.Err = proxy.NoToken, true, errors.New("there is no token where token.from looks for one, and no user name with a password")
		return a
	}
	grant, err := denials.Before(all).Authorize(ctx, request)
	if err == nil {
		err = grant.Check(request, time.Now())
	}
	if err != nil {
		a.Reason, a.Denied, a.Err = proxy.ReasonOf(err), errors.Is(err, authz.ErrDenied), err
		return a
	}
	a.Grant = grant
	return a
}

// requestOf returns the request that the proxy would make for a CONNECT with these credentials.
func (p *Plan) requestOf(c Credentials) (r authz.Request, found bool) {
	r = authz.Request{
		Token: c.Token, ClientID: c.ClientID, Username: c.Username, Password: c.Password, Purpose: authz.Connect,
		Pair: authz.Pair{ClientID: c.ClientID, Username: c.Username, Password: c.Password}, Protocol: c.Protocol,
	}
	if c.Address.IsValid() {
		r.Addr = netip.AddrPortFrom(c.Address, 0)
	}
	if r.Pair.IsZero() {
		r.Pair = authz.Pair{}
	}
	for _, place := range p.tokenFrom {
		if !r.Token.IsZero() {
			break
		}
		switch place.String() {
		case "username":
			if c.Username != "" {
				r.Token, r.Username = authz.NewToken(c.Username), ""
			}
		case "password":
			r.Token, r.Password = c.Password, authz.Token{}
		case "client_id":
			if c.ClientID != "" {
				r.Token, r.ClientID = authz.NewToken(c.ClientID), ""
			}
		}
	}
	return r, !r.Token.IsZero() || !r.Pair.IsZero()
}

// recorder notes what a source has answered.
type recorder struct {
	authz.Authorizer
	key   string
	asked *[]SourceAnswer
}

// Takes implements authz.Taker.
func (r recorder) Takes() authz.Credentials { return authz.Takes(r.Authorizer) }

// Authorize implements authz.Authorizer.
func (r recorder) Authorize(ctx context.Context, q authz.Request) (*authz.Grant, error) {
	grant, err := r.Authorizer.Authorize(ctx, q)
	*r.asked = append(*r.asked, SourceAnswer{r.key, err})
	return grant, err
}
