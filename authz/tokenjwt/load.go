package tokenjwt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// maxContent is the size in bytes of the largest file or answer that is read.
const maxContent = 256 << 10

// document is what was read from the place of the keys.
type document struct {
	content []byte
	maxAge  time.Duration // how long it holds; 0 if nothing was said
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

// maxAge returns how long an answer holds by its Cache-Control and Age (RFC 9111
// sections 4.2 and 5.2.2.1), 0 if it does not say. Answers that must not be stored
// do not say either: such headers are put on everything, and are about caches.
func maxAge(h http.Header) time.Duration {
	var seconds int64
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			seconds = secondsOf(value)
		}
	}
	if seconds == 0 {
		return 0
	}
	// What has been on the way for longer than it holds is due at once.
	return max(time.Duration(seconds-secondsOf(h.Get("Age")))*time.Second, time.Nanosecond)
}

// secondsOf returns a time in seconds, 0 if text is none, and a day at most.
func secondsOf(text string) int64 {
	const day = 24 * 60 * 60
	text = strings.Trim(text, `"`)
	if strings.Trim(text, "0123456789") != "" {
		return 0 // ParseUint looks no further once there are too many digits
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		return day
	}
	return int64(min(n, day))
}
