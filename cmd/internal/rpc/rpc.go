// Package rpc serves calls of devices over HTTP, as ThingsBoard does ("server-side RPC"):
//
//	POST /api/rpc/twoway/{subject}   {"method":"getGpio","params":{"pin":7},"timeout":10000}
//	POST /api/rpc/oneway/{subject}   the same, without an answer of the device
//
// and the same below /api/plugins/rpc. The subject is the percent-encoded name of the device, which
// gets {"method":"getGpio","params":{"pin":7}}. The rest of the body says how long to wait:
//
//   - timeout is a number of milliseconds, 5,000 to 300,000, and 10,000 by default. Less is raised
//     to 5,000.
//   - expirationTime is the end of that time in milliseconds since 1970, and takes precedence.
//   - persistent must not be true, because calls cannot wait for a device to connect.
//
// Other fields are ignored, as ThingsBoard does. The answers are
//
//	200  the answer of the device, which is any JSON or empty; a one-way call has none
//	400  the body is at fault, or longer than 64 KiB (413)
//	404  the device has never been seen
//	406  the device has answered with something that is not JSON
//	429  too many calls wait for the device or for all devices, or it has not read or acknowledged
//	     what was sent to it before
//	502  the answer of the device has more than 64 KiB
//	504  no session of the device listens at this proxy, or the device has not answered in time
//
// with problem details (RFC 9457) for the errors. A caller that leaves ends its call.
package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

const (
	// maxBody is the longest body of a call in bytes.
	maxBody = 64 << 10

	defaultTimeout = 10 * time.Second
	minTimeout     = 5 * time.Second
	maxTimeout     = 5 * time.Minute
	// answerTimeout is how long a caller may take to read its answer.
	answerTimeout = 30 * time.Second
)

// Devices calls devices. All fields are required. They are called by many goroutines.
type Devices struct {
	// Call is the method of broker.Broker.
	Call func(ctx context.Context, device string, request []byte, oneWay bool) (answer []byte, err error)
	// Known reports whether a device that is not connected has ever been seen.
	Known func(ctx context.Context, device string) bool
	// Record keeps a record of a call. The outcome contains neither parameters nor answers.
	Record func(ctx context.Context, device, outcome string)
}

// Handler serves the paths of the package comment. Its callers are authenticated before.
func (d Devices) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, root := range []string{"/api/rpc/", "/api/plugins/rpc/"} {
		mux.HandleFunc(root+"oneway/{subject}", func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, true) })
		mux.HandleFunc(root+"twoway/{subject}", func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, false) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, http.StatusNotFound, "there is nothing at this path: send calls by POST to /api/rpc/oneway/NAME or /api/rpc/twoway/NAME")
	})
	return mux
}

// serve makes one call.
func (d Devices) serve(w http.ResponseWriter, r *http.Request, oneWay bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		problem.Write(w, http.StatusMethodNotAllowed, "only POST is served here")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		problem.Write(w, http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB")
		return
	case err != nil:
		problem.Write(w, http.StatusBadRequest, "the body did not arrive completely")
		return
	}
	c, err := parse(body, time.Now())
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	// The limits of the server for a request do not allow for the time that the device takes.
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // not supported is fine: then there is no limit
	_ = out.SetWriteDeadline(time.Now().Add(c.timeout + answerTimeout))
	d.call(w, r, c, oneWay)
}

// call makes one call and answers.
func (d Devices) call(w http.ResponseWriter, r *http.Request, c call, oneWay bool) {
	device, kind := r.PathValue("subject"), "two-way "
	if oneWay {
		kind = "one-way "
	}
	ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
	defer cancel()
	answer, err := d.Call(ctx, device, c.request, oneWay)
	if err == nil && len(answer) > 0 && !(utf8.Valid(answer) && json.Valid(answer)) {
		err = errNotJSON
	}
	if err == nil {
		d.Record(r.Context(), device, kind+c.method+": done")
		writeAnswer(w, answer)
		return
	}
	status, detail := d.describe(r.Context(), device, c, err)
	d.Record(r.Context(), device, kind+c.method+": "+detail)
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	problem.Write(w, status, detail)
}

// errNotJSON means that an answer cannot be passed on.
var errNotJSON = errors.New("the device has answered with something that is not JSON")

// describe returns the status of a call that has failed, and what to tell the caller.
func (d Devices) describe(ctx context.Context, device string, c call, err error) (status int, detail string) {
	switch {
	case errors.Is(err, broker.ErrNotListening) && !d.Known(ctx, device):
		return http.StatusNotFound, "no device with this name has been seen: name it by its subject, percent-encoded"
	case errors.Is(err, broker.ErrNotListening):
		return http.StatusGatewayTimeout, "the device is offline for calls: " + err.Error() + " at this proxy"
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, fmt.Sprintf("the device has not answered within %d ms", c.timeout.Milliseconds())
	case errors.Is(err, errNotJSON):
		return http.StatusNotAcceptable, err.Error()
	case errors.Is(err, broker.ErrTooManyCalls), errors.Is(err, broker.ErrNotReading):
		return http.StatusTooManyRequests, err.Error() + ": try again later"
	case errors.Is(err, broker.ErrLongAnswer):
		return http.StatusBadGateway, err.Error()
	case errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, "the caller has left" // and does not read this
	}
	return http.StatusServiceUnavailable, err.Error()
}

// writeAnswer passes the answer of a device on as it was sent.
func writeAnswer(w http.ResponseWriter, answer []byte) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if len(answer) > 0 {
		header.Set("Content-Type", "application/json")
	}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(answer) // it fails only if the caller has gone
}

// call is the body of a request.
type call struct {
	method  string
	request []byte // for the device
	timeout time.Duration
}

// parse reads the body of a request. The method and its parameters reach the device as they were
// written, without the white space between them. Errors do not contain parts of the body.
func parse(body []byte, now time.Time) (call, error) {
	var fields map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &fields) != nil || fields == nil {
		return call{}, errors.New(`the body is not a JSON object such as {"method":"getGpio","params":{}}`)
	}
	c := call{timeout: defaultTimeout}
	if json.Unmarshal(fields["method"], &c.method) != nil || c.method == "" {
		return call{}, errors.New("method: give the name of a method of the device as a text")
	}
	if fields["params"] == nil {
		return call{}, errors.New("params: give the parameters of the method, {} if it has none")
	}
	var persistent bool
	if value := fields["persistent"]; value != nil && json.Unmarshal(value, &persistent) != nil || persistent {
		return call{}, errors.New("persistent: only false is possible, because calls cannot wait for a device to connect: repeat the call")
	}
	if value := fields["timeout"]; value != nil && string(value) != "null" {
		ms, err := parseNumber(value)
		if err != nil {
			return call{}, errors.New("timeout: give a number of milliseconds from 5000 to 300000")
		}
		c.timeout = max(minTimeout, ms)
	}
	if value := fields["expirationTime"]; value != nil && string(value) != "null" {
		ms, err := parseNumber(value)
		if err != nil {
			return call{}, errors.New("expirationTime: give a time in milliseconds since 1970")
		}
		if c.timeout = time.UnixMilli(0).Add(ms).Sub(now); c.timeout <= 0 {
			return call{}, errors.New("expirationTime: it has passed")
		}
	}
	if c.timeout > maxTimeout {
		return call{}, errors.New("timeout: a call may wait for 300000 ms at most")
	}
	var request bytes.Buffer
	request.WriteString(`{"method":`)
	err := json.Compact(&request, fields["method"])
	request.WriteString(`,"params":`)
	err = errors.Join(err, json.Compact(&request, fields["params"]))
	request.WriteByte('}')
	c.request = request.Bytes()
	return c, err
}

// parseNumber reads a number of milliseconds, of which ThingsBoard ignores the fraction. It may be
// a text.
func parseNumber(value json.RawMessage) (time.Duration, error) {
	var n json.Number
	if err := json.Unmarshal(value, &n); err != nil {
		return 0, err
	}
	ms, err := n.Float64()
	if err != nil || ms < 0 || ms > 9e12 {
		return 0, errors.New("not a number of milliseconds")
	}
	return time.Duration(ms) * time.Millisecond, nil
}
