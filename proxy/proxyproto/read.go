package proxyproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Read reads one header from r, and not a byte beyond it. It refuses a first byte that cannot
// begin a header without waiting for a second.
//
// The error is [io.EOF] if r ends before the first byte, [ErrNoHeader] if r does not begin with
// a header, an error that wraps [ErrMalformed] if the header is invalid, [io.ErrUnexpectedEOF]
// if it is truncated, and otherwise the error of r. After an error r cannot be used any
// further.
func Read(r io.Reader) (*Header, error) {
	var head [fixedSize]byte
	if err := readSignature(r, head[:len(signature)]); err != nil {
		return nil, err
	}
	if head[0] == prefix[0] {
		return readLine(r, head[:len(signature)])
	}
	if err := readRest(r, head[len(signature):]); err != nil {
		return nil, err
	}
	return readBody(r, head)
}

// readSignature fills b with the part of a header that has the same length in all versions.
func readSignature(r io.Reader, b []byte) error {
	for n := 0; n < len(b); {
		m, err := r.Read(b[n:])
		n += m
		if begun := string(b[:n]); !strings.HasPrefix(signature, begun) && !strings.HasPrefix(prefix, begun) && !strings.HasPrefix(begun, prefix) {
			return ErrNoHeader
		}
		if err != nil && n < len(b) {
			return cutOff(err, n)
		}
	}
	return nil
}

// cutOff returns the error for a header that ended after n bytes.
func cutOff(err error, n int) error {
	if errors.Is(err, io.EOF) && n > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

func readRest(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return cutOff(err, 1)
}

// readLine reads the rest of a header of version 1. Its length is known only at its end, so the
// last part is read byte by byte.
func readLine(r io.Reader, begun []byte) (*Header, error) {
	line := append(make([]byte, 0, maxLine), begun...)
	for !strings.HasSuffix(string(line), "\r\n") {
		if len(line) == maxLine {
			return nil, malformed("the line has no end within %d bytes", maxLine)
		}
		line = line[:len(line)+1]
		if err := readRest(r, line[len(line)-1:]); err != nil {
			return nil, err
		}
	}
	return parseLine(string(line[:len(line)-2]))
}

// readBody reads the rest of a header of version 2.
func readBody(r io.Reader, head [fixedSize]byte) (*Header, error) {
	verCmd, size := head[12], int(binary.BigEndian.Uint16(head[14:]))
	switch {
	case verCmd&versionMask != version2:
		return nil, malformed("version %d", verCmd>>4)
	case verCmd&^versionMask > cmdProxy:
		return nil, malformed("command %d", verCmd&^versionMask)
	case size > maxBody:
		return nil, malformed("it has %d bytes, at most %d are allowed", size, maxBody)
	}
	raw := append(make([]byte, 0, fixedSize+size), head[:]...)[:fixedSize+size]
	if err := readRest(r, raw[fixedSize:]); err != nil {
		return nil, err
	}
	// The addresses in a LOCAL header must be ignored (section 2.2).
	if verCmd&^versionMask == cmdLocal {
		return &Header{Local: true}, nil
	}
	return parseBody(raw)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
