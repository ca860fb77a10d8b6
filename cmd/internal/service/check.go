package service

import (
	"errors"
	"fmt"
	"slices"
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
		if err := checkTokenService(source.HTTP, c); err != nil {
			fault(fmt.Sprintf("auth.sources[%d].http", i), strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

// checkTokenService finds what keeps s from being asked.
func checkTokenService(s *config.HTTPSource, c *config.Config) error {
	t, err := newTokenService(s, c.Auth, "", nil)
	if err != nil {
		return err
	}
	defer t.close()
	username, password := slices.Index(c.Token.From, "username"), slices.Index(c.Token.From, "password")
	if t.source.NeedsUsername() && username >= 0 && (password < 0 || username < password) {
		return fmt.Errorf("preset %s asks with a user name and a password, but by token.from the user name is the token, "+
			"so that none would be left to ask with; set token.from: [password], or write a body that holds ${token}", s.Preset)
	}
	return nil
}

// Probe reads what the config names without starting anything, so that check finds
// what serve would stumble over.
func Probe(c *config.Config) error {
	return errors.Join(probeListeners(c.Listeners), probeUpstream(c.Upstream))
}
