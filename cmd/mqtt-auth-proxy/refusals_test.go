package main

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestRefusalsCommandSaysWhy runs the command against a service that has refused a device twice.
func TestRefusalsCommandSaysWhy(t *testing.T) {
	addrs, data, token := serveOne(t)
	for _, version := range []byte{4, 5} {
		c, _ := packetstest.Present(t, packetstest.Dial(t, addrs["127.0.0.1:0"]), packetstest.Identity(version, "test\u202e", "wrong"))
		c.ExpectEnd() // after which the refusal is kept
	}
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		p := &program{stdout: &out, stderr: io.Discard, environ: []string{"MQTT_AUTH_PROXY_ADMIN_ADDRESS=" + addrs["admin"]}}
		root := p.rootCommand()
		root.SetArgs(append(args, "--data", data))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	row := regexp.MustCompile(`Z +2 +\S+Z +unknown_token +0x86 +- +test\\u202e +127\.0\.0\.1:\d+ +127\.0\.0\.1:0 +[0-9a-f]{8} +denied: unknown_token\S*.*\n`)
	if out, err := run("refusals", "list", "--client-id", "test\u202e", "--address", "127.0.0.0/8", "--since", "1h"); err != nil || !row.MatchString(out) {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := run("refusals", "list", "--subject", "pump", "--json"); err != nil || !strings.Contains(out, `"total": 0`) {
		t.Errorf("list of another device: %v\n%s", err, out)
	}
	if _, err := run("token", "disable", "pump"); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the refusal of the disabled token", func() bool {
		_, _, _ = packetstest.Try(packetstest.Dial(t, addrs["127.0.0.1:0"]), packetstest.Identity(4, "test", token))
		out, err := run("refusals", "list", "--subject", "pump")
		return err == nil && strings.Contains(out, "disabled")
	})
	if out, err := run("refusals", "list", "--reason", "tired"); err == nil || !strings.Contains(err.Error(), "reason must be one of") {
		t.Errorf("list for a reason that does not exist: %v\n%s", err, out)
	}
	if out, err := run("refusals", "reasons"); err != nil || !strings.Contains(out, "unknown_token: 2 in the last hour, 2 in the last day\n") || !strings.Contains(out, "What to do: ") {
		t.Errorf("reasons: %v\n%s", err, out)
	}
}
