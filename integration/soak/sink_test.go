//go:build integration

package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// sinkVariable makes the test binary a sink. Its value is an address and the seed.
const sinkVariable = "MQTT_SOAK_SINK"

// sinkReport is a line that the sink prints at the end of a connection.
type sinkReport struct {
	client       string // identifier
	up           uint64 // whole messages
	bytes        int64  // after the CONNECT
	disconnected bool   // by a DISCONNECT
	fault        string
}

func (r sinkReport) String() string {
	return fmt.Sprintf("%s %d %d %t %q\n", r.client, r.up, r.bytes, r.disconnected, r.fault)
}

func parseSinkReport(line string) (r sinkReport, err error) {
	_, err = fmt.Sscanf(line, "%s %d %d %t %q", &r.client, &r.up, &r.bytes, &r.disconnected, &r.fault)
	return r, err
}

// runSink is the main function of the sink.
func runSink(spec string) int {
	address, seed, _ := strings.Cut(spec, " ")
	number, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ln, err := (&net.ListenConfig{Control: limitBuffers}).Listen(context.Background(), "tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	block := newBlock(number)
	var printing sync.Mutex
	for {
		conn, err := ln.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() {
			s := sinkSession{conn: conn, in: bufio.NewReaderSize(conn, 2<<10), up: stream{block: block}, down: stream{block: block, down: true}}
			s.serve()
			if s.report.client != "" {
				printing.Lock()
				defer printing.Unlock()
				fmt.Fprint(os.Stdout, s.report)
			}
		}()
	}
}

// limitBuffers makes a socket behave like one of an ordinary network. The loopback
// interface has segments of 64 KiB, and buffers megabytes before a writer has to wait.
func limitBuffers(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		const segment, buffer = 1400, 16 << 10
		err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, segment),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer))
	})
	return errors.Join(controlErr, err)
}

// sinkSession is the broker's end of a session. It checks everything it receives and
// answers each message with another, in order.
type sinkSession struct {
	conn     net.Conn
	in       *bufio.Reader
	level    byte
	topic    []byte
	up, down stream
	report   sinkReport
}

var errSoakOver = errors.New("asked to close")

func (s *sinkSession) serve() {
	defer s.conn.Close()
	for {
		raw, err := readPacket(s.in)
		if s.level != 0 {
			s.report.bytes += int64(len(raw))
		}
		if err != nil {
			s.checkRest(raw)
			return
		}
		switch answer, err := s.answer(raw); {
		case err == errSoakOver:
			s.close(answer)
			return
		case err != nil:
			s.report.fault = err.Error()
			return
		default:
			// A failed write shows when reading. What came before still counts.
			_, _ = s.conn.Write(answer)
		}
	}
}

// checkRest checks the incomplete packet at the end of the connection.
func (s *sinkSession) checkRest(part []byte) {
	if len(part) == 0 || packets.Type(part[0]>>4) != packets.PUBLISH {
		return
	}
	if _, _, err := s.up.checkPublish(part, s.level, publishHeader(s.topic, s.up.seq)); err != nil {
		s.report.fault = err.Error()
	}
}

func (s *sinkSession) answer(raw []byte) ([]byte, error) {
	if s.report.disconnected && raw[0] != byte(packets.DISCONNECT)<<4 { // the proxy's own DISCONNECT may follow
		return nil, fmt.Errorf("%v after DISCONNECT", packets.Type(raw[0]>>4))
	}
	switch packets.Type(raw[0] >> 4) {
	case packets.CONNECT:
		return s.connect(raw)
	case packets.PUBLISH:
		return s.publish(raw)
	case packets.PINGREQ:
		return []byte{0xD0, 0}, nil
	case packets.DISCONNECT:
		s.report.disconnected = true
		return nil, nil
	}
	return nil, fmt.Errorf("%v of a device that sends none", packets.Type(raw[0]>>4))
}

func (s *sinkSession) connect(raw []byte) ([]byte, error) {
	var c packets.Connect
	if err := c.Parse(raw); err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(c.ClientID, "soak-"), 10, 64)
	if err != nil {
		return nil, err
	}
	s.level, s.report.client, s.topic = c.Level, c.ClientID, []byte("soak/"+c.ClientID)
	s.up.session, s.down.session = number, number
	return (&packets.Connack{}).Append(nil, c.Level), nil
}

func (s *sinkSession) publish(raw []byte) (answer []byte, err error) {
	want := publishHeader(s.topic, s.up.seq)
	command, size, err := s.up.checkPublish(raw, s.level, want)
	if err != nil {
		return nil, err
	}
	s.report.up = s.up.seq
	if want.QoS == 1 {
		answer = (&packets.Ack{Type: packets.PUBACK, PacketID: want.PacketID}).Append(answer, s.level)
	}
	down := packets.Publish{Topic: downTopic, Payload: s.down.next(commandNone, 0, size)}
	answer = down.Append(answer, s.level)
	switch command {
	case commandPause:
		time.Sleep(time.Duration(500+s.up.session%1500) * time.Millisecond)
	case commandClose:
		err = errSoakOver
	}
	return answer, err
}

// close ends the connection after everything was sent. A reset would make the device's
// system discard what it has not read.
func (s *sinkSession) close(last []byte) {
	if _, err := s.conn.Write(last); err != nil {
		return
	}
	_ = s.conn.(*net.TCPConn).CloseWrite()
	_ = s.conn.SetReadDeadline(time.Now().Add(harness.Patience))
	rest, _ := s.in.WriteTo(io.Discard)
	s.report.bytes += rest
	if rest > 4 { // a DISCONNECT may follow
		s.report.fault = fmt.Sprintf("%d bytes after the last message", rest)
	}
}
