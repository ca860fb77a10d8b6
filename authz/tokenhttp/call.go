package tokenhttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
)

const (
	// maxBody is the largest answer in bytes.
	maxBody = 256 << 10
	// maxDrain is how many bytes of an unneeded body are read, so that its connection can be
	// reused.
	maxDrain = 64 << 10
	// retryWait is the pause before a second attempt, for a service that restarts.
	retryWait = 50 * time.Millisecond
)

// message is one request, ready to be sent any number of times.
type message struct {
	method, url string
	header      http.Header
	body        []byte
}

// exchange asks the service. Everything together may take s.timeout.
func (s *Source) exchange(ctx context.Context, m *message, r *authz.Request, c *Call) (decision, breaker.Report) {
	within, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	a, err := s.roundTrip(within, m, c)
	if err != nil {
		if ctx.Err() != nil {
			return decision{}, breaker.Report{Verdict: breaker.Abandoned, Err: ctx.Err()}
		}
		return decision{}, breaker.Report{Verdict: silence(err), Err: err}
	}
	d, err := s.reader.decide(a, r)
	if errors.Is(err, authz.ErrBusy) {
		c.Outcome = Busy
	}
	return d, breaker.Report{Verdict: a.verdict(err), Err: err, After: a.after}
}

// silence returns the verdict on an answer that could not be read.
func silence(err error) breaker.Verdict {
	if f, ok := errors.AsType[*fault](err); ok && f.blameless {
		return breaker.Answered
	}
	return breaker.Failing
}

// verdict returns what a shows about the service if err is why it decides nothing.
func (a *answer) verdict(err error) breaker.Verdict {
	switch {
	case a.status == http.StatusTooManyRequests && err != nil:
		return breaker.Throttled
	case err == nil, errors.Is(err, authz.ErrBusy): // by its reason_code
		return breaker.Decided
	case a.status >= 500:
		return breaker.Failing
	}
	return breaker.Answered
}

// roundTrip sends m and reads the answer. It tries a second time if the first request did not
// reach the service.
func (s *Source) roundTrip(ctx context.Context, m *message, c *Call) (answer, error) {
	response, err := s.send(ctx, m)
	if err != nil && retryable(err) {
		// Idle connections may lead to an address that the name no longer has.
		s.transport.CloseIdleConnections()
		if wait(ctx, retryWait) {
			c.Retried = true
			response, err = s.send(ctx, m)
		}
	}
	if err != nil {
		s.transport.CloseIdleConnections()
		return answer{}, transportFault(err)
	}
	defer func() { _ = response.Body.Close() }()
	c.Status = response.StatusCode
	a := answer{
		status:      response.StatusCode,
		contentType: response.Header.Get("Content-Type"),
		received:    time.Now(),
	}
	if !s.ignoreCacheControl {
		a.keep = keepOf(response.Header)
	}
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		a.after = retryAfter(response.Header, a.received)
	}
	a.body, err = s.readBody(response)
	return a, err
}

// wait reports false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// send sends m. It uses the transport and not an http.Client, which would follow redirects and
// put the URL into errors.
func (s *Source) send(ctx context.Context, m *message) (*http.Response, error) {
	var body io.Reader
	if m.body != nil {
		body = bytes.NewReader(m.body)
	}
	q, err := http.NewRequestWithContext(ctx, m.method, m.url, body)
	if err != nil {
		return nil, errors.New("the URL is not valid")
	}
	q.Header = m.header.Clone()
	return s.transport.RoundTrip(q)
}

// readBody reads the body if it may decide. Otherwise it reads enough to reuse the connection.
func (s *Source) readBody(response *http.Response) ([]byte, error) {
	if _, read := s.reader.byStatus(response.StatusCode); !read {
		_, _ = io.CopyN(io.Discard, response.Body, maxDrain)
		return nil, nil
	}
	// No content coding was requested, and decoding would bypass the size limit.
	if coding := response.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &fault{err: errors.New("its answer is compressed, although that was not requested"), blameless: true}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, transportFault(err)
	case len(body) > maxBody:
		return nil, &fault{err: errors.New("its answer is larger than 256 KiB"), blameless: true}
	}
	return body, nil
}
