package service

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// TestCheckFindsWhatAStartWould: what a section means is checked with the configuration, and
// each mistake is reported once.
func TestCheckFindsWhatAStartWould(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	for text, want := range map[string]string{
		"auth: {sources: [{http: {url: 'ftp://service'}}]}":                                               "auth.sources[0].http: ",
		"auth: {sources: [{http: {url: 'https://service.test/', tls: {certificate: a.pem}}}]}":            "auth.sources[0].http.tls.key: ",
		"auth: {sources: [{http: {url: 'http://127.0.0.1/', preset: rabbitmq}}]}":                         "auth.sources[0].http: preset rabbitmq",
		"auth: {sources: [{jwt: {url: 'https://issuer.test/keys', algorithms: [FOO]}}]}":                  "auth.sources[0].jwt: ",
		"auth: {sources: [{jwt: {url: 'ftp://issuer.test/keys'}}]}":                                       "auth.sources[0].jwt: ",
		"auth: {sources: [{jwt: {url: 'https://issuer.test/keys', subject: 'a..b'}}]}":                    "auth.sources[0].jwt: ",
		"auth: {sources: [{jwt: {url: 'https://issuer.test/keys', any_audience: true, audiences: [a]}}]}": "auth.sources[0].jwt.any_audience: ",
		"auth: {sources: [{}]}": "auth.sources[0]: needs exactly one kind",
		"upstream: {servers: ['tcp://127.0.0.1'], username: '${'}": "upstream.username: ",
		"upstream: {servers: ['gopher://127.0.0.1']}":              "upstream.servers[0]: ",
		"token: {from: ['user_property:']}":                        "token.from[0]: ",
		"limits: {session: {max_packet: 15}}":                      "limits.session.max_packet: ",
	} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(config.Options{Path: path}, "test")
		faults, ok := errors.AsType[*config.Error](err)
		if !ok || len(faults.Faults) != 1 || !strings.HasPrefix(faults.Error(), path+":1: "+want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
