package tokenimport

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is what the cells of a column hold.
type kind int

const (
	text   kind = iota
	list        // one text, or a JSON list
	number      // of seconds, or a time as text
	raw         // JSON
)

// column is a column of the table with the name of a field.
type column struct {
	name string
	kind kind
}

// columns returns those of a token file in the order in which they are exported.
func columns() []column {
	return []column{
		{"id", text}, {"subject", text}, {"token_hash", text}, {"username", list}, {"password_hash", text},
		{"disabled", raw}, {"expire_at", number}, {"not_before", number}, {"clientid", list}, {"cidr", list},
		{"certificate", list}, {"upstream", raw}, {"role", text}, {"gateway", raw}, {"acl", raw}, {"limits", raw}, {"client_attrs", raw},
		{"created_at", number}, {"comment", text},
	}
}

// secrets are the columns that are read only.
func secrets() []column { return []column{{"token", text}, {"password", text}} }

// eachRow calls header with the first row and do with each other, and the line of each. Rows that
// do not have as many cells as the first are faults.
func (r *reader) eachRow(header func(names []string) error, do func(line int, cells []string) error) error {
	in := bufio.NewReader(r.in)
	if bom, _ := in.Peek(3); string(bom) == "\xef\xbb\xbf" { // spreadsheets write one
		_, _ = in.Discard(3)
	}
	rows := csv.NewReader(in)
	rows.ReuseRecord = true
	for first := true; ; first = false {
		cells, err := rows.Read()
		if broken, ok := errors.AsType[*csv.ParseError](err); ok {
			if err := r.fault(broken.StartLine, rowError(broken)); err != nil || !errors.Is(broken.Err, csv.ErrFieldCount) {
				return err // after an error of quotes nothing that follows is where it seems to be
			}
			continue
		}
		switch {
		case errors.Is(err, io.EOF) && first:
			return fmt.Errorf("%s is empty; the first row names the columns", r.source)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		line, _ := rows.FieldPos(0)
		switch {
		case slices.ContainsFunc(cells, func(cell string) bool { return !utf8.ValidString(cell) }):
			err = errors.New("is not valid UTF-8")
		case first:
			err = header(slices.Clone(cells))
		default:
			err = do(line, cells)
		}
		if err != nil {
			if err := r.fault(line, err); err != nil || first { // no row means anything without the names
				return err
			}
		}
	}
}

// rowError says in words what is wrong with a row.
func rowError(err *csv.ParseError) error {
	if errors.Is(err.Err, csv.ErrFieldCount) {
		return errors.New("has another number of cells than the first row")
	}
	return errors.New("a quotation mark in a cell without quotes, or a cell whose closing quotes are missing; double those that belong to the text")
}

// table reads a table whose columns are the fields of a token file.
func (r *reader) table() error {
	var all []column
	return r.eachRow(func(names []string) (err error) {
		all, err = columnsOf(names)
		return err
	}, func(line int, cells []string) error {
		entry, err := entryOf(all, cells)
		if err == nil && len(entry) > 2 {
			r.add(line, entry)
		}
		return err
	})
}

// columnsOf returns the columns with these names.
func columnsOf(names []string) ([]column, error) {
	known := slices.Concat(columns(), secrets())
	all := make([]column, 0, len(names))
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("column %d has the name of another", i+1)
		}
		c := column{name: name}
		at := slices.IndexFunc(known, func(c column) bool { return c.name == name })
		object, member, dotted := strings.Cut(name, ".")
		switch {
		case at >= 0:
			c = known[at]
		case dotted && member != "" && (object == "upstream" || object == "client_attrs"):
			c.kind = text
		case dotted && member != "" && object == "limits":
			c.kind = raw
		default:
			return nil, fmt.Errorf("column %d has a name that is not known; names are separated by commas, and known are %s, and upstream.NAME, limits.NAME and client_attrs.NAME", i+1, nameList(known))
		}
		all = append(all, c)
	}
	return all, nil
}

func nameList(all []column) string {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}

// entryOf returns the entry with these cells as JSON; {} for a row without any content.
func entryOf(all []column, cells []string) ([]byte, error) {
	out, objects := []byte{'{'}, map[string][]byte{}
	var order []string
	for i, c := range all {
		if cells[i] == "" {
			continue
		}
		value, err := valueOf(c, cells[i])
		if err != nil {
			return nil, err
		}
		if object, member, dotted := strings.Cut(c.name, "."); dotted {
			if objects[object] == nil {
				order = append(order, object)
			}
			objects[object] = appendMember(objects[object], member, value)
			continue
		}
		out = appendMember(out, c.name, value)
	}
	for _, object := range order {
		out = appendMember(out, object, append(objects[object], '}'))
	}
	return append(out, '}'), nil
}

// appendMember appends a member to an object that is not closed yet, or not begun.
func appendMember(out []byte, name string, value []byte) []byte {
	if len(out) == 0 {
		out = append(out, '{')
	}
	if len(out) > 1 {
		out = append(out, ',')
	}
	out = append(out, quote(name)...)
	return append(append(out, ':'), value...)
}

// valueOf returns a cell as JSON.
func valueOf(c column, cell string) ([]byte, error) {
	switch {
	case c.kind == raw, c.kind == list && strings.HasPrefix(cell, "["):
		if !json.Valid([]byte(cell)) {
			return nil, in(c.name, "is not JSON, which the cells of this column must be")
		}
		var out bytes.Buffer
		_ = json.Compact(&out, []byte(cell)) // which is valid
		return out.Bytes(), nil
	case c.kind == number:
		if _, err := strconv.ParseUint(cell, 10, 63); err == nil && cell[0] != '0' {
			return []byte(cell), nil
		}
	}
	return quote(cell), nil
}

func quote(s string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string cannot fail
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
