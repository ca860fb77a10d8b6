//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tokenfile

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepsOpen is whether a file may be replaced while it is open.
const keepsOpen = true

// takeOwner gives f the owner and group of like.
func takeOwner(f *os.File, like fs.FileInfo) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	have, ok1 := mine.Sys().(*syscall.Stat_t)
	want, ok2 := like.Sys().(*syscall.Stat_t)
	if !ok1 || !ok2 || have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return fmt.Errorf("the file would change its owner (user %d, group %d); run this as that user, or as root: %w", want.Uid, want.Gid, err)
	}
	return nil
}

// takeDirOwner gives f, which is new, to whom its directory belongs if root made
// it: a service that runs as a user of its own could not read it otherwise.
func takeDirOwner(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return takeOwner(f, info)
}

// openTo names what a mode allows to others than the owner, empty for nothing
// worth a warning.
func openTo(mode fs.FileMode) string {
	switch {
	case mode&0o002 != 0:
		return "everyone may write to it"
	case mode&0o020 != 0:
		return "its group may write to it"
	case mode&0o004 != 0:
		return "everyone may read it"
	}
	return ""
}
