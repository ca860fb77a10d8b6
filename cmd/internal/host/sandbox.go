package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoSandbox means that the system has no sandbox.
var ErrNoSandbox = errors.New("the system has none")

// Access is what the process reads and writes for the rest of its life.
type Access struct {
	// Files are read, and so are the files that take their place later on.
	Files []string
	// Write are directories, or files, that are read and written. A directory stands for
	// everything below it.
	Write []string
}

// Confinement is what [Confine] has allowed.
type Confinement struct {
	// Directories are those in which files may be used, without those that every Go
	// program reads, such as /etc.
	Directories []string
	// Links are symbolic links in the paths of files that must keep leading where they
	// lead now, because their target lies in the root directory: everything below that
	// would be too much to allow.
	Links []string
}

// Confine takes the right to use any other files away from the process, so that an
// attacker who can run code in it does not get the files of the machine. It uses Landlock
// (Linux 5.13 and later), which needs no privilege, holds for every thread and cannot be
// undone. Open files stay open; neither the network nor Unix sockets are restricted. What
// does not exist is left out. Where there is no Landlock the error is [ErrNoSandbox].
//
// A rule is about the file that has a name now, while a file that is replaced, by a rename
// or by a link that leads elsewhere, is another one. So the rules are about directories:
// those of the files and those to which links in their paths lead. A directory that is
// itself replaced, or a link that later leads somewhere else entirely, needs a restart.
func Confine(a Access) (Confinement, error) {
	files := slices.Clone(a.Files)
	for _, name := range []string{"SSL_CERT_FILE", "HOSTALIASES", "ZONEINFO"} {
		if v := os.Getenv(name); v != "" {
			files = append(files, v)
		}
	}
	system := systemPaths()
	dirs, fixed := directories(files)
	dirs = append(dirs, filepath.SplitList(os.Getenv("SSL_CERT_DIR"))...)
	if err := restrict(slices.Concat(system, dirs), a.Write); err != nil {
		return Confinement{}, err
	}
	all := slices.DeleteFunc(slices.Concat(dirs, a.Write), func(dir string) bool { return slices.Contains(system, dir) })
	slices.Sort(all)
	return Confinement{Directories: slices.Compact(all), Links: fixed}, nil
}

// systemPaths returns what a Go program reads by itself: names and addresses, the root
// certificates, time zones, and what the kernel says about the process. All of /etc is
// part of it, because files such as resolv.conf are replaced.
func systemPaths() []string {
	dirs := []string{
		"/etc", "/usr/share", "/usr/local/share", "/usr/lib/ssl", "/var/lib/ca-certificates", "/system/etc",
		"/proc", "/sys/fs/cgroup", "/sys/kernel/mm", "/sys/devices/system/cpu",
		"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
	}
	// On some systems /etc consists of links that lead out of it.
	linked, _ := directories([]string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime",
		"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
	})
	return append(dirs, linked...)
}

// directories returns the directories in which the files can be read now and after they
// have been replaced: their own; for each symbolic link in a path the directory of its
// target, since the next target will lie next to it; and those in which the files really
// are. fixed lists the links whose target lies in the root directory, see Confinement.
func directories(files []string) (dirs, fixed []string) {
	for _, f := range files {
		d, x := follow(f)
		dirs, fixed = append(dirs, d...), append(fixed, x...)
	}
	slices.Sort(dirs)
	slices.Sort(fixed)
	return slices.Compact(dirs), slices.Compact(fixed)
}

// maxLinks is how many links a path may lead through, as in the kernel (path_resolution(7)).
const maxLinks = 40

// follow walks along the path of a file, link by link, as far as the path exists.
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
