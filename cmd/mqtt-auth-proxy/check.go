package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

func (p *program) checkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print what is in force",
		Long: `Check the configuration without starting anything.

Every fault is printed as file:line: key: reason, and the exit status is 1. Files
that the configuration names count: what would keep serve from starting is a fault,
apart from addresses that are in use and what only a network can tell. If there is no
fault, the configuration in force is printed, defaults filled in and secrets masked.`,
		Example: `  mqtt-auth-proxy check --config proxy.yaml`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return p.check() },
	}
	p.configFlags(c)
	return c
}

func (p *program) check() error {
	plan, err := p.loadPlan()
	if err != nil {
		return err
	}
	defer plan.Close()
	if err := plan.Probe(); err != nil {
		return err
	}
	for _, w := range service.Warnings(plan.Config) {
		fmt.Fprintln(p.stderr, "warning:", w)
	}
	text, err := plan.Render()
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(text)
	return err
}
