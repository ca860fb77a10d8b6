//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// documents are the files, from the root of the repository, with tables between two comments. The
// first comment names the works in the table, and may say "in short".
func documents() []string { return []string{"README.md", "integration/bench/README.md"} }

// updateDocuments writes tables of the records into the documents.
func updateDocuments(records []record, noise float64) error {
	for _, name := range documents() {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if text, err = replaceTables(text, records, noise); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// replaceTables returns a document with the tables of the records in it. A table for whose works
// there are no records stays as it is.
func replaceTables(text []byte, records []record, noise float64) ([]byte, error) {
	tables := regexp.MustCompile(`(?s)(<!-- make compare( in short)?: ([a-z,]+) -->\n).*?(<!-- end -->\n)`)
	if !tables.Match(text) {
		return nil, fmt.Errorf("no table between <!-- make compare: WORK,WORK --> and <!-- end -->")
	}
	var failed error
	text = tables.ReplaceAllFunc(text, func(old []byte) []byte {
		parts := tables.FindSubmatch(old)
		names := strings.Split(string(parts[3]), ",")
		chosen := slices.DeleteFunc(slices.Clone(records), func(r record) bool { return !slices.Contains(names, r.Work) })
		if len(chosen) == 0 {
			return old
		}
		var b bytes.Buffer
		b.Write(parts[1])
		b.WriteByte('\n')
		if err := printTable(&b, chosen, noise, len(parts[2]) > 0); err != nil {
			failed = err
			return old
		}
		b.WriteByte('\n')
		b.Write(parts[4])
		return b.Bytes()
	})
	return text, failed
}
