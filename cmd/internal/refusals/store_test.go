package refusals

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

const unknown = proxy.Reason(authz.Unknown)

// guess is a refusal of a client without a good token.
func guess(addr, clientID string) proxy.Refusal {
	return proxy.Refusal{Reason: unknown, Addr: netip.MustParseAddrPort(addr), ClientID: clientID, Listener: "mqtt"}
}

// known is a refusal of a device with a good token.
func known(subject string, reason proxy.Reason) proxy.Refusal {
	return proxy.Refusal{Reason: reason, Addr: netip.MustParseAddrPort("198.51.100.1:1"), Subject: subject, Listener: "mqtt"}
}

// names returns client ids, and subjects of devices that have one, in the order of the page.
func names(p Page) string {
	var all []string
	for _, r := range p.Refusals {
		all = append(all, r.ClientID+r.Subject)
	}
	return strings.Join(all, " ")
}

func TestRefusalsOfOneDeviceAndReasonAreOneRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, start := New(10), time.Now()
		first := guess("192.0.2.1:1000", "pump")
		first.Err, first.Sent, first.Code, first.Level, first.Fingerprint = errors.New("old"), true, 5, 4, "aaaaaaaa"
		s.Add(first)
		s.Add(guess("192.0.2.1:1001", "fan"))
		time.Sleep(time.Minute)
		last := guess("192.0.2.1:1002", "pump")
		last.Err, last.Sent, last.Code, last.Level, last.Fingerprint = errors.New("new"), true, 0x86, 5, "bbbbbbbb"
		s.Add(last)
		got := s.List(Filter{})
		if names(got) != "pump fan" || got.Total != 2 {
			t.Fatalf("listed %q, want the newest first, one row for each", names(got))
		}
		want := Refusal{
			Number: 3, Count: 2, First: start.UTC(), Last: start.Add(time.Minute).UTC(), Reason: unknown, Detail: "new", Code: 0x86, Version: "5.0",
			ClientID: "pump", Address: last.Addr, Listener: "mqtt", Fingerprint: "bbbbbbbb",
		}
		if got.Refusals[0] != want {
			t.Errorf("row %+v, want %+v", got.Refusals[0], want)
		}
	})
}

func TestDeviceIsItsSubjectOrWhatItSaysAndWhereItIs(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b proxy.Refusal
		rows int
	}{
		{"one subject at two addresses", known("pump", proxy.Busy), func() proxy.Refusal {
			r := known("pump", proxy.Busy)
			r.Addr, r.ClientID = netip.MustParseAddrPort("192.0.2.9:1"), "other"
			return r
		}(), 1},
		{"two subjects", known("pump", proxy.Busy), known("fan", proxy.Busy), 2},
		{"two reasons", known("pump", proxy.Busy), known("pump", proxy.Draining), 2},
		{"one client id at two addresses", guess("192.0.2.1:1", "pump"), guess("192.0.2.2:1", "pump"), 2},
		{"two client ids at one address", guess("192.0.2.1:1", "pump"), guess("192.0.2.1:1", "fan"), 2},
		{"no client id", guess("192.0.2.1:1", ""), guess("192.0.2.1:2", ""), 1},
		{"one IPv6 /64", guess("[2001:db8::1]:1", ""), guess("[2001:db8::2:3:4:5]:1", ""), 1},
		{"two IPv6 /64", guess("[2001:db8::1]:1", ""), guess("[2001:db8:0:1::1]:1", ""), 2},
		{"no address", proxy.Refusal{Reason: unknown}, proxy.Refusal{Reason: unknown}, 1},
		{"a guess with the name of a device", known("pump", unknown), guess("198.51.100.1:1", "pump"), 2},
		{"a health check", proxy.Refusal{Reason: proxy.HealthCheck}, proxy.Refusal{Reason: proxy.HealthCheck}, 0},
	} {
		s := New(10)
		s.Add(tt.a)
		s.Add(tt.b)
		if got := s.List(Filter{}).Total; got != tt.rows {
			t.Errorf("%s: %d rows, want %d", tt.name, got, tt.rows)
		}
	}
}

// TestFloodTakesNoRoomFromOthers: whatever one party does, what is known of others stays.
func TestFloodTakesNoRoomFromOthers(t *testing.T) {
	for name, flood := range map[string]func(i int) proxy.Refusal{
		"one device":                       func(int) proxy.Refusal { return guess("203.0.113.1:1", "x") },
		"client ids from one address":      func(i int) proxy.Refusal { return guess("203.0.113.1:1", fmt.Sprint("guess-", i)) },
		"addresses of one IPv6 /64":        func(i int) proxy.Refusal { return guess(fmt.Sprintf("[2001:db8::%x]:1", i), fmt.Sprint(i)) },
		"long client ids from one address": func(i int) proxy.Refusal { return guess("203.0.113.1:1", fmt.Sprint(i, strings.Repeat("x", 65000))) },
		"wrong passwords for all users": func(i int) proxy.Refusal {
			r := guess("203.0.113.1:1", "x")
			r.Reason, r.Subject = proxy.Reason(authz.WrongPassword), fmt.Sprint("user-", i)
			return r
		},
	} {
		s := New(100)
		for i := range 40 {
			s.Add(guess(fmt.Sprintf("192.0.2.%d:1", i), "guest"))
			s.Add(known(fmt.Sprint("device-", i), proxy.Busy))
		}
		for i := range 5000 {
			s.Add(flood(i))
		}
		all := s.List(Filter{}).Total
		if guests, devices := s.List(Filter{ClientID: "guest"}).Total, all-s.List(Filter{Reason: unknown}).Total; guests != 40 || devices < 40 || all > 100 {
			t.Errorf("%s: %d guests and %d others of 40 each are left, %d rows", name, guests, devices, all)
		}
	}
}

// TestDevicesWithGoodTokensKeepHalfOfTheRoom: also against a flood from everywhere.
func TestDevicesWithGoodTokensKeepHalfOfTheRoom(t *testing.T) {
	s := New(100)
	for i := range 60 {
		s.Add(known(fmt.Sprint("device-", i), proxy.Busy))
	}
	for i := range 5000 {
		s.Add(guess(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), ""))
	}
	if got := s.List(Filter{Reason: proxy.Busy}).Total; got != 50 {
		t.Errorf("%d rows of devices are left, want half of the room", got)
	}
	if got := s.List(Filter{}); got.Total != 100 || got.Refusals[0].Number != 5060 {
		t.Errorf("%d rows, the newest number %d", got.Total, got.Refusals[0].Number)
	}
}

func TestOldestRowsGoFirst(t *testing.T) {
	s := New(3)
	for i := range 5 {
		s.Add(guess(fmt.Sprintf("192.0.2.%d:1", i), fmt.Sprint(i)))
		s.Add(guess("192.0.2.0:1", "0"))
	}
	if got := names(s.List(Filter{})); got != "0 4 3" {
		t.Errorf("listed %q, want the newest", got)
	}
	s.SetLimit(1)
	if got := names(s.List(Filter{})); got != "0" {
		t.Errorf("with less room: %q", got)
	}
	s.SetLimit(-1)
	s.Add(guess("192.0.2.1:1", "1"))
	if got := names(s.List(Filter{})); got != "" || s.Counts()[0].Day != 11 {
		t.Errorf("without room: %q is kept, %+v", got, s.Counts())
	}
	s.SetLimit(2)
	s.Add(guess("192.0.2.1:1", "1"))
	if got := names(s.List(Filter{})); got != "1" {
		t.Errorf("with room again: %q", got)
	}
}

func TestListFiltersAndPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(100)
		long := strings.Repeat("x", 1000)
		s.Add(guess("192.0.2.1:1", "pump"))
		s.Add(guess("192.0.2.2:1", long))
		time.Sleep(time.Hour)
		s.Add(guess("[2001:db8::1]:1", "fan\x00\u202e"))
		s.Add(known("valve", proxy.Busy))
		for _, tt := range []struct {
			f    Filter
			want string
		}{
			{Filter{ClientID: "pump"}, "pump"},
			{Filter{ClientID: "pum"}, ""},
			{Filter{ClientID: "fan\x00\u202e"}, `fan\x00\u202e`},
			{Filter{ClientID: `fan\x00\u202e`}, `fan\x00\u202e`},
			{Filter{ClientID: long}, long[:128] + "... (1000 bytes)"},
			{Filter{ClientID: long[:128] + "... (1000 bytes)"}, long[:128] + "... (1000 bytes)"},
			{Filter{Subject: "valve"}, "valve"},
			{Filter{Subject: "valve", Reason: unknown}, ""},
			{Filter{Reason: proxy.Busy}, "valve"},
			{Filter{Address: netip.MustParsePrefix("192.0.2.1/32")}, "pump"},
			{Filter{Address: netip.MustParsePrefix("2001:db8::/32")}, `fan\x00\u202e`},
			{Filter{Since: time.Now()}, `valve fan\x00\u202e`},
			{Filter{Limit: 1}, "valve"},
			{Filter{Limit: 1, Before: 4}, `fan\x00\u202e`},
			{Filter{Before: 2}, "pump"},
			{Filter{Before: 1}, ""},
		} {
			if got := names(s.List(tt.f)); got != tt.want {
				t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
			}
		}
		if got := s.List(Filter{Limit: 3}); got.Next != 2 || got.Total != 4 {
			t.Errorf("first page: next %d, total %d", got.Next, got.Total)
		}
		if got := s.List(Filter{Limit: 3, Before: 2}); got.Next != 0 || got.Total != 4 || len(got.Refusals) != 1 {
			t.Errorf("last page: next %d, total %d, %d rows", got.Next, got.Total, len(got.Refusals))
		}
	})
}

// TestTextsOfDevicesAreBoundedAndEscaped: this includes texts that are not UTF-8.
func TestTextsOfDevicesAreBoundedAndEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"Pumpe Süd 7":           "Pumpe Süd 7",
		"\x1b[2J\x07":           `\x1b[2J\a`,
		"a\r\nb\u2028":          `a\r\nb\u2028`,
		"\xff\xfe":              `\xff\xfe`,
		"\ufffd":                "\ufffd",
		`"quoted" \ <b>`:        `"quoted" \ <b>`,
		strings.Repeat("é", 70): strings.Repeat("é", 64) + "... (140 bytes)",
	} {
		if got := bounded(text, maxName); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// TestMemoryIsBounded: a full store of the largest rows, each of a party of its own, takes no more
// than 1 KiB for each row on average.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 20000
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	text := strings.Repeat("\x00", 1<<10)
	before := heap()
	s := New(limit)
	for i := range 2 * limit {
		r := proxy.Refusal{Reason: proxy.Busy, Addr: netip.MustParseAddrPort("192.0.2.1:1"), Subject: fmt.Sprint(i, text), ClientID: fmt.Sprint(i, text), Err: errors.New(text), Fingerprint: "12345678"}
		if i%2 == 0 {
			r.Subject, r.Addr = "", netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		}
		s.Add(r)
	}
	if got := heap() - before; got > limit*averageBytes*11/10 {
		t.Errorf("%d rows take %d bytes, want at most %d", s.List(Filter{}).Total, got, limit*averageBytes)
	}
	if got := s.List(Filter{}).Total; got < limit/2 {
		t.Errorf("%d rows are kept", got)
	}
}

func TestChangedIsClosedAtTheNextRefusal(t *testing.T) {
	s := New(10)
	changed := s.Changed()
	if s.Changed() != changed {
		t.Error("two that wait have two channels")
	}
	select {
	case <-changed:
		t.Fatal("closed before a refusal")
	default:
	}
	s.Add(guess("192.0.2.1:1", "pump"))
	<-changed
	select {
	case <-s.Changed():
		t.Error("closed again without another refusal")
	default:
	}
}

func TestStoreIsUsedByMany(t *testing.T) {
	s := New(50)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				s.Add(guess(fmt.Sprintf("192.0.2.%d:1", j%20), fmt.Sprint(i, j)))
				if p := s.List(Filter{Limit: 5}); len(p.Refusals) == 0 || p.Total > 50 {
					t.Errorf("%d rows of %d", len(p.Refusals), p.Total)
				}
				s.Counts()
				s.Changed()
			}
		})
	}
	wg.Wait()
	checkShelves(t, s)
}

// checkShelves fails if the sums of s differ from what its rows add up to.
func checkShelves(t *testing.T, s *Store) {
	t.Helper()
	rows, bytes, parties := 0, 0, 0
	for _, h := range s.shelves {
		rows, bytes, parties = rows+h.rows, bytes+h.bytes, parties+len(h.parties)
	}
	sum := 0
	for i, r := range s.rows {
		if sum += sizeOf(r.Refusal); r.index != i || s.byKey[r.key] != r || s.parties[r.party.key] != r.party {
			t.Errorf("row %d is not found where it should be", i)
		}
	}
	if rows != len(s.rows) || len(s.byKey) != rows || bytes != sum || parties != len(s.parties) {
		t.Errorf("%d rows, %d keys, %d of %d bytes, %d of %d parties", rows, len(s.byKey), bytes, sum, parties, len(s.parties))
	}
}

// BenchmarkAdd is what a refusal costs, while many goroutines refuse: of a device in a loop, and
// in a full store with each refusal a row of its own.
func BenchmarkAdd(b *testing.B) {
	refusals := make([]proxy.Refusal, 20000)
	for i := range refusals {
		refusals[i] = guess(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), fmt.Sprint("device-", i))
		refusals[i].Err = &authz.Denial{Reason: authz.Unknown, Detail: "not in the token file"}
	}
	for name, devices := range map[string]int{"one device": 1, "all new": len(refusals)} {
		b.Run(name, func(b *testing.B) {
			s := New(10000)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					s.Add(refusals[i%devices])
				}
			})
		})
	}
}

// BenchmarkList is what a page of a full store costs.
func BenchmarkList(b *testing.B) {
	s := New(10000)
	for i := range 10000 {
		s.Add(guess(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), fmt.Sprint("device-", i)))
	}
	for b.Loop() {
		s.List(Filter{Limit: 100})
	}
}
