package tokenpostgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

const (
	maxSubject = 256 // bytes, as the others
	maxTokenID = 128
	maxName    = 65535
	maxNames   = 1024 // entries in a list
	maxAttrs   = 64
	maxAttr    = 4096
	// latest is the last second that is accepted. A larger number is probably in milliseconds.
	latest = 100_000_000_000
)

// kind is what a column holds, and so which types of the database it may have.
type kind int

const (
	textKind kind = iota
	nameKind
	boolKind
	timeKind
	listKind
	networksKind
	jsonKind
)

// String returns the types in words.
func (k kind) String() string {
	return []string{
		"text", "text, uuid or a whole number", "boolean", "timestamp with time zone, or whole seconds since 1970 (not timestamp, which leaves the time zone open)",
		"text or text[]", "text, inet or cidr, or an array of these", "json, jsonb or text",
	}[k]
}

func isText(oid uint32) bool {
	return oid == pgtype.TextOID || oid == pgtype.VarcharOID || oid == pgtype.BPCharOID || oid == pgtype.NameOID
}

func isWhole(oid uint32) bool {
	return oid == pgtype.Int2OID || oid == pgtype.Int4OID || oid == pgtype.Int8OID
}

func isArray(oid uint32) bool {
	return slices.Contains([]uint32{pgtype.TextArrayOID, pgtype.VarcharArrayOID, pgtype.BPCharArrayOID, pgtype.CIDRArrayOID, pgtype.InetArrayOID}, oid)
}

// accepts reports whether a column of the kind may have the type.
func (k kind) accepts(oid uint32) bool {
	isNetwork := slices.Contains([]uint32{pgtype.CIDROID, pgtype.InetOID, pgtype.CIDRArrayOID, pgtype.InetArrayOID}, oid)
	switch k {
	case textKind:
		return isText(oid)
	case nameKind:
		return isText(oid) || isWhole(oid) || oid == pgtype.UUIDOID
	case boolKind:
		return oid == pgtype.BoolOID
	case timeKind:
		return oid == pgtype.TimestamptzOID || isWhole(oid)
	case listKind:
		return isText(oid) || isArray(oid) && !isNetwork
	case networksKind:
		return isText(oid) || isArray(oid) || isNetwork
	case jsonKind:
		return isText(oid) || oid == pgtype.JSONOID || oid == pgtype.JSONBOID
	}
	return false
}

// row has the values of a row.
type row struct {
	subject, tokenID   string
	hash               *string // nil is NULL
	byToken            bool    // of our own schema: it is the row of a token, not of a user
	disabled           bool
	expires, notBefore time.Time
	only               authz.Conditions
	rules              []byte
	rest               authz.NoMatch
	superuser, gateway bool
	role               authz.Role
	limits             authz.Limits
	attrs              map[string]string
	upstream           authz.Upstream
}

// value is a value that is not NULL, in text form, with its type.
type value struct {
	oid  uint32
	text string
}

// column is a column that has a meaning.
type column struct {
	kind kind
	// required means that NULL is a fault, because it is not clear what it would allow.
	required bool
	set      func(*row, value) error
}

// columns returns all columns, by their names.
func columns() map[string]column {
	return map[string]column{
		"subject":            {nameKind, false, func(r *row, v value) error { return setName(&r.subject, v, maxSubject) }},
		"token_id":           {nameKind, false, func(r *row, v value) error { return setName(&r.tokenID, v, maxTokenID) }},
		byToken:              {boolKind, true, func(r *row, v value) error { return setBool(&r.byToken, v) }},
		"password_hash":      {textKind, false, func(r *row, v value) error { r.hash = &v.text; return nil }},
		"disabled":           {boolKind, true, func(r *row, v value) error { return setBool(&r.disabled, v) }},
		"expires_at":         {timeKind, false, func(r *row, v value) error { return setExpiry(&r.expires, v) }},
		"not_before":         {timeKind, false, func(r *row, v value) error { return setTime(&r.notBefore, v) }},
		"client_ids":         {listKind, false, func(r *row, v value) error { return setList(&r.only.ClientIDs, v, pattern) }},
		"usernames":          {listKind, false, func(r *row, v value) error { return setList(&r.only.Usernames, v, pattern) }},
		"certificates":       {listKind, false, func(r *row, v value) error { return setList(&r.only.Certificates, v, certificate) }},
		"cidrs":              {networksKind, false, func(r *row, v value) error { return setList(&r.only.Addrs, v, network) }},
		"acl":                {jsonKind, false, func(r *row, v value) error { r.rules = []byte(v.text); return nil }},
		"acl_no_match":       {textKind, false, func(r *row, v value) error { return setRest(&r.rest, v) }},
		"is_superuser":       {boolKind, true, func(r *row, v value) error { return setBool(&r.superuser, v) }},
		"role":               {textKind, true, func(r *row, v value) error { return setRole(&r.role, v) }},
		"gateway":            {boolKind, true, func(r *row, v value) error { return setBool(&r.gateway, v) }},
		"limits":             {jsonKind, false, func(r *row, v value) error { return setLimits(&r.limits, v) }},
		"attrs":              {jsonKind, false, func(r *row, v value) error { return setAttrs(&r.attrs, v) }},
		"upstream_username":  {textKind, false, func(r *row, v value) error { return setName(&r.upstream.Username, v, maxName) }},
		"upstream_password":  {textKind, false, func(r *row, v value) error { return setSecret(&r.upstream.Password, v) }},
		"upstream_client_id": {textKind, false, func(r *row, v value) error { return setName(&r.upstream.ClientID, v, maxName) }},
	}
}

// byToken is the column that only the query for the schema of this package has.
const byToken = "by_token"

// columnNames returns the columns that a query of an operator may have.
func columnNames() []string {
	all := columns()
	delete(all, byToken)
	return slices.Sorted(maps.Keys(all))
}

// cell is a value of a row; text is nil for NULL.
type cell struct {
	name string
	oid  uint32
	text []byte
}

// readRow converts a row. Its errors contain no value.
func readRow(known map[string]column, cells []cell) (*row, error) {
	r := &row{}
	for _, c := range cells {
		column, ok := known[c.name]
		switch {
		case !ok || !column.kind.accepts(c.oid): // the tables have changed since the query was described
			return nil, fmt.Errorf("column %s is unknown, or its type has changed", c.name)
		case c.text == nil && column.required:
			return nil, fmt.Errorf("column %s: NULL; use coalesce", c.name)
		case c.text == nil:
			continue
		}
		if err := column.set(r, value{c.oid, string(c.text)}); err != nil {
			return nil, fmt.Errorf("column %s: %w", c.name, err)
		}
	}
	return r, nil
}

func setName(to *string, v value, limit int) error {
	*to = v.text
	return checkName(v.text, limit)
}

// checkName checks that a name has 1 to limit bytes without control characters.
func checkName(name string, limit int) error {
	switch {
	case name == "":
		return errors.New("empty; NULL stands for no value")
	case len(name) > limit:
		return fmt.Errorf("longer than %d bytes", limit)
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("contains control characters")
	}
	return nil
}

func setSecret(to *authz.Token, v value) error {
	*to = authz.NewToken(v.text)
	if len(v.text) > maxName {
		return fmt.Errorf("longer than %d bytes", maxName)
	}
	return nil
}

func setBool(to *bool, v value) error {
	*to = v.text == "t"
	if !*to && v.text != "f" {
		return errors.New("neither true nor false")
	}
	return nil
}

// setTime reads a time. Infinity becomes a time that no clock reaches.
func setTime(to *time.Time, v value) error {
	switch {
	case v.text == "infinity":
		*to = time.Unix(latest, 0)
	case v.text == "-infinity":
		*to = time.Unix(0, 0)
	case v.oid == pgtype.TimestamptzOID:
		return setTimestamp(to, v.text)
	default:
		n, err := strconv.ParseInt(v.text, 10, 64)
		if err != nil || n < 0 || n > latest {
			return errors.New("not a number of seconds since 1970; perhaps one of milliseconds")
		}
		*to = time.Unix(n, 0)
	}
	return nil
}

// setTimestamp reads a timestamp with time zone as the server writes it with DateStyle ISO.
func setTimestamp(to *time.Time, text string) error {
	for _, layout := range []string{"2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07:00:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			*to = t
			return nil
		}
	}
	return errors.New("a time outside the years 1 to 9999")
}

// setExpiry is setTime for a time that may be infinity, which is no expiry.
func setExpiry(to *time.Time, v value) error {
	if v.text == "infinity" {
		return nil
	}
	return setTime(to, v)
}

// setList reads one value or an array. An empty array is refused, because it would be taken for
// no restriction.
func setList[T any](to *[]T, v value, parse func(string) (T, error)) error {
	texts := []string{v.text}
	if isArray(v.oid) {
		texts = nil
		// All arrays are written in the same way. NULL in an array is an error here.
		err := pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(v.text), &texts)
		if err != nil || strings.HasPrefix(v.text, "{{") || strings.HasPrefix(v.text, "[") {
			return errors.New("an array with NULL, or with arrays in it")
		}
	}
	if len(texts) == 0 || len(texts) > maxNames {
		return fmt.Errorf("an empty list, or more than %d entries; NULL stands for no restriction", maxNames)
	}
	for _, text := range texts {
		one, err := parse(text)
		if err != nil {
			return err
		}
		*to = append(*to, one)
	}
	return nil
}

// pattern checks a client id or user name that may end in *.
func pattern(text string) (string, error) {
	if err := checkName(text, maxName); err != nil {
		return "", err
	}
	if strings.Contains(text[:len(text)-1], "*") {
		return "", errors.New("a * is allowed only at the end, where it matches any rest")
	}
	return text, nil
}

func certificate(text string) (string, error) {
	return text, authz.CheckCertificateName(text)
}

// network parses an address or a range.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() || p != p.Masked() {
		return netip.Prefix{}, errors.New("neither an address nor a range such as 10.0.0.0/8")
	}
	return p, nil
}

func setRest(to *authz.NoMatch, v value) error {
	switch v.text {
	case "deny":
		*to = authz.DenyRest
	case "defer":
		*to = authz.DeferRest
	default:
		return errors.New("neither deny nor defer")
	}
	return nil
}

func setRole(to *authz.Role, v value) (err error) {
	if *to, err = authz.ParseRole(v.text); err != nil {
		return errors.New("neither device nor reader")
	}
	return nil
}

func setLimits(to *authz.Limits, v value) (err error) {
	*to, err = authz.ParseLimits([]byte(v.text))
	return err
}

// setAttrs reads an object of strings. Numbers and booleans become strings.
func setAttrs(to *map[string]string, v value) error {
	o, err := strictjson.Parse([]byte(v.text))
	if err != nil {
		return errors.New("not a JSON object that could be read in one way only")
	}
	if len(o) > maxAttrs {
		return fmt.Errorf("more than %d attributes", maxAttrs)
	}
	all := make(map[string]string, len(o))
	for _, a := range o {
		s, ok := a.Value.(string)
		switch v := a.Value.(type) {
		case json.Number:
			s, ok = v.String(), true
		case bool:
			s, ok = strconv.FormatBool(v), true
		}
		if !ok || a.Key == "" || len(a.Key)+len(s) > maxAttr || strings.ContainsFunc(a.Key+s, unicode.IsControl) {
			return errors.New("a value that is NULL, a list or an object, is too long, has an empty key, or contains control characters")
		}
		all[a.Key] = s
	}
	*to = all
	return nil
}
