//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// operator is a person with a browser at the page of a proxy.
type operator struct {
	t     *testing.T
	ctx   context.Context
	proxy *harness.Proxy
	// tokens are those of the devices, by their names.
	tokens map[string]string
}

// newOperator starts the bundled broker with these devices, and a browser that has not signed in.
func newOperator(t *testing.T, devices ...string) *operator {
	t.Parallel()
	chromium := harness.Need(t, "chromium")
	o := &operator{t: t, proxy: harness.NewProxy(t, ""), tokens: make(map[string]string)}
	for _, name := range devices {
		o.tokens[name] = o.proxy.Token(name, "--comment", name)
	}
	o.proxy.Start()
	o.ctx = startBrowser(t, chromium, "")
	return o
}

// token returns the content of a token file of the admin side.
func (o *operator) token(name string) string {
	o.t.Helper()
	text, err := os.ReadFile(filepath.Join(o.proxy.Data, name))
	if err != nil {
		o.t.Fatal(err)
	}
	token := strings.TrimSpace(string(text))
	o.proxy.AddSecret(token)
	return token
}

func (o *operator) do(steps ...chromedp.Action[chromedp.Void]) {
	o.t.Helper()
	if err := chromedp.Do(o.ctx, steps...); err != nil {
		o.t.Fatal(err)
	}
}

// visit opens a path of the page and waits until it says what is wanted.
func (o *operator) visit(path, want string) {
	o.t.Helper()
	o.do(chromedp.Navigate("http://" + o.proxy.Admin + path))
	o.await(want)
}

// text returns what a selector of CSS shows, and nothing while the page loads.
func (o *operator) text(selector string) string {
	text, err := chromedp.Run(o.ctx, chromedp.Evaluate[string](`document.querySelector(`+quoted(selector)+`)?.innerText ?? ""`))
	if err != nil {
		return ""
	}
	return text
}

// quoted returns a text as one of JavaScript.
func quoted(text string) string {
	b, _ := json.Marshal(text) // cannot fail
	return string(b)
}

// await waits until the page says something.
func (o *operator) await(want string) {
	o.t.Helper()
	harness.Eventually(o.t, fmt.Sprintf("a page with %q", want), func() bool { return strings.Contains(o.text("body"), want) })
}

// click clicks on the first element and waits until the page says what is wanted.
func (o *operator) click(selector, want string) {
	o.t.Helper()
	o.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
	o.await(want)
}

// fill types into a field.
func (o *operator) fill(selector, text string) {
	o.t.Helper()
	o.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// signIn signs in by the keyboard alone: the field has the focus.
func (o *operator) signIn(token string) {
	o.t.Helper()
	o.visit("/", "Sign in")
	o.do(chromedp.KeyEvent(token + "\r"))
}

// look keeps pictures of the page as it is on a screen and on a phone.
func (o *operator) look(name string) {
	o.t.Helper()
	for kind, width := range map[string]int64{"desk": 1360, "phone": 390} {
		for _, scheme := range []string{"light", "dark"} {
			o.do(chromedp.EmulateViewport(width, 860), chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
				_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
				return err
			}))
			screenshot(o.t, o.ctx, name+"-"+kind+"-"+scheme+".png")
			if wide, err := chromedp.Run(o.ctx, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth + 1`)); err != nil || wide {
				o.t.Errorf("%s: the page is wider than the screen of the %s: %v", name, kind, err)
			}
		}
	}
	o.do(chromedp.ResetViewport())
}

// TestPage: an operator signs in, sees devices come, finds out why one is refused and corrects
// that, creates a token and sees its device arrive, kicks one, and reads a graph.
func TestPage(t *testing.T) {
	fleet := []string{"broken"}
	for i := range 10 {
		fleet = append(fleet, fmt.Sprintf("pump-%d", i))
	}
	o := newOperator(t, fleet...)
	p, broken := o.proxy, o.tokens["broken"]
	if r := p.TokenCommand("disable", "broken"); r.Status != 0 {
		t.Fatal(r.Stderr)
	}
	o.signIn("wrong-wrong-wrong-wrong")
	o.await("This is not a token of this proxy.")
	o.look("sign-in")
	o.fill("input[name=token]", o.token("admin-token")+"\r")
	o.await("Graphs")
	o.await("Live")
	o.look("overview-0")

	o.visit("/devices", "No device is connected.")
	for i, name := range fleet[1:] {
		p.Connect(t, 5, fmt.Sprintf("client-%d", i), o.tokens[name])
	}
	o.await("10 sessions") // without a reload
	o.look("devices-10")

	harness.Eventually(t, "the token to be refused", func() bool {
		_, ack := p.Present(t, 4, "client-of-broken", broken)
		return ack.Code == 5
	})
	o.visit("/refusals", "disabled")
	o.await("The token is known, but disabled.")
	o.look("refusals")
	o.click(`a[href="/device?subject=broken"]`, "enable its token with")
	o.click(`a[href^="/token?"]`, "Fingerprint")
	o.click(`a[href^="/tokens/enable"]`, "Its device may connect again.")
	o.click("main form button", "good")
	harness.Eventually(t, "the device to be let in", func() bool {
		_, ack := p.Present(t, 4, "client-of-broken", broken)
		return ack.Code == 0
	})

	d := o.createToken("meter-9")
	o.click(`a[href="/device?subject=meter-9"]`, "The device is not connected.")
	harness.Eventually(t, "the new token to be known", func() bool {
		_, ack := p.Present(t, 5, "first-of-meter-9", d)
		return ack.Code == 0
	})
	device := p.Connect(t, 5, "client-of-meter-9", d)
	o.await("client-of-meter-9") // without a reload
	for i := range 5 {
		if err := device.Publish("v1/devices/me/telemetry", fmt.Sprintf(`{"temperature":%d.5}`, 20+i)); err != nil {
			t.Fatal(err)
		}
	}
	o.look("device")
	o.click(`a[href="/telemetry/device?subject=meter-9"]`, "24.5")
	if text, err := chromedp.Run(o.ctx, chromedp.Evaluate[string](`document.querySelector("svg desc").textContent`)); err != nil || !strings.Contains(text, "temperature: now ") {
		t.Errorf("the graph says %q, %v", text, err)
	}
	o.look("telemetry")

	o.visit("/device?subject=meter-9", "client-of-meter-9")
	o.click(`a[href="/sessions/end?subject=meter-9"]`, "End all sessions of meter-9?")
	o.look("confirm")
	o.click("main form button", "The device is not connected")
	if code, err := device.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction {
		t.Errorf("the device got DISCONNECT %v, %v", code, err)
	}
	if _, body := p.Get("/v1/audit"); !strings.Contains(body, `"end sessions"`) || !strings.Contains(body, `"create token"`) || !strings.Contains(body, `"enable token"`) {
		t.Errorf("the record of changes is %s", body)
	}

	o.click(".who button", "Sign in")
	o.visit("/devices", "Sign in")
}

// createToken creates a token in the browser and returns it.
func (o *operator) createToken(subject string) string {
	o.t.Helper()
	o.visit("/tokens", "New token")
	o.click(`a[href="/tokens/new"]`, "The token is shown once.")
	o.fill("#subject", subject)
	o.click("main form button", "it is not shown again")
	token := o.text("#secret")
	o.proxy.AddSecret(token)
	if command := o.text("#command-0"); !strings.Contains(command, "-p "+harness.Port(o.proxy.Plain)+" ") || !strings.Contains(command, token) {
		o.t.Errorf("the command is %q", command)
	}
	return token
}

// TestReaderOfThePage: the role read sees everything, and has no buttons.
func TestReaderOfThePage(t *testing.T) {
	o := newOperator(t, "pump-1")
	o.proxy.Connect(t, 5, "client-1", o.tokens["pump-1"])
	o.signIn(o.token("admin-read-token"))
	o.await("Graphs")
	for path, want := range map[string]string{"/devices": "client-1", "/device?subject=pump-1": "client-1", "/tokens": "pump-1", "/refusals": "Refusals"} {
		o.visit(path, want)
		if n, err := chromedp.Run(o.ctx, chromedp.Evaluate[int](`document.querySelectorAll('a[href^="/sessions/"], a[href^="/tokens/"], main form[method=post]').length`)); err != nil || n != 0 {
			t.Errorf("%s has %d buttons, %v", path, n, err)
		}
	}
}

// hostileName is the name of a device that tries to become a part of the page. It has no slash, so
// that the bundled broker accepts it.
const hostileName = `<img src=x onerror="window.evil=1">"'><svg onload="window.evil=1"><script>window.evil=1;`

// TestHostileNamesOnThePage: nothing that a device says becomes a part of the page.
func TestHostileNamesOnThePage(t *testing.T) {
	o := newOperator(t, hostileName)
	p := o.proxy
	d := p.Connect(t, 5, hostileName, o.tokens[hostileName])
	key, _ := json.Marshal(map[string]any{hostileName: 1, "text": hostileName})
	for _, topic := range []string{"v1/devices/me/telemetry", "v1/devices/me/attributes"} {
		if err := d.Publish(topic, string(key)); err != nil {
			t.Fatal(err)
		}
	}
	p.Present(t, 5, hostileName+"2", "wrong-"+hostileName)
	p.AddSecret("wrong-" + hostileName)
	o.signIn(o.token("admin-token"))
	o.await("Graphs")
	subject := url.QueryEscape(hostileName)
	for path, want := range map[string]string{
		"/devices": hostileName, "/devices?q=" + subject: hostileName, "/device?subject=" + subject: hostileName, "/telemetry/device?subject=" + subject: hostileName,
		"/refusals": "script", "/tokens": hostileName, "/tokens/new?subject=" + subject: "New token", "/sessions/end?subject=" + subject: hostileName,
		"/tokens/withdraw?subject=" + subject: hostileName,
	} {
		o.visit(path, want)
		bad, err := chromedp.Run(o.ctx, chromedp.Evaluate[bool](`window.evil !== undefined || document.querySelector('main img, main script, [onerror]') !== null`))
		if err != nil || bad {
			t.Errorf("%s: the name has become a part of the page, %v", path, err)
		}
	}
}

// TestForeignPages: a page of another origin can neither change nor read anything with the browser
// of an operator who has signed in.
func TestForeignPages(t *testing.T) {
	o := newOperator(t, "pump-1")
	p := o.proxy
	d := p.Connect(t, 5, "client-1", o.tokens["pump-1"])
	o.signIn(o.token("admin-token"))
	o.await("Graphs")
	admin := "http://" + p.Admin
	// The port differs, so it is another origin of the same site, which gets the cookie.
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<title>foreign</title><iframe id="frame" name="frame" src="%s/"></iframe>
<form id="form" method="post" action="%s/sessions/end" target="frame"><input name="subject" value="pump-1"></form>`, admin, admin)
	}))
	defer foreign.Close()
	o.do(chromedp.Navigate(foreign.URL))
	for name, script := range map[string]string{
		"read the status":    `fetch(%q + "/v1/status", {credentials: "include"}).then(r => "read " + r.status, e => "failed")`,
		"read the page":      `fetch(%q + "/devices", {credentials: "include"}).then(r => "read " + r.status, e => "failed")`,
		"send a change":      `fetch(%q + "/sessions/end", {method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({subject: "pump-1"})}).then(r => "failed " + r.type, e => "failed")`,
		"open a stream":      `new Promise(done => { const s = new EventSource(%q + "/live/devices", {withCredentials: true}); s.onopen = () => done("read"); s.onerror = () => done("failed") })`,
		"show it in a frame": `new Promise(done => { setTimeout(() => { try { done("read " + frames[0].document.body.innerText) } catch { done("failed " + %q) } }, 300) })`,
		"send a form":        `document.getElementById("form").submit(), new Promise(done => setTimeout(() => done("failed " + %q), 500))`,
	} {
		got, err := chromedp.Run(o.ctx, chromedp.Evaluate[string](fmt.Sprintf(script, admin), chromedp.EvalAwaitPromise))
		if err != nil || !strings.HasPrefix(got, "failed") {
			t.Errorf("a foreign page can %s: %q, %v", name, got, err)
		}
	}
	if frames, err := chromedp.Run(o.ctx, chromedp.Evaluate[int](`frames.length`)); err != nil || frames != 1 {
		t.Errorf("%d frames, %v", frames, err)
	}
	d.Ping()
	// A name that an attacker has pointed at this machine.
	rebound := strings.Replace(admin, "127.0.0.1", "attacker.localhost", 1)
	o.do(chromedp.Navigate(rebound + "/"))
	o.await("admin.hosts")
	if _, body := p.Get("/v1/audit"); strings.Contains(body, "pump-1") {
		t.Errorf("the record of changes has %s", body)
	}
	// The same change from a page of the proxy works, so that the browser was signed in all the time.
	o.visit("/devices", "client-1")
	own := `fetch("/sessions/end", {method: "POST", body: new URLSearchParams({subject: "pump-1"})}).then(r => r.url)`
	if got, err := chromedp.Run(o.ctx, chromedp.Evaluate[string](own, chromedp.EvalAwaitPromise)); err != nil || !strings.Contains(got, "/device?subject=pump-1") {
		t.Errorf("the page of the proxy cannot send a change: %q, %v", got, err)
	}
	if _, body := p.Get("/v1/audit"); !strings.Contains(body, "pump-1") {
		t.Errorf("the record of changes has %s", body)
	}
}
