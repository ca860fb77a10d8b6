package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
)

const (
	// maxHead is the size of the largest request, in bytes. It leaves room for cookies and
	// tokens.
	maxHead = 16 << 10
	// firstRead is the size of the first read, in bytes. Most requests fit into it.
	firstRead = 2 << 10
	// maxFields bounds the number of header fields, because each needs more memory than its
	// bytes.
	maxFields = 100
)

var headEnd = []byte("\r\n\r\n")

// readRequest reads one request that has no body.
func readRequest(r io.Reader) (*http.Request, error) {
	head, err := readHead(r)
	if err != nil {
		return nil, err
	}
	if bytes.Count(head, headEnd[:2]) > maxFields+2 {
		return nil, &StatusError{Status: http.StatusRequestHeaderFieldsTooLarge, Text: "the request has too many header fields"}
	}
	request, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	if err != nil {
		return nil, badRequest("this is no HTTP request that can be read")
	}
	return request, nil
}

// readHead reads up to the empty line. A client must wait for the answer before it sends
// anything else (RFC 6455 section 4.1), so further bytes are refused.
func readHead(r io.Reader) ([]byte, error) {
	head := make([]byte, 0, firstRead)
	for {
		n, err := r.Read(head[len(head):cap(head)])
		if n > 0 && len(head) == 0 && !isLetter(head[:1][0]) {
			return nil, ErrNotHTTP
		}
		searched := max(0, len(head)-len(headEnd)+1)
		head = head[:len(head)+n]
		switch end := bytes.Index(head[searched:], headEnd); {
		case end >= 0 && searched+end+len(headEnd) < len(head):
			return nil, badRequest("nothing may follow the request before its answer")
		case end >= 0:
			return head, nil
		case err != nil && errors.Is(err, io.EOF) && len(head) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case len(head) == maxHead:
			return nil, &StatusError{Status: http.StatusRequestHeaderFieldsTooLarge, Text: "the request is too large"}
		case len(head) == cap(head):
			head = append(make([]byte, 0, min(2*cap(head), maxHead)), head...)
		}
	}
}

// isLetter reports whether a method can begin with b. No MQTT packet and no TLS record begins
// with a letter.
func isLetter(b byte) bool { return 'A' <= b && b <= 'Z' }
