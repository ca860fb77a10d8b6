package sqlitefile

import "fmt"

// CheckSpace returns an error if the file system of dir has fewer than minFree bytes left. free
// returns how many there are; nil means [FreeSpace].
func CheckSpace(dir string, minFree int64, free func(dir string) (uint64, error)) error {
	if free == nil {
		free = FreeSpace
	}
	n, err := free(dir)
	if err != nil {
		return fmt.Errorf("free disk space: %w", err)
	}
	if minFree > 0 && n < uint64(minFree) {
		return fmt.Errorf("%d bytes of disk are free at %s, fewer than the %d to be left", n, dir, minFree)
	}
	return nil
}
