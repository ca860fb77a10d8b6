package service

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// adminSide is what the config says about the admin side. What answers there lasts
// as long as the service.
type adminSide struct {
	socket     *socket // nil for none
	token      string
	pushSecret string
}

// openAdmin opens the socket of the admin side, unless the config has none, and
// reads its secrets.
func (d *draft) openAdmin(context.Context) error {
	c, old := d.config.Admin, d.old.admin
	if c.Address == "" {
		return nil
	}
	if d.admin.socket = old.socket; old.socket == nil || c.Address != d.old.config.Admin.Address {
		inner, err := d.listen(c.Address, false)
		if err != nil {
			return d.fault("admin.address", err)
		}
		d.admin.socket = &socket{Listener: inner, label: "admin"}
	}
	if err := d.readAdminToken(); err != nil {
		return d.fault("admin.token_file", err)
	}
	d.inputs.add(c.PushSecretFile)
	var err error
	if d.admin.pushSecret, err = pushSecret(c.PushSecretFile); err != nil {
		return d.fault("admin.push_secret_file", err)
	}
	return nil
}

// readAdminToken reads the admin token, or makes it where there was none. A file
// that has been there and is gone is most likely about to be replaced: a new token
// made up in that moment would lock everybody out.
func (d *draft) readAdminToken() error {
	path := d.config.Admin.TokenFile
	d.inputs.add(path)
	if _, err := os.Stat(path); err != nil && d.old.admin.token != "" && path == d.old.config.Admin.TokenFile {
		return fmt.Errorf("%w; put it there again, or restart and a new one is made", err)
	}
	var err error
	d.admin.token, err = admin.EnsureToken(path)
	if d.inputs[path] == (inputs{})[path] {
		d.inputs.add(path) // it was made
	}
	return err
}

// minPushSecret is the length of the shortest secret that pushes may be signed
// with, in bytes.
const minPushSecret = 32

// pushSecret reads the secret that token services sign with, empty without a
// file.
func pushSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, _, err := files.Read(path, admin.MaxSecret)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if len(secret) < minPushSecret {
		return "", fmt.Errorf("%s: %d bytes are too few, use %d or more", path, len(secret), minPushSecret)
	}
	return secret, nil
}

// openHTTP makes what answers on the admin side, for whichever generation.
func (s *Service) openHTTP() {
	options := admin.Options{
		Token:      func() string { return s.current.Load().admin.token },
		PushSecret: func() string { return s.current.Load().admin.pushSecret },
		Ready:      s.ready,
		Metrics:    promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}),
		API:        s.api(),
	}
	if s.bundled != nil {
		options.Telemetry = s.bundled.api()
	}
	s.http = admin.NewServer(options)
}

// api is what the admin side acts on.
func (s *Service) api() *admin.API {
	return &admin.API{
		Status:   s.status,
		Sessions: s.server.Sessions,
		Kick:     s.server.Kick,
		Withdraw: s.withdraw,
		Save:     s.denials.Save,
		Purge:    s.purge,
		Reload:   func(ctx context.Context) error { return s.reloader.now(ctx, s, "admin") },
	}
}

// purge empties the caches.
func (s *Service) purge() int {
	s.swap.RLock()
	defer s.swap.RUnlock()
	return s.current.Load().sources.purge()
}
