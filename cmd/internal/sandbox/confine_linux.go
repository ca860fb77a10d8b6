package sandbox

import (
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// Confine restricts the process to a for the rest of its life, as far as the kernel
// can. It returns [ErrUnavailable] if the kernel cannot at all.
func Confine(a Access) error {
	if version, err := syscall.LandlockGetABIVersion(); err != nil || version < 1 {
		return ErrUnavailable
	}
	readDirs, readFiles := split(a.Read)
	writeDirs, writeFiles := split(a.Write)
	// Version 5 has all rights about files. Later ones would restrict sockets, too.
	err := landlock.V5.BestEffort().RestrictPaths(
		landlock.RODirs(readDirs...), landlock.ROFiles(readFiles...),
		landlock.RWDirs(writeDirs...), landlock.RWFiles(writeFiles...),
	)
	if err != nil {
		return fmt.Errorf("restrict the use of files: %w", err)
	}
	return nil
}

// split tells directories from files; what does not exist is neither.
func split(paths []string) (dirs, files []string) {
	for _, p := range paths {
		switch info, err := os.Stat(p); {
		case err != nil:
		case info.IsDir():
			dirs = append(dirs, p)
		default:
			files = append(files, p)
		}
	}
	return dirs, files
}
