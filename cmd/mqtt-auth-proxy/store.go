package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// migrateTime limits a migration, including the wait for another one.
const migrateTime = 5 * time.Minute

func (p *program) storeCommand() *cobra.Command {
	store := &cobra.Command{Use: "store", Short: "Manage the tables of the proxy in PostgreSQL", Example: "  mqtt-auth-proxy store migrate --config proxy.yaml"}
	migrate := &cobra.Command{
		Use:   "migrate",
		Short: "Create or update the tables for tokens in PostgreSQL",
		Long: `Create or update the tables for tokens in the databases that the configuration names:
those of every source postgres without a query.

A migration is one transaction: it changes everything or nothing. Migrations that run
at the same time wait for each other. If the tables are up to date, nothing changes.`,
		Example: `  mqtt-auth-proxy store migrate --config proxy.yaml`,
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return p.migrate(c.Context()) },
	}
	p.configFlags(migrate)
	store.AddCommand(migrate)
	return store
}

func (p *program) migrate(ctx context.Context) error {
	c, err := p.loadConfig()
	if err != nil {
		return err
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, migrateTime)
	defer cancel()
	return service.MigrateStores(ctx, c, func(line string) { fmt.Fprintln(p.stdout, line) })
}
