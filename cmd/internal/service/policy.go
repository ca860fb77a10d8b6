package service

import (
	"context"
	"net"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// newPolicy returns the policy of the proxy for the plan and the parts that have been opened
// for it.
func (s *Service) newPolicy(p *Plan, sources *sources, brokers *brokers) *proxy.Policy {
	c := p.Config
	descriptors, pending := limitDescriptors(c.Limits, sources.remote())
	policy := &proxy.Policy{
		Authorizer:      currentSources{s},
		Token:           p.tokenFrom,
		Rewrite:         s.rewriter(p.credentials),
		ConnectTimeout:  c.Connect.Timeout,
		UpstreamTimeout: c.Upstream.ConnectTimeout,
		MaxConnect:      int(c.Connect.MaxPacket),
		Levels:          protocolLevels(c.Connect.Protocols),
		Limits: proxy.Limits{
			Connections:  c.Limits.Connections,
			PerAddress:   c.Limits.PerAddress,
			Pending:      pending,
			Descriptors:  descriptors,
			Handshakes:   c.Limits.Handshakes,
			PerSubject:   c.Limits.SessionsPerSubject,
			RefuseNewest: c.Limits.OverLimit == "refuse",
			ConnectRate:  proxy.Rate{PerSecond: c.Limits.ConnectRate, Burst: c.Limits.ConnectBurst},
			AddressRate:  proxy.Rate{PerSecond: c.Limits.ConnectRatePerAddress, Burst: c.Limits.ConnectBurstPerAddress},
		},
		SessionLimits: sessionLimits(c.Limits.Session),

		Overload:    s.memory.Overload,
		Recheck:     recheckInterval(c),
		ClientIDKey: s.clientIDKey,
		ACL:         p.acl,
		Topics:      p.topics,
	}
	if b := s.bundled; b != nil {
		policy.Limits.UpstreamDescriptors = 2 // both ends are in this process
		policy.Upstream = proxy.DialFunc(func(ctx context.Context, c *proxy.Client) (net.Conn, error) {
			return b.dial(ctx, c, policy.SessionLimits)
		})
	} else {
		policy.Upstream = brokers.pool
	}
	return policy
}

// recheckInterval returns how often the sources are asked again about live sessions. If a source or
// other replicas report changes, a report may be missed, so the sources are asked at least once a
// day.
func recheckInterval(c *config.Config) time.Duration {
	reports := func(s config.Source) bool { return s.Postgres != nil && channelOf(s.Postgres) != "" }
	if c.Auth.Recheck <= 0 && (c.Replicas.Enabled() || slices.ContainsFunc(c.Auth.Sources, reports)) {
		return 24 * time.Hour
	}
	return c.Auth.Recheck
}

// sessionLimits turns the config's limits of each session into those of package authz, where
// what is not limited is not set.
func sessionLimits(c config.SessionLimits) (l authz.Limits) {
	l.MaxPacket, l.Subscriptions = max(0, c.MaxPacket), max(0, int64(c.Subscriptions))
	l.PublishRate, l.PublishBurst, l.ByteRate = max(0, int64(c.PublishRate)), int64(c.PublishBurst), max(0, c.ByteRate)
	if qos := c.MaxQoS[0] - '0'; qos < 2 {
		l.MaxQoS = &qos
	}
	if !c.Retain {
		l.Retain = &c.Retain
	}
	return l
}

// protocolLevels returns the protocol level of each version.
func protocolLevels(versions []string) []byte {
	levels := make([]byte, 0, len(versions))
	for _, v := range versions {
		levels = append(levels, map[string]byte{"3.1": 3, "3.1.1": 4, "5": 5}[v])
	}
	return levels
}
