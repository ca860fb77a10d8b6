//go:build integration

package soak

import (
	"bufio"
	"bytes"
	encoding "encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// A message asks the sink for an answer, and may command something else.
const (
	commandNone  = iota
	commandPause // read nothing for a while
	commandClose // end the connection after the answer
)

// A payload is a head (number of the message, size of the answer that it asks for,
// one of the above), a body and a checksum of both.
const (
	headSize     = 8 + 4 + 1
	checksumSize = 4
	maxBody      = 1 << 20 // largest body, in bytes
)

// newBlock returns the bytes from which all bodies are cut. Both ends make it from the
// seed.
func newBlock(seed uint64) []byte {
	block := make([]byte, maxBody+1<<16)
	key := [32]byte{}
	encoding.BigEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(block) // never fails
	return block
}

// stream is one direction of one session, for writing or checking. Every byte follows
// from the seed, the session and the heads, so that a message that is lost, doubled, late
// or changed is noticed.
type stream struct {
	block   []byte
	session uint64
	down    bool
	seq     uint64
}

// body returns the body of the next message.
func (s *stream) body(size int) []byte {
	x := s.session*0x9E3779B97F4A7C15 ^ s.seq*0xC2B2AE3D27D4EB4F
	if s.down {
		x = ^x
	}
	x ^= x >> 29
	from := int(x * 0xBF58476D1CE4E5B9 >> 48)
	return s.block[from : from+size]
}

// next returns the payload of the next message.
func (s *stream) next(command byte, answer, size int) []byte {
	b := make([]byte, 0, headSize+size+checksumSize)
	b = encoding.BigEndian.AppendUint64(b, s.seq)
	b = encoding.BigEndian.AppendUint32(b, uint32(answer))
	b = append(append(b, command), s.body(size)...)
	s.seq++
	return encoding.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// check compares part, the beginning of a payload of that size, with the next message.
func (s *stream) check(part []byte, size int) (command byte, answer int, err error) {
	if size < headSize+checksumSize || size > headSize+maxBody+checksumSize {
		return 0, 0, fmt.Errorf("message %d: payload of %d bytes", s.seq, size)
	}
	if len(part) < headSize {
		return 0, 0, nil
	}
	if seq := encoding.BigEndian.Uint64(part); seq != s.seq {
		return 0, 0, fmt.Errorf("message %d came instead of %d", seq, s.seq)
	}
	whole := len(part) == size
	body := part[headSize:min(len(part), size-checksumSize)]
	if want := s.body(size - headSize - checksumSize)[:len(body)]; !bytes.Equal(body, want) {
		return 0, 0, fmt.Errorf("message %d of %d bytes is not what was sent", s.seq, size)
	}
	if whole && encoding.BigEndian.Uint32(part[size-checksumSize:]) != crc32.Checksum(part[:size-checksumSize], castagnoli) {
		return 0, 0, fmt.Errorf("message %d of %d bytes has a wrong checksum", s.seq, size)
	}
	if whole {
		s.seq++
	}
	return part[headSize-1], int(encoding.BigEndian.Uint32(part[8:])), nil
}

// checkPublish is check for a PUBLISH or the beginning of one.
func (s *stream) checkPublish(raw []byte, level byte, want packets.Publish) (command byte, answer int, err error) {
	size, err := packets.PacketSize(raw, level)
	if err != nil || size == 0 {
		return 0, 0, err
	}
	var got packets.Publish
	head, err := got.Parse(raw, level)
	if err != nil {
		if err == io.ErrUnexpectedEOF && len(raw) < size {
			err = nil
		}
		return 0, 0, err
	}
	if got.Dup || got.Retain || got.QoS != want.QoS || got.PacketID != want.PacketID || !bytes.Equal(got.Topic, want.Topic) || len(got.Properties) > 0 {
		return 0, 0, fmt.Errorf("message %d: QoS %d, packet %d, topic %.40q", s.seq, got.QoS, got.PacketID, got.Topic)
	}
	return s.check(got.Payload, size-head)
}

// publishHeader returns the PUBLISH of message seq without its payload.
func publishHeader(topic []byte, seq uint64) packets.Publish {
	p := packets.Publish{Topic: topic, QoS: byte(seq % 2)}
	if p.QoS == 1 {
		p.PacketID = uint16(1 + seq%firstDeniedID)
	}
	return p
}

// firstDeniedID is the first packet identifier of messages that topic rules deny.
const firstDeniedID = 40_000

var downTopic = []byte("soak/down")

// readPacket returns the next packet, or an error and the part of the packet that was
// read.
func readPacket(r *bufio.Reader) ([]byte, error) {
	for n := 2; ; n++ {
		b, err := r.Peek(n)
		if err != nil {
			return b, err
		}
		size, err := packets.PacketSize(b, 0)
		if err != nil {
			return nil, err
		}
		if size > 0 {
			raw := make([]byte, size)
			n, err := io.ReadFull(r, raw)
			return raw[:n], err
		}
	}
}
