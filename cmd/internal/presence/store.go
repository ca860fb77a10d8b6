package presence

import (
	"context"
	"errors"
	"time"
)

// store has the devices and token ids. Its methods may be called by several goroutines, write and
// prune by one at a time.
type store interface {
	// write writes all of b or nothing.
	write(ctx context.Context, b *batch) error
	// prune deletes the oldest devices and token ids, so that at most most of each are left.
	prune(ctx context.Context, most int) error
	// page returns the devices of the kind whose subjects come after the given one, in the
	// order of the bytes of the subjects, and at most limit.
	page(ctx context.Context, k kind, after string, limit int) ([]Device, error)
	// lookup returns the devices that are stored among the subjects, in any order.
	lookup(ctx context.Context, subjects []string) ([]Device, error)
	// tokens returns when each of the token ids was last seen. Ids that were never seen are
	// missing.
	tokens(ctx context.Context, ids []string) (map[string]time.Time, error)
	close() error
}

// kind is the kind of devices that a page has.
type kind int

const (
	everyDevice kind = iota
	connectedDevices
	awayDevices
)

// errDamaged is wrapped by errors about a store whose content cannot be read.
var errDamaged = errors.New("the database is damaged")

// openStore opens the store of the target.
func openStore(ctx context.Context, t Target, aside func(string, error)) (store, error) {
	if t.DSNFile != "" {
		return openPostgres(ctx, t)
	}
	return openSQLite(ctx, t.Path, aside)
}
