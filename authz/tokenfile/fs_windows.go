package tokenfile

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// keepsOpen is whether a file may be replaced while it is open.
const keepsOpen = false

// lockFile waits until no other process, and no other open file of this one,
// holds the lock on f. Closing f gives it back.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{})
}

// The rest does nothing: Windows syncs a rename by itself, and files inherit
// owner and access from their directory, not from a mode.

func syncDir(string) error                  { return nil }
func takeOwner(*os.File, fs.FileInfo) error { return nil }
func takeDirOwner(*os.File, string) error   { return nil }
func openTo(fs.FileMode) string             { return "" }
