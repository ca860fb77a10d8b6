package tokenhttp

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/clienttls"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
)

// Options name the service, and describe its requests and answers. Only URL is required; empty
// fields have the defaults of Preset.
type Options struct {
	// URL is the address of the service: http or https, with variables in path and query.
	URL string
	// Preset is one of [Presets]; empty means native.
	Preset string
	// Method is GET, HEAD, POST or PUT.
	Method string
	// Format is the format of the request body: json, form, query (a form in the URL) or none.
	// GET and HEAD allow query and none.
	Format string
	// Body is the template of the body in that format.
	Body string
	// Headers are further headers, whose values are templates.
	Headers map[string]string

	// AllowStatus and DenyStatus list status codes that decide regardless of the body.
	AllowStatus, DenyStatus []int
	// Fields maps fields of the native answer to their paths in the answers of this service:
	// {"subject": "ext.device"}. An empty path disables a field.
	Fields map[string]string
	// Require maps paths in the answer to a value that must be there, or in the list at that
	// path, or among the words of scope: {"iss": "https://login.example"}. Otherwise an answer
	// that allows is a denial.
	Require map[string]string

	// BearerFile and BasicFile contain the proxy's own credential for the service: a token, or
	// user:password. SecretFile contains the value of ${secret}.
	BearerFile, BasicFile, SecretFile string
	// CertificateFile and KeyFile are the proxy's client certificate, in PEM. CAFile has the
	// authorities for the service's certificate; empty means those of the system.
	CertificateFile, KeyFile, CAFile string
	// ServerName is the name in the service's certificate; empty means the host of URL.
	ServerName string

	// Timeout limits one question, including a second attempt; zero means 3 s. Connecting takes
	// at most one second of it.
	Timeout time.Duration
	// ProxyFromEnvironment uses the HTTP proxy from the environment.
	ProxyFromEnvironment bool
	// IgnoreCacheControl ignores the headers about reuse, so that only the fields of the answer
	// count. It is for services whose framework always forbids reuse.
	IgnoreCacheControl bool
	// UserAgent is the header of that name; empty means mqtt-auth-proxy.
	UserAgent string

	// OnCall is called after every question, on the goroutine that asked it.
	OnCall func(Call)
	// OnPassedOver is called once for each field of answers, with its path, that restricts a
	// device and that the proxy leaves to the broker, such as modifiers.max_inflight_messages
	// of VerneMQ.
	OnPassedOver func(path string)
}

// withDefaults returns o with defaults in place of zero values, except for defaults that depend
// on the preset.
func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 3*time.Second)
	o.UserAgent = cmp.Or(o.UserAgent, "mqtt-auth-proxy")
	return o
}

// New returns the Source that o describes. The error names every wrong option, in the form
// "url: what is wrong", one per line, and contains no secret.
func New(o Options) (*Source, error) {
	o = o.withDefaults()
	p, ok := presetNamed(o.Preset)
	if !ok {
		return nil, fmt.Errorf("preset: unknown; there are %s", strings.Join(Presets(), ", "))
	}
	s := &Source{
		timeout:            o.Timeout,
		ignoreCacheControl: o.IgnoreCacheControl,
		onCall:             o.OnCall,
		onPassedOver:       o.OnPassedOver,
	}
	s.breaker = breaker.New(s.timeout)
	builder, err := o.compile(&p)
	if err != nil {
		return nil, err
	}
	s.builder = *builder
	s.reader = o.reader(p, builder)
	if err := errors.Join(o.checkAnswers(&p), s.openFiles(&o)); err != nil {
		return nil, err
	}
	return s, nil
}

func (o *Options) reader(p preset, a *requestBuilder) reader {
	fields := make(map[string]string)
	for name, path := range p.fields {
		fields[name] = path
	}
	for name, path := range o.Fields {
		fields[name] = path
		if path == "" {
			delete(fields, name)
		}
	}
	p.fields = fields
	return reader{
		preset: p, allowStatus: o.AllowStatus, denyStatus: o.DenyStatus,
		require: o.Require, deviceAuth: a.deviceAuth, vars: a.vars, pair: p.pair && a.pair,
	}
}

// checkAnswers checks the options about the meaning of answers.
func (o *Options) checkAnswers(p *preset) error {
	var faults []error
	for _, status := range slices.Concat(o.AllowStatus, o.DenyStatus) {
		switch {
		case status < 200 || status > 599:
			faults = append(faults, fmt.Errorf("allow_status, deny_status: %d is no final status code", status))
		case slices.Contains(o.AllowStatus, status) && slices.Contains(o.DenyStatus, status):
			faults = append(faults, fmt.Errorf("allow_status, deny_status: %d is in both", status))
		}
	}
	for name := range o.Fields {
		if !slices.Contains(fieldNames(), name) {
			faults = append(faults, fmt.Errorf("fields: %s is no field; there are %s", name, strings.Join(fieldNames(), ", ")))
		}
	}
	if p.answers&(jsonAnswer|formAnswer) == 0 && len(o.Fields)+len(o.Require) > 0 {
		faults = append(faults, errors.New("fields, require: the answers of this preset have no fields"))
	}
	if len(o.Require) > 0 && len(o.AllowStatus) > 0 {
		faults = append(faults, errors.New("require, allow_status: a status that allows would bypass the required fields"))
	}
	if o.Timeout < 0 {
		faults = append(faults, errors.New("timeout: negative"))
	}
	return errors.Join(faults...)
}

// openFiles reads the files of the credential and makes the transport.
func (s *Source) openFiles(o *Options) error {
	var faults []error
	open := func(key, path string, parse func([][]byte) (string, error)) *files.Watched[string] {
		if path == "" {
			return nil
		}
		w, err := watch(parse, path)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
		return w
	}
	s.bearer = open("bearer_file", o.BearerFile, bearerText)
	s.basic = open("basic_file", o.BasicFile, basicText)
	s.secret = open("secret_file", o.SecretFile, secretText)
	if s.secret == nil && s.builder.secret {
		faults = append(faults, errors.New("secret_file: missing, and ${secret} is used"))
	}
	own := 0
	for _, set := range []bool{o.BearerFile != "", o.BasicFile != "", s.builder.authorization} {
		if set {
			own++
		}
	}
	if own > 1 {
		faults = append(faults, errors.New("bearer_file, basic_file, headers: Authorization is set more than once"))
	}
	conf, err := s.tlsConfig(o)
	if err != nil {
		faults = append(faults, err)
	}
	s.transport = newTransport(conf, o.ProxyFromEnvironment)
	return errors.Join(faults...)
}

func (s *Source) tlsConfig(o *Options) (*tls.Config, error) {
	conf := &tls.Config{ServerName: o.ServerName, MinVersion: clienttls.MinVersion}
	if o.CAFile != "" {
		text, _, err := files.Read(o.CAFile, maxFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		if conf.RootCAs, err = clienttls.Roots(text); err != nil {
			return nil, fmt.Errorf("tls.ca: %s: %w", o.CAFile, err)
		}
	}
	if o.CertificateFile == "" && o.KeyFile == "" {
		return conf, nil
	}
	if o.CertificateFile == "" || o.KeyFile == "" {
		return nil, errors.New("tls.certificate, tls.key: one without the other")
	}
	pair, err := watch(keyPair, o.CertificateFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate, tls.key: %w", err)
	}
	s.pair = pair
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		// A fault is in Stats; the last valid pair is probably still accepted.
		c, _ := pair.Get()
		return c, nil
	}
	return conf, nil
}

const (
	connectTimeout = time.Second
	// idleTimeout closes connections, so that the name is resolved again.
	idleTimeout = 30 * time.Second
	// idleConns is the number of idle connections that are kept; caches send up to 64 requests
	// at once.
	idleConns = 64
	// maxAnswerHeader is in bytes.
	maxAnswerHeader = 64 << 10
)

// newTransport returns a transport that uses only HTTP/1.1: there, a call that times out closes
// its connection, while HTTP/2 would keep using a dead one.
func newTransport(conf *tls.Config, proxy bool) *http.Transport {
	t := &http.Transport{
		DialContext:            dialer(),
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    2 * connectTimeout,
		DisableCompression:     true, // decompression would bypass the size limit
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	if proxy {
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}
