package tokenimport

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// Writer writes entries as a table of the format [CSV]. [Read] makes the same entries of it.
type Writer struct {
	rows  *csv.Writer
	cells []string
}

// NewWriter returns a Writer that writes to w, and writes the names of the columns.
func NewWriter(w io.Writer) *Writer {
	all := columns()
	t := &Writer{rows: csv.NewWriter(w), cells: make([]string, len(all))}
	for i, c := range all {
		t.cells[i] = c.name
	}
	_ = t.rows.Write(t.cells) // Flush returns the error
	return t
}

// Write writes an entry in the form of a token file.
func (t *Writer) Write(entry []byte) error {
	clear(t.cells)
	all := columns()
	err := strictjson.EachMember(entry, func(key, value []byte) error {
		i := slices.IndexFunc(all, func(c column) bool { return c.name == string(key) })
		if i < 0 {
			return errors.New("an entry with a field that a table does not have")
		}
		cell, err := cellOf(all[i], value)
		t.cells[i] = cell
		return err
	})
	if err != nil {
		return err
	}
	return t.rows.Write(t.cells)
}

// cellOf returns a value as a cell.
func cellOf(c column, value []byte) (string, error) {
	if value[0] != '"' || c.kind == raw {
		return string(value), nil
	}
	s, err := strictjson.Text(value)
	if c.kind == list && strings.HasPrefix(string(s), "[") {
		return "[" + string(value) + "]", err
	}
	return string(s), err
}

// Flush writes what is left, and returns the first error of all writes.
func (t *Writer) Flush() error {
	t.rows.Flush()
	return t.rows.Error()
}
