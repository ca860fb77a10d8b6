package relay

import "sync"

// Sizes of buffers, in bytes. A read begins with a small buffer, because what arrives is
// nearly always one small message, and because a write that stalls keeps its buffer.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

type buffer struct{ b []byte }

// buffers is a pool of buffers. The zero value is ready to use.
type buffers struct{ small, large, lend, grown sync.Pool }

func (p *buffers) pool(size int) *sync.Pool {
	switch size {
	case smallBuffer:
		return &p.small
	case largeBuffer:
		return &p.large
	}
	return &p.lend
}

// get returns a buffer of size bytes, which is smallBuffer, largeBuffer or lendBuffer.
func (p *buffers) get(size int) *buffer {
	if b, ok := p.pool(size).Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, size)}
}

func (p *buffers) put(b *buffer) {
	if b != nil {
		p.pool(len(b.b)).Put(b)
	}
}

// maxGrown is how large the buffers of a filter may be in all to be kept for the next one. It is
// enough for a large buffer of short packets that a filter makes several times as long.
const maxGrown = 4 * largeBuffer

// getGrown returns buffers that have the size that filters have needed so far.
func (p *buffers) getGrown() *[4][]byte {
	if b, ok := p.grown.Get().(*[4][]byte); ok {
		return b
	}
	return new([4][]byte)
}

func (p *buffers) putGrown(b *[4][]byte) {
	if cap(b[0])+cap(b[1])+cap(b[2])+cap(b[3]) <= maxGrown {
		p.grown.Put(b)
	}
}
