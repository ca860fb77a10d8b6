package service

import (
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/guard"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenhttp"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// tokenService is a token service with what stands before it: a look at the
// token's form, and a cache.
type tokenService struct {
	host    string // of its URL
	source  *tokenhttp.Source
	answers *cache.Cache
	form    *guard.Precheck
}

// newTokenService makes what c describes. passedOver hears of what the service's answers
// restrict and the proxy leaves to the broker; nil if it is not to be asked.
func newTokenService(c *config.HTTPSource, auth config.Auth, version string, passedOver func(path string)) (*tokenService, error) {
	o := httpOptions(c, version)
	o.OnPassedOver = passedOver
	source, err := tokenhttp.New(o)
	if err != nil {
		return nil, err
	}
	t := &tokenService{source: source}
	if u, err := url.Parse(c.URL); err == nil {
		t.host = u.Host
	}
	t.answers = cache.New(source, cacheOptions(c, auth.Cache, source.Parts()))
	t.form = guard.NewPrecheck(t.answers, tokenFormat(auth.Guard))
	return t, nil
}

// guardOptions are those of the guard before all sources. It remembers as many tokens
// as the caches do grants.
func guardOptions(auth config.Auth, offline authz.Authorizer) guard.Options {
	return guard.Options{
		Rate: float64(auth.Guard.Rate), Burst: auth.Guard.Burst, Exempt: prefixes(auth.Guard.Exempt),
		Tokens: auth.Cache.Size, Offline: offline,
	}
}

func (t *tokenService) close() {
	t.answers.Close()
	_ = t.source.Close()
}

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

func cacheOptions(c *config.HTTPSource, cc config.Cache, vary authz.Parts) cache.Options {
	return cache.Options{
		Source: c.URL,
		Vary:   vary,
		Size:   cc.Size, NegativeSize: cc.NegativeSize,
		TTL: orNone(cc.TTL), NegativeTTL: orNone(cc.NegativeTTL), Stale: orNone(cc.StaleIfError),
		RefreshAhead: cc.RefreshAhead,
		// The source has its own, and must be the one to give up.
		Timeout:     c.Timeout + time.Second,
		Concurrency: c.Concurrency,
	}
}

// orNone turns a zero that an operator wrote, "not at all", into what the
// libraries call that: they take zero for their default.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func tokenFormat(g config.Guard) guard.Format {
	f := guard.Format{MinLength: g.MinLength, MaxLength: g.MaxLength, Charset: g.Charset}
	if g.Checksum {
		f.Valid = tokenfile.WellFormed
	}
	if g.Prefix != "" {
		f.Prefixes = []string{g.Prefix}
	}
	return f
}

// prefixes parses networks that the config package has checked.
func prefixes(texts []string) []netip.Prefix {
	list := make([]netip.Prefix, 0, len(texts))
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// pairs splits texts at the first separator.
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
