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

// Access lists the files that the process uses for the rest of its life.
type Access struct {
	// Files are read, and so are the files that replace them.
	Files []string
	// Write are directories, or files, that are read and written. A directory includes
	// everything below it.
	Write []string
}

// Confinement describes what [Confine] has allowed.
type Confinement struct {
	// Directories are those in which files may be used, except those that every Go program
	// reads, such as /etc.
	Directories []string
	// Links are symbolic links in the paths of files that must not change, because their target
	// is in the root directory: allowing everything below that would be too much.
	Links []string
}

// Confine gives up the right of the process to use any other files, so that an attacker who can
// run code in it cannot read the files of the machine. It uses Landlock (Linux 5.13 and later),
// which needs no privilege, holds for every thread and cannot be undone. Open files stay open;
// neither the network nor Unix sockets are restricted. Files that do not exist are ignored.
// Without Landlock the error is [ErrNoSandbox].
//
// A rule applies to the file that has a name now, and not to a file that replaces it by a
// rename or a changed link. The rules are therefore about directories: those of the files, and
// those of the targets of links in their paths. If a directory itself is replaced, or a link is
// changed to point to a different directory, a restart is needed.
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

// systemPaths returns the files that every Go program reads: for names and addresses, root
// certificates, time zones, and the kernel's information about the process. It includes all of
// /etc, because files such as resolv.conf are replaced.
func systemPaths() []string {
	dirs := []string{
		"/etc", "/usr/share", "/usr/local/share", "/usr/lib/ssl", "/var/lib/ca-certificates", "/system/etc",
		"/proc", "/sys/fs/cgroup", "/sys/kernel/mm", "/sys/devices/system/cpu",
		"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager",
	}
	// On some systems /etc consists of links to other directories.
	linked, _ := directories([]string{
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/localtime",
		"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
	})
	return append(dirs, linked...)
}

// directories returns the directories in which the files can be read now and after they have
// been replaced: their own; for each symbolic link in a path the directory of its target, since
// the next target will be next to it; and the real directories of the files. fixed lists the
// links whose target is in the root directory, see Confinement.
func directories(files []string) (dirs, fixed []string) {
	for _, f := range files {
		d, x := follow(f)
		dirs, fixed = append(dirs, d...), append(fixed, x...)
	}
	slices.Sort(dirs)
	slices.Sort(fixed)
	return slices.Compact(dirs), slices.Compact(fixed)
}

// maxLinks is how many links a path may contain, as in the kernel (path_resolution(7)).
const maxLinks = 40

// follow resolves the path of a file, link by link, as far as the path exists.
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
