package service

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// demo is the device of a first start and how to reach the proxy as it.
type demo struct {
	token       authz.Token
	expires     time.Time
	data        string
	plain, tls  net.Addr // nil without such a listener; tls is one with a certificate of our own
	adminSide   net.Addr
	authority   string // path of the CA certificate
	adminSecret string // path of the admin token
}

// telemetryTail is the end of both commands. A shell takes the quotes away; the
// bundled broker reads what is left.
const telemetryTail = `-t v1/devices/me/telemetry -u "%s" -m {"temperature":25}` + "\n"

// demoPatience is how long the reader of stdout may take for the demo token.
const demoPatience = time.Second

// introduceDemo prints the token of a first start, if this is one. It serves even if
// nobody reads that.
func (s *Service) introduceDemo(stdout io.Writer) {
	if s.demo == nil {
		return
	}
	err := s.demo.print(stdout)
	if o, ok := stdout.(*observe.Output); ok && err == nil {
		err = o.Flush(demoPatience)
	}
	if err != nil {
		s.Log.Warn("the token of the device demo could not be printed; make another with the command in text", zap.Error(err),
			zap.String("text", "mqtt-auth-proxy token rotate demo --data "+shellWord(s.demo.data)))
	}
}

// print tells the token, once, and what to do with it.
func (d *demo) print(w io.Writer) error {
	text := "\nThis is a first start. A device named \"demo\" was made; its token is shown only now:\n\n  " + d.token.Reveal() + "\n\n"
	text += "Send telemetry as this device:\n\n"
	if d.plain != nil {
		text += fmt.Sprintf("mosquitto_pub -d -q 1 -h localhost -p %d "+telemetryTail, portOf(d.plain), d.token.Reveal())
	}
	if d.tls != nil {
		text += fmt.Sprintf("mosquitto_pub --cafile %s -d -q 1 -h localhost -p %d "+telemetryTail, shellWord(d.authority), portOf(d.tls), d.token.Reveal())
	}
	if d.adminSide != nil {
		text += fmt.Sprintf("\nRead it back:\n\ncurl -H \"Authorization: Bearer $(cat %s)\" 'http://%s/api/plugins/telemetry/DEVICE/demo/values/timeseries?useStrictDataTypes=true'\n", shellWord(d.adminSecret), d.adminSide)
	}
	text += fmt.Sprintf("\nThe token ends in a day, at %s. To keep it: mqtt-auth-proxy token extend demo --expires never --data %s\n",
		d.expires.UTC().Format(time.RFC3339), shellWord(d.data))
	text += "More devices: mqtt-auth-proxy token create NAME --data " + shellWord(d.data) + "\n\n"
	_, err := io.WriteString(w, text)
	return err
}

// shellWord returns text as one word of a POSIX shell, in quotes only if it needs
// them.
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

// introduce fills in where the demo device finds the proxy.
func (d *draft) introduce(made tokenfile.Created) *demo {
	it := &demo{token: made.Token, expires: made.Expires, data: d.config.Data, adminSecret: d.config.Admin.TokenFile}
	for _, l := range d.listeners {
		switch secure := l.config.TLS; {
		case secure == nil && it.plain == nil:
			it.plain = l.Addr()
		case secure != nil && secure.Auto && it.tls == nil:
			it.tls, it.authority = l.Addr(), d.ownAuthority().CertificateFile()
		}
	}
	if k := d.admin.socket; k != nil {
		it.adminSide = k.Addr()
	}
	return it
}
