package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

func (p *program) checkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print what is in force",
		Long: `Check the configuration without starting anything.

Every fault is printed as file:line: key: reason, and the exit status is 1. If
there is none, the configuration in force is printed, defaults filled in and
secrets masked.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.check() },
	}
	p.configFlags(c)
	return c
}

func (p *program) check() error {
	c, err := p.loadConfig()
	if err != nil {
		return err
	}
	if err := probe(c); err != nil {
		return err
	}
	for _, w := range append(warnings(c), rsaWarnings(c)...) {
		fmt.Fprintln(p.stderr, "warning:", w)
	}
	text, err := c.Render()
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(text)
	return err
}

// checkMeaning finds faults of keys whose language the config package does not
// speak.
func checkMeaning(c *config.Config, fault func(key, reason string)) {
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
		if t, err := newTokenService(source.HTTP, c.Auth); err != nil {
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
