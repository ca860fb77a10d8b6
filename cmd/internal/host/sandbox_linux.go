package host

import (
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// restrict allows the use of only these directories and files, as far as the kernel can.
func restrict(read, write []string) error {
	if version, err := syscall.LandlockGetABIVersion(); err != nil || version < 1 {
		return ErrNoSandbox
	}
	readDirs, readFiles := split(read)
	writeDirs, writeFiles := split(write)
	// Version 5 has all rights for files. Later versions would restrict sockets, too.
	err := landlock.V5.BestEffort().RestrictPaths(
		landlock.RODirs(readDirs...), landlock.ROFiles(readFiles...),
		landlock.RWDirs(writeDirs...), landlock.RWFiles(writeFiles...),
	)
	if err != nil {
		return fmt.Errorf("restrict the use of files: %w", err)
	}
	return nil
}

// split separates directories from files. It omits those that do not exist.
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
