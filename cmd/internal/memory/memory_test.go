package memory

import (
	"os"
	"testing"
	"testing/fstest"
)

func files(contents map[string]string) Groups {
	root := fstest.MapFS{}
	for name, text := range contents {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return Groups{Root: root}
}

func TestGroups(t *testing.T) {
	const none = "9223372036854771712\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  Usage
		ok    bool
	}{
		{"no control groups", nil, Usage{}, false},
		{"version 2, without a limit", map[string]string{
			"proc/self/cgroup":                        "0::/a.service\n",
			"sys/fs/cgroup/a.service/memory.max":      "max\n",
			"sys/fs/cgroup/a.service/memory.high":     "max\n",
			"sys/fs/cgroup/a.service/memory.current":  "1000\n",
			"sys/fs/cgroup/a.service/memory.stat":     "anon 900\ninactive_file 100\n",
			"sys/fs/cgroup/cgroup.controllers":        "memory\n",
			"sys/fs/cgroup/system.slice/memory.max":   "5\n",
			"sys/fs/cgroup/memory/memory.stat":        "",
			"sys/fs/cgroup/memory.pressure":           "",
			"sys/fs/cgroup/a.service/memory.swap.max": "7\n",
		}, Usage{}, false},
		{"version 2, memory.high is less than memory.max", map[string]string{
			"proc/self/cgroup":                       "0::/a.service\n",
			"sys/fs/cgroup/a.service/memory.max":     "2000\n",
			"sys/fs/cgroup/a.service/memory.high":    "1500\n",
			"sys/fs/cgroup/a.service/memory.current": "1000\n",
			"sys/fs/cgroup/a.service/memory.stat":    "anon 900\nactive_file 1\ninactive_file 100\n",
		}, Usage{900, 1500}, true},
		{"version 2, the group around it is fuller", map[string]string{
			"proc/self/cgroup":                               "0::/b.slice/a.service\n",
			"sys/fs/cgroup/b.slice/a.service/memory.max":     "2000\n",
			"sys/fs/cgroup/b.slice/a.service/memory.current": "1000\n",
			"sys/fs/cgroup/b.slice/memory.max":               "10000\n",
			"sys/fs/cgroup/b.slice/memory.current":           "9000\n",
		}, Usage{9000, 10000}, true},
		{"version 2, a container that sees its own group as the root", map[string]string{
			"proc/self/cgroup":             "0::/\n",
			"sys/fs/cgroup/memory.max":     "2000\n",
			"sys/fs/cgroup/memory.current": "1000\n",
		}, Usage{1000, 2000}, true},
		{"version 1, a path from outside of the container", map[string]string{
			"proc/self/cgroup":                            "4:cpu,cpuacct:/docker/abc\n3:hugetlb,memory:/docker/abc\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":  "2000\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":  "1900\n",
			"sys/fs/cgroup/memory/memory.stat":            "inactive_file 1\ntotal_inactive_file 900\n",
			"sys/fs/cgroup/memory/other/memory.stat":      "",
			"sys/fs/cgroup/memory/docker.limit_in_bytes":  "1",
			"sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period": "1",
		}, Usage{1000, 2000}, true},
		{"version 1, without a limit", map[string]string{
			"proc/self/cgroup":                           "3:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": none,
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "1900\n",
		}, Usage{}, false},
		{"garbage", map[string]string{
			"proc/self/cgroup":             "x\n0::../../..\n",
			"sys/fs/cgroup/memory.max":     "many\n",
			"sys/fs/cgroup/memory.high":    "-\n",
			"sys/fs/cgroup/memory.current": "\n",
		}, Usage{}, false},
	} {
		if got, ok := files(c.files).Read(); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v, want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// TestThisMachine: whatever there is can be read.
func TestThisMachine(t *testing.T) {
	if u, ok := (Groups{Root: os.DirFS("/")}).Read(); ok && (u.Used <= 0 || u.Limit <= 0) {
		t.Errorf("%+v", u)
	}
	if n := Own(); n < 1<<20 || n > 1<<40 {
		t.Errorf("this process holds %d bytes", n)
	}
}

func TestShare(t *testing.T) {
	if s := (Usage{Used: 1}).Share(); s != 0 {
		t.Errorf("share %v of no limit", s)
	}
	if s := (Usage{Used: 1, Limit: 4}).Share(); s != 0.25 {
		t.Errorf("share %v of a quarter", s)
	}
}
