package hooks

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Target is where events go. It must not change after it was passed to [Sender.Set].
type Target struct {
	// URL is that of the receiver, http:// or https://.
	URL string
	// Secret is what requests are signed with.
	Secret []byte
	// Events are the names of the events that are sent.
	Events []string
	// TLS configures https://; nil means that the CAs of the system are trusted.
	TLS *tls.Config
	// UserAgent is the name of the program.
	UserAgent string
	// Transport, if set, sends the requests, instead of one that TLS configures.
	Transport http.RoundTripper

	client *http.Client
}

const (
	// requestTimeout limits one request.
	requestTimeout = 10 * time.Second
	// maxAnswer is how much of an answer is read, so that the connection can be used again.
	maxAnswer = 64 << 10
)

// open makes the client.
func (t *Target) open() {
	transport := t.Transport
	if transport == nil {
		transport = &http.Transport{
			TLSClientConfig: t.TLS, TLSHandshakeTimeout: requestTimeout / 2, DisableCompression: true,
			MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: maxAnswer,
		}
	}
	t.client = &http.Client{
		Transport: transport, Timeout: requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (t *Target) wants(event string) bool { return slices.Contains(t.Events, event) }

func (t *Target) closeIdle() { t.client.CloseIdleConnections() }

// Try connects to the receiver, with TLS if its URL has https://, and sends no request. It may be
// called before or without [Sender.Set].
func (t *Target) Try(ctx context.Context) error {
	u, err := url.Parse(t.URL)
	if err != nil {
		return errors.New("not a valid URL")
	}
	secured := u.Scheme == "https"
	port := "80"
	if secured {
		port = "443"
	}
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)))
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	if !secured {
		return nil
	}
	conf := &tls.Config{}
	if t.TLS != nil {
		conf = t.TLS.Clone()
	}
	conf.ServerName = cmp.Or(conf.ServerName, u.Hostname())
	return tls.Client(nc, conf).HandshakeContext(ctx)
}

// post sends a batch once. Its error is an answer or a fault of the network.
func (t *Target) post(ctx context.Context, b *batch) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(b.body))
	if err != nil {
		return errors.New("not a valid URL")
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", t.UserAgent)
	r.Header.Set("X-Timestamp", stamp)
	r.Header.Set("X-Signature", sign(t.Secret, stamp, b.body))
	r.Header.Set("X-Delivery", b.id)
	resp, err := t.client.Do(r)
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err // without the URL, whose query may have a secret
	} else if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // the status says all
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return nil
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return &answer{status: resp.StatusCode, after: time.Duration(max(0, min(seconds, int(longestPause/time.Second)))) * time.Second}
}

// sign returns the signature of a request, in the form of POST /v1/push.
func sign(secret []byte, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return "hmac-sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// answer is an answer that is not 2xx.
type answer struct {
	status int
	after  time.Duration // that the receiver wants to wait
}

func (a *answer) Error() string {
	text := fmt.Sprintf("the receiver answers %d %s", a.status, http.StatusText(a.status))
	switch {
	case a.status >= 300 && a.status <= 399:
		text += ", and redirects are not followed: correct hooks.url"
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		text += ": compare the secret in hooks.secret_file, and the clocks"
	}
	return text
}

// retry reports whether a batch is sent again after err, and after which time.
func retry(err error, pause time.Duration) (wait time.Duration, again bool) {
	if err == nil {
		return 0, false
	}
	// The pause is random, so that several proxies with one receiver do not all try again at once.
	wait = pause/2 + rand.N(pause/2+1)
	a, ok := errors.AsType[*answer](err)
	if !ok {
		return wait, true
	}
	switch a.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return max(wait, a.after), true
	}
	return max(wait, a.after), a.status < 400 || a.status >= 500
}
