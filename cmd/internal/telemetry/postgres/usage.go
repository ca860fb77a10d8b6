package postgres

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// usage bounds the bytes of each account, see telemetry.AccountOf. The table usage has them by the
// span of time of the messages, as long as a partition, so that retention deletes them together. A
// worker adds what it has stored when it flushes; if it is killed before, the bytes of its last
// seconds are not counted. The goroutine of a worker owns it. The zero usage knows nothing and asks
// the table.
type usage struct {
	known   map[string]accountBytes
	pending map[span]int64 // what the next flush adds
}

// accountBytes is how many bytes an account has, those of messages that are admitted included.
// Other stores may have added some since it was read, and retention may have deleted some.
type accountBytes struct {
	bytes   int64
	read    time.Time
	deleted int64 // how often retention had given back bytes by then
}

// span is a part of the bytes of an account.
type span struct {
	account string
	until   int64 // end of the times of the messages; forever for attributes
}

const forever = math.MaxInt64

// usageAge is how old what is known of an account may be if it is full.
const usageAge = 5 * time.Second

const (
	readUsage = `SELECT account, sum(bytes)::bigint FROM mqtt_auth_proxy.usage WHERE account = ANY ($1) GROUP BY account`
	addUsage  = `INSERT INTO mqtt_auth_proxy.usage (account, until, bytes) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
		ON CONFLICT (account, until) DO UPDATE SET bytes = usage.bytes + excluded.bytes`
	// deleteOld and deleteAhead delete up to $2 spans that end by $1, and that end after $1.
	deleteOld = `DELETE FROM mqtt_auth_proxy.usage WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM mqtt_auth_proxy.usage WHERE until <= $1 LIMIT $2)) AND until <= $1`
	deleteAhead = `DELETE FROM mqtt_auth_proxy.usage WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM mqtt_auth_proxy.usage WHERE until > $1 AND until < 9223372036854775807 LIMIT $2))`
)

// spanOf returns the span of a message.
func (s *Store) spanOf(at place) span {
	width := s.width()
	start := at.ts - ((at.ts%width)+width)%width
	if at.ts > forever-width {
		start = forever - width
	}
	return span{telemetry.AccountOf(at.device), start + width}
}

// admitBytes counts the rows of a group as if each were a new one, and refuses requests whose
// account would have too many bytes.
func (w *worker) admitBytes(ctx context.Context, group []*request) error {
	for _, r := range group { // of an attempt that failed
		w.usage.count(telemetry.AccountOf(r.device), -r.reserved)
		r.reserved = 0
	}
	if err := w.knowBytes(ctx, group); err != nil {
		return err
	}
	for _, r := range group {
		account := telemetry.AccountOf(r.device)
		if len(r.rows) == 0 {
			continue
		}
		more := r.bytes()
		a := w.usage.known[account]
		if a.bytes += more; a.bytes > w.opts.MaxBytes {
			r.refused = telemetry.TooManyBytes()
			continue
		}
		r.reserved = more
		w.usage.known[account] = a
	}
	return nil
}

// knowBytes makes the bytes of the accounts of a group known, and reads those of full ones again.
func (w *worker) knowBytes(ctx context.Context, group []*request) error {
	if w.usage.known == nil || len(w.usage.known) >= maxCounted {
		w.usage.known = make(map[string]accountBytes)
	}
	now := accountBytes{read: time.Now(), deleted: w.deleted.Load()}
	var accounts []string
	for _, r := range group {
		if len(r.rows)+len(r.attributes) == 0 {
			continue
		}
		account := telemetry.AccountOf(r.device)
		a, known := w.usage.known[account]
		stale := a.deleted != now.deleted || now.read.Sub(a.read) >= usageAge
		if known && (!stale || a.bytes+r.bytes() <= w.opts.MaxBytes) {
			continue
		}
		w.usage.known[account] = now
		accounts = append(accounts, account)
	}
	if accounts == nil {
		return nil
	}
	rows, err := w.conn.Query(ctx, readUsage, accounts)
	if err != nil {
		return err
	}
	var account string
	if _, err = pgx.ForEachRow(rows, []any{&account, &now.bytes}, func() error {
		w.usage.known[account] = now
		return nil
	}); err != nil {
		return err
	}
	read := make(map[string]bool, len(accounts))
	for _, account := range accounts {
		read[account] = true
	}
	for s, bytes := range w.usage.pending {
		if read[s.account] {
			w.usage.count(s.account, bytes)
		}
	}
	return nil
}

// isFull reports whether the account of a device cannot have so many bytes more.
func (w *worker) isFull(device string, more int64) bool {
	return w.usage.known[telemetry.AccountOf(device)].bytes+more > w.opts.MaxBytes
}

// bytes returns how many bytes the request adds at most.
func (r *request) bytes() (n int64) {
	for _, m := range r.rows {
		n += telemetry.MessageBytes(m.data)
	}
	for _, f := range r.attributes {
		n += telemetry.AttributeBytes(f.Key, string(f.Value.AppendJSON(nil)))
	}
	return n
}

// settle replaces what was counted for a group that is committed by what it has changed.
func (w *worker) settle(group []*request, growth map[place]int64) {
	for _, r := range group {
		w.usage.count(telemetry.AccountOf(r.device), -r.reserved)
	}
	for at, bytes := range growth {
		s := w.spanOf(at)
		w.usage.count(s.account, bytes)
		if w.usage.pending == nil {
			w.usage.pending = make(map[span]int64)
		}
		w.usage.pending[s] += bytes
	}
}

// count adds to the bytes of an account, if they are known.
func (u *usage) count(account string, bytes int64) {
	if a, ok := u.known[account]; ok {
		a.bytes += bytes
		u.known[account] = a
	}
}

// arrays returns what the next flush adds, in order, so that stores that lock the same rows do so one
// after the other.
func (u *usage) arrays() (accounts []string, untils, bytes []int64) {
	for _, s := range slices.SortedFunc(maps.Keys(u.pending), func(a, b span) int {
		return cmp.Or(strings.Compare(a.account, b.account), cmp.Compare(a.until, b.until))
	}) {
		accounts, untils = append(accounts, s.account), append(untils, s.until)
		bytes = append(bytes, u.pending[s])
	}
	return accounts, untils, bytes
}

// forgetUsage deletes the bytes of messages that retention has deleted, because they were old or too
// far ahead. Of those ahead, dropPartitions may have left a partition that begins within a width.
func (s *Store) forgetUsage(ctx context.Context) error {
	first, last := s.keeps()
	if first > last {
		return nil
	}
	defer s.deleted.Add(1)
	if err := s.inSlices(ctx, deleteOld, first); err != nil {
		return err
	}
	return s.inSlices(ctx, deleteAhead, last+2*s.width())
}
