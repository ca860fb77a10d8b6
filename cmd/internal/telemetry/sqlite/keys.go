package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/recent"
)

// maxCounted is the number of devices for which there are counts at the same time.
const maxCounted = 100_000

// keyCounts bounds the keys of each account, see telemetry.AccountOf. To count them for each message
// would be slow. Therefore most counts are an upper bound, to which each message adds the number of
// its fields; when that reaches the limit, the keys are counted. The writing goroutine owns it.
type keyCounts map[string]*keyCount

type keyCount struct {
	// n is the number of keys in the table latest if exact, and otherwise at least the number
	// that the next flush will leave there.
	n     int
	exact bool
	fresh map[deviceKey]bool // if exact: keys that the next flush brings into the table
}

// deviceKey is a key of one of the devices of an account.
type deviceKey struct{ device, key string }

// admit refuses those requests of a batch that would give a device too many keys or bytes.
func (s *Store) admit(batch []*request) error {
	if len(s.usage.known) >= maxCounted {
		s.usage.known = nil
	}
	for _, r := range batch {
		for _, p := range r.each() {
			var bad *telemetry.PayloadError
			err := s.admitBytes(p)
			if err == nil {
				err = s.admitRows(p.device, p.rows)
			}
			switch {
			case errors.As(err, &bad):
				r.refused = bad
			case err != nil:
				return err
			}
		}
	}
	return nil
}

func (s *Store) admitRows(device string, rows []row) error {
	fields := 0
	for _, m := range rows {
		fields += len(m.Fields)
	}
	account := telemetry.AccountOf(device)
	c := s.keys[account]
	if c != nil && !c.exact && c.n+fields <= s.opts.MaxKeys {
		c.n += fields
		return nil
	}
	if c == nil || !c.exact {
		n, err := s.countKeys(account)
		if err != nil {
			return err
		}
		n += s.recentKeys(account)
		if c = s.newCount(account); n+fields <= s.opts.MaxKeys {
			c.n = n + fields
			return nil
		}
		// After a flush the table has all that was committed, and the count is exact.
		if err := s.flush(); err != nil {
			return err
		}
		if c.n, err = s.countKeys(account); err != nil {
			return err
		}
		c.exact = true
	}
	return s.admitFresh(device, c, rows)
}

// admitFresh admits rows of a device to an account whose keys are counted exactly.
func (s *Store) admitFresh(device string, c *keyCount, rows []row) error {
	fresh := make(map[string]bool)
	for _, m := range rows {
		for _, f := range m.Fields {
			known, err := s.knowsKey(device, c, f)
			if err != nil {
				return err
			}
			if !known {
				fresh[f.Key] = true
			}
		}
	}
	switch {
	case len(fresh) == 0:
		return nil
	case c.n+len(c.fresh)+len(fresh) > s.opts.MaxKeys:
		return &telemetry.PayloadError{Reason: "too many keys for one device", Quota: true}
	case c.fresh == nil:
		c.fresh = make(map[deviceKey]bool)
	}
	for key := range fresh {
		c.fresh[deviceKey{device, key}] = true
	}
	return nil
}

func (s *Store) knowsKey(device string, c *keyCount, f payload.Field) (bool, error) {
	if _, waits := s.recent.All()[device][f.Key]; waits || c.fresh[deviceKey{device, f.Key}] {
		return true, nil
	}
	var one int
	err := s.write.hasKey.QueryRowContext(context.Background(), device, f.Key).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// newCount returns a new count for the account.
func (s *Store) newCount(account string) *keyCount {
	if len(s.keys) >= maxCounted || s.keys == nil {
		s.keys = make(keyCounts)
	}
	c := new(keyCount)
	s.keys[account] = c
	return c
}

// isFamily reports whether an account is that of the devices behind a gateway.
func isFamily(account string) bool { return telemetry.AccountOf(account+"1") == account }

// countKeys returns how many keys of the account are in the table latest.
func (s *Store) countKeys(account string) (n int, err error) {
	if isFamily(account) {
		err = s.write.countFamily.QueryRowContext(context.Background(), account, account[:len(account)-1]+"0").Scan(&n)
		return n, err
	}
	err = s.write.countKeys.QueryRowContext(context.Background(), account).Scan(&n)
	return n, err
}

// recentKeys returns how many keys of the account wait for a flush.
func (s *Store) recentKeys(account string) (n int) {
	if !isFamily(account) {
		return len(s.recent.All()[account])
	}
	for device, keys := range s.recent.All() {
		if strings.HasPrefix(device, account) {
			n += len(keys)
		}
	}
	return n
}

// flushed counts what a flush has brought into the table.
func (k keyCounts) flushed(table map[string]recent.Points) {
	for device, keys := range table {
		c := k[telemetry.AccountOf(device)]
		if c == nil || len(c.fresh) == 0 {
			continue
		}
		for key := range keys {
			if c.fresh[deviceKey{device, key}] {
				delete(c.fresh, deviceKey{device, key})
				c.n++
			}
		}
	}
}
