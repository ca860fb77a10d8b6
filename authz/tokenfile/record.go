package tokenfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// field is a key of the object in a line.
type field uint8

// The fields, in the order in which an entry is checked and written.
const (
	fieldFormat field = iota
	fieldEnd
	fieldCount
	fieldID
	fieldSubject
	fieldTokenHash
	fieldToken
	fieldPassword
	fieldDisabled
	fieldExpireAt
	fieldNotBefore
	fieldClientID
	fieldUsername
	fieldPasswordHash
	fieldCIDR
	fieldCertificate
	fieldUpstream
	fieldRole
	fieldGateway
	fieldACL
	fieldLimits
	fieldClientAttrs
	fieldCreatedAt
	fieldComment
	numFields
)

// fieldNames holds the spelling of each field; it is never written to.
var fieldNames = [numFields]string{
	"format", "end", "count", "id", "subject", "token_hash", "token", "password", "disabled", "expire_at", "not_before",
	"clientid", "username", "password_hash", "cidr", "certificate", "upstream", "role", "gateway", "acl", "limits", "client_attrs", "created_at", "comment",
}

// String returns the key.
func (f field) String() string { return fieldNames[f] }

// fieldOf returns the field with exactly that key. It looks first among the fields after the one
// named by after, since most lines have them in order.
func fieldOf(key []byte, after field) (field, bool) {
	for f := after; f < numFields; f++ {
		if string(key) == fieldNames[f] {
			return f, true
		}
	}
	for f := range after {
		if string(key) == fieldNames[f] {
			return f, true
		}
	}
	return numFields, false
}

// record has the raw JSON of each value in a line's object, or nil if the field is absent. The
// values point into the line.
type record [numFields][]byte

// scanRecord parses the object in line. Its error never contains a value.
func scanRecord(line []byte) (rec record, fault *Fault) {
	fault = rec.scan(line)
	return rec, fault
}

// scan is scanRecord into a record that is used again for each line.
func (rec *record) scan(line []byte) (fault *Fault) {
	*rec = record{}
	last := fieldID
	err := strictjson.EachMember(line, func(key, value []byte) error {
		f, ok := fieldOf(key, last)
		if !ok {
			fault = unknownField(key)
			return errors.New("unknown")
		}
		rec[f], last = value, f
		return nil
	})
	if err != nil && fault == nil {
		fault = &Fault{Reason: err.Error()}
	}
	return fault
}

// unknownField describes a key that is not a field. People who take the file for a map write
// tokens as keys, so a key is repeated only if it does not look like a token.
func unknownField(key []byte) *Fault {
	if f, ok := fieldOf(bytes.ToLower(key), fieldID); ok {
		return &Fault{Field: f.String(), Reason: "write the field's name in lower case"}
	}
	fault := &Fault{Reason: "an unknown field; known are id, subject, token_hash, disabled, expire_at, " +
		"not_before, clientid, username, password_hash, cidr, certificate, upstream, role, gateway, acl, limits, client_attrs, created_at, comment"}
	if strictjson.Nameable(key) {
		fault.Field = string(key)
	}
	return fault
}

// has reports whether any of the fields is present.
func (rec *record) has(fields ...field) bool {
	for _, f := range fields {
		if rec[f] != nil {
			return true
		}
	}
	return false
}

// only reports whether no other field is present.
func (rec *record) only(fields ...field) bool {
	rest := *rec
	for _, f := range fields {
		rest[f] = nil
	}
	for _, value := range rest {
		if value != nil {
			return false
		}
	}
	return true
}

// set sets the field to value, encoded as JSON, or removes the field if value is nil.
func (rec *record) set(f field, value any) {
	if value == nil {
		rec[f] = nil
		return
	}
	rec[f] = marshal(value)
}

// line returns rec as a line of the file, including the line end.
func (rec *record) line() []byte {
	out := []byte{'{'}
	for f, value := range rec {
		if value == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%q:", field(f))
		out = append(out, value...)
	}
	return append(out, '}', '\n')
}

// marshal encodes a string, number, bool or list of strings as JSON, without escaping <, > and
// &.
func marshal(value any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // such values cannot fail
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
