package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/clienttls"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/hooks"
)

// newHooks makes what sends events.
func (s *Service) newHooks() *hooks.Sender {
	return hooks.New(func(fault error) {
		if fault != nil {
			s.Log.Warn("the receiver of events does not accept them; they are kept while there is room, and sent again", zap.Error(fault))
			return
		}
		s.Log.Info("the receiver of events accepts them again")
	})
}

// hookTarget returns where events go, nil if nowhere. It reads the files of the section hooks, and
// adds them to in.
func hookTarget(c *config.Config, version string, in inputs) (*hooks.Target, error) {
	h := c.Hooks
	if h.URL == "" {
		return nil, nil
	}
	in.add(h.SecretFile)
	secret, err := sharedSecret(h.SecretFile)
	if err != nil {
		return nil, faultAt(c, "hooks.secret_file", err)
	}
	conf, err := clientTLS(h.TLS, in)
	if err != nil {
		return nil, faultAt(c, "hooks.tls", err)
	}
	return &hooks.Target{URL: h.URL, Secret: []byte(secret), Events: h.Events, TLS: conf, UserAgent: "mqtt-auth-proxy/" + version}, nil
}

// clientTLS reads the files of a TLS client, and adds them to in.
func clientTLS(t config.UpstreamTLS, in inputs) (*tls.Config, error) {
	const most = 1 << 20
	conf := &tls.Config{ServerName: t.ServerName, MinVersion: clienttls.MinVersion}
	read := func(path string) ([]byte, error) {
		in.add(path)
		content, _, err := files.Read(path, most)
		return content, err
	}
	if t.CA != "" {
		content, err := read(t.CA)
		if err != nil {
			return nil, err
		}
		if conf.RootCAs, err = clienttls.Roots(content); err != nil {
			return nil, fmt.Errorf("%s: %w", t.CA, err)
		}
	}
	if t.Certificate == "" {
		return conf, nil
	}
	certificate, err := read(t.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := read(t.Key)
	if err != nil {
		return nil, err
	}
	pair, err := clienttls.KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", t.Certificate, t.Key, err)
	}
	conf.Certificates = []tls.Certificate{*pair}
	return conf, nil
}

// hooksCloseTimeout is how long the last events may take.
const hooksCloseTimeout = 4 * time.Second

// closeHooks delivers the last events.
func (s *Service) closeHooks() {
	ctx, cancel := context.WithTimeout(context.Background(), hooksCloseTimeout)
	defer cancel()
	queued := s.hooks.Stats().Queued
	if err := s.hooks.Close(ctx); err != nil {
		s.Log.Warn("the last events are lost", zap.Int("events", queued), zap.Error(err))
	}
}

// hooksStatus returns the state of the events, nil if they go nowhere.
func (s *Service) hooksStatus() *admin.HooksStatus {
	c := s.current.Load().config.Hooks
	if c.URL == "" {
		return nil
	}
	receiver := ""
	if u, err := url.Parse(c.URL); err == nil {
		receiver = u.Host
	}
	st := s.hooks.Stats()
	return &admin.HooksStatus{
		Receiver: receiver, Events: c.Events, Queued: st.Queued, Delivered: st.Delivered, Dropped: st.Dropped, Rejected: st.Rejected,
		LastDelivered: timeOrNone(st.Last), LastError: textOf(st.Fault),
	}
}

// hooksState returns the values of the metrics of events.
func (s *Service) hooksState() (hooks.Stats, bool) {
	return s.hooks.Stats(), s.current.Load().config.Hooks.URL != ""
}
