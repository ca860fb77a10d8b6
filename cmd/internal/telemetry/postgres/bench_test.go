//go:build integration

package postgres

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/sqlite"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

const benchPayload = `{"temperature":21.5,"humidity":40,"battery":3.71,"rssi":-71,"state":"running"}`

// turn is how long a contender runs before the next one does.
const turn = 2 * time.Second

// BenchmarkStores lets contenders write the same messages in turns: a bare loop that copies groups
// into a temporary table, one that inserts arrays, this store, and the one of SQLite. Each device
// of a store waits for its own commit; payloads are parsed already. The bare loops have as many
// connections as the store and write groups as large as it has just made. Reported are the medians
// over the turns, and the lowest and the highest.
//
//	go test -tags integration -run '^$' -bench Stores -benchtime 5x ./cmd/internal/telemetry/postgres
func BenchmarkStores(b *testing.B) {
	for _, devices := range []int{200, 1000} {
		b.Run(fmt.Sprintf("%ddevices", devices), func(b *testing.B) { benchmarkStores(b, devices) })
	}
}

func benchmarkStores(b *testing.B, devices int) {
	server := harness.StartPostgres(b, "max_wal_size=4GB")
	ours := open(b, Options{DSNFile: dsnFile(b, server.Database("ours"))})
	lite, err := sqlite.Open(b.Context(), sqlite.Options{Path: filepath.Join(b.TempDir(), "t.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer lite.Close()
	copied, inserted := newBare(b, server.Database("copied")), newBare(b, server.Database("inserted"))
	clock := newClock()
	publish(b, ours, devices, clock)
	group := func() int { return int(ours.Stats().Messages / ours.Stats().Commits) }
	contenders := []struct {
		name string
		run  func() int64
	}{
		{"copy", func() int64 { return copied.run(b, group(), clock, (*bare).copyGroup) }},
		{"insert", func() int64 { return inserted.run(b, group(), clock, (*bare).insertGroup) }},
		{"postgres", func() int64 { return publish(b, ours, devices, clock) }},
		{"sqlite", func() int64 { return publish(b, lite, devices, clock) }},
	}
	rates := make(map[string][]float64)
	for b.Loop() {
		for _, c := range contenders {
			start := time.Now()
			n := c.run()
			rates[c.name] = append(rates[c.name], float64(n)/time.Since(start).Seconds())
		}
	}
	for name, list := range rates {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], name+"-msg/s")
		b.ReportMetric(list[0], name+"-least")
		b.ReportMetric(list[len(list)-1], name+"-most")
	}
	b.ReportMetric(float64(group()), "msg/commit")
	b.ReportMetric(0, "ns/op")
}

// newClock returns a clock that goes on by a millisecond at each call: devices of the benchmark
// are faster than real ones, which seldom send several messages in a millisecond.
func newClock() func() time.Time {
	var calls atomic.Int64
	start := time.Now()
	return func() time.Time { return start.Add(time.Duration(calls.Add(1)) * time.Millisecond) }
}

// publish lets devices publish, each one message after the other, and returns how many.
func publish(b *testing.B, s telemetry.Store, devices int, now func() time.Time) int64 {
	parsed, err := payload.Parse([]byte(benchPayload), time.Now(), payload.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), turn)
	defer cancel()
	var (
		publishers sync.WaitGroup
		n          atomic.Int64
	)
	for d := range devices {
		publishers.Go(func() {
			device := fmt.Sprintf("device-%04d", d)
			for ctx.Err() == nil {
				message := []payload.Message{{TS: now().UnixMilli(), Fields: parsed[0].Fields, Arrived: true}}
				if err := s.Append(b.Context(), device, message); err != nil {
					b.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	publishers.Wait()
	return n.Load()
}

// bare are connections that write rows and do nothing else.
type bare []*pgx.Conn

func newBare(b *testing.B, dsn string) bare {
	b.Helper()
	list := make(bare, DefaultConnections)
	for i := range list {
		c, err := pgx.Connect(b.Context(), dsn)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close(context.Background()) })
		list[i] = c
	}
	_, err := list[0].Exec(b.Context(), `CREATE TABLE telemetry (device text NOT NULL, ts bigint NOT NULL, n integer NOT NULL, data text NOT NULL, PRIMARY KEY (device, ts, n))`)
	if err != nil {
		b.Fatal(err)
	}
	return list
}

// run writes groups over all connections and returns how many messages.
func (l bare) run(b *testing.B, size int, now func() time.Time, write func(*bare, context.Context, *pgx.Conn, arrays) error) int64 {
	ctx, cancel := context.WithTimeout(b.Context(), turn)
	defer cancel()
	var (
		writers sync.WaitGroup
		n       atomic.Int64
	)
	for w, c := range l {
		writers.Go(func() {
			for ctx.Err() == nil {
				var a arrays
				for d := range size {
					a.add(place{fmt.Sprintf("device-%04d", w*size+d), now().UnixMilli()}, stored{data: benchPayload})
				}
				if err := write(&l, b.Context(), c, a); err != nil {
					b.Error(err)
					return
				}
				n.Add(int64(size))
			}
		})
	}
	writers.Wait()
	return n.Load()
}

func (*bare) insertGroup(ctx context.Context, c *pgx.Conn, a arrays) error {
	_, err := c.Exec(ctx, `INSERT INTO telemetry SELECT * FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::text[]) ON CONFLICT DO NOTHING`,
		a.devices, a.times, a.numbers, a.data)
	return err
}

func (*bare) copyGroup(ctx context.Context, c *pgx.Conn, a arrays) error {
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE incoming (LIKE telemetry) ON COMMIT DROP`); err != nil {
			return err
		}
		rows := pgx.CopyFromSlice(len(a.data), func(i int) ([]any, error) {
			return []any{a.devices[i], a.times[i], a.numbers[i], a.data[i]}, nil
		})
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"incoming"}, []string{"device", "ts", "n", "data"}, rows); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO telemetry SELECT * FROM incoming ON CONFLICT DO NOTHING`)
		return err
	})
}
