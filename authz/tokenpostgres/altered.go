package tokenpostgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// rowsAtOnce is how many rows one statement names at most.
const rowsAtOnce = 10_000

// alteredQuery returns rows of the schema by their ids, each with the digest or user name that
// finds it.
const alteredQuery = `SELECT encode(token_sha256, 'hex') AS digest, username AS found_by, granted.*
	FROM mqtt_auth_proxy.tokens JOIN (` + schemaRows + `) AS granted USING (token_id) WHERE token_id = ANY($1::text[])`

// lookUpAltered returns what those of the tokens grant now that are still valid, by their ids.
func (s *Source) lookUpAltered(ctx context.Context, altered []withdrawal) (map[string]authz.Revocation, error) {
	if len(altered) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	ids := make([]string, len(altered))
	for i, w := range altered {
		ids[i] = w.TokenID
	}
	valid := make(map[string]authz.Revocation)
	return valid, eachRowOf(ctx, conn.Conn(), alteredQuery, ids, func(cells []cell) error {
		if r, ok := s.grantedNow(cells); ok {
			valid[r.Grant.TokenID] = r
		}
		return nil
	})
}

// grantedNow returns what a row of alteredQuery grants. It reports false if that is nothing.
func (s *Source) grantedNow(cells []cell) (r authz.Revocation, ok bool) {
	digest, username := cells[0].text, cells[1].text
	found, err := readRow(s.columns, cells[2:])
	if err != nil || found.denied(time.Now(), found.subject) != nil {
		return r, false
	}
	r.Grant = found.grant()
	if r.Grant.ACL, err = found.acl(); err != nil {
		return r, false
	}
	if digest != nil {
		r.TokenHash, ok = s.withdrawnToken(string(digest))
		return r, ok
	}
	r.Grant.PairHash = authz.PairHash(string(username), *found.hash)
	r.TokenHash = r.Grant.PairHash
	return r, true
}

// eachRowOf calls do with the rows that a query finds by their ids.
func eachRowOf(ctx context.Context, conn *pgx.Conn, sql string, ids []string, do func([]cell) error) error {
	types := pgtype.NewMap()
	for ids := range slices.Chunk(ids, rowsAtOnce) {
		list, err := types.Encode(pgtype.TextArrayOID, pgtype.TextFormatCode, ids, nil)
		if err != nil {
			return err
		}
		result := conn.PgConn().ExecParams(ctx, sql, [][]byte{list}, []uint32{pgtype.TextArrayOID}, nil, nil)
		for result.NextRow() {
			var cells []cell
			for i, text := range result.Values() {
				f := result.FieldDescriptions()[i]
				cells = append(cells, cell{f.Name, f.DataTypeOID, text})
			}
			if err := do(cells); err != nil {
				return err
			}
		}
		if _, err := result.Close(); err != nil {
			return tableError(ctx, err)
		}
	}
	return nil
}
