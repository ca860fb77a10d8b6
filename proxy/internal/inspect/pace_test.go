package inspect_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

var _ relay.Pacer = (*inspect.Pace)(nil)

func newPace(t testing.TB, text string) (p *inspect.Pace, limits *authz.Limits) {
	t.Helper()
	limits = new(authz.Limits)
	*limits = parsedLimits(t, text)
	return inspect.NewPace(func() authz.Limits { return *limits }), limits
}

func parsedLimits(t testing.TB, text string) authz.Limits {
	t.Helper()
	l, err := authz.ParseLimits([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sendAll lets a stream pass and returns when each byte did, by a clock that begins at 0.
func sendAll(t testing.TB, p *inspect.Pace, stream string, piece int) (passed []time.Duration) {
	t.Helper()
	start := time.Unix(1000, 0)
	now := start
	for rest := stream; rest != ""; {
		n, wait := p.Admit(now, []byte(rest[:min(piece, len(rest))]))
		for range n {
			passed = append(passed, now.Sub(start))
		}
		rest = rest[n:]
		if (n == min(piece, len(rest)+n)) != (wait == 0) || wait < 0 || wait > time.Second {
			t.Fatalf("%d bytes of %d and a wait of %v", n, len(rest), wait)
		}
		now = now.Add(wait)
		if now.Sub(start) > time.Hour {
			t.Fatalf("%d bytes are left after an hour", len(rest))
		}
	}
	return passed
}

// TestRateOfMessages: the burst passes at once and the rest evenly, a PINGREQ in its turn.
func TestRateOfMessages(t *testing.T) {
	for _, test := range []struct {
		limits      string
		burst       int
		messages    int
		takes       time.Duration
		description string
	}{
		{`{"publish_rate":50,"publish_burst":100}`, 100, 200, 2 * time.Second, "a burst of two seconds"},
		{`{"publish_rate":50}`, 50, 200, 3 * time.Second, "the burst of a second"},
		{`{"publish_rate":1,"publish_burst":1}`, 1, 5, 4 * time.Second, "one a second"},
		{`{"publish_rate":10,"publish_burst":1}`, 1, 21, 2 * time.Second, "ten a second"},
		{`{"publish_rate":1000,"publish_burst":10}`, 10, 1010, time.Second, "a small burst"},
		{`{"max_qos":1}`, 100, 100, 0, "no rate"},
	} {
		for _, level := range []byte{3, 4, 5} {
			for _, piece := range []int{1, 3, 100, 1 << 16} {
				p, _ := newPace(t, test.limits)
				message := publish(level, "a", 1, "payload")
				stream := strings.Repeat(message, test.messages) + pingreq
				passed := sendAll(t, p, stream, piece)
				if last := passed[test.burst*len(message)-1]; last != 0 {
					t.Errorf("%s, level %d: the burst took %v", test.description, level, last)
				}
				took := passed[len(passed)-1]
				if took < test.takes-20*time.Millisecond || took > test.takes+20*time.Millisecond {
					t.Errorf("%s, level %d, in pieces of %d: took %v, want %v", test.description, level, piece, took, test.takes)
				}
			}
		}
	}
}

// TestOtherPacketsHaveNoRate: only messages count.
func TestOtherPacketsHaveNoRate(t *testing.T) {
	p, _ := newPace(t, `{"publish_rate":1}`)
	in := strings.Repeat(pingreq+ack(4, packets.PUBACK, 0)+subscribe(4, packets.SUBSCRIBE, "a"), 100)
	if passed := sendAll(t, p, in, 1000); passed[len(passed)-1] != 0 {
		t.Errorf("they took %v", passed[len(passed)-1])
	}
}

// TestRateOfBytes counts every byte, and ends inside of packets.
func TestRateOfBytes(t *testing.T) {
	for _, test := range []struct {
		rate, size int
		takes      time.Duration
	}{{1000, 5000, 4 * time.Second}, {1 << 20, 3 << 20, 2 * time.Second}, {1, 5, 4 * time.Second}, {100, 100, 0}} {
		for _, piece := range []int{1, 4096} {
			if piece == 1 && test.size > 10000 {
				continue
			}
			p, _ := newPace(t, fmt.Sprintf(`{"byte_rate":%d}`, test.rate))
			stream := publish(4, "a", 1, strings.Repeat("x", test.size))[:test.size]
			passed := sendAll(t, p, stream, piece)
			if took := passed[len(passed)-1]; took < test.takes-20*time.Millisecond || took > test.takes+20*time.Millisecond {
				t.Errorf("%d bytes at %d a second took %v, want %v", test.size, test.rate, took, test.takes)
			}
		}
	}
}

// TestBodiesCanBeSkipped: the kernel may pass on as much of a body as the rate of bytes allows.
func TestBodiesCanBeSkipped(t *testing.T) {
	message := publish(4, "a", 1, strings.Repeat("x", 2000))
	now := time.Unix(1000, 0)
	p, _ := newPace(t, `{"byte_rate":1000}`)
	if n, wait := p.Admit(now, []byte(message[:500])); n != 500 || wait != 0 || p.Remaining() != 500 {
		t.Errorf("%d, %v, and %d remain", n, wait, p.Remaining())
	}
	p.Skip(400)
	if n, wait := p.Admit(now, []byte(message[900:])); n != 100 || wait <= 0 || p.Remaining() != 0 {
		t.Errorf("%d, %v, and %d remain", n, wait, p.Remaining())
	}
	p, _ = newPace(t, `{"publish_rate":1}`)
	if n, _ := p.Admit(now, []byte(message[:500])); n != 500 || p.Remaining() != len(message)-500 {
		t.Errorf("%d, and %d remain", n, p.Remaining())
	}
	p.Skip(len(message) - 500)
	if n, wait := p.Admit(now, []byte(message)); n != 0 || wait <= 0 {
		t.Errorf("the next message: %d, %v", n, wait)
	}
}

// TestRatesThatChange apply at once, also to a client that waits, after a second at most.
func TestRatesThatChange(t *testing.T) {
	now, message := time.Unix(1000, 0), []byte(publish(4, "a", 0, "x"))
	p, limits := newPace(t, `{"publish_rate":1,"publish_burst":1}`)
	if n, _ := p.Admit(now, message); n == 0 {
		t.Fatal("the first message waits")
	}
	if n, wait := p.Admit(now, message); n != 0 || wait > time.Second {
		t.Fatalf("%d, %v", n, wait)
	}
	*limits = parsedLimits(t, `{"max_qos":1}`)
	for range 100 {
		if n, _ := p.Admit(now, message); n != len(message) {
			t.Fatal("a message waits without a rate")
		}
	}
	*limits = parsedLimits(t, `{"publish_rate":10,"publish_burst":1}`)
	if n, _ := p.Admit(now, message); n == 0 {
		t.Fatal("the first message of the new rate waits")
	}
	if n, wait := p.Admit(now, message); n != 0 || wait > 100*time.Millisecond+time.Microsecond {
		t.Errorf("%d, %v", n, wait)
	}
}

// TestPaceOfAnyStream: however a stream is cut, all of it passes, and never more than the rates
// allow.
func TestPaceOfAnyStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 2000).Draw(t, "rate")
		burst := rapid.Int64Range(1, 50).Draw(t, "burst")
		byteRate := rapid.Int64Range(100, 100_000).Draw(t, "bytes")
		limits := authz.Limits{PublishRate: rate, PublishBurst: burst, ByteRate: byteRate}
		p := inspect.NewPace(func() authz.Limits { return limits })
		level := rapid.SampledFrom([]byte{3, 4, 5}).Draw(t, "level")
		stream := strings.Join(rapid.SliceOfN(packet(level), 0, 40).Draw(t, "packets"), "")
		start := time.Unix(1000, 0)
		now, total := start, 0
		var seen packets.Framer
		messages, lost := 0, false
		for rest := []byte(stream); len(rest) > 0; {
			piece := rest[:rapid.IntRange(1, len(rest)).Draw(t, "piece")]
			n, wait := p.Admit(now, piece)
			for i, c := range piece[:n] {
				if !lost && seen.AtBoundary() && packets.Type(c>>4) == packets.PUBLISH {
					messages++
				}
				if _, err := seen.Advance(piece[i : i+1]); err != nil {
					lost = true
				}
			}
			rest, total = rest[n:], total+n
			spent := now.Sub(start).Seconds() + 0.01
			if most := float64(burst) + spent*float64(rate) + 1e-3; !lost && float64(messages) > most {
				t.Fatalf("%d messages after %v s, at most %v are allowed", messages, spent, most)
			}
			if most := float64(byteRate) + spent*float64(byteRate) + 1e-3; float64(total) > most {
				t.Fatalf("%d bytes after %v s, at most %v are allowed", total, spent, most)
			}
			if n == 0 && wait <= 0 {
				t.Fatal("nothing passes, and there is no time to wait for")
			}
			now = now.Add(wait + time.Duration(rapid.IntRange(0, 5).Draw(t, "late"))*time.Millisecond)
		}
	})
}

func FuzzPace(f *testing.F) {
	f.Add([]byte(publish(4, "a", 1, "x")+pingreq), byte(3), int64(5), int64(100))
	f.Add([]byte("\x30\xff\xff\xff\xff\x01"), byte(1), int64(1), int64(0))
	f.Fuzz(func(t *testing.T, stream []byte, piece byte, rate, bytes int64) {
		limits := authz.Limits{PublishRate: max(0, rate%1_000_000), ByteRate: max(0, bytes)}
		p := inspect.NewPace(func() authz.Limits { return limits })
		now := time.Unix(1000, 0)
		for rest, idle := stream, 0; len(rest) > 0; {
			part := rest[:min(len(rest), int(piece)+1)]
			n, wait := p.Admit(now, part)
			if n < 0 || n > len(part) || (n == len(part)) != (wait == 0) || wait < 0 || wait > time.Second {
				t.Fatalf("%d of %d bytes, %v", n, len(part), wait)
			}
			if p.Remaining() < 0 {
				t.Fatalf("%d remain", p.Remaining())
			}
			if idle++; n > 0 {
				idle = 0
			}
			if idle > 2 {
				t.Fatalf("nothing passes in %v", wait)
			}
			rest, now = rest[n:], now.Add(wait)
		}
	})
}

func BenchmarkPace(b *testing.B) {
	p, _ := newPace(b, `{"publish_rate":1000000,"byte_rate":1073741824}`)
	in := []byte(publish(4, topic, 1, `{"t":25}`))
	now := time.Unix(1000, 0)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		if n, _ := p.Admit(now, in); n != len(in) {
			b.Fatal("held")
		}
	}
}
