package host

import (
	"os"
	"testing"
	"testing/fstest"
)

func cgroupFiles(contents map[string]string) cgroups {
	root := fstest.MapFS{}
	for name, text := range contents {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return cgroups{root}
}

func TestCgroups(t *testing.T) {
	const none = "9223372036854771712\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  usage
		ok    bool
	}{
		{"no control groups", nil, usage{}, false},
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
		}, usage{}, false},
		{"version 2, memory.high is less than memory.max", map[string]string{
			"proc/self/cgroup":                       "0::/a.service\n",
			"sys/fs/cgroup/a.service/memory.max":     "2000\n",
			"sys/fs/cgroup/a.service/memory.high":    "1500\n",
			"sys/fs/cgroup/a.service/memory.current": "1000\n",
			"sys/fs/cgroup/a.service/memory.stat":    "anon 900\nactive_file 1\ninactive_file 100\n",
		}, usage{900, 1500}, true},
		{"version 2, the group around it is fuller", map[string]string{
			"proc/self/cgroup":                               "0::/b.slice/a.service\n",
			"sys/fs/cgroup/b.slice/a.service/memory.max":     "2000\n",
			"sys/fs/cgroup/b.slice/a.service/memory.current": "1000\n",
			"sys/fs/cgroup/b.slice/memory.max":               "10000\n",
			"sys/fs/cgroup/b.slice/memory.current":           "9000\n",
		}, usage{9000, 10000}, true},
		{"version 2, a container that sees its own group as the root", map[string]string{
			"proc/self/cgroup":             "0::/\n",
			"sys/fs/cgroup/memory.max":     "2000\n",
			"sys/fs/cgroup/memory.current": "1000\n",
		}, usage{1000, 2000}, true},
		{"version 1, a path from outside of the container", map[string]string{
			"proc/self/cgroup":                            "4:cpu,cpuacct:/docker/abc\n3:hugetlb,memory:/docker/abc\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":  "2000\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":  "1900\n",
			"sys/fs/cgroup/memory/memory.stat":            "inactive_file 1\ntotal_inactive_file 900\n",
			"sys/fs/cgroup/memory/other/memory.stat":      "",
			"sys/fs/cgroup/memory/docker.limit_in_bytes":  "1",
			"sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period": "1",
		}, usage{1000, 2000}, true},
		{"version 1, without a limit", map[string]string{
			"proc/self/cgroup":                           "3:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": none,
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "1900\n",
		}, usage{}, false},
		{"garbage", map[string]string{
			"proc/self/cgroup":             "x\n0::../../..\n",
			"sys/fs/cgroup/memory.max":     "many\n",
			"sys/fs/cgroup/memory.high":    "-\n",
			"sys/fs/cgroup/memory.current": "\n",
		}, usage{}, false},
	} {
		if got, ok := cgroupFiles(c.files).usage(); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v, want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// TestMemoryOfThisMachine: the control groups of this machine can be read, if it has any.
func TestMemoryOfThisMachine(t *testing.T) {
	if u, ok := (cgroups{os.DirFS("/")}).usage(); ok && (u.used <= 0 || u.limit <= 0) {
		t.Errorf("%+v", u)
	}
	if n := RuntimeMemory(); n < 1<<20 || n > 1<<40 {
		t.Errorf("this process holds %d bytes", n)
	}
}

func TestUsageShare(t *testing.T) {
	if s := (usage{used: 1}).share(); s != 0 {
		t.Errorf("share %v of no limit", s)
	}
	if s := (usage{used: 1, limit: 4}).share(); s != 0.25 {
		t.Errorf("share %v of a quarter", s)
	}
}
