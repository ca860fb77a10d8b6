package tokenpostgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// The parameters that a query may use.
const (
	paramUsername = "username"
	paramClientID = "client_id"
	paramToken    = "token_sha256"
	paramAddress  = "address"
)

// query is a query with parameters by position.
type query struct {
	sql    string
	params []string // the names of $1, $2, ...
	// schema means that it is the query for the schema of this package, which finds tokens and
	// pairs, and whose rows say which they are.
	schema bool
}

var (
	named      = regexp.MustCompile(`@[A-Za-z_]\w*`)
	literal    = regexp.MustCompile(`'[^']*'`)
	positional = regexp.MustCompile(`\$[0-9]`)
)

// parseQuery replaces the named parameters of a query by positions. Its errors are about the
// text alone, since the database is not asked.
func parseQuery(text string) (*query, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("query: empty")
	}
	known := pgx.NamedArgs{}
	for _, name := range []string{paramUsername, paramClientID, paramToken, paramAddress} {
		known[name] = name
	}
	sql, args, err := known.RewriteQuery(context.Background(), nil, text, nil)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	q := &query{sql: sql}
	for _, arg := range args {
		name, ok := arg.(string)
		if !ok {
			return nil, fmt.Errorf("query: %s is not a parameter; there are @username, @client_id, @token_sha256 and @address", unknownIn(text))
		}
		q.params = append(q.params, name)
	}
	switch {
	case positional.MatchString(literal.ReplaceAllString(text, "")):
		return nil, errors.New("query: parameters such as $1 have no meaning here; write @username, @client_id, @token_sha256 or @address")
	case !q.uses(paramToken) && !q.uses(paramUsername) && !q.uses(paramClientID):
		return nil, errors.New("query: it uses neither @token_sha256, nor @username or @client_id, so every device would get the same row")
	}
	return q, nil
}

// unknownIn returns the first name in a query that is no parameter.
func unknownIn(text string) string {
	for _, name := range named.FindAllString(text, -1) {
		if !slices.Contains([]string{paramUsername, paramClientID, paramToken, paramAddress}, name[1:]) {
			return name
		}
	}
	return "a name after @"
}

func (q *query) uses(param string) bool { return slices.Contains(q.params, param) }

// takes returns what the query looks up: a token by its digest, or else a user or client id
// whose password is checked.
func (q *query) takes() authz.Credentials {
	if q.schema {
		return authz.Tokens | authz.Pairs
	}
	if q.uses(paramToken) {
		return authz.Tokens
	}
	return authz.Pairs
}

// parts returns the parts of a request, besides the token or pair, that the query looks at. The
// user name of a pair is a part of the pair.
func (q *query) parts() (parts authz.Parts) {
	if q.uses(paramUsername) && q.takes() == authz.Tokens { // not with pairs
		parts |= authz.PartUsername
	}
	if q.uses(paramClientID) {
		parts |= authz.PartClientID
	}
	if q.uses(paramAddress) {
		parts |= authz.PartAddr
	}
	return parts
}

// statement is a query as a server has described it.
type statement struct {
	params []uint32 // the types of the parameters
	fields []string // the columns
}

// describe checks a server's description of the query.
func (q *query) describe(d *pgconn.StatementDescription) (*statement, error) {
	s := &statement{params: d.ParamOIDs}
	for i, oid := range d.ParamOIDs {
		if q.params[i] == paramToken && oid != pgtype.ByteaOID && !isText(oid) {
			return nil, errors.New("query: @token_sha256 is compared with something that is neither bytea nor text")
		}
	}
	for _, f := range d.Fields {
		c, ok := columns()[f.Name]
		switch {
		case f.Name == byToken && !q.schema, !ok:
			return nil, fmt.Errorf("query: %q is not a column that has a meaning; there are %s", f.Name, strings.Join(columnNames(), ", "))
		case slices.Contains(s.fields, f.Name):
			return nil, fmt.Errorf("query: two columns are named %s", f.Name)
		case !c.kind.accepts(f.DataTypeOID):
			return nil, fmt.Errorf("query: column %s: want %s; convert it in the query", f.Name, c.kind.String())
		}
		s.fields = append(s.fields, f.Name)
	}
	has := slices.Contains(s.fields, "password_hash")
	switch {
	case q.schema:
	case q.takes() == authz.Pairs && !has:
		return nil, errors.New("query: it neither uses @token_sha256 nor returns password_hash, so no secret would be checked")
	case q.takes() == authz.Tokens && has:
		return nil, errors.New("query: it uses @token_sha256 and returns password_hash; write one source for tokens and one for passwords")
	}
	return s, nil
}

// values returns the parameters for a request in text form. It reports false if a value cannot
// occur in a database: then there is no row for it.
func (q *query) values(r *authz.Request, types []uint32) (values [][]byte, ok bool) {
	username, clientID := r.Username, r.ClientID
	if q.takes() != authz.Tokens {
		username, clientID = r.Pair.Username, r.Pair.ClientID
	}
	for i, name := range q.params {
		if name == paramUsername && q.schema && r.Pair.IsZero() || name == paramToken && r.Token.Empty() {
			values = append(values, nil) // which is equal to nothing
			continue
		}
		var text string
		switch name {
		case paramUsername:
			text = username
		case paramClientID:
			text = clientID
		case paramToken:
			hash := r.Token.Hash()
			text = hex.EncodeToString(hash[:])
			if types[i] == pgtype.ByteaOID {
				text = `\x` + text
			}
		case paramAddress:
			a := r.Addr.Addr().Unmap().WithZone("")
			if !a.IsValid() {
				values = append(values, nil)
				continue
			}
			text = a.String()
		}
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return nil, false
		}
		values = append(values, []byte(text))
	}
	return values, true
}
