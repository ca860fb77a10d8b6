package presence

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
)

// TokensSeen reads from the store when each of the token ids was last used. The proxy may be
// running. Ids that were never used are missing. A file that does not exist is not an error.
func TokensSeen(ctx context.Context, t Target, ids []string) (map[string]time.Time, error) {
	if t.DSNFile != "" {
		s, err := connectPostgres(ctx, t)
		if err != nil {
			return nil, err
		}
		defer s.pool.Close()
		return s.tokens(ctx, ids)
	}
	if _, err := os.Stat(t.Path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	db, err := sqlitefile.Connect(t.Path, "ro", 1, lockWait)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path, err)
	}
	defer func() { _ = db.Close() }()
	seen, err := (&sqliteStore{readers: db}).tokens(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path, err)
	}
	return seen, nil
}
