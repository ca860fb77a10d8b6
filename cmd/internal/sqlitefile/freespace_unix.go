//go:build linux || darwin || freebsd

package sqlitefile

import "golang.org/x/sys/unix"

// FreeSpace returns how many bytes a user without privileges may still write
// to the file system of dir.
func FreeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}
