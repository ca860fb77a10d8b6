package service

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// CheckMeaning is a [config.Options] Check: it finds faults of keys whose language the
// config package does not speak.
func CheckMeaning(c *config.Config, fault func(key, reason string)) {
	for key, t := range map[string]struct {
		text  string
		field upstream.Field
	}{
		"upstream.username":  {c.Upstream.Username, upstream.Username},
		"upstream.password":  {c.Upstream.Password.Reveal(), upstream.Password},
		"upstream.client_id": {c.Upstream.ClientID, upstream.ClientID},
	} {
		if _, err := upstream.ParseTemplate(t.text, t.field); err != nil {
			fault(key, err.Error())
		}
	}
	for i, source := range c.Auth.Sources {
		if source.HTTP == nil {
			continue
		}
		if t, err := newTokenService(source.HTTP, c.Auth, ""); err != nil {
			fault(fmt.Sprintf("auth.sources[%d].http", i), strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			t.close()
		}
	}
	for i, s := range c.Upstream.Servers {
		if s.Network == bundled {
			continue
		}
		if _, err := upstream.ParseServer(s.String()); err != nil {
			fault(fmt.Sprintf("upstream.servers[%d]", i), err.Error())
		}
	}
}

// Probe reads what the config names without starting anything, so that check finds
// what serve would stumble over.
func Probe(c *config.Config) error {
	return errors.Join(probeListeners(c.Listeners), probeUpstream(c.Upstream))
}
