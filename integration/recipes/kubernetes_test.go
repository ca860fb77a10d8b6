//go:build integration

package recipes

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestKubernetesRecipe: Kubernetes accepts the objects, they refer to each other, and the
// configurations in them work together.
func TestKubernetesRecipe(t *testing.T) {
	t.Parallel()
	r := copyRecipe(t, "kubernetes")
	objects := map[string]map[string]any{}
	for _, o := range r.documents("mqtt.yaml") {
		objects[lookup(t, o, "kind").(string)] = o
	}
	checkTypes(t, r, objects)
	checkPod(t, objects)

	config := lookup(t, objects["ConfigMap"], "data")
	r.write("proxy.yaml", lookup(t, config, "proxy.yaml").(string))
	r.write("mosquitto.conf", lookup(t, config, "mosquitto.conf").(string))
	address := harness.FreeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	r.replace("mosquitto.conf", "listener 1884 127.0.0.1", fmt.Sprintf("listener %s %s\nuser root\nlog_dest stderr", port, host), "/mosquitto/data/", r.dir+"/")
	harness.RunMosquitto(t, r.path("mosquitto.conf"), address)

	r.replace("proxy.yaml", "/etc/mqtt-auth-proxy/tls/", r.dir+"/", "/etc/mqtt-auth-proxy/tokens/", r.dir+"/")
	if c := harness.Run(t, harness.Need(t, "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost", "-days", "2", "-keyout", r.path("tls.key"), "-out", r.path("tls.crt")); c.Status != 0 {
		t.Fatalf("openssl: %s", c.Output())
	}
	p := harness.BareProxy(t)
	p.Config = r.path("proxy.yaml")
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_DATA="+p.Data, "MQTT_AUTH_PROXY_ADMIN_ADDRESS="+p.Admin, "MQTT_AUTH_PROXY_LOG_LEVEL=debug",
		"MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS="+p.TLS, "MQTT_AUTH_PROXY_UPSTREAM_SERVERS=tcp://"+address)
	token := p.NewToken("create", "sensor-17", "--file", r.path("tokens.jsonl"))
	r.check(p)
	p.Start()
	harness.Publish(t, "--cafile", r.path("tls.crt"), "-h", "localhost", "-p", harness.Port(p.TLS), "-u", token, "-q", "1", "-t", "devices/sensor-17/level", "-m", "7")
	if status, body := harness.Fetch(t, "http://"+p.Admin+"/readyz", ""); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
}

// checkTypes compiles each object against the TypeScript type of its kind, so that
// unknown fields and wrong values are errors.
func checkTypes(t *testing.T, r *recipe, objects map[string]map[string]any) {
	t.Helper()
	harness.NeedFile(t, filepath.Join("..", "clients", "node_modules", "typescript", "bin", "tsc"))
	var source strings.Builder
	for kind, module := range map[string]string{
		"ConfigMap": "core/v1", "Service": "core/v1", "PersistentVolumeClaim": "core/v1", "Deployment": "apps/v1", "NetworkPolicy": "networking/v1",
	} {
		if objects[kind] == nil {
			t.Fatalf("there is no %s", kind)
		}
		fmt.Fprintf(&source, "import type { %s } from %q\nexport const a%s: %s = %s\n", kind, "kubernetes-types/"+module, kind, kind, asJSON(t, objects[kind]))
	}
	modules, err := filepath.Abs(filepath.Join("..", "clients", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, r.path("node_modules")); err != nil {
		t.Fatal(err)
	}
	compile := func(text string) harness.Result {
		r.write("objects.ts", text)
		return harness.Command{Dir: r.dir, Args: []string{harness.Need(t, "node"), filepath.Join("node_modules", "typescript", "bin", "tsc"),
			"--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler", "objects.ts"}}.Run(t)
	}
	if c := compile(source.String()); c.Status != 0 {
		t.Errorf("Kubernetes does not accept mqtt.yaml:\n%s", c.Output())
	}
	if c := compile(strings.Replace(source.String(), `"readOnlyRootFilesystem"`, `"readOnlyRootFileSystem"`, 1)); c.Status == 0 {
		t.Error("the compiler does not see a field with a wrong name")
	}
}

// checkPod checks the names by which the objects refer to each other.
func checkPod(t *testing.T, objects map[string]map[string]any) {
	t.Helper()
	pod := lookup(t, objects["Deployment"], "spec", "template", "spec")
	var volumes, ports []any
	for _, v := range lookup(t, pod, "volumes").([]any) {
		volumes = append(volumes, lookup(t, v, "name"))
	}
	for _, c := range lookup(t, pod, "containers").([]any) {
		for _, m := range lookup(t, c, "volumeMounts").([]any) {
			if !slices.Contains(volumes, lookup(t, m, "name")) {
				t.Errorf("there is no volume %v", m)
			}
		}
		if lookup(t, c, "securityContext", "readOnlyRootFilesystem") != true || lookup(t, c, "securityContext", "capabilities", "drop", 0) != "ALL" {
			t.Errorf("container %v has more rights than it needs", lookup(t, c, "name"))
		}
	}
	proxy := lookup(t, pod, "containers", 0)
	for _, p := range lookup(t, proxy, "ports").([]any) {
		ports = append(ports, lookup(t, p, "name"))
	}
	for _, name := range []any{
		lookup(t, proxy, "livenessProbe", "httpGet", "port"), lookup(t, proxy, "readinessProbe", "httpGet", "port"),
		lookup(t, objects["Service"], "spec", "ports", 0, "targetPort"), lookup(t, objects["NetworkPolicy"], "spec", "ingress", 0, "ports", 0, "port"),
	} {
		if !slices.Contains(ports, name) {
			t.Errorf("the proxy has no port %v", name)
		}
	}
	var config struct {
		Listeners []struct{ Address string }
		Admin     struct{ Address string }
	}
	if err := yaml.Unmarshal([]byte(lookup(t, objects["ConfigMap"], "data", "proxy.yaml").(string)), &config); err != nil {
		t.Fatal(err)
	}
	for i, address := range []string{config.Listeners[0].Address, config.Admin.Address} {
		if got := fmt.Sprintf(":%v", lookup(t, proxy, "ports", i, "containerPort")); got != address {
			t.Errorf("the proxy listens on %s, the pod shows %s", address, got)
		}
	}
	drain := lookup(t, objects["Deployment"], "spec", "template", "spec", "terminationGracePeriodSeconds")
	if seconds, ok := drain.(int); !ok || seconds <= 30 {
		t.Errorf("the pod has %v seconds for a drain of 30", drain)
	}
}
