//go:build integration

package integration

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestBrowser: a web page with mqtt.js, in Chromium, connects over wss. It passes the
// same checks as any device, and learns why it is refused.
func TestBrowser(t *testing.T) {
	t.Parallel()
	chromium := harness.Need(t, "chromium")
	harness.NeedFile(t, "clients/node_modules/mqtt")
	p := harness.NewProxy(t, harness.StartMosquitto(t).Upstream())
	secure := harness.FreeAddress(t)
	p.ListenAlso("  - {name: wss, address: '" + secure + "', tls: {auto: true}, websocket: {path: /mqtt}}\n")
	token := p.Token("browser")
	p.Start()
	pages := httptest.NewServer(http.FileServer(http.Dir("clients")))
	t.Cleanup(pages.Close)
	port := harness.Port(strings.TrimPrefix(pages.URL, "http://"))
	ctx := startBrowser(t, chromium, certificatePin(t, p))
	broker := url.QueryEscape("wss://localhost:" + harness.Port(secure) + "/mqtt")

	page := "http://localhost:" + port + "/page.html?url=" + broker
	for version, code := range map[string]string{"4": "5", "5": "134"} {
		visit(t, ctx, page+"&version="+version+"#"+token, "received", "browser/echo: hello from the page")
		screenshot(t, ctx, "connected-"+version+".png")
		if got := p.AddressOf("browser-" + version); !strings.HasPrefix(got, "127.0.0.1:") {
			t.Errorf("the session's address is %s", got)
		}
		visit(t, ctx, page+"&version="+version+"#wrong-token", "state", "refused: Connection refused: ", "("+code+")")
		screenshot(t, ctx, "refused-"+version+".png")
	}
	p.AwaitLog("refusal of the token", func(l harness.LogLine) bool {
		return l.String("listener") == "wss" && l.String("reason") == "unknown_token"
	})

	// The page of another host has a good token, but may connect only if the operator has listed
	// it.
	visit(t, ctx, "http://127.0.0.1:"+port+"/page.html?url="+broker+"#"+token, "state", "closed")
	screenshot(t, ctx, "foreign.png")
	p.AwaitLog("refusal of the page", func(l harness.LogLine) bool {
		return l.String("reason") == "websocket" && strings.Contains(l.String("detail"), "http://127.0.0.1:"+port)
	})
}

// startBrowser runs Chromium with an empty profile that trusts the certificate with this
// pin.
func startBrowser(t *testing.T, path, pin string) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 3*harness.Patience)
	t.Cleanup(stop)
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("ignore-certificate-errors-spki-list", pin)}
	for _, flag := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, stopBrowser := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stopBrowser)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	return ctx
}

// certificatePin returns the digest of the proxy's public key, which Chromium can be made
// to trust.
func certificatePin(t *testing.T, p *harness.Proxy) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.Data, "tls", "server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// visit opens a page and waits until an element shows one of the texts.
func visit(t *testing.T, ctx context.Context, address, element string, want ...string) {
	t.Helper()
	// A page that only differs in its fragment is not loaded again.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	text := ""
	harness.Eventually(t, "what the page says", func() bool {
		var err error
		if text, err = chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("`+element+`").textContent`)); err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(text, part) {
				return false
			}
		}
		return true
	})
}

// screenshot saves a picture of the page among the artifacts of the test.
func screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	image, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name), image, 0o600); err != nil {
		t.Fatal(err)
	}
}
