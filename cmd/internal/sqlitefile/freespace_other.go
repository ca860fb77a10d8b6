//go:build !linux && !darwin && !freebsd

package sqlitefile

import "math"

// FreeSpace does not know, so a full disk is met as an error of the database.
func FreeSpace(string) (uint64, error) { return math.MaxUint64, nil }
