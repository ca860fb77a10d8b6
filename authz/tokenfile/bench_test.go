//go:build unix

package tokenfile

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// writeMany writes n entries like those of a provisioning system: a device each, an expiry, and
// a network and attributes that many share. Entry i has the token "token-i" and, if changed
// says so, another site.
func writeMany(b *testing.B, path string, n int, changed func(i int) bool) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprintln(w, `{"format":"mqtt-auth-tokens/1"}`)
	for i := range n {
		site := i % 50
		if changed(i) {
			site = -1
		}
		fmt.Fprintf(w, `{"id":"device-%07d-k3x2aa","subject":"device-%07d","token_hash":"sha256:%x","expire_at":"2100-01-31T12:00:00Z",`+
			`"cidr":"10.0.0.0/8","client_attrs":{"site":"site-%d"},"created_at":"2026-11-23T16:00:00Z"}`+"\n",
			i, i, sha256.Sum256(fmt.Appendf(nil, "token-%d", i)), site)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
}

func never(int) bool { return false }

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first call made unreachable
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// processorTime returns the processor time of the process, which is more reliable than the
// clock on a machine that is busy.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLoadMillion reads a million tokens and reports their memory.
func BenchmarkLoadMillion(b *testing.B) {
	const n = 1_000_000
	path := tokenPath(b)
	writeMany(b, path, n, never)
	b.ReportAllocs()
	before, busy := heap(), processorTime(b)
	var f *File
	for b.Loop() {
		f = nil
		var err error
		if f, err = Open(path, Options{}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric((processorTime(b)-busy).Seconds()/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(heap()-before)/n, "heap-bytes/token")
	if f.Status().Entries != n {
		b.Fatalf("%d entries", f.Status().Entries)
	}
}

// BenchmarkReload loads a version with ten changes among 100,000 entries.
func BenchmarkReload(b *testing.B) {
	const n = 100_000
	paths, link := [2]string{tokenPath(b), tokenPath(b)}, tokenPath(b)
	writeMany(b, paths[0], n, never)
	writeMany(b, paths[1], n, func(i int) bool { return i%(n/10) == 0 })
	var last Reload
	show := func(i int) {
		if err := errors.Join(os.Symlink(paths[i%2], link+".new"), os.Rename(link+".new", link)); err != nil {
			b.Fatal(err)
		}
	}
	show(0)
	f := mustOpen(b, link, Options{OnReload: func(r Reload) { last = r }})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		show(i)
		if err := f.Reload(b.Context()); err != nil {
			b.Fatal(err)
		}
		if last.Changed != 10 {
			b.Fatalf("%d changed", last.Changed)
		}
	}
}

// BenchmarkAppendToMillion appends a line to a file of a million entries and has it taken up,
// and reports how much more is held after that than before.
func BenchmarkAppendToMillion(b *testing.B) {
	const n = 1_000_000
	path := tokenPath(b)
	writeMany(b, path, n, never)
	var last Reload
	f := mustOpen(b, path, Options{OnReload: func(r Reload) { last = r }})
	before, busy, i := heap(), processorTime(b), 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		appendLine(b, path, line(fmt.Sprintf("new-%d", i)))
		if err := f.Reload(b.Context()); err != nil {
			b.Fatal(err)
		}
		if last.Added != 1 || last.Changed+last.Removed != 0 {
			b.Fatalf("%+v", last)
		}
	}
	b.ReportMetric((processorTime(b)-busy).Seconds()/float64(i), "cpu-s/op")
	b.ReportMetric(float64(int64(heap())-int64(before))/(1<<20), "more-MB")
	runtime.KeepAlive(f)
	b.ReportMetric(float64(before)/(1<<20), "heap-MB")
}

func appendLine(b *testing.B, path, text string) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkEditMillion makes the edits of the token commands to a file of a million entries.
func BenchmarkEditMillion(b *testing.B) {
	const n = 1_000_000
	path := tokenPath(b)
	writeMany(b, path, n, never)
	i := 0
	for name, edit := range map[string]func(device string) error{
		"create": func(device string) error { _, err := Create(path, CreateOptions{Name: "new-" + device}); return err },
		"rotate": func(device string) error { _, err := Rotate(path, device, 0); return err },
		"revoke": func(device string) error { _, err := Revoke(path, device); return err },
	} {
		b.Run(name, func(b *testing.B) {
			busy := processorTime(b)
			runs := 0
			for b.Loop() {
				i, runs = i+7919, runs+1
				if err := edit(fmt.Sprintf("device-%07d", i%n)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((processorTime(b)-busy).Seconds()/float64(runs), "cpu-s/op")
		})
	}
}

func BenchmarkAuthorize(b *testing.B) {
	path := tokenPath(b)
	writeMany(b, path, 100_000, never)
	f := mustOpen(b, path, Options{})
	for name, tc := range map[string]struct {
		token string
		from  string
		want  authz.Reason
	}{
		"hit":  {"token-4711", "10.1.2.3:1", ""},
		"miss": {"token-none", "10.1.2.3:1", authz.Unknown},
	} {
		r := authz.Request{Token: authz.NewToken(tc.token), ClientID: "c"}
		if err := r.Addr.UnmarshalText([]byte(tc.from)); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Authorize(b.Context(), r); reasonOf(err) != tc.want {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"-parallel", func(b *testing.B) {
			b.ReportAllocs()
			ctx := b.Context()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, _ = f.Authorize(ctx, r)
				}
			})
		})
	}
}
