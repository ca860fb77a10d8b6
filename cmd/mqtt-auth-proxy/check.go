package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// check is the check command and its flags.
type check struct {
	*program
	online, diff bool
}

func (p *program) checkCommand() *cobra.Command {
	k := &check{program: p}
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print it with all defaults",
		Long: `Check the configuration without starting anything.

The files that the configuration names are checked as well. Everything that would
prevent serve from starting is a fault, except addresses that are in use and what
depends on other machines. Every fault is printed as file:line: key: reason, and the
exit status is 1. If there is no fault, the configuration is printed, including the
defaults, with its secrets masked.

With --online the brokers, token services, databases and the receiver of events are
tried instead. For each of them a line says what was tried and, if it failed, why and
what to do. The exit status is 1 if something failed. A token service is asked about a
token that does not exist. A broker gets a CONNECT if its credentials are the same for
all devices. The receiver of events gets no request. That takes at most as long as
connect.timeout or upstream.connect_timeout, and changes nothing.`,
		Example: `  mqtt-auth-proxy check --config proxy.yaml
  mqtt-auth-proxy check --config proxy.yaml --diff
  mqtt-auth-proxy check --config proxy.yaml --online`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return k.run(c.Context()) },
	}
	p.configFlags(c)
	c.Flags().BoolVar(&k.online, "online", false, "try the brokers, token services, databases and the receiver of events")
	c.Flags().BoolVar(&k.diff, "diff", false, "print only what differs from the defaults, with its place")
	return c
}

func (k *check) run(ctx context.Context) error {
	plan, err := k.loadPlan()
	if err != nil {
		return err
	}
	defer plan.Close()
	if err := plan.Probe(); err != nil {
		return err
	}
	for _, w := range service.Warnings(plan.Config) {
		fmt.Fprintln(k.stderr, "warning:", w)
	}
	if k.diff || !k.online {
		if err := k.print(plan); err != nil {
			return err
		}
	}
	if k.online {
		return k.try(ctx, plan)
	}
	return nil
}

// print prints the configuration, or what of it differs from the defaults.
func (k *check) print(plan *service.Plan) error {
	render := plan.Render
	if k.diff {
		render = plan.RenderChanged
	}
	text, err := render()
	if err != nil {
		return err
	}
	if len(text) == 0 {
		fmt.Fprintln(k.stderr, "Nothing differs from the defaults.")
	}
	_, err = k.stdout.Write(text)
	return err
}

// try prints a line for everything that devices depend on.
func (k *check) try(ctx context.Context, plan *service.Plan) error {
	failed, trials := 0, plan.TryOnline(ctx)
	for _, t := range trials {
		line := fmt.Sprintf("good  %s: %s", t.Key, t.What)
		if t.Err != nil {
			failed++
			line = fmt.Sprintf("FAIL  %s: %s: %s. What to do: %s.", t.Key, t.What, harmless(t.Err.Error()), t.Todo)
		}
		if _, err := fmt.Fprintln(k.stdout, line); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d trials failed", failed, len(trials))
	}
	return nil
}
