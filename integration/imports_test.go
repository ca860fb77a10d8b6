package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mqtt-auth-proxy/mqtt-auth-proxy"

// arrow is what a package may import.
type arrow struct {
	pkg     string
	may     []string
	library bool     // for others to build on: no flags, YAML, metrics, loggers, brokers, clients
	oracles []string // packages of otherMQTT that only its tests may import, to compare results
}

// arrows says which package may import which inside the module. The first pattern that matches a
// package applies; a package that none matches has no place in the tree. Patterns are those of
// path.Match.
var arrows = []arrow{
	{pkg: "packets", library: true},
	{pkg: "packets/packetstest", may: []string{"packets"}, library: true},
	{pkg: "authz", may: []string{"authz/placeholder", "authz/internal/*"}, library: true, oracles: []string{"github.com/mochi-mqtt/"}},
	{pkg: "authz/bucket", library: true},
	{pkg: "authz/certtest", library: true},
	{pkg: "authz/clienttls", library: true},
	{pkg: "authz/files", library: true},
	{pkg: "authz/placeholder", library: true},
	{pkg: "authz/internal/breaker", may: []string{"authz"}, library: true},
	{pkg: "authz/internal/*", library: true},
	{pkg: "authz/passwordhash", may: []string{"authz"}, library: true},
	{pkg: "authz/tokenimport", may: []string{"authz", "authz/passwordhash", "authz/tokenfile", "authz/internal/strictjson"}, library: true},
	{pkg: "authz/tokenpostgres", may: []string{"authz", "authz/passwordhash", "authz/pgdsn", "authz/tokenfile", "authz/internal/*"}, library: true},
	{pkg: "authz/*", may: []string{"authz", "authz/bucket", "authz/clienttls", "authz/files", "authz/passwordhash", "authz/pgdsn", "authz/placeholder", "authz/internal/*"}, library: true},
	{pkg: "proxy", may: []string{"packets", "authz", "authz/bucket", "authz/topicmap", "proxy/proxyproto", "proxy/websocket", "proxy/internal/*"}, library: true},
	{pkg: "proxy/upstream", may: []string{"authz/clienttls", "authz/files", "authz/placeholder", "proxy/proxyproto", "proxy/internal/relay"}, library: true},
	{pkg: "proxy/upstream/pool", may: []string{"packets", "proxy", "proxy/upstream"}, library: true},
	{pkg: "proxy/certs", may: []string{"authz/files"}, library: true},
	{pkg: "proxy/proxyproto", library: true},
	{pkg: "proxy/websocket", library: true},
	{pkg: "proxy/internal/relay", library: true},
	{pkg: "proxy/internal/inspect", may: []string{"packets", "authz", "authz/topicmap"}, library: true,
		oracles: []string{"github.com/mochi-mqtt/", "github.com/eclipse/paho.golang/"}},
	{pkg: "cmd/internal/config", may: []string{"cmd/internal/config/schema", "proxy/upstream", "proxy/upstream/pool"}},
	{pkg: "cmd/internal/config/schema", may: []string{"authz/files"}},
	{pkg: "cmd/internal/admin", may: []string{"proxy", "authz", "authz/files", "authz/tokenfile", "cmd/internal/presence", "cmd/internal/problem", "cmd/internal/refusals"}},
	{pkg: "cmd/internal/page", may: []string{"authz", "authz/tokenfile", "proxy", "cmd/internal/admin", "cmd/internal/page/*", "cmd/internal/presence", "cmd/internal/refusals", "cmd/internal/task", "cmd/internal/telemetry"}},
	{pkg: "cmd/internal/page/*"},
	{pkg: "cmd/internal/observe", may: []string{"packets", "proxy", "proxy/upstream", "proxy/upstream/pool", "authz", "authz/bucket",
		"authz/cache", "authz/passwordhash", "authz/tokenhttp", "authz/tokenjwt", "cmd/internal/broker", "cmd/internal/hooks", "cmd/internal/host", "cmd/internal/presence", "cmd/internal/refusals", "cmd/internal/replicas", "cmd/internal/task", "cmd/internal/telemetry"}},
	{pkg: "cmd/internal/refusals", may: []string{"authz", "proxy"}},
	{pkg: "cmd/internal/broker", may: []string{"cmd/internal/broker/durable", "cmd/internal/task", "cmd/internal/telemetry/payload"}},
	{pkg: "cmd/internal/telemetry", may: []string{"cmd/internal/problem", "cmd/internal/telemetry/payload"}},
	{pkg: "cmd/internal/telemetry/payload"},
	{pkg: "cmd/internal/broker/durable", may: []string{"cmd/internal/sqlitefile", "cmd/internal/task"}},
	{pkg: "cmd/internal/telemetry/*", may: []string{"authz/pgdsn", "cmd/internal/sqlitefile", "cmd/internal/task", "cmd/internal/telemetry", "cmd/internal/telemetry/payload", "cmd/internal/telemetry/recent"}},
	{pkg: "cmd/internal/replicas", may: []string{"authz", "authz/pgdsn", "cmd/internal/task", "proxy/upstream"}},
	{pkg: "cmd/internal/rpc", may: []string{"cmd/internal/broker", "cmd/internal/problem"}},
	{pkg: "cmd/internal/hooks", may: []string{"proxy"}},
	{pkg: "cmd/internal/presence", may: []string{"authz/pgdsn", "cmd/internal/sqlitefile", "proxy"}},
	{pkg: "cmd/internal/sqlitefile"},
	{pkg: "cmd/internal/problem"},
	{pkg: "cmd/internal/task"},
	{pkg: "cmd/internal/host"},
	{pkg: "cmd/internal/service", may: []string{"packets", "authz", "authz/*", "proxy", "proxy/*", "proxy/upstream/pool", "cmd/internal/*", "cmd/internal/broker/durable", "cmd/internal/page/history", "cmd/internal/telemetry/postgres", "cmd/internal/telemetry/sqlite"}},
	{pkg: "cmd/mqtt-auth-proxy", may: []string{"authz", "authz/files", "authz/tokenfile", "authz/tokenimport", "cmd/internal/*", "cmd/internal/config/schema"}},
	{pkg: "integration"},
	{pkg: "integration/harness", may: []string{"authz/certtest", "packets", "packets/packetstest"}},
	{pkg: "integration/recipes"},
	{pkg: "integration/soak"},
	{pkg: "integration/bench", may: []string{"authz/certtest", "packets"}},
}

// standardOnly lists the packages that import nothing from outside Go itself.
var standardOnly = []string{"packets", "authz", "authz/bucket", "authz/certtest", "authz/clienttls", "authz/files", "authz/placeholder", "authz/internal/strictjson", "proxy", "proxy/proxyproto", "proxy/websocket"}

// foreign are the modules that no library package may pull in.
var foreign = []string{
	"flag", "go.uber.org/zap", "github.com/prometheus/", "github.com/spf13/", "go.yaml.in/", "modernc.org/",
}

// otherMQTT are other implementations of MQTT, which no library package may pull in.
var otherMQTT = []string{"github.com/mochi-mqtt/", "github.com/eclipse/paho.golang/"}

func TestArrowsPointOneWay(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		i := slices.IndexFunc(arrows, func(a arrow) bool { return matches(a.pkg, name) })
		if i < 0 {
			t.Errorf("%s has no place among the arrows", name)
			continue
		}
		for _, imported := range p.Imports {
			own, isOwn := strings.CutPrefix(imported, module+"/")
			switch {
			case isOwn && !slices.ContainsFunc(arrows[i].may, func(pattern string) bool { return matches(pattern, own) }):
				t.Errorf("%s imports %s, which it may not", name, own)
			case !isOwn && arrows[i].library && begins(imported, slices.Concat(foreign, otherMQTT)):
				t.Errorf("%s imports %s: it is a library and must leave that to commands", name, imported)
			case !isOwn && slices.Contains(standardOnly, name) && strings.Contains(strings.Split(imported, "/")[0], "."):
				t.Errorf("%s imports %s: the standard library must do", name, imported)
			}
		}
	}
}

// TestOraclesAreChosen: the tests of a library package import another implementation of MQTT only
// if they compare results with it.
func TestOraclesAreChosen(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		i := slices.IndexFunc(arrows, func(a arrow) bool { return matches(a.pkg, name) })
		if i < 0 || !arrows[i].library {
			continue
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if begins(imported, otherMQTT) && !begins(imported, arrows[i].oracles) {
				t.Errorf("the tests of %s import %s, which is not among its oracles", name, imported)
			}
		}
	}
}

// begins reports whether a path begins with one of the prefixes.
func begins(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

// TestEveryPackageIsDocumented: the package comment is the manual.
func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range listPackages(t) {
		if len(p.Doc) < 40 {
			t.Errorf("the package comment of %s is missing or too short", p.ImportPath)
		}
	}
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

type goPackage struct {
	ImportPath, Doc                    string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,TestImports,XTestImports", "../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
