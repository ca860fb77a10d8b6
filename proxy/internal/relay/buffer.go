package relay

import "sync"

// Sizes of the buffers that are lent out, in bytes. What arrives is nearly always
// one small message, and a write that stalls holds on to the buffer: so everything
// begins with a small one.
const (
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
)

type buffer struct{ b []byte }

// buffers lends buffers to whoever has something to move. The zero value is ready
// to use.
type buffers struct{ small, large sync.Pool }

func (p *buffers) pool(size int) *sync.Pool {
	if size > smallBuffer {
		return &p.large
	}
	return &p.small
}

// get returns a buffer of size bytes, which is one of the constants above.
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
