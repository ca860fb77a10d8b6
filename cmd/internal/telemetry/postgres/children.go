package postgres

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// childLockID is the advisory lock under which children get their numbers.
const childLockID = upkeepID + 1

const (
	childNumbers  = `SELECT child, number FROM mqtt_auth_proxy.children WHERE gateway = $1 AND child = ANY ($2)`
	countChildren = `SELECT count(*), coalesce(max(number), 0) FROM mqtt_auth_proxy.children WHERE gateway = $1`
	addChildren   = `INSERT INTO mqtt_auth_proxy.children (gateway, child, number) SELECT $1, * FROM unnest($2::text[], $3::bigint[])`
	// takenNames returns those of some names under which there is something.
	takenNames = `SELECT name FROM unnest($1::text[]) AS n (name) WHERE
		EXISTS (SELECT 1 FROM mqtt_auth_proxy.latest WHERE device = name) OR
		EXISTS (SELECT 1 FROM mqtt_auth_proxy.attributes WHERE device = name) OR
		EXISTS (SELECT 1 FROM mqtt_auth_proxy.shared_attributes WHERE device = name)`
)

// beginNumbering begins a transaction that does not wait long for another one.
var beginNumbering = pgx.TxOptions{BeginQuery: "BEGIN; SET LOCAL statement_timeout = 8000; SET LOCAL lock_timeout = 8000"}

// ChildNumbers implements [telemetry.Children].
func (s *Store) ChildNumbers(ctx context.Context, gateway string, children []string, add bool) ([]int64, error) {
	for _, name := range append([]string{gateway}, children...) {
		if err := checkDevice(name); err != nil {
			return nil, err
		}
	}
	if s.closing.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found := make(map[string]int64, len(children))
	missing := func(tx pgx.Tx) (list []string, err error) {
		if err := readNumbers(ctx, tx, gateway, children, found); err != nil {
			return nil, err
		}
		for _, child := range children {
			if _, known := found[child]; !known {
				list = append(list, child)
			}
		}
		return list, nil
	}
	var unknown []string
	err := transact(ctx, s.readers, beginReading, func(tx pgx.Tx) (err error) {
		unknown, err = missing(tx)
		return err
	})
	if err == nil && add && unknown != nil {
		err = transact(ctx, s.readers, beginNumbering, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(childLockID)); err != nil {
				return err
			}
			list, err := missing(tx)
			if err != nil || list == nil {
				return err
			}
			return numberChildren(ctx, tx, gateway, list, found)
		})
	}
	if bad, ok := errors.AsType[*telemetry.PayloadError](err); ok {
		return nil, bad
	}
	if err != nil {
		return nil, explain(err)
	}
	numbers := make([]int64, len(children))
	for i, child := range children {
		numbers[i] = found[child]
	}
	return numbers, nil
}

// readNumbers adds the numbers that children have to found.
func readNumbers(ctx context.Context, tx pgx.Tx, gateway string, children []string, found map[string]int64) error {
	rows, err := tx.Query(ctx, childNumbers, gateway, children)
	if err != nil {
		return err
	}
	var (
		child string
		n     int64
	)
	_, err = pgx.ForEachRow(rows, []any{&child, &n}, func() error {
		found[child] = n
		return nil
	})
	return err
}

// numberChildren gives numbers to children that have none, and adds them to found.
func numberChildren(ctx context.Context, tx pgx.Tx, gateway string, children []string, found map[string]int64) error {
	var count, last int64
	if err := tx.QueryRow(ctx, countChildren, gateway).Scan(&count, &last); err != nil {
		return err
	}
	if count+int64(len(children)) > telemetry.MaxChildren {
		return &telemetry.PayloadError{Reason: "too many devices behind one gateway", Quota: true}
	}
	numbers, err := freeNumbers(ctx, tx, gateway, last, len(children))
	if err != nil {
		return err
	}
	for i, child := range children {
		found[child] = numbers[i]
	}
	_, err = tx.Exec(ctx, addChildren, gateway, children, numbers)
	return err
}

// freeNumbers returns n numbers after last under whose names there is nothing.
func freeNumbers(ctx context.Context, tx pgx.Tx, gateway string, last int64, n int) (numbers []int64, err error) {
	for len(numbers) < n {
		var names []string
		first := last + 1
		for range n - len(numbers) {
			last++
			names = append(names, telemetry.ChildName(gateway, last))
		}
		rows, err := tx.Query(ctx, takenNames, names)
		if err != nil {
			return nil, err
		}
		taken, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		for i, name := range names {
			if !slices.Contains(taken, name) {
				numbers = append(numbers, first+int64(i))
			}
		}
	}
	return numbers, nil
}

// ChildrenOf implements [telemetry.Children].
func (s *Store) ChildrenOf(ctx context.Context, gateway string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for rows, err := range s.query(ctx, `SELECT child FROM mqtt_auth_proxy.children WHERE gateway = $1 ORDER BY child COLLATE "C"`, gateway) {
			var child string
			if err == nil {
				err = explain(rows.Scan(&child))
			}
			if !yield(child, err) || err != nil {
				return
			}
		}
	}
}
