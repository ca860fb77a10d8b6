//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package tokenfile

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

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

// takeDirOwner gives the new file f to the owner of its directory if root created it. Otherwise
// a service that runs as a different user could not read it.
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

// openTo describes what a mode allows others than the owner, or returns "" if no warning is
// needed.
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
