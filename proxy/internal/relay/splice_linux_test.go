package relay

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// bodies returns packets of the given sizes, all different.
func bodies(sizes ...int) string {
	var all bytes.Buffer
	for i, size := range sizes {
		all.Write(packet(strings.Repeat(string(rune('a'+i)), size)))
	}
	return all.String()
}

// skipping is a filter that does not have to see the rest of a body.
type skipping struct{ lengthFramer }

func (f *skipping) Filter(b []byte) (pass, back []byte, err error) {
	_, err = f.Advance(b)
	return b, nil, err
}

// Large bodies pass through a pipe, the packets around them do not, and the framer and the filter
// know their position afterwards.
func TestSpliceKeepsBoundaries(t *testing.T) {
	for _, transports := range [][2]string{{"tcp", "tcp"}, {"unix", "tcp"}, {"tcp", "unix"}} {
		t.Run(transports[0]+"-"+transports[1], func(t *testing.T) {
			p := &Pump{QuietAfter: time.Hour}
			testSplice(t, p, newRig(t, p, transports[0], transports[1]))
		})
	}
	t.Run("filtered", func(t *testing.T) {
		p := &Pump{QuietAfter: time.Hour}
		r := newRig(t, p, "tcp", "tcp")
		up, down := &skipping{}, &skipping{}
		r.pair.FilterUp, r.pair.FilterDown = up, down
		testSplice(t, p, r)
		if !up.AtBoundary() || !down.AtBoundary() {
			t.Error("a filter has lost its place")
		}
	})
}

func testSplice(t *testing.T, p *Pump, r *rig) {
	want := bodies(10, 3<<20, 1, spliceMin, spliceMin-1, 0, 2*largeBuffer, 1<<20, 5)
	r.framed().start()
	for _, way := range []struct{ from, to net.Conn }{{r.device, r.broker}, {r.broker, r.device}} {
		go func() { _, _ = io.WriteString(way.from, want) }()
		r.expect(way.to, want)
	}
	p.pipes.mu.Lock()
	if p.pipes.open == 0 || len(p.pipes.idle) != p.pipes.open {
		t.Errorf("%d pipes open, %d idle; want all idle, and some", p.pipes.open, len(p.pipes.idle))
	}
	p.pipes.mu.Unlock()
	bye := packet("bye")
	r.session.Cut(CloseNotice{Client: bye, Upstream: bye})
	r.expectEnd(r.broker, string(bye))
	r.expectEnd(r.device, string(bye))
	r.device.Close()
	r.end()
}

// A close notice is never sent inside a body whose rest has not arrived.
func TestCutInsideSplicedBody(t *testing.T) {
	r := newRig(t, &Pump{}, "tcp", "tcp").framed().start()
	whole := bodies(8 << 20)
	part := whole[:4<<20]
	go func() { _, _ = io.WriteString(r.device, part) }()
	r.expect(r.broker, part)
	r.session.Cut(CloseNotice{Upstream: packet("bye")})
	r.expectEnd(r.broker, "")
}

// Receivers that do not read keep a bounded number of pipes. Further sessions continue without a
// pipe, and none of them loses anything.
func TestStalledReceiversKeepFewPipes(t *testing.T) {
	p := &Pump{WriteTimeout: time.Hour, Linger: time.Hour}
	want := bodies(2 << 20)
	rigs := make([]*rig, maxPipes+6)
	for i := range rigs {
		r := newRig(t, p, "tcp", "tcp")
		for _, c := range []net.Conn{r.device, r.pair.Client.Socket.Conn} {
			_ = c.(*net.TCPConn).SetReadBuffer(128 << 10)
			_ = c.(*net.TCPConn).SetWriteBuffer(128 << 10)
		}
		rigs[i] = r.framed().start()
		go func() {
			_, _ = io.WriteString(r.broker, want)
			r.broker.Close()
		}()
	}
	for p.busyPipes() < maxPipes {
		<-time.After(time.Millisecond)
	}
	for _, r := range rigs {
		r.expectEnd(r.device, want)
		r.device.Close()
		if got := r.end(); got.Down != int64(len(want)) || got.Err != nil {
			t.Fatalf("result %+v", got)
		}
	}
	p.Wait()
	if p.pipes.open != 0 {
		t.Errorf("%d pipes are open at the end", p.pipes.open)
	}
}

func (p *Pump) busyPipes() int {
	p.pipes.mu.Lock()
	defer p.pipes.mu.Unlock()
	return p.pipes.open - len(p.pipes.idle)
}

// A pipe that contains bytes of one session is never given to another.
func TestPipeWithBytesIsClosed(t *testing.T) {
	var p pipes
	dirty := p.get()
	dirty.held = 1
	p.put(dirty)
	if p.open != 0 || len(p.idle) != 0 {
		t.Errorf("%d open, %d idle", p.open, len(p.idle))
	}
	p.put(p.get())
	if p.open != 1 || len(p.idle) != 1 {
		t.Errorf("%d open, %d idle after one that is empty", p.open, len(p.idle))
	}
	p.drop()
	if p.open != 0 {
		t.Error("a pipe that is not in use stays open")
	}
}

// A receiver that takes nothing while a body is spliced ends the pair.
func TestSplicedStallEnds(t *testing.T) {
	r := newRig(t, &Pump{WriteTimeout: 50 * time.Millisecond, Grace: 50 * time.Millisecond}, "tcp", "tcp").framed().start()
	_ = r.broker.SetWriteDeadline(time.Now().Add(20 * time.Second))
	_, err := io.WriteString(r.broker, bodies(64<<20))
	if os.IsTimeout(err) {
		t.Fatal("the sender did not see the end")
	}
	if got := r.end(); got.By != Client || got.Err != ErrStalled {
		t.Errorf("result %+v, want a stalled client", got)
	}
}
