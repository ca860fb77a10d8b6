package relay

import (
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// chunk says where some bytes are in memory, and the capacity behind them.
type chunk struct {
	start     *byte
	len, room int
}

func chunkOf(b []byte) chunk { return chunk{unsafe.SliceData(b), len(b), cap(b)} }

// chunks are those of one direction, in order.
type chunks struct {
	mu  sync.Mutex
	all []chunk
}

func (c *chunks) add(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, chunkOf(b))
}

func (c *chunks) list() []chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]chunk(nil), c.all...)
}

// recordingFilter passes bytes on as they are and remembers where they were.
type recordingFilter struct{ chunks }

func (f *recordingFilter) Filter(b []byte) (pass, back []byte, err error) {
	f.add(b)
	return b, nil, nil
}

// recordingLayer changes nothing and remembers where the bytes were that it was given
// to write.
type recordingLayer struct {
	Conn
	written chunks
}

func (c *recordingLayer) Write(b []byte) (int, error) {
	c.written.add(b)
	return c.Conn.Write(b)
}

// Bytes that a filter does not change are written from the buffer that they were read into. They
// are not copied.
func TestFilteredBytesAreNotCopied(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		r := newRig(t, newPump(), "tcp", "tcp").framed()
		client := &recordingLayer{Conn: r.pair.Client.Conn}
		upstream := &recordingLayer{Conn: r.pair.Upstream.Conn}
		r.pair.Client.Conn, r.pair.Upstream.Conn = client, upstream
		var up, down recordingFilter
		r.pair.FilterUp, r.pair.FilterDown = &up, &down
		r.start()
		total := 0
		for _, size := range []int{1, 100, smallBuffer, smallBuffer + 1, 5 * smallBuffer, 2 * largeBuffer, 1} {
			message := packet(strings.Repeat("m", size))
			total += 2 * len(message)
			go r.device.Write(message)
			r.expect(r.broker, string(message))
			go r.broker.Write(message)
			r.expect(r.device, string(message))
		}
		for name, way := range map[string]struct{ seen, written *chunks }{
			"up": {&up.chunks, &upstream.written}, "down": {&down.chunks, &client.written},
		} {
			seen, written := way.seen.list(), way.written.list()
			if len(seen) != len(written) {
				t.Fatalf("%s: filter saw %d pieces, %d were written", name, len(seen), len(written))
			}
			for i := range seen {
				if seen[i] != written[i] {
					t.Errorf("%s: piece %d was %v and is written from %v", name, i, seen[i], written[i])
				}
				if room := seen[i].room; room != smallBuffer && room != largeBuffer {
					t.Errorf("%s: piece %d has room for %d bytes: it is not at the start of a reader's buffer", name, i, room)
				}
				total -= seen[i].len
			}
		}
		if total != 0 {
			t.Errorf("%d bytes were written that the filters have not seen", total)
		}
	})
}

// A filtered pair that is idle holds no buffer, and where it can be parked no
// goroutine either.
func TestIdleFilteredPairHoldsNothing(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		for _, transport := range []string{"tcp", "tls1.2", "tls1.3"} {
			t.Run(transport, func(t *testing.T) {
				p := newPump()
				lent := countBuffers(p)
				const pairs = 3
				before := runtime.NumGoroutine()
				for range pairs {
					r := newRig(t, p, transport, "tcp").framed()
					r.pair.FilterUp, r.pair.FilterDown = &counting{}, &counting{}
					r.start()
					for _, size := range []int{1, 100, 3 * largeBuffer} { // the last takes large buffers
						message := packet(strings.Repeat("m", size))
						go r.device.Write(message)
						r.expect(r.broker, string(message))
						go r.broker.Write(message)
						r.expect(r.device, string(message))
					}
				}
				if made := lent.made.Load(); made < 2 {
					t.Errorf("%d buffers were made: they are not counted", made)
				}
				if canPark && !p.Goroutines {
					eventually(t, "all pairs to be quiet", func() bool { return p.Stats().Quiet == pairs })
					// The loop's own, and the test's may be about to end.
					eventually(t, "their goroutines to end", func() bool { return runtime.NumGoroutine() <= before+EventLoops() })
				}
				eventually(t, "all buffers to be given up", func() bool {
					runtime.GC() // empties the pools
					return lent.live.Load() == 0
				})
			})
		}
	})
}

// bufferCount counts buffers that were made, and those among them that are in use
// still, a pool included.
type bufferCount struct{ made, live atomic.Int64 }

func countBuffers(p *Pump) *bufferCount {
	return countBuffersOf(p, smallBuffer, largeBuffer, lendBuffer)
}

func countBuffersOf(p *Pump, sizes ...int) *bufferCount {
	var c bufferCount
	for _, size := range sizes {
		p.buffers.pool(size).New = func() any {
			c.made.Add(1)
			c.live.Add(1)
			b := &buffer{make([]byte, size)}
			runtime.AddCleanup(&b.b[0], func(c *bufferCount) { c.live.Add(-1) }, &c)
			return b
		}
	}
	return &c
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within the time limit", what)
		}
	}
}

// If many receivers do not read, each keeps only its remaining bytes, not a large buffer.
func TestStalledReceiversHoldLittle(t *testing.T) {
	eachPump(t, func(t *testing.T, newPump func() *Pump) {
		const pairs, message = 100, 6000
		p := newPump()
		p.WriteTimeout = time.Hour
		large := countBuffersOf(p, largeBuffer)
		rigs := make([]*rig, pairs)
		for i := range rigs {
			rigs[i] = newRig(t, p, "tcp", "tcp")
			_ = rigs[i].device.(*net.TCPConn).SetReadBuffer(4 << 10)
			_ = rigs[i].pair.Client.Socket.Conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
			rigs[i].start()
		}
		for _, r := range rigs {
			sent := int64(0)
			for range 1000 {
				r.send(r.broker, []byte(strings.Repeat("x", message)))
				sent += message
				if !reaches(r, sent) {
					break
				}
			}
		}
		eventually(t, "a large buffer to be needed", func() bool { return large.made.Load() > 0 })
		eventually(t, "large buffers to be given up", func() bool {
			runtime.GC() // empties the pools
			return large.live.Load() <= pairs/10
		})
		for _, r := range rigs { // or each end would take its grace
			reset(r.device)
		}
	})
}

// reaches waits for a moment until so many bytes have been written to the device.
func reaches(r *rig, down int64) bool {
	for range 2000 {
		if _, n := r.session.Bytes(); n >= down {
			return true
		}
		runtime.Gosched()
	}
	return false
}
