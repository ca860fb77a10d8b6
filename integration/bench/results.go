//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// record is one figure with the conditions of its measurement, a line of the raw
// results.
type record struct {
	Time      time.Time `json:"time"` // when the run began
	Round     int       `json:"round"`
	Work      string    `json:"work"`
	Transport string    `json:"transport"`
	Variant   variant   `json:"variant,omitempty"`
	Target    string    `json:"target"`
	Version   string    `json:"version"`
	figure
	noise
}

// appendRecords adds to a file of raw results.
func appendRecords(name string, records []record) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	for _, r := range records {
		if err := e.Encode(r); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

func readRecords(name string) ([]record, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []record
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}
