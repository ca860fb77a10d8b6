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
type buffers struct{ small, large, lend sync.Pool }

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
