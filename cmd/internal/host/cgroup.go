package host

import (
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// cgroups reads the memory controllers of the control groups that the process is in: its own
// and those around it, as a container runtime or a service manager sets them up. root is the
// root of the file system.
//
// The usage is the working set: it does not include page cache that the kernel would reclaim
// first.
type cgroups struct{ root fs.FS }

// cgroupVersion describes the files of one of the two versions of control groups.
type cgroupVersion struct {
	base        string   // the mount point
	limits      []string // the smallest number in these files is the limit
	usage       string
	reclaimable string // in memory.stat
	controller  string // as /proc/self/cgroup names it; version 2 has no name
}

func cgroupVersions() []cgroupVersion {
	return []cgroupVersion{{
		base:   "sys/fs/cgroup",
		limits: []string{"memory.max", "memory.high"}, usage: "memory.current", reclaimable: "inactive_file",
	}, {
		base:   "sys/fs/cgroup/memory",
		limits: []string{"memory.limit_in_bytes"}, usage: "memory.usage_in_bytes", reclaimable: "total_inactive_file",
		controller: "memory",
	}}
}

// usage returns the usage of the group that is closest to its limit. ok is false if no group
// has a limit, or if nothing can be read.
func (g cgroups) usage() (tightest usage, ok bool) {
	for _, v := range cgroupVersions() {
		for dir := g.pathOf(v); ; dir = path.Dir(dir) {
			if u, limited := g.read(v, path.Join(v.base, dir)); limited && (!ok || u.share() > tightest.share()) {
				tightest, ok = u, true
			}
			if dir == "/" {
				break
			}
		}
	}
	return tightest, ok
}

// pathOf returns the process's own group below the mount point. In a container in which that
// group itself is mounted, the path does not exist, but usage then reads its root.
func (g cgroups) pathOf(v cgroupVersion) string {
	text, _ := fs.ReadFile(g.root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) == 3 && slices.Contains(strings.Split(fields[1], ","), v.controller) {
			return path.Join("/", fields[2])
		}
	}
	return "/"
}

// read returns the usage of one group, or false if it has no limit.
func (g cgroups) read(v cgroupVersion, dir string) (usage, bool) {
	u := usage{limit: math.MaxInt64}
	for _, name := range v.limits {
		if n, ok := g.number(path.Join(dir, name)); ok {
			u.limit = min(u.limit, n)
		}
	}
	// Version 1 writes "no limit" as a number that is larger than the memory of any machine.
	if u.limit >= 1<<60 {
		return usage{}, false
	}
	used, ok := g.number(path.Join(dir, v.usage))
	if !ok {
		return usage{}, false
	}
	u.used = max(used-g.statistic(path.Join(dir, "memory.stat"), v.reclaimable), 0)
	return u, true
}

// number reads a file with one number. It returns false for anything else, such as "max".
func (g cgroups) number(name string) (int64, bool) {
	text, err := fs.ReadFile(g.root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// statistic reads one of the lines "name number" of a file. It returns 0 if there is no such
// line.
func (g cgroups) statistic(name, key string) int64 {
	text, _ := fs.ReadFile(g.root, name)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}
