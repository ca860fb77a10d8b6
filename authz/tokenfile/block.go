package tokenfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"runtime"
	"sync"
)

// A file is parsed in blocks of some tens of lines. Where one ends follows from the content
// of its last line, so that a line that is added, changed or taken out moves no boundaries
// but its own, and the next version has all other blocks again, byte for byte.
const (
	blockMask  = 63       // of the sum of a line, which is zero at the end of a block
	blockLines = 1024     // lines, at most
	blockBytes = 64 << 10 // and bytes; one line more fits
	// ahead is how many blocks are read before the first of them has been taken over.
	ahead = 16
)

// block is a run of whole lines. It never changes, and versions of the file share it.
type block struct {
	sum     blockSum // of the bytes
	size    int64
	lines   int
	entries []entry // their lines are counted from the beginning of the block, from 0
	pairs   int     // how many entries have a user name and a password
	plain   bool    // there are only entries, comments and blank lines
	blank   bool    // there are only blank lines
}

// blockSum tells blocks apart by 128 bits, which depend on random seeds of this process: an
// attacker who does not know them cannot write a block that is taken for another one. A SHA-256 of
// all blocks would take several times as long.
type blockSum [2]uint64

func sumOfBlock(data []byte) blockSum {
	return blockSum{maphash.Bytes(seed, data), maphash.Bytes(secondSeed, data)}
}

// placed is a block in one version of the file.
type placed struct {
	*block
	line   int // number of the first line
	offset int64
}

// job is a block on its way from the reader to the parser.
type job struct {
	data   []byte
	size   int64
	lines  int
	long   []int // lines that are too long, which are empty in data
	done   chan struct{}
	block  *block
	faults []Fault // their lines are counted like those of entries
	count  int     // lines with an entry, good or bad
	err    error   // a panic
}

// splitter reads blocks.
type splitter struct {
	in   *bufio.Reader
	free chan []byte
}

// next reads the next block. The error is io.EOF at the end of the file, which the last
// block comes with.
func (s *splitter) next() (*job, error) {
	j := &job{done: make(chan struct{})}
	select {
	case j.data = <-s.free:
	default:
		j.data = make([]byte, 0, blockBytes)
	}
	for {
		line, err := s.in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		j.size += int64(len(line))
		for errors.Is(err, bufio.ErrBufferFull) {
			var rest []byte
			rest, err = s.in.ReadSlice('\n')
			j.size += int64(len(rest))
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if long || len(line) > maxLine && len(bytes.TrimRight(line, "\r\n")) > maxLine {
			j.long = append(j.long, j.lines)
			line = []byte("\n")
		}
		j.data = append(j.data, line...)
		j.lines++
		if err == io.EOF || j.lines == blockLines || len(j.data) >= blockBytes || maphash.Bytes(seed, line)&blockMask == 0 {
			return j, err
		}
	}
}

// readBlocks calls take with each block of r in the order of the file. The blocks that old
// has are not parsed, the others in parallel. It returns the first error of take.
func readBlocks(ctx context.Context, r io.Reader, old *snapshot, values *sharedValues, take func(*job) error) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	known := old.bySum()
	s := splitter{in: bufio.NewReaderSize(r, maxLine+2), free: make(chan []byte, ahead)} // with room for CR and LF
	ordered, work := make(chan *job, ahead), make(chan *job, ahead)
	var readErr error
	running.Go(func() {
		defer close(work)
		defer close(ordered)
		_, readErr = safely(func() (bool, error) { return true, s.all(ctx, work, ordered) })
	})
	for range min(runtime.GOMAXPROCS(0), maxParsers) {
		running.Go(func() {
			p := lineParser{values: values}
			for j := range work {
				_, j.err = safely(func() (bool, error) { p.block(j, known); return true, nil })
				close(j.done)
			}
		})
	}
	for j := range ordered {
		<-j.done
		if j.err != nil {
			return j.err
		}
		if err := take(j); err != nil {
			return err
		}
		select {
		case s.free <- j.data[:0]:
		default:
		}
	}
	return readErr
}

// maxParsers is how many blocks are parsed at a time.
const maxParsers = 4

// all passes every block to the channels, one after the other, until ctx is done.
func (s *splitter) all(ctx context.Context, to ...chan<- *job) error {
	for {
		j, err := s.next()
		if err != nil && err != io.EOF {
			return err
		}
		for _, c := range to {
			select {
			case c <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// block finds the block of j among those that are known, or parses it.
func (p *lineParser) block(j *job, known map[blockSum]*block) {
	sum := sumOfBlock(j.data)
	if b := known[sum]; b != nil && len(j.long) == 0 {
		j.block, j.count = b, len(b.entries)
		return
	}
	j.block = &block{sum: sum, size: j.size, lines: j.lines, blank: true, plain: true}
	p.begin(j.block)
	n := 0
	for line := range bytes.Lines(j.data) {
		f, special := p.line(n, line)
		if special != nil {
			j.block.plain = false
			return // its meaning depends on what comes before
		}
		if f != nil {
			j.faults = append(j.faults, *f)
		}
		n++
	}
	for _, line := range j.long {
		j.faults = append(j.faults, Fault{Line: line, Reason: tooLong})
	}
	p.end(j.block)
	j.count = p.count
}
