package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page"
)

// adminSide is the admin part of one configuration. The HTTP server behind it lasts as long as
// the service.
type adminSide struct {
	socket     *socket       // nil if there is none
	identity   *certificates // nil without TLS
	access     admin.Access
	pushSecret string
	inputs     inputs // the files of the tokens and the secret
}

// openAdmin opens the socket of the admin side, if the configuration has one, and reads its
// tokens and its secret.
func openAdmin(c *config.Config, old *generation, bind binder) (side adminSide, err error) {
	side.inputs = inputs{}
	side.access = admin.Access{Address: c.Admin.Address, Hosts: c.Admin.Hosts}
	if c.Admin.Address == "" {
		return side, nil
	}
	if side.socket = old.admin.socket; side.socket == nil || c.Admin.Address != old.config.Admin.Address {
		inner, err := bind.listen(c.Admin.Address, false)
		if err != nil {
			return adminSide{}, faultAt(c, "admin.address", err)
		}
		side.socket = &socket{Listener: &securedListener{Listener: inner}, label: "admin"}
	}
	if err := side.secure(c, old); err != nil {
		return side, faultAt(c, "admin.tls", err)
	}
	if err := side.readTokens(c, old); err != nil {
		return side, err
	}
	side.inputs.add(c.Admin.PushSecretFile)
	if side.pushSecret, err = sharedSecret(c.Admin.PushSecretFile); err != nil {
		return side, faultAt(c, "admin.push_secret_file", err)
	}
	return side, nil
}

// secure loads the certificate of the admin side, or takes over that of old if the configuration
// of it is the same.
func (a *adminSide) secure(c *config.Config, old *generation) (err error) {
	t := adminTLS(c)
	switch {
	case t == nil:
		return nil
	case old.admin.identity != nil && *old.config.Admin.TLS == *c.Admin.TLS:
		a.identity = old.admin.identity
	default:
		if a.identity, err = openCertificates(t, ownAuthority(c), []string{"http/1.1"}); err != nil {
			return err
		}
	}
	a.access.Certificates = a.identity.source.Leaves
	return nil
}

// adminTLS returns admin.tls as the section of a listener, or nil.
func adminTLS(c *config.Config) *config.ListenerTLS {
	t := c.Admin.TLS
	if t == nil || c.Admin.Address == "" {
		return nil
	}
	return &config.ListenerTLS{Auto: t.Auto, Certificate: t.Certificate, Key: t.Key, MinVersion: t.MinVersion, ClientAuth: "none"}
}

// AdminCertificate returns the path of the certificate of the admin side, or "" without TLS.
func AdminCertificate(c *config.Config) string {
	switch t := adminTLS(c); {
	case t == nil:
		return ""
	case t.Auto:
		return ownAuthority(c).Files().Certificate
	default:
		return t.Certificate
	}
}

// update makes the socket use TLS, or not, for connections accepted from now on.
func (a *adminSide) update() {
	if a.socket == nil {
		return
	}
	var config *tls.Config
	if a.identity != nil {
		config = a.identity.tls
	}
	a.socket.Listener.(*securedListener).config.Store(config)
}

// securedListener is a listener that can begin or cease to use TLS while it accepts connections.
type securedListener struct {
	net.Listener
	config atomic.Pointer[tls.Config] // nil without TLS
}

// Accept implements net.Listener. It does no handshake.
func (l *securedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if config := l.config.Load(); err == nil && config != nil {
		return tls.Server(nc, config), nil
	}
	return nc, err
}

// tokenFile is the file with the token of a role of the admin side.
type tokenFile struct {
	role      admin.Role
	key, path string
}

// adminTokenFiles returns the token files of a configuration.
func adminTokenFiles(c *config.Config) []tokenFile {
	all := []tokenFile{
		{admin.Operate, "admin.token_file", c.Admin.TokenFile},
		{admin.Read, "admin.read_token_file", c.Admin.ReadTokenFile},
		{admin.Metrics, "admin.metrics_token_file", c.Admin.MetricsTokenFile},
	}
	return slices.DeleteFunc(all, func(f tokenFile) bool { return f.path == "" })
}

// readTokens reads the tokens of the roles. No two roles may have the same.
func (a *adminSide) readTokens(c *config.Config, old *generation) error {
	a.access.Tokens = admin.Tokens{}
	before := adminTokenFiles(old.config)
	keys := map[string]string{} // by token
	for _, f := range adminTokenFiles(c) {
		existed := slices.Contains(before, f) && old.admin.access.Tokens[f.role] != ""
		token, err := a.readToken(f.path, existed)
		if first := keys[token]; err == nil && first != "" {
			err = fmt.Errorf("%s has the same token as the file of %s; give each role its own, or remove the file to have a new one made", f.path, first)
		}
		if err != nil {
			return faultAt(c, f.key, err)
		}
		a.access.Tokens[f.role], keys[token] = token, f.key
	}
	return nil
}

// readToken reads a token, or creates it if there has never been one. A file that existed and is
// missing now is most likely about to be replaced: a token created at that moment would lock out
// everyone who has the old one.
func (a *adminSide) readToken(path string, existed bool) (token string, err error) {
	a.inputs.add(path)
	if _, err := os.Stat(path); err != nil && existed {
		return "", fmt.Errorf("%w; restore the file, or restart the program, which makes a new one", err)
	}
	token, err = admin.EnsureToken(path)
	if a.inputs[path] == (inputs{})[path] {
		a.inputs.add(path) // it has just been made
	}
	return token, err
}

// minSecret is the length of the shortest secret that is accepted, in bytes.
const minSecret = 32

// sharedSecret reads a secret that the proxy shares with others: the one with which token services
// sign pushes, or that of the bus. Without a file it is empty.
func sharedSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, _, err := files.Read(path, admin.MaxSecret)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if len(secret) < minSecret {
		return "", fmt.Errorf("%s: %d bytes are too few, use %d or more", path, len(secret), minSecret)
	}
	return secret, nil
}

// openHTTP makes the HTTP server of the admin side, which serves all generations. What waits for
// devices ends with ctx.
func (s *Service) openHTTP(ctx context.Context) {
	api := s.api()
	shown := page.Options{API: api, History: &s.history, Listeners: s.listenersOfPage, Panicked: s.observer.TaskPanicked("page")}
	if s.bundled != nil {
		shown.Telemetry = s.bundled.store
	}
	s.page = page.New(shown)
	s.http = admin.NewServer(s.adminOptions(ctx, api))
}

// adminOptions returns the parts of the admin side.
func (s *Service) adminOptions(ctx context.Context, api *admin.API) admin.Options {
	options := admin.Options{
		Access:     func() *admin.Access { return &s.current.Load().admin.access },
		PushSecret: func() string { return s.current.Load().admin.pushSecret },
		Ready:      s.ready,
		Degraded:   s.degraded,
		WrongSignIn: func(address string) {
			s.Log.Warn("a wrong token at the sign-in of the admin side", zap.String("addr", address))
		},
		Metrics:     promhttp.HandlerFor(s.observer.Metrics(), promhttp.HandlerOpts{}),
		API:         api,
		Page:        s.page.Routes(),
		Connections: limitAdmin(),
	}
	if s.bundled != nil {
		options.Telemetry = s.bundled.api()
		options.RPC = s.rpc(ctx)
	}
	return options
}

// api returns what the admin side can do with the service.
func (s *Service) api() *admin.API {
	return &admin.API{
		Status:      s.status,
		Devices:     s.presence.Devices,
		Sessions:    s.server.Sessions,
		Refusals:    s.observer.Refusals(),
		Kick:        s.server.Kick,
		Withdraw:    s.withdraw,
		KickSubject: s.kickSubject,
		Save:        s.denials.Save,
		Purge:       s.purgeAll,
		Drain:       s.drainBroker,
		Reload:      func(ctx context.Context) error { return s.reloader.now(ctx, s, "admin") },
		Audit:       &s.audit,
		Tokens:      s.tokenStores,
		TokensSeen:  s.presence.TokensSeen,
	}
}

// logChange logs what an operator or a token service has done. Only operators are trusted not to
// flood the log.
func (s *Service) logChange(c admin.Change) {
	log := s.Log.Changes
	if c.By == "push" || c.By == admin.Read.String() {
		log = s.Log.Logger
	}
	var fields []zap.Field
	for _, f := range [][2]string{{"by", c.By}, {"addr", c.Address}, {"action", c.Action}, {"object", c.Object}, {"outcome", c.Outcome}} {
		if f[1] != "" {
			fields = append(fields, zap.String(f[0], f[1]))
		}
	}
	log.Info("change", fields...)
}

// purge makes the sources forget all answers and returns their number.
func (s *Service) purge() int {
	s.swap.RLock()
	defer s.swap.RUnlock()
	return s.current.Load().sources.purge()
}
