package tokenfile

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// rightsFile writes a file with one token, "the-secret-token", and these further
// fields.
func rightsFile(t *testing.T, path, fields string) {
	t.Helper()
	line := `{"id":"a","token_hash":"sha256:` + hexOf("the-secret-token") + `"` + fields + "}\n"
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
}

func hexOf(token string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for _, c := range authz.NewToken(token).Hash() {
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

func TestTopicRulesOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	rightsFile(t, path, `,"acl":[{"permission":"allow","action":"publish","topic":"devices/${subject}/#"}]`)
	f, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := f.Authorize(t.Context(), authz.Request{Token: authz.NewToken("the-secret-token")})
	if err != nil {
		t.Fatal(err)
	}
	bound, err := g.ACL.Bind(authz.ACLValues{Subject: g.Subject})
	if err != nil {
		t.Fatal(err)
	}
	if !bound.Publish([]byte("devices/a/x"), 0, false) || bound.Publish([]byte("devices/b/x"), 0, false) || bound.Subscribe("devices/a/x", 0) {
		t.Error("the rules are not those of the file")
	}
	if d := snapshotOf(t, path).withID("a").changeFrom(f.current.Load().withID("a")); d != same {
		t.Errorf("the same rules read again are change %d", d)
	}
	rightsFile(t, path, `,"acl":[]`)
	if d := snapshotOf(t, path).withID("a").changeFrom(f.current.Load().withID("a")); d != altered {
		t.Errorf("other rules are change %d: its sessions would keep the old ones, or end", d)
	}
}

func snapshotOf(t *testing.T, path string) *snapshot {
	t.Helper()
	f, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f.current.Load()
}

func TestCertificateOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	rightsFile(t, path, `,"certificate":["cn:pump-7","san:pump-7.example"]`)
	f, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(peer *x509.Certificate) error {
		_, err := f.Authorize(t.Context(), authz.Request{Token: authz.NewToken("the-secret-token"), Peer: peer})
		return err
	}
	if err := ask(&x509.Certificate{Subject: pkix.Name{CommonName: "pump-7"}, NotAfter: time.Now()}); err != nil {
		t.Errorf("with the certificate: %v", err)
	}
	var d *authz.Denial
	if err := ask(nil); !errors.As(err, &d) || d.Reason != authz.WrongCertificate {
		t.Errorf("without one: %v", err)
	}
}

// Every form of rules that a token service may send is valid in a file, too.
func TestFormsOfTopicRules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	for _, acl := range []string{
		`[{"permission":"allow","action":"publish","topic":"a/b"}]`,
		`[{"permission":"allow","action":"all","topics":["a/b","c"]}]`,
		`[{"permission":"allow","action":"publish","topics":["a/#"],"qos":[0,1],"retain":false}]`,
		`{"pub":["a/b"],"sub":["a/#"],"all":["c"]}`,
	} {
		rightsFile(t, path, `,"acl":`+acl)
		f, err := Open(path, Options{})
		if err != nil {
			t.Errorf("%s: %v", acl, err)
			continue
		}
		g, err := f.Authorize(t.Context(), authz.Request{Token: authz.NewToken("the-secret-token")})
		if err != nil {
			t.Fatal(err)
		}
		if bound, err := g.ACL.Bind(authz.ACLValues{}); err != nil || !bound.Publish([]byte("a/b"), 0, false) || bound.Publish([]byte("d"), 0, false) {
			t.Errorf("%s: the rules are not those of the file, %v", acl, err)
		}
	}
}

func TestBadRights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	for fields, field := range map[string]string{
		`,"acl":"all"`: "acl", `,"acl":[{"permission":"maybe"}]`: "acl", `,"acl":[{"permission":"allow","action":"all","topic":"a/#/b"}]`: "acl",
		`,"limits":"all"`: "limits", `,"limits":{"publish_rate":0}`: "limits: publish_rate", `,"limits":{"publish_rates":5}`: "limits", `,"limits":null`: "limits",
		`,"gateway":1`: "gateway", `,"gateway":"true"`: "gateway", `,"gateway":null`: "gateway",
		`,"role":"admin"`: "role", `,"role":"Reader"`: "role", `,"role":null`: "role", `,"role":["reader"]`: "role",
		`,"certificate":"pump-7"`: "certificate", `,"certificate":["cn:"]`: "certificate", `,"certificate":[]`: "certificate",
	} {
		rightsFile(t, path, fields)
		if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), ":1: "+field+": ") {
			t.Errorf("%s: %v", fields, err)
		}
	}
}

// TestLimitsOfATokenFile are those of the grant, and apply to live sessions when they change.
func TestLimitsOfATokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	const text = `{"max_packet":1024,"publish_rate":5,"max_qos":0,"retain":false,"sessions":2}`
	rightsFile(t, path, `,"limits":`+text)
	old := snapshotOf(t, path).withID("a")
	if got := old.authorization().Limits.String(); got != text {
		t.Errorf("the grant has the limits %s", got)
	}
	rightsFile(t, path, `,"limits":{"max_qos":1}`)
	if d := snapshotOf(t, path).withID("a").changeFrom(old); d != altered {
		t.Errorf("other limits are the change %v", d)
	}
	limits, err := authz.ParseLimits([]byte(`{"byte_rate":100,"subscriptions":3}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path, CreateOptions{Name: "new", Limits: limits}); err != nil {
		t.Fatal(err)
	}
	shown, err := Show(path, "new")
	if err != nil || len(shown) != 1 || !shown[0].Limits.Equal(limits) {
		t.Errorf("the new token has %v, %v", shown, err)
	}
}

// TestGatewayOfATokenFile is that of the grant. A change ends the sessions of the token, because the
// broker knows since their start whether they are those of a gateway.
func TestGatewayOfATokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	rightsFile(t, path, `,"gateway":false`)
	plain := snapshotOf(t, path).withID("a")
	rightsFile(t, path, `,"gateway":true`)
	gateway := snapshotOf(t, path).withID("a")
	if plain.authorization().Gateway || !gateway.authorization().Gateway {
		t.Error("the grants are not those of the file")
	}
	if d := gateway.changeFrom(plain); d != ended {
		t.Errorf("a device that becomes a gateway is the change %v", d)
	}
	if d := plain.changeFrom(gateway); d != ended {
		t.Errorf("a gateway that becomes a device is the change %v", d)
	}
	made, err := Create(path, CreateOptions{Name: "new", Gateway: true})
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := Rotate(path, "new", 0)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := Show(path, "new")
	if err != nil || len(shown) != 1 || shown[0].ID != rotated.ID || rotated.ID == made.ID || !shown[0].Gateway {
		t.Errorf("the new token has %+v, %v", shown, err)
	}
}

// TestRoleOfATokenFile is that of the grant. A change ends the sessions of the token.
func TestRoleOfATokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.jsonl")
	rightsFile(t, path, `,"role":"device"`)
	device := snapshotOf(t, path).withID("a")
	rightsFile(t, path, `,"role":"reader"`)
	reader := snapshotOf(t, path).withID("a")
	if device.authorization().Role != authz.RoleDevice || reader.authorization().Role != authz.RoleReader {
		t.Error("the grants are not those of the file")
	}
	if d, r := reader.changeFrom(device), device.changeFrom(reader); d != ended || r != ended {
		t.Errorf("the changes are %v and %v", d, r)
	}
	if _, err := Create(path, CreateOptions{Name: "new", Role: authz.RoleReader}); err != nil {
		t.Fatal(err)
	}
	if rotated, err := Rotate(path, "new", 0); err != nil || rotated.Role != authz.RoleReader {
		t.Fatal(rotated.Role, err)
	}
	if shown, err := Show(path, "new"); err != nil || len(shown) != 1 || shown[0].Role != authz.RoleReader {
		t.Errorf("the new token has %+v, %v", shown, err)
	}
}
