// Package sandbox takes from the process what it does not need: the right to use
// files elsewhere than in certain directories. A fault that lets an attacker run code
// in the process then does not hand out the machine's files with it.
//
//	dirs, _ := sandbox.Directories(files)
//	err := sandbox.Confine(sandbox.Access{
//		Read:  append(sandbox.System(), dirs...),
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
// directory: see [Directories]. The same holds for a directory that is replaced itself,
// or a link that is made to lead to somewhere else entirely: no rule can be made in
// advance for what is there then.
package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	linked, _ := Directories([]string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime",
		"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
	})
	return append(dirs, linked...)
}

// Directories returns the directories in which files can be read now and after they
// have been replaced: their own; where a symbolic link anywhere in a path leads, the one
// in which its target lies, since the target of tomorrow will lie beside that of today;
// and those in which the files really are.
//
// fixed lists the links whose target lies in the root directory. All of that would be
// too much to allow, so where they lead is allowed as it is now.
func Directories(files []string) (dirs, fixed []string) {
	for _, f := range files {
		d, x := follow(f)
		dirs, fixed = append(dirs, d...), append(fixed, x...)
	}
	slices.Sort(dirs)
	slices.Sort(fixed)
	return slices.Compact(dirs), slices.Compact(fixed)
}

// maxLinks is how many links a path may lead through, as for the kernel.
const maxLinks = 40

// follow walks along the path of a file, link by link, as far as it exists.
func follow(file string) (dirs, fixed []string) {
	root := filepath.VolumeName(file) + string(filepath.Separator)
	dirs = append(dirs, filepath.Dir(file))
	at, rest, links := root, parts(file), 0
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		info, err := os.Lstat(next)
		if err != nil {
			return dirs, fixed
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return dirs, fixed
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(at, target)
		}
		if dir := filepath.Dir(target); dir == root {
			fixed = append(fixed, next)
		} else {
			dirs = append(dirs, dir)
		}
		at, rest = root, append(parts(target), rest...)
	}
	return append(dirs, filepath.Dir(at)), fixed
}

// parts returns the names in an absolute path.
func parts(path string) []string {
	return strings.FieldsFunc(path[len(filepath.VolumeName(path)):], func(r rune) bool { return r == filepath.Separator })
}
