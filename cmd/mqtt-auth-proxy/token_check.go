package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// tokenCheck is the token check command and its flags.
type tokenCheck struct {
	*tokens
	device                service.Credentials
	address, passwordFile string
}

func (t *tokens) checkCommand() *cobra.Command {
	k := &tokenCheck{tokens: t}
	c := &cobra.Command{
		Use:   "check [TOKEN|-]",
		Short: "Check whether a device could connect with a token",
		Long: `Check whether a device could connect with a token, or with a user name and a password,
by asking the sources of the config as the proxy does. The exit status is 0 if it could.
The check sends requests to token services and databases. It logs nothing, and does not
count in the limit on failures of an address. The argument - reads the token from stdin,
so that no process list shows it.`,
		Example: `  mqtt-auth-proxy token check - --client-id pump-7 < token
  mqtt-auth-proxy token check --username pump-7 --password-file password --address 203.0.113.9`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return k.run(c.Context(), args) },
	}
	f := c.Flags()
	f.StringVar(&k.device.ClientID, "client-id", "", "client `ID` of the CONNECT")
	f.StringVar(&k.device.Username, "username", "", "`USER` name of the CONNECT")
	passwordFlag(c, &k.passwordFile)
	f.StringVar(&k.address, "address", "", "IP `ADDRESS` from which the device connects")
	t.jsonFlag(c)
	return c
}

func (k *tokenCheck) run(ctx context.Context, args []string) (err error) {
	if k.file != "" || k.source != "" {
		return errors.New("--file and --source are not for check, which asks all sources of the config")
	}
	if len(args) == 1 {
		if k.device.Token, err = givenToken(args[0]); err != nil {
			return err
		}
	}
	if k.device.Password, err = givenPassword(k.passwordFile); err != nil {
		return err
	}
	if k.device.Token.IsZero() && k.device.Password.IsZero() && k.device.Username == "" {
		return errors.New("say what the device shows: a token, or --username and --password-file")
	}
	if k.address != "" {
		if k.device.Address, err = netip.ParseAddr(k.address); err != nil {
			return fmt.Errorf("--address: %q is not an IP address", k.address)
		}
	}
	k.device.Protocol = 5
	plan, err := k.loadPlan()
	if err != nil {
		return err
	}
	defer plan.Close()
	answer, err := plan.CheckCredentials(ctx, k.device)
	if err != nil {
		return err
	}
	if err := k.print(answer); err != nil {
		return err
	}
	if answer.Grant == nil {
		return errors.New("the device would be refused")
	}
	return nil
}

// checkView is the answer of token check as JSON.
type checkView struct {
	Result  string        `json:"result"` // allowed, denied or unavailable
	Reason  string        `json:"reason,omitempty"`
	Detail  string        `json:"detail,omitempty"`
	V3      byte          `json:"connack_v3,omitempty"`
	V5      byte          `json:"connack_v5,omitempty"`
	Subject string        `json:"subject,omitempty"`
	TokenID string        `json:"token_id,omitempty"`
	Expires *time.Time    `json:"expire_at,omitempty"`
	ACL     string        `json:"acl,omitempty"`
	Limits  string        `json:"limits,omitempty"`
	Role    authz.Role    `json:"role,omitempty"`
	Gateway bool          `json:"gateway,omitempty"`
	Sources []checkedView `json:"sources"`
}

type checkedView struct {
	Source string `json:"source"`
	Answer string `json:"answer"`
}

func (k *tokenCheck) print(a service.CredentialsAnswer) error {
	v := viewOfCheck(a)
	if k.asJSON {
		return k.printJSON(v)
	}
	lines := []string{v.Result}
	add := func(name, text string) {
		if text != "" {
			lines = append(lines, fmt.Sprintf("  %-9s %s", name+":", text))
		}
	}
	add("subject", printable(v.Subject))
	add("token id", printable(v.TokenID))
	if g := a.Grant; g != nil {
		expires := "never"
		if v.Expires != nil {
			expires = v.Expires.Format(time.RFC3339)
		}
		add("expires", expires)
		rules := v.ACL
		if g.ACL == nil {
			rules = "those of the config"
		}
		switch {
		case g.Role == authz.RoleReader:
			rules = "no messages, subscriptions to " + map[bool]string{true: "everything", false: v.ACL}[g.ACL == nil]
		case g.Superuser:
			rules = "none, as a superuser"
		}
		add("rules", rules)
		add("limits", v.Limits)
		if v.Role != authz.RoleDevice {
			add("role", v.Role.String())
		}
		if v.Gateway {
			add("gateway", "yes")
		}
	} else {
		add("reason", v.Reason)
		add("detail", printable(v.Detail))
		add("CONNACK", fmt.Sprintf("%d (3.1, 3.1.1), 0x%02x (5.0)", v.V3, v.V5))
	}
	for _, s := range v.Sources {
		add("asked", s.Source+": "+printable(s.Answer))
	}
	return k.printEach("", lines)
}

func viewOfCheck(a service.CredentialsAnswer) checkView {
	v := checkView{Result: "allowed", Sources: []checkedView{}}
	for _, s := range a.Asked {
		answer := "allowed"
		if s.Err != nil {
			answer = s.Err.Error()
		}
		v.Sources = append(v.Sources, checkedView{s.Source, answer})
	}
	g := a.Grant
	if g == nil {
		info := a.Reason.Info()
		v.Result, v.Reason, v.Detail, v.V3, v.V5 = "unavailable", string(a.Reason), a.Err.Error(), byte(info.V3), byte(info.V5)
		if a.Denied {
			v.Result = "denied"
		}
		return v
	}
	v.Subject, v.TokenID, v.Expires, v.Role, v.Gateway = g.Subject, g.TokenID, orNil(g.Expires), g.Role, g.Gateway
	if g.ACL != nil {
		v.ACL = g.ACL.String()
	}
	if !g.Limits.Equal(authz.Limits{}) {
		v.Limits = g.Limits.String()
	}
	return v
}
