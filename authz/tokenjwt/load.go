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

// maxContent is the maximum size in bytes of a file or answer.
const maxContent = 256 << 10

// document is what was read from the place of the keys.
type document struct {
	content []byte
	maxAge  time.Duration // how long it stays fresh; 0 if that is not known
}

// loader reads the keys from their place.
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
		// The keys are read so rarely that an idle connection would be useless.
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

// withoutURL removes the URL from an error, because its query may contain a secret.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// maxAge returns how long an answer stays fresh, at most a day, or 0 if that is not known. A
// header that forbids storing is ignored: frameworks add it to every answer, and it is meant
// for caches.
func maxAge(h http.Header) time.Duration {
	c := freshness.Of(h)
	if c.NoStore || c.MaxAge <= 0 {
		return 0
	}
	// If the answer is older than that, the keys are due at once.
	return min(max(c.MaxAge-c.Age, time.Nanosecond), 24*time.Hour)
}
