package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// openReplicas makes this process one of several replicas, if the configuration says so.
func (s *Service) openReplicas(c *config.Config) error {
	if !c.Replicas.Enabled() {
		return nil
	}
	secret, err := sharedSecret(c.Replicas.SecretFile)
	if err != nil {
		return faultAt(c, "replicas.secret_file", err)
	}
	if _, err := busPassword(c.Replicas.PasswordFile); err != nil {
		return faultAt(c, "replicas.password_file", err)
	}
	database, err := busDatabase(c.Replicas.DSNFile)
	if err != nil {
		return faultAt(c, "replicas.dsn_file", err)
	}
	s.replicas, err = replicas.New(replicas.Options{
		Name: proxyName(c), Secret: []byte(secret), Log: s.Log.Logger,
		Topic: c.Replicas.Topic, Database: database,
		Brokers: replicas.Brokers{
			Username: c.Replicas.Username,
			Password: func() (string, error) { return busPassword(c.Replicas.PasswordFile) },
			Dial: func(ctx context.Context, server upstream.Server) (net.Conn, error) {
				return s.current.Load().upstream.dial(ctx, server)
			},
		},
		Apply: s.applyWithdrawals, Adopt: s.adoptDenials, Kick: s.kickSubjects,
		Changed: s.attributesChanged,
		Purge:   func() { s.Log.Info("another replica purged the caches", zap.Int("entries", s.purge())) },
		Recover: func() {
			s.purge()
			s.server.Recheck(recoverTime)
		},
		Denials: s.denialsInForce, Panicked: s.observer.TaskPanicked("replicas"),
	})
	return err
}

// recoverTime is the time in which live sessions are rechecked after messages of other replicas
// were missed.
const recoverTime = 10 * time.Second

// busPassword reads the password of the bus. Without a file it is empty.
func busPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	const most = 4 << 10
	b, _, err := files.Read(path, most)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// busDatabase reads the connection string of the database of the bus. Without a file there is
// none.
func busDatabase(path string) (*pgdsn.File, error) {
	if path == "" {
		return nil, nil
	}
	return pgdsn.Open(path)
}

// checkBusTopic returns an error if messages cannot be published to the topic of the bus. A channel
// of a database has the same form.
func checkBusTopic(topic string) error {
	if !authz.ValidTopic(topic) || topic[0] == '$' {
		return fmt.Errorf("%q is not a topic that can be published to; write one such as mqtt-auth-proxy/bus, without + and #", topic)
	}
	return nil
}

// busTopic returns the topic of the bus, or "" if the brokers have none.
func busTopic(c *config.Config) string {
	if !c.Replicas.OnBrokers() || checkBusTopic(c.Replicas.Topic) != nil {
		return ""
	}
	return c.Replicas.Topic
}

// applyWithdrawals withdraws tokens as another replica has done.
func (s *Service) applyWithdrawals(all []replicas.Withdrawal) {
	s.putIntoForce(all)
	from := make(map[authz.Revocation]time.Time, len(all)) // sessions that began later are not meant; zero for all
	for _, w := range all {
		last := time.Time{}
		if w.Missed && w.Until.IsZero() {
			last = w.At.Add(replicas.MaxSkew)
		}
		if before, ok := from[w.Canonical()]; !ok || last.IsZero() || !before.IsZero() && last.After(before) {
			from[w.Canonical()] = last
		}
	}
	sessions := s.server.Kick(func(c *proxy.Client) bool {
		for _, r := range []authz.Revocation{{TokenID: c.Grant.TokenID}, {Subject: c.Grant.Subject}, {TokenHash: c.TokenHash}} {
			if last, ok := from[r]; ok && r != (authz.Revocation{}) && (last.IsZero() || c.Since.Before(last)) {
				return true
			}
		}
		return false
	}, proxy.ErrRevoked)
	s.observer.Revoked(observe.ByReplica, len(all))
	if len(all) == 1 {
		s.Log.Info("revoked", zap.String("by", observe.ByReplica), withdrawnField(all[0].Revocation), zap.Bool("deny", !all[0].Until.IsZero()), zap.Int("sessions", sessions))
		return
	}
	s.Log.Info("revoked", zap.String("by", observe.ByReplica), zap.Int("tokens", len(all)), zap.Int("sessions", sessions))
}

// putIntoForce denies what the withdrawals deny, and makes the sources forget their answers.
func (s *Service) putIntoForce(all []replicas.Withdrawal) {
	s.swap.RLock()
	defer s.swap.RUnlock()
	sources, now := s.current.Load().sources, time.Now()
	for _, w := range all {
		if !w.Until.IsZero() {
			until := w.Until
			if own := s.denyUntil(w.Revocation, now); w.Follow && own.After(until) {
				until = own
			}
			if err := s.denials.Deny(w.Revocation, until, w.Follow); err != nil {
				s.Log.Error("a denial of another replica is not in force here", withdrawnField(w.Revocation), zap.Error(err))
			}
		}
		sources.forget(w.Revocation)
	}
}

// adoptDenials puts denials of another replica into force unless they are.
func (s *Service) adoptDenials(all []replicas.Withdrawal) {
	var unknown []replicas.Withdrawal
	for _, w := range all {
		if !s.denials.Has(w.Revocation) {
			unknown = append(unknown, w)
		}
	}
	if len(unknown) > 0 {
		s.applyWithdrawals(unknown)
	}
}

// denialsInForce returns the denials for replicas that ask.
func (s *Service) denialsInForce() []replicas.Withdrawal {
	var all []replicas.Withdrawal
	for _, d := range s.denials.All() {
		all = append(all, replicas.Withdrawal{Revocation: d.Revocation, Until: d.Until, Follow: d.Follow})
	}
	return all
}

// kickSubjects ends the sessions of subjects as another replica has done.
func (s *Service) kickSubjects(subjects []string) {
	meant := make(map[string]bool, len(subjects))
	for _, subject := range subjects {
		meant[subject] = true
	}
	n := s.server.Kick(func(c *proxy.Client) bool { return meant[c.Subject()] }, proxy.ErrKicked)
	s.Log.Info("another replica ended the sessions of devices", zap.Strings("subjects", subjects[:min(len(subjects), 10)]), zap.Int("sessions", n))
}

// kickSubject ends the sessions of a subject here and on the other replicas.
func (s *Service) kickSubject(subject string) int {
	s.replicas.Kick(subject)
	return s.server.Kick(func(c *proxy.Client) bool { return c.Subject() == subject }, proxy.ErrKicked)
}

// purgeAll is purge on this and the other replicas. It returns the number of answers here.
func (s *Service) purgeAll() int {
	s.replicas.Purge()
	return s.purge()
}

// shareRevoked tells the other replicas what a source has revoked.
func (s *Service) shareRevoked(all []authz.Revocation) {
	shared := make([]replicas.Withdrawal, 0, len(all))
	for _, r := range all {
		if r = r.Canonical(); r != (authz.Revocation{}) {
			shared = append(shared, replicas.Withdrawal{Revocation: r})
		}
	}
	s.replicas.Withdraw(shared...)
}

// errBusClientID is why a device may not have the client id of a replica at the broker.
var errBusClientID = errors.New("client ids at the broker that begin with " + replicas.ClientIDPrefix + " belong to the proxies themselves")

// replicasStatus returns the state of the bus, or nil if there is none.
func (s *Service) replicasStatus() *admin.ReplicasStatus {
	if s.replicas == nil {
		return nil
	}
	st := &admin.ReplicasStatus{Bus: s.current.Load().config.Replicas.Bus, Name: s.replicas.Name(), Servers: []admin.BusStatus{}, Heard: []admin.ReplicaStatus{}, CatchUps: s.replicas.Stats().CatchUps}
	for _, o := range s.replicas.Servers() {
		st.Servers = append(st.Servers, admin.BusStatus{Server: o.Name, Connected: o.Connected, LastError: textOf(o.Err)})
	}
	for _, p := range s.replicas.Peers() {
		st.Heard = append(st.Heard, admin.ReplicaStatus{Name: p.Name, LastHeardSeconds: time.Since(p.Heard).Round(time.Millisecond).Seconds()})
	}
	return st
}

// replicasState returns what package observe makes the metrics of the bus from.
func (s *Service) replicasState() (observe.Replicas, bool) {
	if s.replicas == nil {
		return observe.Replicas{}, false
	}
	return observe.Replicas{Heard: s.replicas.Peers(), Servers: s.replicas.Servers(), Stats: s.replicas.Stats()}, true
}
