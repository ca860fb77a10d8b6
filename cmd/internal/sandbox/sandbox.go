// Package sandbox takes from the process what it does not need: the right to use
// files elsewhere than in certain directories. A fault that lets an attacker run code
// in the process then does not hand out the machine's files with it.
//
//	err := sandbox.Confine(sandbox.Access{
//		Read:  append(sandbox.System(), sandbox.Directories(files)...),
//		Write: []string{dataDir},
//	})
//
// It is done with Landlock (Linux 5.13 and later), which needs no privilege, holds
// for every thread, and cannot be undone. Sockets and files that are open stay so;
// the network and Unix sockets are not restricted.
//
// # Directories, not files
//
// A rule is about the file that has the name now. Files that are replaced, by a rename
// or by a symbolic link that leads elsewhere, are new files, so what is allowed is the
// directory: see [Directories].
package sandbox

import (
	"errors"
	"path/filepath"
	"slices"
)

// ErrUnavailable says that this system has no sandbox.
var ErrUnavailable = errors.New("the system has none")

// Access lists directories and, where there is no way around them, files. What does
// not exist is left out.
type Access struct {
	Read, Write []string
}

// System returns what a Go program reads of a system by itself: names and addresses,
// the root certificates, time zones, and what the kernel says about the process. All
// of /etc is part of it, since files such as resolv.conf are replaced.
func System() []string {
	dirs := []string{
		"/etc", "/usr/share", "/usr/local/share", "/usr/lib/ssl", "/var/lib/ca-certificates", "/system/etc",
		"/proc", "/sys/fs/cgroup", "/sys/kernel/mm", "/sys/devices/system/cpu",
		"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
	}
	// Where /etc is made of links that lead out of it.
	return append(dirs, Directories([]string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime",
		"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
	})...)
}

// Directories returns the directories in which files can be read now and after they
// have been replaced: their own, and where symbolic links have led, the one they have
// led to and the one around it, since the next version will lie beside this one.
func Directories(files []string) []string {
	var dirs []string
	for _, f := range files {
		dir := filepath.Dir(f)
		dirs = append(dirs, dir)
		real, err := filepath.EvalSymlinks(f)
		if err != nil {
			continue
		}
		if target := filepath.Dir(real); target != dir {
			dirs = append(dirs, target, filepath.Dir(target))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
