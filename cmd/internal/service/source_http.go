package service

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenhttp"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// httpSource is a token service.
type httpSource struct {
	*tokenhttp.Source
	config *config.HTTPSource
	log    *zap.Logger
}

// newHTTPSource makes the token service that c describes, behind a cache.
func newHTTPSource(c *config.HTTPSource, whole *config.Config, version string, in inputs) (source, error) {
	in.add(c.TLS.CA)
	h := &httpSource{config: c}
	o := httpOptions(c, version)
	o.OnPassedOver = h.logPassedOver
	var err error
	if h.Source, err = tokenhttp.New(o); err != nil {
		return nil, err
	}
	username, password := slices.Index(whole.Token.From, "username"), slices.Index(whole.Token.From, "password")
	if h.NeedsUsername() && username >= 0 && (password < 0 || username < password) {
		return nil, fmt.Errorf("preset %s asks with a user name and a password, but by token.from the user name is the token, "+
			"so that none would be left to ask with; set token.from: [password], or write a body that contains ${token}", c.Preset)
	}
	return cached(h, whole.Auth, cache.Options{
		Source: c.URL,
		Vary:   h.Parts(),
		// The service's own timeout must be shorter, so that its error is the answer.
		Timeout:     c.Timeout + time.Second,
		Concurrency: c.Concurrency,
	}), nil
}

// Takes implements source. A preset that asks with a user name and a password gets those that
// are not the token.
func (h *httpSource) Takes() authz.Credentials { return authz.Tokens }

// Open implements source. Connections are opened when they are needed.
func (h *httpSource) Open(_ context.Context, env sourceEnv) error {
	h.log = env.log.Logger
	return nil
}

// Reload implements source. The files of the credential are read when they are used.
func (h *httpSource) Reload(context.Context) error { return nil }

// Fault implements source: it returns which files with the proxy's own credential for the
// service are not in effect.
func (h *httpSource) Fault() error { return h.Stats().Credential }

// Close implements source.
func (h *httpSource) Close() { _ = h.Source.Close() }

// Health implements monitored.
func (h *httpSource) Health() (up bool, since time.Time, err error) {
	since, err = h.Down()
	return err == nil, since, err
}

// Host implements hosted.
func (h *httpSource) Host() string {
	u, err := url.Parse(h.config.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// logPassedOver logs restrictions in the service's answers that the proxy does not enforce.
func (h *httpSource) logPassedOver(path string) {
	h.log.Warn("a token service restricts devices in a way that only the broker can enforce; configure the broker to do so",
		zap.String("preset", h.config.Preset), zap.String("field", path))
}

// Collect implements source.
func (h *httpSource) Collect(m observe.SourceMetrics) { m.TokenService(h.Stats()) }

func httpOptions(c *config.HTTPSource, version string) tokenhttp.Options {
	return tokenhttp.Options{
		URL: c.URL, Preset: c.Preset, Method: c.Method, Format: c.Format, Body: c.Body,
		Headers:     pairs(c.Headers, ":"),
		AllowStatus: c.AllowStatus, DenyStatus: c.DenyStatus,
		Fields: pairs(c.Fields, "="), Require: pairs(c.Require, "="),
		BearerFile: c.BearerFile, BasicFile: c.BasicFile, SecretFile: c.SecretFile,
		CertificateFile: c.TLS.Certificate, KeyFile: c.TLS.Key, CAFile: c.TLS.CA, ServerName: c.TLS.ServerName,
		Timeout:              c.Timeout,
		ProxyFromEnvironment: c.ProxyFromEnvironment,
		IgnoreCacheControl:   c.IgnoreCacheControl,
		UserAgent:            "mqtt-auth-proxy/" + version,
	}
}

// pairs splits each text at the first separator.
func pairs(texts []string, separator string) map[string]string {
	if len(texts) == 0 {
		return nil
	}
	m := make(map[string]string, len(texts))
	for _, t := range texts {
		name, value, _ := strings.Cut(t, separator)
		m[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return m
}
