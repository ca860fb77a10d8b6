package service

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

const (
	// demoDevice is the device that is created at the first start of the bundled broker.
	demoDevice = "demo"
	// demoLife is how long its token is valid: long enough to try the program, but not forever,
	// because everyone who can read the output of a first start has seen the token.
	demoLife = 24 * time.Hour
)

// demo is the device of a first start, with the information that its user needs to connect.
type demo struct {
	token       authz.Token
	expires     time.Time
	data        string
	plain, tls  net.Addr // nil if there is no such listener; tls has a certificate of the own authority
	adminSide   net.Addr // nil if there is none
	adminTLS    bool
	authority   string // path of the CA certificate
	adminSecret string // path of the admin token
}

// telemetryTail is the end of both commands. A shell removes the quotes in the payload, and the
// bundled broker reads the rest.
const telemetryTail = `-t v1/devices/me/telemetry -u "%s" -m {"temperature":25}` + "\n"

// printTimeout is how long the reader of stdout may take to read the demo token.
const printTimeout = time.Second

// printDemo prints the token if this is a first start. If it cannot be printed, the service
// starts nevertheless.
func (s *Service) printDemo(stdout io.Writer) {
	if s.demo == nil {
		return
	}
	err := s.demo.print(stdout)
	if o, ok := stdout.(*observe.Output); ok && err == nil {
		err = o.Flush(printTimeout)
	}
	if err != nil {
		s.Log.Warn("the token of the device demo could not be printed; make another with the command in text", zap.Error(err),
			zap.String("text", "mqtt-auth-proxy token rotate demo --data "+shellWord(s.demo.data)))
	}
}

// print prints the token and how to use it.
func (d *demo) print(w io.Writer) error {
	text := "\nThis is the first start. The device \"demo\" was created. Its token is shown only once:\n\n  " + d.token.Reveal() + "\n\n"
	text += "Send telemetry as this device:\n\n"
	if d.plain != nil {
		text += fmt.Sprintf("mosquitto_pub -d -q 1 -h localhost -p %d "+telemetryTail, portOf(d.plain), d.token.Reveal())
	}
	if d.tls != nil {
		text += fmt.Sprintf("mosquitto_pub --cafile %s -d -q 1 -h localhost -p %d "+telemetryTail, shellWord(d.authority), portOf(d.tls), d.token.Reveal())
	}
	if d.adminSide != nil {
		text += fmt.Sprintf("\nRead it back:\n\ncurl -H \"Authorization: Bearer $(cat %s)\" '%s/api/plugins/telemetry/DEVICE/demo/values/timeseries?useStrictDataTypes=true'\n", shellWord(d.adminSecret), d.adminURL())
		text += fmt.Sprintf("\nSee devices, refusals and telemetry in a browser at %s/ and sign in with the content of %s\n", d.adminURL(), d.adminSecret)
	}
	text += fmt.Sprintf("\nThe token expires in a day, at %s. To keep it: mqtt-auth-proxy token extend demo --expires never --data %s\n",
		d.expires.UTC().Format(time.RFC3339), shellWord(d.data))
	text += "More devices: mqtt-auth-proxy token create NAME --data " + shellWord(d.data) + "\n\n"
	_, err := io.WriteString(w, text)
	return err
}

// adminURL returns where the admin side is, without a path.
func (d *demo) adminURL() string {
	if d.adminTLS {
		return "https://" + d.adminSide.String()
	}
	return "http://" + d.adminSide.String()
}

// shellWord returns text as one word of a POSIX shell, quoted if necessary.
func shellWord(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func portOf(a net.Addr) int {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.Port
	}
	return 0
}

// demoFile returns the token file that a first start creates. It returns "" if this is not the
// first start with the bundled broker and a new data directory. In front of another broker a
// demo device would be an access that its operator did not ask for.
func demoFile(c *config.Config) string {
	if path := missingTokenFile(c); c.Upstream.Bundled() && filepath.Dir(path) == c.Data {
		return path
	}
	return ""
}

// makeDemo creates the demo device if this is a first start, and returns nil otherwise.
func makeDemo(g *generation) (*demo, error) {
	path := demoFile(g.config)
	if path == "" {
		return nil, nil
	}
	made, err := tokenfile.Create(path, tokenfile.CreateOptions{
		Name: demoDevice, Expires: time.Now().Add(demoLife), Comment: "made on first start; revoke it when it is not needed any more",
	})
	if err != nil {
		return nil, faultAt(g.config, "auth.sources", fmt.Errorf("make the demo device: %w", err))
	}
	d := &demo{token: made.Token, expires: made.Expires, data: g.config.Data, adminSecret: g.config.Admin.TokenFile}
	for _, l := range g.listeners {
		switch secure := l.config.TLS; {
		case secure == nil && d.plain == nil:
			d.plain = l.Addr()
		case secure != nil && secure.Auto && d.tls == nil:
			d.tls, d.authority = l.Addr(), ownAuthority(g.config).CertificateFile()
		}
	}
	if k := g.admin.socket; k != nil {
		d.adminSide, d.adminTLS = k.Addr(), g.config.Admin.TLS != nil
	}
	return d, nil
}

// missingTokenFile returns the only token file of the configuration that does not exist. It
// returns "" if all exist, and also if several do not: then the sources cannot be opened.
func missingTokenFile(c *config.Config) (path string) {
	for _, source := range c.Auth.Sources {
		if source.File == nil {
			continue
		}
		if _, err := os.Lstat(source.File.Path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if path != "" {
			return ""
		}
		path = source.File.Path
	}
	return path
}
