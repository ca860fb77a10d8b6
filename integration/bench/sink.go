//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// The last level of a topic says what the sink does with a message. A map may have put levels
// in front of it, with which the sink answers, too.
const (
	drop = "drop"
	echo = "echo" // send one of the same size back
	pour = "pour" // send as many back as the payload says: "number size"
)

// sink is a broker that costs as little as possible: it accepts every client, answers what must be
// answered and drops the rest.
type sink struct {
	large sync.Pool // buffers for reading what is dropped
}

// runSink prints its address to out and serves until it is killed.
func runSink(out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return err
	}
	s := &sink{large: sync.Pool{New: func() any { return new([128 << 10]byte) }}}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go s.serve(conn)
	}
}

func (s *sink) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 16<<10)
	for {
		first, err := r.ReadByte()
		if err != nil {
			return
		}
		length, err := binary.ReadUvarint(r) // which is how MQTT writes a length
		if err != nil {
			return
		}
		if err := s.handle(conn, r, first, int(length)); err != nil {
			return
		}
	}
}

// handle reads the rest of a packet and answers it.
func (s *sink) handle(conn net.Conn, r *bufio.Reader, first byte, length int) (err error) {
	switch packets.Type(first >> 4) {
	case packets.CONNECT:
		if err = s.skip(conn, r, length); err == nil {
			_, err = conn.Write([]byte{0x20, 2, 0, 0})
		}
		return err
	case packets.PUBLISH:
		return s.publish(conn, r, first, length)
	case packets.PINGREQ:
		_, err = conn.Write([]byte{0xD0, 0})
		return err
	case packets.DISCONNECT:
		return io.EOF
	}
	return fmt.Errorf("unexpected %v", packets.Type(first>>4))
}

func (s *sink) publish(conn net.Conn, r *bufio.Reader, first byte, length int) error {
	size, err := r.Peek(2)
	if err != nil {
		return err
	}
	header := 2 + int(binary.BigEndian.Uint16(size))
	head, err := r.Peek(header + 2) // a message has more than the rest of that
	if err != nil {
		return err
	}
	topic, id := string(head[2:header]), [2]byte(head[header:])
	var answer []byte
	switch {
	case first&0x06 != 0:
		answer = []byte{0x40, 2, id[0], id[1]}
	case strings.HasSuffix(topic, echo):
		answer = message(topic, length-header)
	case strings.HasSuffix(topic, pour):
		return s.pour(conn, r, length, header, strings.TrimSuffix(topic, pour)+drop)
	}
	if err := s.skip(conn, r, length); err != nil || answer == nil {
		return err
	}
	_, err = conn.Write(answer)
	return err
}

func (s *sink) pour(conn net.Conn, r *bufio.Reader, length, header int, topic string) error {
	request := make([]byte, length)
	if _, err := io.ReadFull(r, request); err != nil {
		return err
	}
	var number, size int
	if _, err := fmt.Fscan(bytes.NewReader(request[header:]), &number, &size); err != nil {
		return err
	}
	m := message(topic, size)
	for range number {
		if _, err := conn.Write(m); err != nil {
			return err
		}
	}
	return nil
}

// skip reads so many bytes, in large pieces if there are many, and keeps no large buffer while it
// waits.
func (s *sink) skip(conn net.Conn, r *bufio.Reader, length int) error {
	n, err := r.Discard(min(length, r.Buffered()))
	length -= n
	if err != nil || length == 0 {
		return err
	}
	if length <= r.Size() {
		_, err = r.Discard(length)
		return err
	}
	large := s.large.Get().(*[128 << 10]byte)
	defer s.large.Put(large)
	for length > 0 {
		n, err := conn.Read(large[:min(length, len(large))])
		if err != nil {
			return err
		}
		length -= n
	}
	return nil
}
