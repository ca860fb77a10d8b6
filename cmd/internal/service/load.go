package service

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/postgres"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// Plan is a configuration together with the parsed form of its templates, broker addresses,
// token services and rules. They are parsed once, when the configuration is checked, and used
// when it takes effect.
type Plan struct {
	*config.Config
	inputs      inputs // files from which the plan was made
	tokenFrom   []proxy.TokenLocation
	servers     []pool.Server // none with the bundled broker
	credentials *credentials
	sources     []*usedSource // not yet open
	topics      *topicmap.Map // nil if no topic is mapped
	acl         *authz.ACL    // for sessions whose grant has none; nil allows all
}

// Load reads and checks the configuration that o describes, without starting anything. Its
// error lists every fault. The version is part of the requests to token services. The plan is
// for one call of [New]; without that, [Plan.Close] releases it.
func Load(o config.Options, version string) (*Plan, error) {
	p := &Plan{inputs: inputs{}, credentials: new(credentials)}
	o.Check = func(c *config.Config, fault func(key, reason string)) { p.parse(c, version, fault) }
	var err error
	if p.Config, err = config.Load(o); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close releases the resources of the plan. It may be called more than once.
func (p *Plan) Close() {
	for _, x := range p.sources {
		x.Close()
	}
}

// parse makes every part of the plan and reports the faults of each.
func (p *Plan) parse(c *config.Config, version string, fault func(key, reason string)) {
	report := func(key string, err error) {
		if err != nil {
			fault(key, textOf(err))
		}
	}
	for i, place := range c.Token.From {
		location, err := proxy.ParseTokenLocation(place)
		report(fmt.Sprintf("token.from[%d]", i), err)
		p.tokenFrom = append(p.tokenFrom, location)
	}
	p.parseUpstream(c.Upstream, report)
	if t := c.Telemetry.Postgres; t != nil && c.Upstream.Bundled() {
		report("telemetry.postgres.dsn_file", postgres.CheckDSN(t.DSNFile))
	}
	if c.Replicas.Enabled() {
		report("replicas.topic", checkBusTopic(c.Replicas.Topic))
	}
	if c.Replicas.OnBrokers() {
		p.credentials.reserved = replicas.ClientIDPrefix
	}
	p.parseTopics(c, report)
	if n := c.Limits.Session.MaxPacket; n > 0 {
		err := new(authz.Limits).ParseLimit("max_packet", strconv.FormatInt(n, 10))
		report("limits.session.max_packet", errors.Unwrap(err)) // which names no key
	}
	for i, source := range c.Auth.Sources {
		if source == (config.Source{}) {
			continue // the config package reports that fault
		}
		made, err := makeSource(source, c, version)
		if err != nil {
			report(fmt.Sprintf("auth.sources[%d].%s", i, made.kind), err)
			continue
		}
		p.sources = append(p.sources, made)
	}
}

func (p *Plan) parseUpstream(u config.Upstream, report func(key string, err error)) {
	creds := p.credentials
	for _, t := range []struct {
		key, text string
		field     upstream.Field
		into      **upstream.Template
	}{
		{"upstream.username", u.Username, upstream.Username, &creds.username},
		{"upstream.password", u.Password.Reveal(), upstream.Password, &creds.password},
		{"upstream.client_id", u.ClientID, upstream.ClientID, &creds.clientID},
	} {
		var err error
		if *t.into, err = upstream.ParseTemplate(t.text, t.field); err != nil {
			report(t.key, err)
			continue
		}
		for _, name := range (*t.into).Placeholders() {
			if path, ok := strings.CutPrefix(name, "file:"); ok {
				p.inputs.add(path)
			}
		}
	}
	if u.Bundled() {
		creds.checkSubject, creds.checkWill = broker.CheckSubject, broker.CheckWill
		return
	}
	creds.generateID = len(u.Servers) > 1 && u.Balance == string(pool.ClientID)
	for i, s := range u.Servers {
		server, err := upstream.ParseServer(s.Address)
		report(fmt.Sprintf("upstream.servers[%d]", i), err)
		p.servers = append(p.servers, pool.Server{Server: server, Weight: s.Weight, Backup: s.Backup})
	}
}

// BrokerNames returns the names of the external brokers in logs, metrics and the admin side.
func (p *Plan) BrokerNames() []string {
	names := make([]string, len(p.servers))
	for i, s := range p.servers {
		names[i] = s.Server.String()
	}
	return names
}
