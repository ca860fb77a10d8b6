package tokenjwt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/freshness"
)

// maxContent is the size in bytes of the largest file or answer that is read.
const maxContent = 256 << 10

// document is what was read from the place of the keys.
type document struct {
	content []byte
	maxAge  time.Duration // how long it holds; 0 if it is not given
}

// loader reads the place of the keys.
type loader func(ctx context.Context) (document, error)

func (o *Options) loader() loader {
	if o.Keys.URL != "" {
		return fromURL(o.Keys.URL, o.TLS)
	}
	return fromFile(o.Keys.File + o.Keys.PEM + o.Keys.Secret) // one of them is set
}

func fromFile(path string) loader {
	return func(context.Context) (document, error) {
		content, _, err := files.Read(path, maxContent)
		return document{content: content}, err
	}
}

func readAll(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxContent+1))
	if err == nil && len(content) > maxContent {
		err = fmt.Errorf("more than %d bytes", maxContent)
	}
	return content, err
}

func fromURL(address string, files TLSFiles) loader {
	return func(ctx context.Context) (document, error) {
		// Readings are seldom, so that none has a use for the connection of another.
		transport, err := files.transport()
		if err != nil {
			return document{}, err
		}
		client := &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return document{}, errors.New("not a valid URL")
		}
		request.Header.Set("Accept", "application/jwk-set+json, application/json")
		request.Header.Set("User-Agent", "mqtt-auth-proxy")
		response, err := client.Do(request)
		if err != nil {
			return document{}, withoutURL(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return document{}, fmt.Errorf("the answer is %d %s, want 200", response.StatusCode, http.StatusText(response.StatusCode))
		}
		content, err := readAll(response.Body)
		return document{content: content, maxAge: maxAge(response.Header)}, err
	}
}

// withoutURL takes the URL out of an error: its query may hold a secret.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// maxAge returns how long an answer holds, at most a day, and 0 if that is not given. A
// header that forbids storing does not count as a time: frameworks put it on every
// answer, and it is about caches.
func maxAge(h http.Header) time.Duration {
	c := freshness.Of(h)
	if c.NoStore || c.MaxAge <= 0 {
		return 0
	}
	// What has been on the way for longer than it holds is due at once.
	return min(max(c.MaxAge-c.Age, time.Nanosecond), 24*time.Hour)
}
