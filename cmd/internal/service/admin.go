package service

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// adminSide is the admin part of one configuration. The HTTP server behind it lasts as long as
// the service.
type adminSide struct {
	socket     *socket // nil if there is none
	token      string
	pushSecret string
	inputs     inputs // the files of both secrets
}

// openAdmin opens the socket of the admin side, if the configuration has one, and reads its
// secrets.
func openAdmin(c *config.Config, old *generation, bind binder) (side adminSide, err error) {
	side.inputs = inputs{}
	if c.Admin.Address == "" {
		return side, nil
	}
	if side.socket = old.admin.socket; side.socket == nil || c.Admin.Address != old.config.Admin.Address {
		inner, err := bind.listen(c.Admin.Address, false)
		if err != nil {
			return adminSide{}, faultAt(c, "admin.address", err)
		}
		side.socket = &socket{Listener: inner, label: "admin"}
	}
	if err := side.readToken(c.Admin.TokenFile, old); err != nil {
		return side, faultAt(c, "admin.token_file", err)
	}
	side.inputs.add(c.Admin.PushSecretFile)
	if side.pushSecret, err = sharedSecret(c.Admin.PushSecretFile); err != nil {
		return side, faultAt(c, "admin.push_secret_file", err)
	}
	return side, nil
}

// readToken reads the admin token, or creates it if there has never been one. A file that
// existed and is missing now is most likely about to be replaced: a token created at that
// moment would lock out everyone who has the old one.
func (a *adminSide) readToken(path string, old *generation) (err error) {
	a.inputs.add(path)
	if _, err := os.Stat(path); err != nil && old.admin.token != "" && path == old.config.Admin.TokenFile {
		return fmt.Errorf("%w; restore the file, or restart, which makes a new one", err)
	}
	a.token, err = admin.EnsureToken(path)
	if a.inputs[path] == (inputs{})[path] {
		a.inputs.add(path) // it has just been made
	}
	return err
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

// openHTTP makes the HTTP server of the admin side, which serves all generations.
func (s *Service) openHTTP() {
	options := admin.Options{
		Token:      func() string { return s.current.Load().admin.token },
		PushSecret: func() string { return s.current.Load().admin.pushSecret },
		Ready:      s.ready,
		Metrics:    promhttp.HandlerFor(s.observer.Metrics(), promhttp.HandlerOpts{}),
		API:        s.api(),
	}
	if s.bundled != nil {
		options.Telemetry = s.bundled.api()
	}
	s.http = admin.NewServer(options)
}

// api returns what the admin side can do with the service.
func (s *Service) api() *admin.API {
	return &admin.API{
		Status:      s.status,
		Sessions:    s.server.Sessions,
		Refusals:    s.observer.Refusals(),
		Kick:        s.server.Kick,
		Withdraw:    s.withdraw,
		KickSubject: s.kickSubject,
		Save:        s.denials.Save,
		Purge:       s.purgeAll,
		Reload:      func(ctx context.Context) error { return s.reloader.now(ctx, s, "admin") },
	}
}

// purge makes the sources forget all answers and returns their number.
func (s *Service) purge() int {
	s.swap.RLock()
	defer s.swap.RUnlock()
	return s.current.Load().sources.purge()
}
