package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// ChildNumbers implements [telemetry.Children].
func (s *Store) ChildNumbers(ctx context.Context, gateway string, children []string, add bool) ([]int64, error) {
	found, err := s.childNumbers(ctx, gateway, children)
	if err != nil {
		return nil, err
	}
	r := &request{device: gateway}
	for _, child := range children {
		if _, known := found[child]; !known {
			found[child] = 0
			r.children = append(r.children, child)
		}
	}
	if add && r.children != nil {
		if err := s.submit(ctx, r); err != nil {
			return nil, err
		}
		for i, child := range r.children {
			found[child] = r.numbers[i]
		}
	}
	numbers := make([]int64, len(children))
	for i, child := range children {
		numbers[i] = found[child]
	}
	return numbers, nil
}

// childNumbers returns the numbers of those children that have one.
func (s *Store) childNumbers(ctx context.Context, gateway string, children []string) (map[string]int64, error) {
	found := make(map[string]int64, len(children))
	for part := range slices.Chunk(children, pageRows) {
		args := []any{gateway}
		for _, child := range part {
			args = append(args, child)
		}
		query := `SELECT child, number FROM children WHERE gateway = ? AND child IN (?` + strings.Repeat(",?", len(part)-1) + `)`
		for rows, err := range s.query(ctx, query, args...) {
			var (
				child  string
				number int64
			)
			if err == nil {
				err = s.explain(rows.Scan(&child, &number))
			}
			if err != nil {
				return nil, err
			}
			found[child] = number
		}
	}
	return found, nil
}

// ChildrenOf implements [telemetry.Children].
func (s *Store) ChildrenOf(ctx context.Context, gateway string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for rows, err := range s.query(ctx, `SELECT child FROM children WHERE gateway = ? ORDER BY child`, gateway) {
			var child string
			if err == nil {
				err = s.explain(rows.Scan(&child))
			}
			if !yield(child, err) || err != nil {
				return
			}
		}
	}
}

// numberChildren gives numbers to those children of a request that have none.
func (w tableWriter) numberChildren(r *request) error {
	var count, last int64
	if err := w.tx.StmtContext(w.ctx, w.write.countChildren).QueryRowContext(w.ctx, r.device).Scan(&count, &last); err != nil {
		return err
	}
	r.numbers = make([]int64, len(r.children))
	for i, child := range r.children {
		err := w.tx.StmtContext(w.ctx, w.write.child).QueryRowContext(w.ctx, r.device, child).Scan(&r.numbers[i])
		if errors.Is(err, sql.ErrNoRows) {
			count++
		} else if err != nil {
			return err
		}
	}
	if count > telemetry.MaxChildren {
		return &telemetry.PayloadError{Reason: "too many devices behind one gateway", Quota: true}
	}
	for i, child := range r.children {
		if r.numbers[i] != 0 {
			continue
		}
		for taken := true; taken; {
			last++
			err := w.tx.StmtContext(w.ctx, w.write.taken).QueryRowContext(w.ctx, telemetry.ChildName(r.device, last)).Scan(&taken)
			if err != nil {
				return err
			}
		}
		if _, err := w.exec(w.write.addChild, r.device, child, last); err != nil {
			return err
		}
		r.numbers[i] = last
	}
	return nil
}
