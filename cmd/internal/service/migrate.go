package service

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenpostgres"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// MigrateStores brings the schemas of the databases that c names to the version of this program:
// those of the sources without a query. It reports each of them in a line.
func MigrateStores(ctx context.Context, c *config.Config, report func(line string)) error {
	var seen []string
	for i, source := range c.Auth.Sources {
		if source.Postgres == nil || source.Postgres.Query != "" || slices.Contains(seen, source.Postgres.DSNFile) {
			continue
		}
		file := source.Postgres.DSNFile
		seen = append(seen, file)
		before, err := tokenpostgres.Migrate(ctx, file)
		switch {
		case err != nil:
			return faultAt(c, fmt.Sprintf("auth.sources[%d].postgres", i), err)
		case before == tokenpostgres.SchemaVersion:
			report(fmt.Sprintf("%s: the schema has version %d already", file, before))
		case before == 0:
			report(fmt.Sprintf("%s: made the schema, version %d", file, tokenpostgres.SchemaVersion))
		default:
			report(fmt.Sprintf("%s: the schema had version %d and has version %d now", file, before, tokenpostgres.SchemaVersion))
		}
	}
	if seen == nil {
		return errors.New("the configuration has no source postgres without a query, so there is no schema to make")
	}
	return nil
}

// adviseMigration says what to do about a database without the right schema, and returns every
// other error as it is.
func adviseMigration(err error) error {
	if errors.Is(err, tokenpostgres.ErrSchema) {
		return fmt.Errorf("%w; mqtt-auth-proxy store migrate brings an older one up to date", err)
	}
	return err
}
