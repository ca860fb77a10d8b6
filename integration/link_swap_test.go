//go:build integration && linux

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// releaseDir is a directory with several releases of all files, and the link "current" to
// one of them.
type releaseDir struct {
	t   *testing.T
	dir string
}

// write creates a release.
func (r releaseDir) write(name string, files map[string]string) {
	r.t.Helper()
	conf := filepath.Join(r.dir, name, "conf")
	if err := os.MkdirAll(conf, 0o700); err != nil {
		r.t.Fatal(err)
	}
	for file, content := range files {
		harness.WriteFile(r.t, filepath.Join(conf, file), content)
	}
}

// publish makes the link lead to a release.
func (r releaseDir) publish(name string) {
	r.t.Helper()
	link := filepath.Join(r.dir, "current")
	if err := os.Symlink(name, link+".new"); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		r.t.Fatal(err)
	}
}

// TestLinkSwapUnderTheSandbox: a link above all files of the program is replaced while
// the sandbox confines it. The tokens, config, certificates and secrets of the new
// release take effect.
func TestLinkSwapUnderTheSandbox(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, "")
	// The program may write to the directory for temporary files, in which the stories run.
	p.Env = append(p.Env, "TMPDIR="+t.TempDir())
	r := releaseDir{t, t.TempDir()}
	config := func(timeout string) string {
		return p.ConfigWith(strings.TrimSuffix(s.Upstream(), "}\n")+", password_file: password}\nconnect: {timeout: "+timeout+"}\nauth: {sources: [{file: {path: "+r.dir+"/current/conf/tokens.jsonl}}]}\n",
			fmt.Sprintf("{name: plain, address: '%s'}", p.Plain), fmt.Sprintf("{name: tls, address: '%s', tls: {certificate: server.pem, key: server-key.pem}}", p.TLS))
	}
	cert1, key1 := harness.ServerCertificate(1)
	cert2, key2 := harness.ServerCertificate(2)
	r.write("1", map[string]string{"tokens.jsonl": fleetFile(40), "proxy.yaml": config("11s"), "server.pem": cert1, "server-key.pem": key1, "password": "first"})
	r.write("2", map[string]string{"tokens.jsonl": fleetFile(15), "proxy.yaml": config("12s"), "server.pem": cert2, "server-key.pem": key2, "password": "second"})
	r.publish("1")
	p.Config = filepath.Join(r.dir, "current/conf/proxy.yaml")
	p.Start()
	confined := isConfined(t, p)
	gone := p.Connect(t, 5, "gone", fleetToken(30))
	stays := p.Connect(t, 5, "stays", fleetToken(3))

	r.publish("2")
	begin := time.Now()
	if code, err := gone.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
		t.Fatalf("the session of a token that is gone: %v, %v", code, err)
	}
	if took := time.Since(begin); took > harness.WithdrawalLimit+harness.Slack {
		t.Errorf("it took %v, promised is %v", took, harness.WithdrawalLimit)
	}
	if status, text := p.Request(http.MethodPost, "/v1/reload", ""); status != 200 {
		t.Errorf("the reload is answered %s: %s", text, p.Status())
	}
	if n := serial(t, p.TLS); n != 2 {
		t.Errorf("the certificate has the number %d", n)
	}
	p.Connect(t, 5, "new", fleetToken(4))
	if _, connects := s.Reached(); string(connects[len(connects)-1].Password) != "second" {
		t.Error("the broker does not get the new password")
	}
	if err := stays.Publish("a", "b"); err != nil {
		t.Errorf("the session of a token that stays: %v", err)
	}
	if !confined {
		return
	}
	// The start has logged that files elsewhere need a restart.
	for _, dir := range []string{r.dir, p.Data} {
		p.AwaitLog("start", func(l harness.LogLine) bool {
			return l.String("message") == "new versions of files are read from a directory" && l.String("path") == dir
		})
	}
	elsewhere := releaseDir{t, t.TempDir()}
	elsewhere.write("3", map[string]string{"tokens.jsonl": fleetFile(40)})
	r.publish(filepath.Join(elsewhere.dir, "3"))
	p.AwaitLog("explanation", func(l harness.LogLine) bool {
		return strings.Contains(l.String("message"), "token file rejected") && strings.Contains(l.String("error"), "the sandbox keeps the proxy to the directories")
	})
}
