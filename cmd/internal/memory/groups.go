package memory

import (
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Groups reads the memory controllers of the control groups.
type Groups struct {
	// Root is the file system from / on. Set to [os.DirFS] of "/".
	Root fs.FS
}

// version is where one of the two versions of control groups keeps things.
type version struct {
	base        string   // where it is mounted
	limits      []string // the least of these files counts
	usage       string
	reclaimable string // in memory.stat
	controller  string // in the list that /proc/self/cgroup has; version 2 has none
}

func versions() []version {
	return []version{{
		base:   "sys/fs/cgroup",
		limits: []string{"memory.max", "memory.high"}, usage: "memory.current", reclaimable: "inactive_file",
	}, {
		base:   "sys/fs/cgroup/memory",
		limits: []string{"memory.limit_in_bytes"}, usage: "memory.usage_in_bytes", reclaimable: "total_inactive_file",
		controller: "memory",
	}}
}

// Read returns the use of the group that is closest to its limit. It is false if no
// group has one, or if nothing can be read.
func (g Groups) Read() (tightest Usage, ok bool) {
	for _, v := range versions() {
		for dir := g.pathOf(v); ; dir = path.Dir(dir) {
			if u, limited := g.read(v, path.Join(v.base, dir)); limited && (!ok || u.Share() > tightest.Share()) {
				tightest, ok = u, true
			}
			if dir == "/" {
				break
			}
		}
	}
	return tightest, ok
}

// pathOf returns the process's own group below the mount point. In a container whose
// mount point is that group already the path leads nowhere, but its end does.
func (g Groups) pathOf(v version) string {
	text, _ := fs.ReadFile(g.Root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) == 3 && slices.Contains(strings.Split(fields[1], ","), v.controller) {
			return path.Join("/", fields[2])
		}
	}
	return "/"
}

// read returns the use of one group, false if it has no limit.
func (g Groups) read(v version, dir string) (Usage, bool) {
	u := Usage{Limit: math.MaxInt64}
	for _, name := range v.limits {
		if n, ok := g.number(path.Join(dir, name)); ok {
			u.Limit = min(u.Limit, n)
		}
	}
	// Version 1 says "none" with a number of pages that no machine has.
	if u.Limit >= 1<<60 {
		return Usage{}, false
	}
	used, ok := g.number(path.Join(dir, v.usage))
	if !ok {
		return Usage{}, false
	}
	u.Used = max(used-g.statistic(path.Join(dir, "memory.stat"), v.reclaimable), 0)
	return u, true
}

// number reads a file with one number; "max" is none.
func (g Groups) number(name string) (int64, bool) {
	text, err := fs.ReadFile(g.Root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// statistic reads one of the lines "name number" of a file, 0 without it.
func (g Groups) statistic(name, key string) int64 {
	text, _ := fs.ReadFile(g.Root, name)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}
