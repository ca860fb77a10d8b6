//go:build !linux && !darwin && !freebsd

package sqlite

import "math"

// freeSpace does not know, so a full disk is met as an error of the database.
func freeSpace(string) (uint64, error) { return math.MaxUint64, nil }
