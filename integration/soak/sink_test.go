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

// soakVariable makes the test binary a sink for soak: address and seed.
const soakVariable = "MQTT_SOAK_SINK"

// soakReport is a line that the sink prints when a connection has ended.
type soakReport struct {
	client string // identifier
	up     uint64 // messages that came whole
	bytes  int64  // that came after the CONNECT
	bye    bool   // a DISCONNECT came
	fault  string
}

func (r soakReport) String() string {
	return fmt.Sprintf("%s %d %d %t %q\n", r.client, r.up, r.bytes, r.bye, r.fault)
}

func parseSoakReport(line string) (r soakReport, err error) {
	_, err = fmt.Sscanf(line, "%s %d %d %t %q", &r.client, &r.up, &r.bytes, &r.bye, &r.fault)
	return r, err
}

// runSoakSink is the test binary as a sink. It ends with its process.
func runSoakSink(spec string) int {
	address, seed, _ := strings.Cut(spec, " ")
	number, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ln, err := (&net.ListenConfig{Control: narrow}).Listen(context.Background(), "tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	block := soakBlock(number)
	var printing sync.Mutex
	for {
		conn, err := ln.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() {
			s := soakSink{conn: conn, in: bufio.NewReaderSize(conn, 2<<10), up: soakStream{block: block}, down: soakStream{block: block, down: true}}
			s.serve()
			if s.report.client != "" {
				printing.Lock()
				defer printing.Unlock()
				fmt.Fprint(os.Stdout, s.report)
			}
		}()
	}
}

// narrow makes a socket one of an ordinary network. Loopback has segments of 64 KiB,
// and buffers of megabytes before anybody has to wait.
func narrow(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		const segment, buffer = 1400, 16 << 10
		err = errors.Join(syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, segment),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer))
	})
	return errors.Join(controlErr, err)
}

// soakSink is a broker's end of one session: it checks all that comes and answers
// each message with another, in order.
type soakSink struct {
	conn     net.Conn
	in       *bufio.Reader
	level    byte
	topic    []byte
	up, down soakStream
	report   soakReport
}

var errSoakOver = errors.New("asked to close")

func (s *soakSink) serve() {
	defer s.conn.Close()
	for {
		raw, err := readWhole(s.in)
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
			// A failure to write shows when reading: what came before counts.
			_, _ = s.conn.Write(answer)
		}
	}
}

// checkRest checks what came of a packet that was never completed.
func (s *soakSink) checkRest(part []byte) {
	if len(part) == 0 || packets.Type(part[0]>>4) != packets.PUBLISH {
		return
	}
	if _, _, err := s.up.checkPublish(part, s.level, soakPublish(s.topic, s.up.seq)); err != nil {
		s.report.fault = err.Error()
	}
}

func (s *soakSink) answer(raw []byte) ([]byte, error) {
	if s.report.bye && raw[0] != byte(packets.DISCONNECT)<<4 { // the proxy's own may follow
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
		s.report.bye = true
		return nil, nil
	}
	return nil, fmt.Errorf("%v of a device that sends none", packets.Type(raw[0]>>4))
}

func (s *soakSink) connect(raw []byte) ([]byte, error) {
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

func (s *soakSink) publish(raw []byte) (answer []byte, err error) {
	want := soakPublish(s.topic, s.up.seq)
	command, size, err := s.up.checkPublish(raw, s.level, want)
	if err != nil {
		return nil, err
	}
	s.report.up = s.up.seq
	if want.QoS == 1 {
		answer = (&packets.Ack{Type: packets.PUBACK, PacketID: want.PacketID}).Append(answer, s.level)
	}
	down := packets.Publish{Topic: soakDownTopic, Payload: s.down.next(soakPlain, 0, size)}
	answer = down.Append(answer, s.level)
	switch command {
	case soakPause:
		time.Sleep(time.Duration(500+s.up.session%1500) * time.Millisecond)
	case soakClose:
		err = errSoakOver
	}
	return answer, err
}

// close ends the connection as a broker does that has said all it had to say. A
// reset would let the device's system throw away what it has not read yet.
func (s *soakSink) close(last []byte) {
	if _, err := s.conn.Write(last); err != nil {
		return
	}
	_ = s.conn.(*net.TCPConn).CloseWrite()
	_ = s.conn.SetReadDeadline(time.Now().Add(harness.Patience))
	rest, _ := s.in.WriteTo(io.Discard)
	s.report.bytes += rest
	if rest > 4 { // a DISCONNECT may come
		s.report.fault = fmt.Sprintf("%d bytes after the last message", rest)
	}
}
